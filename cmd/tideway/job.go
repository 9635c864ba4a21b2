package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
)

func (p *program) jobCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "job submit|list|watch|cancel|retry",
		Short: "Submit, list, watch, cancel and retry jobs",
		Long: `Job is about long work that workers of the site do, such as a rollout. A job
outlives the terminal that submitted it: watch it again, from anywhere.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q", "job "+args[0])
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error { return usagef("no command is given") },
	}
	c.AddCommand(p.jobSubmitCommand(), p.jobListCommand(), p.jobWatchCommand(), p.jobCancelCommand(), p.jobRetryCommand())
	return c
}

// oneID takes the id of a job from the command line.
func oneID(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usagef("which job? give its id; \"tideway job list\" has them")
	case len(args) > 1:
		return usagef("%q is one argument too many", args[1])
	}
	return job.CheckID(args[0])
}

// asGuest does something in the network of the site.
func (p *program) asGuest(ctx context.Context, do func(*layer.Layer) error) (err error) {
	g, err := p.join(ctx, layer.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.leave(ctx)) }()
	err = do(g.layer)
	if errors.Is(err, layer.ErrNotQueue) || errors.Is(err, layer.ErrNotDurable) {
		return errors.New("this site has no jobs: none of its processes was made with the queues and groups of jobs")
	}
	return err
}

// byFlag is who does it, for the audit trail.
func (p *program) byFlag(c *cobra.Command, by *string) {
	c.Flags().StringVar(by, "by", p.env("USER"), "`name` for the audit trail (default $USER)")
}

func (p *program) jobSubmitCommand() *cobra.Command {
	var o job.SubmitOptions
	var wait bool
	var form outputFlag
	c := &cobra.Command{
		Use:   "submit KIND [JSON]",
		Short: "Submit a job and print its id",
		Long: `Submit puts a job of a kind into the queue, with JSON as its payload, and prints
