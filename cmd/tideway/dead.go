package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/layer"
)

func (p *program) deadCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "dead list|show|replay|drop",
		Short: "Deal with messages of queues that used up their attempts",
		Args:  subcommand("dead letters", "list", "show", "replay", "drop"),
		RunE:  func(*cobra.Command, []string) error { return nil }, // Args has refused
	}
	c.AddCommand(p.deadListCommand(), p.deadShowCommand(),
		p.deadEachCommand("replay", "Put dead letters back into their queues, with all their attempts", "replayed", (*layer.Layer).Replay),
		p.deadEachCommand("drop", "Remove dead letters for good", "dropped", (*layer.Layer).Drop))
	return c
}

func (p *program) deadListCommand() *cobra.Command {
	var output outputFlag
	c := &cobra.Command{
		Use:   "list [QUEUE]",
		Short: "List the dead letters, of one queue or all, the oldest first",
		Example: `  tideway dead list
  tideway dead list thumbnails -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			queue := append(args, "")[0]
			return p.withLayer(c.Context(), func(ctx context.Context, l *layer.Layer) error { return p.listDead(ctx, l, queue, output) })
		},
	}
	output.register(c)
	return c
}

// letterJSON is a dead letter for other programs.
type letterJSON struct {
	ID       uint64          `json:"id"`
	Queue    string          `json:"queue"`
	Type     string          `json:"type,omitempty"`
	Attempts int             `json:"attempts"`
	Reason   string          `json:"reason"`
	Stored   time.Time       `json:"stored"`
	Died     time.Time       `json:"died"`
	Priority string          `json:"priority"`
	Key      string          `json:"key,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
	Raw      []byte          `json:"raw,omitempty"` // what is no message
}

func newLetterJSON(d layer.DeadLetter) letterJSON {
	j := letterJSON{
		ID: d.ID, Queue: d.Queue, Type: d.Message.Type, Attempts: d.Attempts, Reason: d.Reason,
		Stored: d.Stored, Died: d.Died, Priority: d.Priority.String(), Key: d.Message.Header.ID, Data: d.Message.Data,
	}
	if d.Message.Type == "" {
		j.Data, j.Raw = nil, d.Message.Data
	}
	return j
}

// letters reads the dead letters of a queue, or of all.
func letters(ctx context.Context, l *layer.Layer, queue string) (all []layer.DeadLetter, err error) {
	for d, err := range l.DeadLetters(ctx, queue) {
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func (p *program) listDead(ctx context.Context, l *layer.Layer, queue string, output outputFlag) error {
	all, err := letters(ctx, l, queue)
	if err != nil {
		return err
	}
	if output == outputJSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetEscapeHTML(false)
		for _, d := range all {
			if err := enc.Encode(newLetterJSON(d)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		p.note("there are no dead letters")
		return nil
	}
	return table(p.stdout, "ID\tQUEUE\tTYPE\tATTEMPTS\tDIED\tREASON", len(all), func(i int) string {
		d := all[i]
		return fmt.Sprintf("%d\t%s\t%s\t%d\t%s\t%s", d.ID, d.Queue, visible(d.Message.Type), d.Attempts, stamp(d.Died), visible(shortened(d.Reason)))
	})
}

// shortened is the beginning of a reason, for a table.
func shortened(reason string) string {
	const most = 80
	if r := []rune(reason); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return reason
}

func (p *program) deadShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show a dead letter with its message, as JSON",
		Example: `  tideway dead show 12 | jq .data`,
		Args:    oneArg("which dead letter? give its ID, as list prints it"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := letterID(args[0])
			if err != nil {
				return err
			}
			return p.withLayer(c.Context(), func(ctx context.Context, l *layer.Layer) error { return p.showDead(ctx, l, id) })
		},
	}
}

func letterID(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, usagef("%q is no ID of a dead letter; list prints them", text)
	}
	return id, nil
}

func (p *program) showDead(ctx context.Context, l *layer.Layer, id uint64) error {
	all, err := letters(ctx, l, "")
	if err != nil {
		return err
	}
	for _, d := range all {
		if d.ID == id {
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(newLetterJSON(d)); err != nil {
				return err
			}
			_, err := p.stdout.Write(b.Bytes())
			return err
		}
	}
	return fmt.Errorf("dead letter %d: %w", id, layer.ErrNoDeadLetter)
}

// eachLetter does the same with several dead letters.
type eachLetter struct {
	*program
	done  string // "replayed"
	do    func(*layer.Layer, context.Context, uint64) error
	all   bool
	queue string
}

func (p *program) deadEachCommand(name, short, done string, do func(*layer.Layer, context.Context, uint64) error) *cobra.Command {
	e := &eachLetter{program: p, done: done, do: do}
	c := &cobra.Command{
		Use:   name + " ID... | --all [--queue QUEUE]",
		Short: short,
		Example: fmt.Sprintf(`  tideway dead %[1]s 12 13
  tideway dead %[1]s --all --queue thumbnails`, name),
		RunE: func(c *cobra.Command, args []string) error {
			ids, err := e.ids(name, args)
			if err != nil {
				return err
			}
			return p.withLayer(c.Context(), func(ctx context.Context, l *layer.Layer) error { return e.run(ctx, l, ids) })
		},
	}
	c.Flags().BoolVar(&e.all, "all", false, "all dead letters, or all of --queue")
	c.Flags().StringVar(&e.queue, "queue", "", "`name` of the queue whose dead letters --all means")
	return c
}

// ids reads the arguments.
func (e *eachLetter) ids(name string, args []string) (ids []uint64, err error) {
	switch {
	case e.queue != "" && !e.all:
		return nil, usagef("--queue is for --all")
	case e.all && len(args) > 0:
		return nil, usagef("give IDs or --all")
	case !e.all && len(args) == 0:
		return nil, usagef("which dead letters shall I %s? give their IDs, or --all", name)
	}
	for _, text := range args {
		id, err := letterID(text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// run goes on behind a letter that fails, and tells of all.
func (e *eachLetter) run(ctx context.Context, l *layer.Layer, ids []uint64) error {
	if e.all {
		all, err := letters(ctx, l, e.queue)
		if err != nil {
			return err
		}
		for _, d := range all {
			ids = append(ids, d.ID)
		}
	}
	var failed []error
	for _, id := range ids {
		if err := e.do(l, ctx, id); err != nil {
			failed = append(failed, err)
		}
	}
	n := len(ids) - len(failed)
	letters := "dead letters"
	if n == 1 {
		letters = "dead letter"
	}
	fmt.Fprintf(e.stdout, "%d %s %s\n", n, letters, e.done)
	return errors.Join(failed...)
}
