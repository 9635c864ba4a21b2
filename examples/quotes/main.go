// Quotes is a board of prices that change fifty times a second, each, and a page
// that shows them on a chart. A switch on the page puts a slow connection in
// between: what cannot be shown in time is skipped, and what is shown is current.
//
//	go run ./examples/quotes
//
// The board is also a part of `tideway demo`, at /quotes/.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os/signal"
	"syscall"

	"github.com/tideway-go/tideway/examples/quotes/board"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "address of the site")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		log.Fatal(err)
	}
}

// run serves the site until ctx ends.
func run(ctx context.Context, addr string) error {
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		return err
	}
	defer l.Close(context.Background())
	b := board.New(l, nil)
	defer b.Close()
	sockets, err := router.New(l, b.Routes(), nil)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/ws/quotes/", board.SlowLinks(sockets))
	mux.Handle("/quotes/", http.StripPrefix("/quotes", board.Page()))
	mux.Handle("GET /{$}", http.RedirectHandler("/quotes/", http.StatusFound))

	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("quotes: %w", err)
	}
	fmt.Printf("The page is at http://%s/quotes/\n", ln.Addr())
	return router.Serve(ctx, &http.Server{Handler: mux}, ln, sockets)
}
