package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/cmd/tideway/bench"
)

// natsServer is what one writes in an afternoon: coder/websocket, and a
// subscription of nats.go for each socket. The NATS server is in its process.
type natsServer struct {
	site
	accept   websocket.AcceptOptions
	embedded *server.Server // nil with another process's
	conn     *nats.Conn
}

func startNATS(_ context.Context, s bench.Site) (bench.Served, bench.Opened, error) {
	n := &natsServer{}
	var opened bench.Opened
	err := n.connect(s.Broker)
	if err == nil && s.Serve {
		if s.Deflate {
			n.accept.CompressionMode = websocket.CompressionNoContextTakeover
		}
		opened.Path = path
		opened.Addr, err = n.listen(n)
	}
	if err != nil {
		n.Close()
		return nil, opened, err
	}
	if n.embedded != nil {
		opened.Broker = n.embedded.ClientURL()
	}
	return n, opened, nil
}

func (n *natsServer) connect(url string) (err error) {
	if url == "" {
		n.embedded, err = server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
		if err != nil {
			return err
		}
		n.embedded.Start()
		if !n.embedded.ReadyForConnections(10 * time.Second) {
			return errors.New("the NATS server is not ready after 10 s")
		}
		url = n.embedded.ClientURL()
	}
	n.conn, err = nats.Connect(url)
	return err
}

func (n *natsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	room, err := roomOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c, err := websocket.Accept(w, r, &n.accept)
	if err != nil {
		return
	}
	defer c.CloseNow()
	ctx := c.CloseRead(context.Background())
	messages := make(chan []byte, queued)
	sub, err := n.conn.Subscribe(subject(room), func(m *nats.Msg) {
		select {
		case messages <- m.Data:
		case <-ctx.Done():
		}
	})
	if err != nil {
		return
	}
	defer sub.Unsubscribe()
	pump(ctx, c, messages)
}

func subject(room int) string { return "room." + strconv.Itoa(room) }

// Publish implements bench.Served.
func (n *natsServer) Publish(room int, text []byte) error {
	m, err := message(text)
	if err == nil {
		err = n.conn.Publish(subject(room), m)
	}
	return err
}

// Connections implements bench.Served: each has a subscription.
func (n *natsServer) Connections() int { return n.conn.NumSubscriptions() }

// Close implements bench.Served.
func (n *natsServer) Close() {
	if n.server.Handler != nil {
		n.site.Close()
	}
	if n.conn != nil {
		n.conn.Close()
	}
	if n.embedded != nil {
		n.embedded.Shutdown()
		n.embedded.WaitForShutdown()
	}
}
