// Chat is a site of chat rooms: a page, a socket for each room, and a NATS server
// inside the same process, so that anything that speaks NATS can push into a
// room. Run it, open the page in two windows, and push from a second terminal:
//
//	go run ./examples/chat
//	go run ./cmd/tideway send chat.lobby '{"type":"chat.message","user":"script","text":"hello"}'
//
// Only pages of this machine may open its sockets. To serve others, give the
// router their Origins and Hosts.
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

	"github.com/tideway-go/tideway/examples/chat/room"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "address of the site")
	nats := flag.String("nats", "127.0.0.1:4222", "address of the embedded NATS server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *nats); err != nil {
		log.Fatal(err)
	}
}

// run serves the site until ctx ends.
func run(ctx context.Context, addr, nats string) error {
	bus, err := natsbus.New(ctx, &natsbus.Options{Embedded: &natsbus.Embedded{Listen: nats}})
	if err != nil {
		return err
	}
	defer bus.Close(context.Background())
	l, err := layer.New(bus, nil)
	if err != nil {
		return err
	}
	defer l.Close(context.Background())

	sockets, err := router.New(l, router.Table{"/ws/chat/{room}/{$}": room.Consumer}, nil)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/ws/", sockets)
	mux.Handle("/", room.Page(nil))

	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("chat: %w", err)
	}
	fmt.Printf("The page is at http://%s/, NATS at %s\n", ln.Addr(), bus.ClientURL())
	return router.Serve(ctx, &http.Server{Handler: mux}, ln, sockets)
}
