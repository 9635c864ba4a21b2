package main

import (
	"context"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// coder is coder/websocket as its chat example uses it: a queue and a goroutine
// for each subscriber, who writes with a timeout, and CloseRead.
type coder struct {
	rooms[*subscriber]
	accept websocket.AcceptOptions
}

type subscriber struct {
	messages chan []byte
	slow     func()
}

func newCoder(deflate bool) handled {
	c := &coder{}
	if deflate {
		c.accept.CompressionMode = websocket.CompressionNoContextTakeover
	}
	return c
}

// queued is how many messages may wait for a client; the example's 16 are too
// few for a benchmark.
const queued = 256

const writeTimeout = 5 * time.Second

func (s *coder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	room, err := roomOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c, err := websocket.Accept(w, r, &s.accept)
	if err != nil {
		return
	}
	defer c.CloseNow()
	sub := &subscriber{make(chan []byte, queued), func() {
		c.Close(websocket.StatusPolicyViolation, "connection too slow to keep up with messages")
	}}
	s.join(room, sub)
	defer s.leave(room, sub)
	pump(c.CloseRead(context.Background()), c, sub.messages)
}

// pump writes what comes until a write fails or ctx ends.
func pump(ctx context.Context, c *websocket.Conn, messages <-chan []byte) {
	for {
		select {
		case m := <-messages:
			if write(ctx, c, m) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func write(ctx context.Context, c *websocket.Conn, m []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return c.Write(ctx, websocket.MessageText, m)
}

// Publish implements bench.Served.
func (s *coder) Publish(room int, text []byte) error {
	m, err := message(text)
	for _, sub := range s.of(room) {
		select {
		case sub.messages <- m:
		default:
			go sub.slow()
		}
	}
	return err
}
