package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/layer"
)

func (p *program) queueCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "queue list|show",
		Short: "Look at the durable queues of a site",
		Args:  subcommand("queue", "list", "show"),
		RunE:  func(*cobra.Command, []string) error { return nil }, // Args has refused
	}
	c.AddCommand(p.queueListCommand(), p.queueShowCommand())
	return c
}

// subcommand refuses what is none of a command's commands.
func subcommand(command string, names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("what about the %s? there are %q", command, names)
		}
		return usagef("there is no %q of %s; there are %q", args[0], command, names)
	}
}

func (p *program) queueListCommand() *cobra.Command {
	var output outputFlag
	c := &cobra.Command{
		Use:   "list",
		Short: "List the queues and what they hold",
		Long: `List prints the queues that hold something, and those whose policy names one:
how many messages wait for a worker (ready), are with one or wait for their next
attempt (working), will come later (delayed), and used up their attempts (dead).`,
		Example: `  tideway queue list
  tideway queue list -o json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withLayer(c.Context(), func(ctx context.Context, l *layer.Layer) error { return p.listQueues(ctx, l, output) })
		},
	}
	output.register(c)
	return c
}

// withLayer runs f as a guest of the site's network.
func (p *program) withLayer(ctx context.Context, f func(context.Context, *layer.Layer) error) error {
	g, err := p.join(ctx, layer.Options{})
	if err != nil {
		return err
	}
	err = f(ctx, g.layer)
	if left := g.leave(ctx); err == nil {
		err = left
	}
	return err
}

// queueJSON is a queue for other programs.
type queueJSON struct {
	Queue   string `json:"queue"`
	Ready   int    `json:"ready"`
	Working int    `json:"working"`
	Delayed int    `json:"delayed"`
	Dead    int    `json:"dead"`
}

func (p *program) listQueues(ctx context.Context, l *layer.Layer, output outputFlag) error {
	all, err := l.Queues(ctx)
	if err != nil {
		return err
	}
	if output == outputJSON {
		enc := json.NewEncoder(p.stdout)
		for _, q := range all {
			if err := enc.Encode(queueJSON{q.Name, q.Ready, q.Working, q.Delayed, q.Dead}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		p.note("no durable queue holds anything")
		return nil
	}
	return table(p.stdout, "QUEUE\tREADY\tWORKING\tDELAYED\tDEAD", len(all), func(i int) string {
		q := all[i]
		return fmt.Sprintf("%s\t%d\t%d\t%d\t%d", q.Name, q.Ready, q.Working, q.Delayed, q.Dead)
	})
}

// table prints lines whose cells are separated by tabs.
func table(to io.Writer, header string, n int, line func(int) string) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, header) // Flush tells of its errors
	for i := range n {
		fmt.Fprintln(w, line(i))
	}
	return w.Flush()
}

func (p *program) queueShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show QUEUE",
		Short:   "Show what a queue holds and by which rules",
		Example: `  tideway queue show thumbnails`,
		Args:    oneArg("which queue?"),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withLayer(c.Context(), func(ctx context.Context, l *layer.Layer) error { return p.showQueue(ctx, l, args[0]) })
		},
	}
}

// oneArg is for commands that take one argument.
func oneArg(question string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return usagef("%s", question)
		case 1:
			return nil
		}
		return usagef("%q is one argument too many", args[1])
	}
}

func (p *program) showQueue(ctx context.Context, l *layer.Layer, name string) error {
	policy, err := l.QueuePolicy(name)
	if err != nil {
		return err
	}
	all, err := l.Queues(ctx)
	if err != nil {
		return err
	}
	state := layer.QueueState{Name: name}
	for _, q := range all {
		if q.Name == name {
			state = q
		}
	}
	age := "for ever"
	if policy.Age > 0 {
		age = policy.Age.String()
	}
	rows := [][2]any{
		{"queue", name}, {"ready", state.Ready}, {"working", state.Working}, {"delayed", state.Delayed}, {"dead", state.Dead},
		{"pattern", policy.Pattern}, {"capacity", policy.Capacity}, {"attempts", policy.Attempts}, {"ack wait", policy.AckWait},
		{"backoff", fmt.Sprintf("%v to %v", policy.Backoff, policy.BackoffMax)}, {"window", policy.Window}, {"age", age},
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%v\t%v\n", r[0], r[1]) // Flush tells of its errors
	}
	return w.Flush()
}

// stamp is a time as the tables print it.
func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
