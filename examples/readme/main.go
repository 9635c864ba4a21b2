// Readme is the chat that README.md shows: rooms, on a NATS server inside the
// process, for everybody on this machine.
//
//	go run ./examples/readme
package main

import (
	"context"
	"log"
	"net/http"

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

func (v *chat) connect(ctx context.Context, c *consumer.Conn) error {
	v.group = "chat." + c.PathValue("room")
	return c.GroupAdd(ctx, v.group)
}

func (v *chat) receive(ctx context.Context, c *consumer.Conn, m Message) error {
	return c.GroupSend(ctx, v.group, m)
}

var routes = router.Table{"/ws/chat/{room}/": consumer.Type[chat]{
	Connect:  (*chat).connect,
	Receive:  consumer.JSON((*chat).receive),
	Messages: consumer.Table(consumer.Forward[chat, Message]()),
}}

func main() {
	bus, err := natsbus.New(context.Background(), &natsbus.Options{Embedded: &natsbus.Embedded{Listen: "127.0.0.1:4222"}})
	if err != nil {
		log.Fatal(err)
	}
	l, err := layer.New(bus, nil)
	if err != nil {
		log.Fatal(err)
	}
	r, err := router.New(l, routes, nil)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", r))
}
