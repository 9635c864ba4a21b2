// Notify pushes from an ordinary HTTP handler to one user, in all windows that
// this user has open. Log in as ann in a browser, then notify ann:
//
//	go run ./examples/notify
//	curl -d text='Your order is on its way' http://127.0.0.1:8000/notify/ann
//
// The sockets know their user by the cookie of the site's sessions. Any other
// process can notify, too, since a notification is a message to a group:
//
//	go run ./cmd/tideway send notify.ann '{"type":"notify.message","text":"hello"}'
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

	s, err := newSite(l, nil)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	fmt.Printf("The page is at http://%s/, NATS at %s\n", ln.Addr(), bus.ClientURL())
	return router.Serve(ctx, &http.Server{Handler: s.handler()}, ln, s.sockets)
}
