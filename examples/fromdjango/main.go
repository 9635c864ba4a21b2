// Command fromdjango is the Django project of docs/from-django.md in Go, part by
// part: the settings, the routing table, the two consumers, and an update that
// does not belong to the connection that asked for it.
//
//	go run ./examples/fromdjango
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// reply is what goes to the browser.
type reply struct {
	Message string `json:"message"`
}

// ChatConsumer answers each message with what it was.
var ChatConsumer = consumer.Type[struct{}]{
	Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
		return nil // accepts
	},
	Receive: consumer.JSON(func(_ *struct{}, ctx context.Context, c *consumer.Conn, data map[string]any) error {
		return c.SendJSON(ctx, reply{fmt.Sprintf("result: %v", data)})
	}),
	Disconnect: func(_ *struct{}, ctx context.Context, c *consumer.Conn, code consumer.StatusCode) {
		c.Logger().Info("chat: left", "code", int(code))
	},
}

// SlowConsumer answers ten times, ever more slowly. Blocking is fine: it holds up
// this connection and no other.
var SlowConsumer = consumer.Type[struct{}]{
	Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
		for i := range 10 {
			time.Sleep(time.Duration(i) * step)
			if err := c.SendJSON(ctx, reply{"result: " + strconv.Itoa(i)}); err != nil {
				return err
			}
		}
		return nil
	},
}

// step is how long the i-th part takes, times i.
var step = time.Second

// Progress is a line about an update that runs.
type Progress struct {
	Server int    `json:"server"`
	Text   string `json:"text"`
}

// MessageType implements layer.Payload.
func (Progress) MessageType() string { return "update.progress" }

// updates runs updates on behalf of whoever asks, and outlives them.
type updates struct {
	layer *layer.Layer
	group string
	work  sync.WaitGroup
}

// start begins an update of n servers. Its context is not the connection's.
func (u *updates) start(n int) {
	u.work.Go(func() {
		for i := range n {
			time.Sleep(step)
			u.layer.GroupSend(context.Background(), u.group, Progress{i + 1, "updated"})
		}
	})
}

// UpdateConsumer shows every update to everybody, and starts one for whoever
// sends {"servers": 3}.
func UpdateConsumer(u *updates) consumer.App {
	type request struct {
		Servers int `json:"servers"`
	}
	return consumer.Type[struct{}]{
		Groups: []string{u.group},
		Receive: consumer.JSON(func(_ *struct{}, ctx context.Context, c *consumer.Conn, r request) error {
			if r.Servers < 1 || r.Servers > 40 {
				return c.SendJSON(ctx, reply{"servers: 1 to 40"})
			}
			u.start(r.Servers)
			return nil
		}),
		Messages: consumer.Table(consumer.Forward[struct{}, Progress]()),
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, "127.0.0.1:8000"); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string) error {
	bus, err := natsbus.New(ctx, nil) // a NATS server inside this program
	if err != nil {
		return err
	}
	defer bus.Close(context.WithoutCancel(ctx))
	l, err := layer.New(bus, nil)
	if err != nil {
		return err
	}
	defer l.Close(context.WithoutCancel(ctx))
	u := &updates{layer: l, group: "updates"}
	defer u.work.Wait()

	routes, err := router.New(l, router.Table{
		"/ws/chat/{$}":       ChatConsumer,
		"/ws/slow/{$}":       SlowConsumer,
		"/ws/ver_update/{$}": UpdateConsumer(u),
	}, &router.Options{
		Hosts:   []string{"example.com", "localhost", "127.0.0.1"},
		Origins: []string{"https://example.com", "http://localhost:8000", "http://127.0.0.1:8000"},
	})
	if err != nil {
		return err
	}
	return router.Serve(ctx, &http.Server{Addr: addr, Handler: routes}, nil, routes)
}
