package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/layer"
)

// tailCapacity is how many messages may wait while stdout is slow.
const tailCapacity = 10_000

// tailing is one run of `tideway tail`.
type tailing struct {
	*program
	groups []string
	count  int
	begin  beginning
	output outputFlag
	color  colorFlag
}

func (p *program) tailCommand() *cobra.Command {
	t := &tailing{program: p}
	c := &cobra.Command{
		Use:   "tail GROUP...",
		Short: "Print the messages of groups as they pass",
		Long: `Tail joins groups and prints each message that is sent to one of them: the time
at which it arrived, the group, the type and the rest. It ends at Ctrl-C, or
when whoever reads its output ends.

With --last or --from it first prints what durable groups have kept; between that
and what passes nothing is missing, and nothing comes twice.

With -o json each line is an object with time, group, type, and the whole
message as data; in a durable group also at, the place behind the message.`,
		Example: `  tideway tail chat.lobby
  tideway tail --count 1 chat.lobby chat.hall
  tideway tail --last 20 job.42
  tideway tail -o json chat.lobby | jq -c .data | tideway send chat.hall`,
		Args: t.args,
		RunE: func(c *cobra.Command, _ []string) error { return t.run(c.Context()) },
	}
	c.Flags().IntVarP(&t.count, "count", "n", 0, "end after `N` messages; 0 is never")
	t.begin.register(c)
	t.output.register(c)
	t.color.register(c)
	return c
}

func (t *tailing) args(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("name a group, or several")
	}
	for _, group := range args {
		if err := layer.CheckGroup(group); err != nil {
			return err
		}
	}
	if t.count < 0 {
		return usagef("--count is %d; it cannot be less than 0", t.count)
	}
	if len(args) > 1 && t.begin.from != "" && t.begin.from != "start" {
		return usagef("--from is a place in one group, and %d are named", len(args))
	}
	t.groups = args
	return t.begin.check()
}

func (t *tailing) run(ctx context.Context) (err error) {
	g, err := t.join(ctx, layer.Options{Capacity: tailCapacity})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.leave(ctx)) }()
	err = t.follow(ctx, g.layer)
	if ctx.Err() != nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return nil // somebody has seen enough
	}
	return err
}

// follow prints messages until ctx ends, or there were enough.
func (t *tailing) follow(ctx context.Context, l *layer.Layer) error {
	ch, err := l.NewChannel(ctx)
	if err != nil {
		return err
	}
	for _, group := range t.groups {
		if err := l.GroupAdd(ctx, group, ch.Name()); err != nil {
			return err
		}
	}
	t.note("listening to %s at %s; Ctrl-C ends", strings.Join(t.groups, ", "), withoutSecrets(t.server.nats))
	colored := t.color.on(t.stdout, t.env)
	for m, err := range t.messages(ctx, l, ch) {
		if err != nil {
			return err
		}
		line := t.line(m, time.Now(), colored)
		if _, err := t.stdout.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// messages yields those that the groups have kept, as far as they are asked for,
// and then those that arrive, until there were enough.
func (t *tailing) messages(ctx context.Context, l *layer.Layer, ch *layer.Channel) iter.Seq2[layer.Message, error] {
	return func(yield func(layer.Message, error) bool) {
		n, seen := 0, map[string]layer.Position{}
		enough := func(m layer.Message, err error) bool {
			n++
			return !yield(m, err) || err != nil || n == t.count
		}
		if t.begin.given() {
			for _, group := range t.groups {
				for m, err := range t.begin.history(ctx, l, group, 0) {
					if enough(m, err) {
						return
					}
					seen[group] = m.Position
				}
			}
		}
		for {
			m, err := ch.Receive(ctx)
			if err == nil && !m.Position.IsZero() && seen[m.Group].Reaches(m.Position) {
				continue
			}
			if enough(m, err) {
				return
			}
		}
	}
}

// line is a message as tail prints it.
func (t *tailing) line(m layer.Message, at time.Time, colored bool) []byte {
	if t.output == outputJSON {
		return jsonLine(m, at)
	}
	paint := painter(colored)
	return []byte(paint(faint, at.Format("15:04:05.000")) + "  " + paint(cyan, m.Group) + "  " +
		paint(bold, visible(m.Type)) + "  " + visible(withoutType(m)) + "\n")
}

const faint, cyan, bold = "2", "36", "1"

// painter returns what gives text a colour, if that is wanted.
func painter(colored bool) func(code, text string) string {
	if !colored {
		return func(_, text string) string { return text }
	}
	return func(code, text string) string { return "\x1b[" + code + "m" + text + "\x1b[0m" }
}

// jsonLine is a message for other programs; data can be sent again as it is.
func jsonLine(m layer.Message, at time.Time) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Time  time.Time       `json:"time,omitzero"`
		Group string          `json:"group"`
		At    layer.Position  `json:"at,omitzero"`
		Type  string          `json:"type"`
		Data  json.RawMessage `json:"data"`
	}{at, m.Group, m.Position, m.Type, m.Data})
	if err != nil {
		panic(err) // the layer proves that data are JSON
	}
	return b.Bytes()
}

// withoutType is the message on one line, without the type where it comes
// first, as it mostly does.
func withoutType(m layer.Message) string {
	var b bytes.Buffer
	if err := json.Compact(&b, m.Data); err != nil {
		panic(err) // the layer proves that data are JSON
	}
	dec := json.NewDecoder(bytes.NewReader(b.Bytes()))
	for _, want := range []json.Token{json.Delim('{'), "type", m.Type} {
		if got, err := dec.Token(); err != nil || got != want {
			return b.String()
		}
	}
	return "{" + strings.TrimPrefix(b.String()[dec.InputOffset():], ",")
}
