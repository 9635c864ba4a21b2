package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/tideway-go/tideway/examples/chat/room"
	quotes "github.com/tideway-go/tideway/examples/quotes/board"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// serve serves the site until ctx ends. With keeps, what the NATS server keeps is
// a part of it.
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
	g := d.greeting(ln.Addr(), bus)
	mux, parts := d.site(r, api, l, g), []router.Part{r, api}
	ctx, stop := context.WithCancel(ctx) // the worker ends with the site, whatever ends that
	defer stop()
	if keeps {
		var k *kept
		if k, err = d.startKept(ctx, l, api, opts, g); err != nil {
			return err
		}
		defer func() { stop(); err = errors.Join(err, k.end(ctx)) }()
		k.mount(mux)
		parts = append(parts, k.parts()...)
	}
	mux.Handle("/", startPage(g))
	g.print(d.stdout)
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

// site is what the demo serves on any NATS server, but for the page at its root.
func (d *demo) site(r *router.Router, api http.Handler, l *layer.Layer, g *greeting) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/ws/", quotes.SlowLinks(r))
	mux.Handle("/chat/", http.StripPrefix("/chat", room.Page(g.Commands)))
	mux.Handle("/quotes/", http.StripPrefix("/quotes", quotes.Page()))
	mux.Handle("/api/v1/", api)
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
