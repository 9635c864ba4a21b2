package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/layer/natsbus"
)

const (
	defaultAddr     = "127.0.0.1:8000"
	defaultNATSAddr = "127.0.0.1:4222"
)

// demo is one run of `tideway demo`.
type demo struct {
	*program
	addr, natsAddr, store string
	hosts                 []string
	apiKey                string
	freshKey              bool // nobody chose apiKey
	durable               []string
	cluster               natsbus.Cluster
	level                 levelFlag
	verbose               bool
}

func (p *program) demoCommand() *cobra.Command {
	d := &demo{program: p}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Serve a chat, a rollout, inboxes and quotes, with a NATS server inside",
		Long: `Demo serves a page that shows what there is, and how to push into it:

  /chat/     a chat: whoever is in the room "lobby" is a member of the group "chat.lobby"
  /rollout/  operators update simulated game servers, and everybody who is logged in watches
  /inbox/    an inbox for each user, which misses nothing: the group "notify.ann" is ann's
  /quotes/   prices that change fifty times a second, and what a slow client gets of them
  /api/v1/   the HTTP door for programs: groups, queues, and jobs, whose workers need only curl
  /healthz   for probes, as /readyz

A NATS server runs inside the program, unless --nats names another one; $NATS_URL
does not count here. On one that keeps nothing there is no rollout, inbox or job.

With --cluster-listen and --cluster-routes several demos are one site. An
interrupt or SIGTERM ends it: sockets are told to come back, requests finish.`,
		Example: `  tideway demo
  tideway demo --addr 127.0.0.1:8001 --nats nats://127.0.0.1:4222
  tideway demo --addr :8000 --host chat.example.com
  tideway demo --durable 'chat.>' --store ~/.tideway
  tideway demo --addr 127.0.0.1:8001 --nats-addr 127.0.0.1:4223 \
      --cluster-listen 127.0.0.1:6223 --cluster-routes 127.0.0.1:6222,127.0.0.1:6223`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return d.run(c.Context(), c) },
	}
	d.register(c)
	c.AddCommand(p.gameServersCommand())
	return c
}

func (d *demo) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&d.addr, "addr", defaultAddr, "`address` of the site; port 0 is any free one")
	f.StringVar(&d.natsAddr, "nats-addr", defaultNATSAddr, "`address` of the NATS server inside; \"\" lets no other program in")
	f.StringVar(&d.store, "store", "", "`folder` for what NATS keeps (default: a temporary one)")
	f.StringSliceVar(&d.hosts, "host", nil, "`name` by which browsers address the site, beside those of this machine; may be repeated")
	f.StringVar(&d.apiKey, "api-key", "", "`key` for programs that use the HTTP door ($TIDEWAY_API_KEY; default: a new one, which is printed)")
	f.StringSliceVar(&d.durable, "durable", nil, "`pattern` of groups whose messages are kept, such as chat.> or build.42; may be repeated")
	f.StringVar(&d.cluster.Listen, "cluster-listen", "", "`address` at which the other demos' NATS servers reach this one")
	f.StringSliceVar(&d.cluster.Routes, "cluster-routes", nil, "--cluster-listen `addresses` of all demos of the cluster, this one too")
	f.StringVar(&d.cluster.Name, "cluster-name", "", "`name` of the cluster, the same for all (default tideway)")
	f.StringVar(&d.cluster.Secret, "cluster-secret", "", "`word` that the NATS servers show each other ($TIDEWAY_CLUSTER_SECRET)")
	f.Var(&d.level, "log-level", "least level of the log on stderr: debug, info, warn or error")
	f.BoolVarP(&d.verbose, "verbose", "v", false, "the same as --log-level debug")
	complete(c, "log-level", "debug", "info", "warn", "error")
}

