// Echo sends back what it receives. It shows a consumer that is one function,
// which asks for the events of its connection: text and binary messages of the
// client, and here no others, since it has joined no group and has no layer.
//
//	go run ./examples/echo
//
// and in the console of a browser that is at http://127.0.0.1:8000/, where a 404
// is page enough:
//
//	ws = new WebSocket("ws://127.0.0.1:8000/ws/echo")
//	ws.onmessage = (e) => console.log(e.data)
//	ws.send("hello")
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"os/signal"
	"syscall"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router"
)

// echo serves one connection: its variables are the connection's state, and what
// it defers is its clean-up.
var echo = consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
	var texts, binaries int
	defer func() { c.Logger().Info("echo: the connection has ended", "texts", texts, "binaries", binaries) }()
	for e, err := range c.Events(ctx) {
		if err != nil {
			return err
		}
		switch e.Frame.Type {
		case consumer.Text:
			texts++
		case consumer.Binary:
			binaries++
		}
		if err := c.Send(ctx, *e.Frame); err != nil {
			return err
		}
	}
	return nil
})

var routes = router.Table{"/ws/echo": echo}

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "address of the site")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	r, err := router.New(nil, routes, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := router.Serve(ctx, &http.Server{Addr: *addr, Handler: r}, nil, r); err != nil {
		log.Fatal(err)
	}
}