its id at once. With --key the same kind and key are the same job, so that
submitting it again is safe. With --wait it shows the job until its end, and the
exit status is the job's: 0 if it succeeded.`,
		Example: `  tideway job submit report '{"month":"2026-10"}' --key report-2026-10
  tideway job submit update '{"version":"2.1"}' --target server-1 --target server-2 --wait`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("which kind of job?")
			case len(args) > 2:
				return usagef("%q is one argument too many; put the payload into single quotes", args[2])
			case len(args) == 2 && !json.Valid([]byte(args[1])):
				return usagef("the payload is no JSON: %.60s", args[1])
			}
			return job.CheckKind(args[0])
		},
		RunE: func(c *cobra.Command, args []string) error {
			payload := json.RawMessage("{}")
			if len(args) == 2 {
				payload = json.RawMessage(args[1])
			}
			return p.asGuest(c.Context(), func(l *layer.Layer) error {
				id, err := job.Submit(c.Context(), l, args[0], payload, &o)
				if err != nil {
					return err
				}
				return p.submitted(c.Context(), l, id, wait, form)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&o.Key, "key", "", "`text` under which submitting again is the same job")
	f.StringArrayVar(&o.Targets, "target", nil, "`name` of what the job is about; may be given many times")
	f.StringVar(&o.Title, "title", "", "`words` that say what it is about, for lists")
	f.DurationVar(&o.Timeout, "attempt-timeout", 0, "how long one attempt may take (default as the worker says, an hour)")
	f.IntVar(&o.Attempts, "attempts", 0, "`number` of attempts in a row without getting on, after which the job is dead (default 5)")
	f.DurationVar(&o.Delay, "delay", 0, "how long it waits before it may start")
	f.BoolVar(&wait, "wait", false, "show it until its end, and exit with its verdict")
	p.byFlag(c, &o.By)
	form.register(c)
	return c
}

// submitted prints the id, and stays with the job if it is to.
func (p *program) submitted(ctx context.Context, l *layer.Layer, id string, wait bool, form outputFlag) error {
	if !wait {
		fmt.Fprintln(p.stdout, id)
		return nil
	}
	p.note("job %s", id)
	return p.watchJob(ctx, l, id, form)
}

func (p *program) jobListCommand() *cobra.Command {
	var o job.ListOptions
	var states []string
	var form outputFlag
	c := &cobra.Command{
		Use:   "list",
		Short: "List the jobs of the last days, the newest first",
		Example: `  tideway job list --kind update
  tideway job list --state queued --state running --output json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, s := range states {
				if !slices.Contains(jobStates, s) {
					return usagef("--state is %q; it is one of %v", s, jobStates)
				}
				o.States = append(o.States, job.State(s))
			}
			return p.asGuest(c.Context(), func(l *layer.Layer) error {
				all, err := job.List(c.Context(), l, &o)
				if err != nil {
					return err
				}
				return p.printJobs(all, form)
			})
		},
	}
	c.Flags().StringVar(&o.Kind, "kind", "", "`kind` of the jobs")
	c.Flags().StringArrayVar(&states, "state", nil, "`state` of the jobs; may be given many times")
	c.Flags().IntVar(&o.Limit, "limit", 100, "`number` of jobs at most")
	complete(c, "state", jobStates...)
	form.register(c)
	return c
}

var jobStates = []string{"queued", "running", "cancelling", "succeeded", "failed", "cancelled", "dead"}

func (p *program) printJobs(all []job.Summary, form outputFlag) error {
	if form == outputJSON {
		out := json.NewEncoder(p.stdout)
		for _, s := range all {
			if err := out.Encode(s); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, s := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, visible(s.Kind), s.State,
			s.Submitted.Local().Format(time.DateTime), visible(s.By), visible(s.Title), visible(s.Error))
	}
	return w.Flush()
}

func (p *program) jobWatchCommand() *cobra.Command {
	var form outputFlag
	c := &cobra.Command{
		Use:   "watch ID",
		Short: "Show a job from its beginning to its end",
		Long: `Watch shows everything that happened to a job, and what happens from now on,
until its end. On a terminal it draws a bar for each target; elsewhere it prints
a line for each event. The exit status is the job's: 0 if it succeeded.`,
		Args: oneID,
		RunE: func(c *cobra.Command, args []string) error {
			return p.asGuest(c.Context(), func(l *layer.Layer) error { return p.watchJob(c.Context(), l, args[0], form) })
		},
	}
	form.register(c)
	return c
}

func (p *program) jobCancelCommand() *cobra.Command {
	var by string
	c := &cobra.Command{
		Use:   "cancel ID",
		Short: "Cancel a job",
		Long:  `Cancel returns when it is certain that the job will be cancelled and nothing else.`,
		Args:  oneID,
		RunE: func(c *cobra.Command, args []string) error {
			return p.asGuest(c.Context(), func(l *layer.Layer) error {
				err := job.Cancel(c.Context(), l, args[0], by)
				var ended *job.EndedError
				if errors.As(err, &ended) {
					return fmt.Errorf("too late: the job is %s", ended.State)
				}
				return err
			})
		},
	}
	p.byFlag(c, &by)
	return c
}

func (p *program) jobRetryCommand() *cobra.Command {
	var by string
	var wait bool
	var form outputFlag
	c := &cobra.Command{
		Use:   "retry ID",
		Short: "Submit again what a job did not achieve, and print the new job's id",
		Args:  oneID,
		RunE: func(c *cobra.Command, args []string) error {
			return p.asGuest(c.Context(), func(l *layer.Layer) error {
				id, err := job.Retry(c.Context(), l, args[0], by)
				var ended *job.EndedError
				if errors.As(err, &ended) {
					return fmt.Errorf("there is nothing to retry: the job is %s", ended.State)
				}
				if err != nil {
					return err
				}
				return p.submitted(c.Context(), l, id, wait, form)
			})
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "show it until its end, and exit with its verdict")
	p.byFlag(c, &by)
	form.register(c)
	return c
}
