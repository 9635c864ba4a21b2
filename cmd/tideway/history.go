package main

import (
	"context"
	"errors"
	"io"
	"iter"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/layer"
)

// beginning says where in a durable group a command begins to read.
type beginning struct {
	from string // a position, or "start"
	last int
	at   layer.Position // what from says
}

func (b *beginning) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&b.from, "from", "", "begin behind this `POSITION` of a durable group; start is its oldest message")
	f.IntVar(&b.last, "last", 0, "begin with the newest `N` messages of each group, which is durable")
}

// given reports whether a beginning is asked for.
func (b *beginning) given() bool { return b.from != "" || b.last > 0 }

func (b *beginning) check() (err error) {
	switch {
	case b.last < 0:
		return usagef("--last is %d; it cannot be less than 0", b.last)
	case b.from != "" && b.last > 0:
		return usagef("--from and --last are both given; choose one")
	case b.from == "" || b.from == "start":
		return nil
	}
	if b.at, err = layer.ParsePosition(b.from); err != nil {
		return usagef("--from: %s", withoutPackages(err.Error()))
	}
	return nil
}

// history yields what a group has kept from the beginning on.
func (b *beginning) history(ctx context.Context, l *layer.Layer, group string, most int) iter.Seq2[layer.Message, error] {
	return func(yield func(layer.Message, error) bool) {
		at := b.at
		if b.last > 0 {
			var err error
			if at, err = l.Before(ctx, group, b.last); err != nil {
				yield(layer.Message{}, err)
				return
			}
		}
		l.History(ctx, group, at, most)(yield)
	}
}

// reading is one run of `tideway history`.
type reading struct {
	*program
	group  string
	count  int
	begin  beginning
	output outputFlag
	color  colorFlag
}

func (p *program) historyCommand() *cobra.Command {
	r := &reading{program: p}
	c := &cobra.Command{
		Use:   "history GROUP",
		Short: "Print what a durable group has kept",
		Long: `History prints the messages that a durable group has kept, in their order, and
ends: the place behind each message, its type and the rest. With such a place,
--from goes on behind it. If what follows it is not kept any more, the exit
status is 1.

With -o json each line is an object with group, at, type, and the whole message
as data.`,
		Example: `  tideway history job.42
  tideway history --last 20 job.42
  tideway history --from q4w3c0.17 -o json job.42 | jq -c .data`,
		Args: r.args,
		RunE: func(c *cobra.Command, _ []string) error { return p.withLayer(c.Context(), r.run) },
	}
	c.Flags().IntVarP(&r.count, "count", "n", 0, "end after `N` messages; 0 is all")
	r.begin.register(c)
	r.output.register(c)
	r.color.register(c)
	return c
}

func (r *reading) args(_ *cobra.Command, args []string) error {
	switch {
	case len(args) != 1:
		return usagef("name one group")
	case r.count < 0:
		return usagef("--count is %d; it cannot be less than 0", r.count)
	}
	r.group = args[0]
	if err := layer.CheckGroup(r.group); err != nil {
		return err
	}
	return r.begin.check()
}

func (r *reading) run(ctx context.Context, l *layer.Layer) error {
	colored := r.color.on(r.stdout, r.env)
	for m, err := range r.begin.history(ctx, l, r.group, r.count) {
		if err != nil {
			return err
		}
		_, err = r.stdout.Write(r.line(m, colored))
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
			return nil // somebody has seen enough
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// line is a message as history prints it.
func (r *reading) line(m layer.Message, colored bool) []byte {
	if r.output == outputJSON {
		return jsonLine(m, time.Time{})
	}
	paint := painter(colored)
	return []byte(paint(faint, m.Position.String()) + "  " + paint(bold, visible(m.Type)) + "  " + visible(withoutType(m)) + "\n")
}