func (d *demo) run(ctx context.Context, c *cobra.Command) (err error) {
	if d.verbose {
		d.level = levelFlag(slog.LevelDebug)
	}
	log := slog.New(slog.NewTextHandler(d.stderr, &slog.HandlerOptions{Level: slog.Level(d.level)}))
	opts, err := d.busOptions(c, log)
	if err != nil {
		return err
	}
	if err := errors.Join(d.checkDurable(), d.chooseKey()); err != nil {
		return err
	}
	ln, err := listen(d.addr, "--addr")
	if err != nil {
		return err
	}
	defer ln.Close() // router.Serve closes it earlier
	if opts.Embedded != nil {
		if err := d.checkFree(); err != nil {
			return err
		}
	}
	bus, err := natsbus.New(ctx, opts)
	if err != nil && ctx.Err() != nil {
		return nil // a signal came before there was anything to end
	}
	if err != nil {
		return d.server.explain(err)
	}
	defer func() { err = errors.Join(err, closeWithin(ctx, bus.Close)) }()
	l, keeps, err := d.open(ctx, bus, log)
	if err != nil && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeWithin(ctx, l.Close)) }()
	return d.serve(ctx, ln, bus, l, keeps, log)
}

// closeWithin gives something that is closed leaveTimeout.
func closeWithin(ctx context.Context, end func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	return end(ctx)
}

// busOptions says where the NATS server is: elsewhere, or inside.
func (d *demo) busOptions(c *cobra.Command, log *slog.Logger) (*natsbus.Options, error) {
	elsewhere := c.Flags().Changed("nats")
	for _, flag := range []string{"nats-addr", "store", "cluster-listen", "cluster-routes", "cluster-name", "cluster-secret"} {
		if elsewhere && c.Flags().Changed(flag) {
			return nil, usagef("--%s is for the NATS server inside, and --nats asks for another", flag)
		}
	}
	if elsewhere {
		err := d.server.resolve(d.env)
		return d.server.options(log), err
	}
	if c.Flags().Changed("creds") {
		return nil, usagef("--creds is for the server that --nats names, which is missing")
	}
	d.server.prefix = cmp.Or(d.server.prefix, d.env("TIDEWAY_PREFIX"))
	embedded, err := d.embedded()
	return &natsbus.Options{Embedded: embedded, Prefix: d.server.prefix, Logger: log}, err
}

// embedded describes the server inside.
func (d *demo) embedded() (*natsbus.Embedded, error) {
	e := &natsbus.Embedded{Listen: d.natsAddr, StoreDir: d.store}
	cluster := &d.cluster
	switch {
	case cluster.Listen == "" && (len(cluster.Routes) > 0 || cluster.Name != ""):
		return nil, usagef("--cluster-routes and --cluster-name need --cluster-listen")
	case cluster.Listen != "" && len(cluster.Routes) == 0:
		return nil, usagef("--cluster-listen needs --cluster-routes: the addresses of all demos of the cluster, this one too")
	case cluster.Listen != "":
		cluster.Secret = cmp.Or(cluster.Secret, d.env("TIDEWAY_CLUSTER_SECRET"))
		e.Cluster = cluster
		// It is the same after a restart, and no other server's.
		e.Name = "tideway-" + strings.NewReplacer(":", "-", ".", "-", "[", "", "]", "").Replace(cluster.Listen)
	}
	return e, nil
}

// checkFree tries the addresses of the server inside. The library would refuse
// a taken one, too, but does not know the flags.
func (d *demo) checkFree() error {
	for _, a := range []struct{ addr, flag string }{{d.natsAddr, "--nats-addr"}, {d.cluster.Listen, "--cluster-listen"}} {
		if a.addr == "" {
			continue
		}
		ln, err := listen(a.addr, a.flag)
		if err != nil {
			return err
		}
		ln.Close()
	}
	return nil
}

// listen listens on the address that a flag gave.
func listen(addr, flag string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return nil, usagef("%s %q is no address: want host:port, with a port up to 65535", flag, addr)
	}
	ln, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("another program listens on %s; end it, or choose another address with %s", addr, flag)
	}
	return nil, fmt.Errorf("cannot listen on %s: %w; choose another address with %s", addr, err, flag)
}
