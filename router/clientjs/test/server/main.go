// Command server is the site that the tests of the browser client talk to: under
// Node, and in Chromium. It says "ready" when it listens, keeps durable groups in
// -store, and ends like any server when it gets SIGTERM.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/auth"
	"github.com/tideway-go/tideway/router/auth/ticket"
	"github.com/tideway-go/tideway/router/clientjs"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "where to listen")
	store := flag.String("store", "", "a folder for what durable groups keep")
	ping := flag.Duration("ping", 25*time.Second, "silence after which a client is pinged")
	assets := flag.String("assets", "", "a folder whose files are served below /assets/")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *store, *assets, *ping); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr, store, assets string, ping time.Duration) (err error) {
	bus, err := natsbus.New(ctx, &natsbus.Options{Embedded: &natsbus.Embedded{StoreDir: store}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bus.Close(context.WithoutCancel(ctx))) }()
	l, err := layer.New(bus, &layer.Options{Groups: []layer.Retention{
		{Pattern: "job.>"},
		{Pattern: "few.>", Messages: 10},
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close(context.WithoutCancel(ctx))) }()

	tickets, err := ticket.New(l, nil)
	if err != nil {
		return err
	}
	users := &users{tickets}
	opts := router.Options{Authenticate: users, Limits: router.Limits{PingInterval: ping}, Origins: []string{"*"}}
	sockets, err := router.New(l, table, &opts)
	if err != nil {
		return err
	}
	opts.Authenticate, opts.FirstToken = auth.Required(users), 5*time.Second
	strict, err := router.New(l, strictTable, &opts)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/ws/", sockets)
	mux.Handle("/login/", strict)
	mux.Handle("POST /members/{verb}/{group}", members(l))
	mux.Handle("GET /tideway/", http.StripPrefix("/tideway/", clientjs.Handler()))
	mux.HandleFunc("POST /ticket", users.ticket)
	mux.Handle("POST /publish/{group}", publish(l))
	mux.HandleFunc("GET /{$}", page)
	if assets != "" {
		mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(os.DirFS(assets))))
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("ready on", ln.Addr())
	return router.Serve(ctx, &http.Server{Handler: mux}, ln, sockets, strict)
}

//go:embed page.html
var html []byte

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(html)
}

// members adds any channel to a group, or takes it out, as another process of the
// network would.
func members(l *layer.Layer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		change := l.GroupAdd
		if r.PathValue("verb") == "discard" {
			change = l.GroupDiscard
		}
		if err := change(r.Context(), r.PathValue("group"), r.FormValue("channel")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
}

// publish sends lines from number from to number to into a group, which is
// durable: it answers when they are stored.
func publish(l *layer.Layer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.FormValue("from"))
		to, _ := strconv.Atoi(r.FormValue("to"))
		for n := from; n <= to; n++ {
			if err := l.GroupSend(r.Context(), r.PathValue("group"), line{n}); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
	})
}
