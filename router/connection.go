package router

import (
	"context"
	"net/http"
	"sync"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/internal/socket"
)

// connection is one connection, from before Connect to its end: in the router's
// books, and as the consumer's Socket.
type connection struct {
	router  *Router
	address string

	handshake *handshake     // nil once it succeeded
	socket    *socket.Socket // nil before that
	once      sync.Once      // gives the socket back
	released  chan struct{}  // closed when it is given back; made by once, nil where that was at once

	// Guarded by registry.mu.
	conn    *consumer.Conn // nil until Run has begun
	first   *consumer.User // who it is, until the Conn knows; else nil
	closing *consumer.CloseError
	user    string // by whom it is counted
	recheck int64  // when the credentials are to be looked at, in milliseconds since 1970; 0 is never

	prev, next *connection // of the same user
}

var _ consumer.Poller = (*connection)(nil)

// start notes the Conn. One that was to be closed before it began is closed now.
func (c *connection) start(conn *consumer.Conn) {
	g := &c.router.conns
	g.mu.Lock()
	defer g.mu.Unlock()
	c.conn, c.first = conn, nil
	if c.closing != nil {
		conn.Close(c.closing.Code, c.closing.Reason)
	}
}

// who returns the connection's user. Registry.mu is held.
func (c *connection) who() consumer.User {
	switch {
	case c.first != nil:
		return *c.first
	case c.conn != nil:
		return c.conn.User()
	}
	return consumer.User{}
}

// Accept implements consumer.Socket.
func (c *connection) Accept(subprotocol string, header http.Header) error {
	s, err := c.handshake.accept(subprotocol, header)
	if err == nil {
		c.socket, c.handshake = s, nil
	}
	return err
}

// Read implements consumer.Socket. Once the connection has ended, it is given
// back while the consumer is still ending: that may take long.
func (c *connection) Read() (consumer.Frame, error) {
	f, err := c.socket.Read()
	if err != nil {
		c.giveBack()
	}
	return f, err
}

// Poll implements consumer.Poller, like Read.
func (c *connection) Poll(ready func()) (consumer.Frame, bool, error) {
	f, ok, err := c.socket.Poll(ready)
	if err != nil {
		c.giveBack()
	}
	return f, ok, err
}

// giveBack releases the accepted socket, once nobody reads from it any more. A
// connection that still has to say goodbye does so on a goroutine of its own.
func (c *connection) giveBack() {
	c.once.Do(func() {
		if c.socket.Lost() {
			c.socket.Release()
			return
		}
		released := make(chan struct{})
		c.released = released
		go func() {
			defer close(released)
			c.socket.Release()
		}()
	})
}

// Send implements consumer.Socket.
func (c *connection) Send(ctx context.Context, p *consumer.Prepared) error {
	return c.socket.Send(ctx, p)
}

// Offer implements consumer.Socket.
func (c *connection) Offer(p *consumer.Prepared) error { return c.socket.Offer(p) }

// TryOffer implements consumer.Socket.
func (c *connection) TryOffer(p *consumer.Prepared) (bool, error) { return c.socket.TryOffer(p) }

// OfferLatest implements consumer.Socket.
func (c *connection) OfferLatest(v *consumer.Values) (int, error) { return c.socket.OfferLatest(v) }

// AwaitRoom implements consumer.Socket.
func (c *connection) AwaitRoom(ctx context.Context) error { return c.socket.AwaitRoom(ctx) }

// Err implements consumer.Socket.
func (c *connection) Err() error { return c.socket.Err() }

// Close implements consumer.Socket.
func (c *connection) Close(code consumer.StatusCode, reason string) { c.socket.Close(code, reason) }
