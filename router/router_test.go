package router_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

type line struct {
	User string `json:"user"`
	Text string `json:"text"`
}

func (line) MessageType() string { return "chat.message" }

type room struct{ name string }

var chat = consumer.Type[room]{
	Connect: func(r *room, ctx context.Context, c *consumer.Conn) error {
		r.name = "chat." + c.PathValue("room")
		return c.GroupAdd(ctx, r.name)
	},
	Receive: consumer.JSON(func(r *room, ctx context.Context, c *consumer.Conn, l line) error {
		return c.GroupSend(ctx, r.name, l)
	}),
	Messages: consumer.Table(consumer.Forward[room, line]()),
}

// open makes a router with a layer of its own, both of which end with the test.
func open(t *testing.T, table router.Table, opts *router.Options) *router.Router {
	t.Helper()
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := router.New(l, table, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestTwoClientsInOneRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, router.Table{"/ws/chat/{room}/": chat}, nil)
		ann := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
		bob := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
		eve := consumertest.Dial(t, r, "/ws/chat/hall/", nil)
		ann.SendText(`{"type":"chat.message","user":"ann","text":"hi"}`)
		for _, c := range []*consumertest.Client{ann, bob} {
			if got, want := c.ReceiveText(), `{"type":"chat.message","user":"ann","text":"hi"}`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		eve.ReceiveNothing(time.Second)
		ann.Close(1000, "bye")
		bob.ReceiveNothing(time.Minute) // pings are answered meanwhile
	})
}
