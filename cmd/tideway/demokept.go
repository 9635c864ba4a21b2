package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/examples/notify/inbox"
	"github.com/tideway-go/tideway/examples/rollout/fleet"
	"github.com/tideway-go/tideway/examples/rollout/gameserver"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/httpapi"
	"github.com/tideway-go/tideway/router/jobapi"
)

// gameServersCommand is what the demo starts as a process of its own. It ends
// with the demo.
func (p *program) gameServersCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "game-servers",
		Short:  "Simulate the game servers that the demo updates",
		Hidden: true,
		Args:   noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			// The demo is who ends it: updates that are under way may want it to
			// the last.
			return gameserver.Serve(context.WithoutCancel(c.Context()), "127.0.0.1:0", 0, p.stdin, p.stdout)
		},
	}
}

// open makes the demo's layer, with what rollouts, inboxes and jobs need if the
// NATS server can keep it. A cluster whose other servers are not there yet takes
// its time, but not after ctx has ended.
func (d *demo) open(ctx context.Context, bus *natsbus.Bus, log *slog.Logger) (l *layer.Layer, keeps bool, err error) {
	least := layer.Options{Groups: d.retentions(), Presence: []layer.Presence{{Pattern: "chat.>", Quiet: true}}, Logger: log}
	all := least
	all.Groups, all.Queues = d.allRetentions(), fleet.Queues(0)
	type result struct {
		l   *layer.Layer
		err error
	}
	made := make(chan result, 1)
	go func() {
		l, err := layer.New(bus, &all)
		made <- result{l, err}
	}()
	var r result
	select {
	case r = <-made:
	case <-ctx.Done(): // the end of the bus is the end of the layer
		return nil, false, ctx.Err()
	}
	if r.err == nil {
		return r.l, true, nil
	}
	if l, err = layer.New(bus, &least); err == nil {
		d.note("%s, %s and jobs are not served: %s", fleet.Path, inbox.Path, withoutPackages(r.err.Error()))
	}
	return l, false, err
}

// kept is the part of the demo that lives on what the NATS server keeps.
type kept struct {
	updates *updates
	inboxes *inbox.Site
	jobs    *jobapi.Jobs
}

// startKept starts it. The worker ends when ctx does.
func (d *demo) startKept(ctx context.Context, l *layer.Layer, api *httpapi.API, opts *router.Options, g *greeting) (k *kept, err error) {
	k = &kept{}
	if k.jobs, err = jobapi.Add(api, l, &jobapi.Options{Logger: opts.Logger}); err != nil {
		return nil, err
	}
	if k.inboxes, err = inbox.New(l, &inbox.Options{Commands: g.Commands, Router: opts}); err != nil {
		return nil, errors.Join(err, closeWithin(ctx, k.jobs.Close))
	}
	if k.updates, err = d.startRollout(ctx, l, opts); err != nil {
		return nil, errors.Join(err, closeWithin(ctx, k.jobs.Close))
	}
	g.Keeps, g.users = true, k.updates.printed
	return k, nil
}

// mount adds its pages to the demo's.
func (k *kept) mount(mux *http.ServeMux) {
	mux.Handle(fleet.Path, k.updates.site.Handler())
	mux.Handle(inbox.Path, k.inboxes.Handler())
}

// parts are those that are told of the server's end.
func (k *kept) parts() []router.Part {
	return []router.Part{k.updates.site.Router(), k.inboxes.Router()}
}

// end hands back the jobs of workers elsewhere, and waits for the worker here.
func (k *kept) end(ctx context.Context) error {
	return errors.Join(closeWithin(ctx, k.jobs.Close), k.updates.end())
}

// updates are the rollouts, and the worker behind them.
type updates struct {
	site    *fleet.Site
	printed []fleet.User // who was made up, and has to be told
	end     func() error
}

// startRollout starts the game servers and the worker. End waits for the worker,
// which ends when ctx does, and then for the game servers.
func (d *demo) startRollout(ctx context.Context, l *layer.Layer, opts *router.Options) (*updates, error) {
	users := fleet.DemoUsers()
	u := &updates{printed: users}
	if text := d.env("TIDEWAY_ROLLOUT_USERS"); text != "" {
		var err error
		if users, err = fleet.ParseUsers(text); err != nil {
			return nil, usagef("$TIDEWAY_ROLLOUT_USERS: %s", withoutPackages(err.Error()))
		}
		u.printed = nil
	}
	servers, stop, err := gameserver.Child("demo", "game-servers")
	if err != nil {
		return nil, err
	}
	if u.site, err = fleet.New(l, &fleet.Options{Servers: servers, Users: users, Printed: u.printed != nil, Router: opts}); err != nil {
		return nil, errors.Join(err, stop())
	}
	worked := make(chan error, 1)
	go func() {
		worked <- fleet.Work(ctx, l, &fleet.WorkOptions{Servers: servers, Logger: opts.Logger})
	}()
	u.end = func() error { return errors.Join(<-worked, stop()) }
	return u, nil
}
