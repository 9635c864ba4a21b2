package router

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/internal/socket"
)

// handshake is the Socket of a connection whose handshake is open, and becomes
// the engine's once it is accepted.
type handshake struct {
	conn     *connection
	accepted chan struct{}        // closed when the handshake succeeded
	refused  chan consumer.Result // gets the result of one that did not
	released chan struct{}        // closed when the accepted socket is given back
	once     sync.Once            // gives it back

	mu       sync.Mutex // guards all below until accepted is closed
	w        http.ResponseWriter
	r        *http.Request
	answered bool // nobody may touch w any more
	socket   *socket.Socket
}

var _ consumer.Socket = (*handshake)(nil)

func newHandshake(c *connection, w http.ResponseWriter, req *http.Request) *handshake {
	return &handshake{
		conn: c, w: w, r: req,
		accepted: make(chan struct{}), refused: make(chan consumer.Result, 1), released: make(chan struct{}),
	}
}

// wait blocks until the handshake is decided, and answers one that is refused or
// takes too long.
func (h *handshake) wait(ctx context.Context) {
	r := h.conn.router
	select {
	case <-h.accepted:
		return
	case res := <-h.refused:
		if ctx.Err() == nil || !errors.Is(res.Err, context.Canceled) {
			h.answer(res)
			return
		} // else Connect ended because its time had
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.socket != nil || h.answered:
		return
	case h.r.Context().Err() != nil:
		r.set.Logger.Info("router: the client left during the handshake", "path", brief(h.r.URL.Path), "remote", h.conn.address)
	default:
		r.deny(h.w, h.r, unavailable("try again later"), "Connect did not decide within "+r.set.HandshakeTimeout.String())
	}
	h.answered = true
}

// answer refuses, unless the engine has answered already.
func (h *handshake) answer(res consumer.Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.answered {
		h.answered = true
		h.conn.router.denyBy(h.w, h.r, "the consumer refused", res.Err)
	}
}

var errAnswered = errors.New("router: the handshake took too long, or its client left")

// Accept implements consumer.Socket.
func (h *handshake) Accept(subprotocol string, header http.Header) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answered {
		return errAnswered
	}
	r := h.conn.router
	clear(h.w.Header())
	maps.Copy(h.w.Header(), header)
	// A client that does not read must not hold the answer up for ever. Taking
	// the connection over clears the deadline; a writer without one is as it was.
	_ = http.NewResponseController(h.w).SetWriteDeadline(time.Now().Add(r.set.HandshakeTimeout))
	s, err := r.engine.Upgrade(h.w, h.r, subprotocol)
	if err != nil {
		h.answered = true
		r.conns.refused.Add(1)
		r.set.Logger.Warn("router: the handshake failed", "why", err.Error(), "path", brief(h.r.URL.Path), "remote", h.conn.address)
		return err
	}
	h.socket = s
	h.w, h.r = nil, nil // a request kept would cost more than the connection
	close(h.accepted)
	return nil
}

// Read implements consumer.Socket. Once the connection has ended, it is given
// back while the consumer is still ending: that may take long.
func (h *handshake) Read() (consumer.Frame, error) {
	f, err := h.socket.Read()
	if err != nil {
		h.giveBack()
	}
	return f, err
}

// giveBack releases the accepted socket, once nobody reads from it any more.
func (h *handshake) giveBack() {
	h.once.Do(func() {
		go func() {
			defer close(h.released)
			h.socket.Release()
		}()
	})
}

// Send implements consumer.Socket.
func (h *handshake) Send(ctx context.Context, p *consumer.Prepared) error {
	return h.socket.Send(ctx, p)
}

// Offer implements consumer.Socket.
func (h *handshake) Offer(p *consumer.Prepared) error { return h.socket.Offer(p) }

// Err implements consumer.Socket.
func (h *handshake) Err() error { return h.socket.Err() }

// Close implements consumer.Socket.
func (h *handshake) Close(code consumer.StatusCode, reason string) { h.socket.Close(code, reason) }
