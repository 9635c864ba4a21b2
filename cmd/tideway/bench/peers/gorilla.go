package main

import (
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// gorilla is gorilla/websocket as its chat example uses it, two goroutines and a
// queue for each client, with prepared messages.
type gorilla struct {
	rooms[*gorillaClient]
	upgrader websocket.Upgrader
}

type gorillaClient struct {
	conn *websocket.Conn
	send chan *websocket.PreparedMessage
	done chan struct{} // closed when its reader ends
}

func newGorilla(deflate bool) handled {
	return &gorilla{upgrader: websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024, EnableCompression: deflate}}
}

func (s *gorilla) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	room, err := roomOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	conn, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	c := &gorillaClient{conn, make(chan *websocket.PreparedMessage, queued), make(chan struct{})}
	s.join(room, c)
	go c.write()
	go func() { // the handler returns, so that its buffers go
		defer s.leave(room, c)
		c.read()
	}()
}

func (c *gorillaClient) read() {
	defer close(c.done)
	c.conn.SetReadLimit(64 << 10)
	for {
		if _, _, err := c.conn.ReadMessage(); err != nil {
			return
		}
	}
}

func (c *gorillaClient) write() {
	defer c.conn.Close()
	for {
		select {
		case m := <-c.send:
			c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if c.conn.WritePreparedMessage(m) != nil {
				return
			}
		case <-c.done:
			return
		}
	}
}

// Publish implements bench.Served.
func (s *gorilla) Publish(room int, text []byte) error {
	data, err := message(text)
	if err != nil {
		return err
	}
	m, err := websocket.NewPreparedMessage(websocket.TextMessage, data)
	if err != nil {
		return err
	}
	for _, c := range s.of(room) {
		select {
		case c.send <- m:
		default:
			c.conn.Close() // it is too slow
		}
	}
	return nil
}
