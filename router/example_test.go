package router_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// A table of two routes, below the path /app and for the site example.com.
func ExampleNew() {
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close(context.Background())
	lobby := consumer.Type[struct{}]{Groups: []string{"lobby"}}
	r, err := router.New(l, router.Table{
		"/ws/lobby/":       lobby,
		"/ws/chat/{room}/": chat,
	}, &router.Options{
		Prefix:  "/app",
		Origins: []string{"https://example.com"},
		Hosts:   []string{"example.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Shutdown(context.Background())
	for pattern := range r.Routes() {
		fmt.Println(pattern)
	}
	// Output:
	// /ws/chat/{room}/
	// /ws/lobby/
}

// A whole server, which ends cleanly on Ctrl-C and on SIGTERM.
func ExampleServe() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		log.Fatal(err)
	}
	sockets, err := router.New(l, router.Table{"/ws/chat/{room}/": chat}, nil)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws/", sockets)
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := sockets.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	if err := router.Serve(ctx, &http.Server{Addr: "127.0.0.1:8000", Handler: mux}, nil, sockets); err != nil {
		log.Print(err)
	}
	if err := l.Close(context.Background()); err != nil {
		log.Print(err)
	}
}

// Closing a user's connections on all nodes, for example after a password was
// changed.
func ExampleKick() {
	ctx := context.Background()
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close(ctx)
	n, err := router.Kick{User: "ann", Code: consumer.StatusExpired, Reason: "log in again"}.Do(ctx, l)
	fmt.Println(n, err)
	// Output: 0 <nil>
}
