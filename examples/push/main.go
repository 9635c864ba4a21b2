// Push pushes a message into a group, from Go, with the layer:
//
//	go run ./examples/push chat.lobby '{"type":"chat.message","user":"go","text":"hello"}'
//	go run ./examples/push -nats nats://10.0.0.5:4222 ...
//
// The files beside it do the same in other languages, by what travels on the
// wire; README.md has them all.
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

func main() {
	nats := flag.String("nats", "nats://127.0.0.1:4222", "address of the NATS server")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("usage: push [-nats URL] GROUP JSON")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := push(ctx, *nats, flag.Arg(0), flag.Arg(1)); err != nil {
		log.Fatal(err)
	}
}

// push returns when the server at url has the message, or after 10 s. A program
// that pushes more than once keeps the layer.
func push(ctx context.Context, url, group, message string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := layer.ParseMessage([]byte(message))
	if err != nil {
		return err
	}
	bus, err := natsbus.New(ctx, &natsbus.Options{URL: url})
	if err != nil {
		return err
	}
	defer bus.Close(ctx)
	l, err := layer.New(bus, nil)
	if err != nil {
		return err
	}
	defer l.Close(ctx)
	if err := l.GroupSend(ctx, group, m); err != nil {
		return err
	}
	return bus.Conn().FlushWithContext(ctx)
}
