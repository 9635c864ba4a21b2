// Command tutorial is the chat of README.md and docs/tutorial.md.
//
//	go run ./examples/tutorial
package main

import (
	"context"
	_ "embed"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

type Message struct {
	User string `json:"user"`
	Text string `json:"text"`
}

func (Message) MessageType() string { return "chat.message" }

type chat struct{ group string }

func (c *chat) connect(ctx context.Context, conn *consumer.Conn) error {
	c.group = "chat." + conn.PathValue("room")
	return conn.GroupAdd(ctx, c.group)
}

func (c *chat) receive(ctx context.Context, conn *consumer.Conn, m Message) error {
	return conn.GroupSend(ctx, c.group, m)
}

var Chat = consumer.Type[chat]{
	Connect:  (*chat).connect,
	Receive:  consumer.JSON((*chat).receive),
	Messages: consumer.Table(consumer.Forward[chat, Message]()),
}

//go:embed page.html
var html []byte

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(html)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.Print("the page is at http://127.0.0.1:8000/")
	if err := run(ctx, "127.0.0.1:8000", "127.0.0.1:4222"); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr, natsAddr string) error {
	bus, err := natsbus.New(ctx, &natsbus.Options{Embedded: &natsbus.Embedded{Listen: natsAddr}})
	if err != nil {
		return err
	}
	defer bus.Close(context.WithoutCancel(ctx))
	l, err := layer.New(bus, nil)
	if err != nil {
		return err
	}
	defer l.Close(context.WithoutCancel(ctx))
	sockets, err := router.New(l, router.Table{"/ws/chat/{room}/{$}": Chat}, nil)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", page)
	mux.Handle("/ws/", sockets)
	return router.Serve(ctx, &http.Server{Addr: addr, Handler: mux}, nil, sockets)
}
