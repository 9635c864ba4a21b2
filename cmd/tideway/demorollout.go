package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/examples/rollout/fleet"
	"github.com/tideway-go/tideway/examples/rollout/gameserver"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
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

// open makes the demo's layer, with what rollouts need if the NATS server can
// keep it. A cluster whose other servers are not there yet takes its time, but
// not after ctx has ended.
func (d *demo) open(ctx context.Context, bus *natsbus.Bus, log *slog.Logger) (l *layer.Layer, keeps bool, err error) {
	least := layer.Options{Groups: d.retentions(), Presence: []layer.Presence{{Pattern: "chat.>", Quiet: true}}, Logger: log}
	all := least
	all.Groups, all.Queues = append(d.retentions(), fleet.Groups()...), fleet.Queues(0)
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
		d.note("%s is not served: %s", fleet.Path, withoutPackages(r.err.Error()))
	}
	return l, false, err
}

// updates are the demo's second site, and the worker behind it.
type updates struct {
	site    *fleet.Site
	users   []fleet.User
	printed bool // the users were made up, and have to be told
	end     func() error
}

// startRollout starts the game servers and the worker. End waits for the worker,
// which ends when ctx does, and then for the game servers.
func (d *demo) startRollout(ctx context.Context, l *layer.Layer, opts *router.Options) (*updates, error) {
	u := &updates{users: fleet.DemoUsers(), printed: true}
	if text := d.env("TIDEWAY_ROLLOUT_USERS"); text != "" {
		var err error
		if u.users, err = fleet.ParseUsers(text); err != nil {
			return nil, usagef("$TIDEWAY_ROLLOUT_USERS: %s", withoutPackages(err.Error()))
		}
		u.printed = false
	}
	servers, stop, err := gameserver.Child("demo", "game-servers")
	if err != nil {
		return nil, err
	}
	if u.site, err = fleet.New(l, &fleet.Options{Servers: servers, Users: u.users, Router: opts}); err != nil {
		return nil, errors.Join(err, stop())
	}
	worked := make(chan error, 1)
	go func() {
		worked <- fleet.Work(ctx, l, &fleet.WorkOptions{Servers: servers, Logger: opts.Logger})
	}()
	u.end = func() error { return errors.Join(<-worked, stop()) }
	return u, nil
}

// greet says where the page is, and who may log in.
func (u *updates) greet(d *demo, host string) {
	fmt.Fprintf(d.stdout, "Update forty simulated game servers at http://%s%s, and watch from another window.\n", host, fleet.Path)
	if u.printed {
		for _, who := range u.users {
			fmt.Fprintf(d.stdout, "    %s (%s): password %s\n", who.Name, who.Role, who.Password)
		}
	}
	fmt.Fprintln(d.stdout)
}

// mount adds the site to the demo's.
func (u *updates) mount(mux *http.ServeMux) { mux.Handle(fleet.Path, u.site.Handler()) }
