package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/examples/chat/room"
	quotes "github.com/tideway-go/tideway/examples/quotes/board"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
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
	level                 slog.Level
	verbose               bool
}

func (p *program) demoCommand() *cobra.Command {
	d := &demo{program: p}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Serve a chat and a rollout, with a NATS server inside",
		Long: `Demo serves a chat: the page at /, its sockets at /ws/chat/{room}/, /healthz and
/readyz for probes, and the HTTP door for programs at /api/v1/. Whoever is in the room
"lobby" is a member of the group "chat.lobby". At /quotes/ is a board of prices that
shows what slow clients get. At /rollout/ operators update simulated game servers, and
everybody who is logged in watches. A NATS server runs inside the program, unless --nats
names another one; $NATS_URL does not count here.

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
	f.StringSliceVar(&d.durable, "durable", nil, "`pattern` of groups whose messages are kept, such as chat.> or job.42; may be repeated")
	f.StringVar(&d.cluster.Listen, "cluster-listen", "", "`address` at which the other demos' NATS servers reach this one")
	f.StringSliceVar(&d.cluster.Routes, "cluster-routes", nil, "--cluster-listen `addresses` of all demos of the cluster, this one too")
	f.StringVar(&d.cluster.Name, "cluster-name", "", "`name` of the cluster, the same for all (default tideway)")
	f.StringVar(&d.cluster.Secret, "cluster-secret", "", "`word` that the NATS servers show each other ($TIDEWAY_CLUSTER_SECRET)")
	f.TextVar(&d.level, "log-level", slog.LevelInfo, "least `level` of the log on stderr: debug, info, warn or error")
	f.BoolVarP(&d.verbose, "verbose", "v", false, "the same as --log-level debug")
	complete(c, "log-level", "debug", "info", "warn", "error")
}

func (d *demo) run(ctx context.Context, c *cobra.Command) (err error) {
	if d.verbose {
		d.level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(d.stderr, &slog.HandlerOptions{Level: d.level}))
	opts, err := d.busOptions(c, log)
	if err != nil {
		return err
	}
	if err := d.chooseKey(); err != nil {
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
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, usagef("%s %q is no address: want host:port", flag, addr)
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

// serve serves the site until ctx ends. With keeps, rollouts are a part of it.
func (d *demo) serve(ctx context.Context, ln net.Listener, bus *natsbus.Bus, l *layer.Layer, keeps bool, log *slog.Logger) (err error) {
	names := d.names(ln.Addr())
	market := quotes.New(l, log)
	defer market.Close()
	table := market.Routes()
	table["/ws/chat/{room}/{$}"] = room.Consumer
	opts := &router.Options{Hosts: names, Origins: names, Logger: log}
	r, err := router.New(l, table, opts)
	if err != nil {
		return err
	}
	api, err := d.door(l, log)
	if err != nil {
		return err
	}
	mux, parts := d.site(r, api, l), []router.Part{r, api}
	d.greet(ln.Addr(), bus)
	if keeps {
		ctx, stop := context.WithCancel(ctx) // the worker ends with the site, whatever ends that
		updates, err := d.startRollout(ctx, l, opts)
		if err != nil {
			stop()
			return err
		}
		defer func() { stop(); err = errors.Join(err, updates.end()) }()
		updates.mount(mux)
		updates.greet(d, d.pageHost(ln.Addr()))
		parts = append(parts, updates.site.Router())
	}
	srv := &http.Server{
		Handler:     mux,
		IdleTimeout: 2 * time.Minute,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	defer context.AfterFunc(ctx, func() { d.note("draining: sockets are told to come back; a second interrupt ends at once") })()
	return router.Serve(ctx, srv, ln, parts...)
}

// names are those by which browsers may address the site, nil for those of this
// machine.
func (d *demo) names(addr net.Addr) []string {
	names := d.hosts
	if a, err := netip.ParseAddrPort(addr.String()); err == nil && !a.Addr().IsLoopback() && !a.Addr().IsUnspecified() {
		host, _, _ := net.SplitHostPort(addr.String()) // it parsed
		if a.Addr().Is6() {
			host = "[" + host + "]"
		}
		names = append(names, host)
	}
	if len(names) == 0 {
		return nil
	}
	return append(names, "localhost", "127.0.0.1", "[::1]")
}

// site is what the demo serves beside rollouts.
func (d *demo) site(r *router.Router, api http.Handler, l *layer.Layer) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/ws/", quotes.SlowLinks(r))
	mux.Handle("/quotes/", http.StripPrefix("/quotes", quotes.Page()))
	mux.Handle("/api/v1/", api)
	mux.Handle("/", room.Page())
	mux.HandleFunc("GET /healthz", probe(func() error {
		if err := l.Err(); errors.Is(err, layer.ErrClosed) {
			return err
		}
		return nil // a link that is down comes back
	}))
	mux.HandleFunc("GET /readyz", probe(r.Ready))
	return mux
}

// probe answers 200 while check returns nil, else 503 with the reason.
func probe(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok\n")
	}
}

// greet says where the page is, and how to push a message into it.
func (d *demo) greet(addr net.Addr, bus *natsbus.Bus) {
	host := d.pageHost(addr)
	fmt.Fprintf(d.stdout, "Open http://%s/ in two windows.\n", host)
	defer d.greetPrograms(host)
	nats := d.server.nats
	if bus.ClientURL() != "" {
		nats = bus.ClientURL()
	} else if d.natsAddr == "" {
		fmt.Fprintln(d.stdout, "No other program can send to it: --nats-addr is empty.")
		return
	}
	command, flags := "tideway", ""
	if readBuild().checkout() {
		command = "go run ./cmd/tideway"
	}
	if nats != defaultNATS {
		flags += " --nats " + withoutSecrets(nats)
	}
	if p := d.server.prefix; p != "" && p != "channels" {
		flags += " --prefix " + p
	}
	fmt.Fprintf(d.stdout, "Then push a message into both, from another terminal:\n\n    %s send chat.lobby%s '%s'\n\n",
		command, flags, `{"type":"chat.message","user":"script","text":"hello"}`)
}

// pageHost is the host and port of the page's address.
func (d *demo) pageHost(addr net.Addr) string {
	a, err := netip.ParseAddrPort(addr.String())
	if err != nil || !a.Addr().IsUnspecified() {
		return addr.String()
	}
	host := "localhost"
	if len(d.hosts) > 0 {
		host = d.hosts[0]
	} else {
		d.note("only pages of this machine may open sockets; name others with --host")
	}
	return fmt.Sprintf("%s:%d", host, a.Port())
}
