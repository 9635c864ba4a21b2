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

// handshake is a connection whose handshake is open. It is let go when that is
// decided: an idle connection must not pay for what it needed to begin.
type handshake struct {
	conn     *connection
	accepted chan struct{}        // closed when the handshake succeeded
	refused  chan consumer.Result // gets the result of one that did not

	mu       sync.Mutex // guards all below
	w        http.ResponseWriter
	r        *http.Request
	answered bool // nobody may touch w any more
}

func newHandshake(c *connection, w http.ResponseWriter, req *http.Request) *handshake {
	h := &handshake{conn: c, w: w, r: req, accepted: make(chan struct{}), refused: make(chan consumer.Result, 1)}
	c.handshake = h
	return h
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
	case h.answered:
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

// accept completes the handshake.
func (h *handshake) accept(subprotocol string, header http.Header) (*socket.Socket, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answered {
		return nil, errAnswered
	}
	h.answered = true
	r := h.conn.router
	clear(h.w.Header())
	maps.Copy(h.w.Header(), header)
	// A client that does not read must not hold the answer up for ever. Taking
	// the connection over clears the deadline; a writer without one is as it was.
	_ = http.NewResponseController(h.w).SetWriteDeadline(time.Now().Add(r.set.HandshakeTimeout))
	s, err := r.engine.Upgrade(h.w, h.r, subprotocol)
	if err != nil {
		r.conns.refused.Add(1)
		r.set.Logger.Warn("router: the handshake failed", "why", err.Error(), "path", brief(h.r.URL.Path), "remote", h.conn.address)
		return nil, err
	}
	close(h.accepted)
	return s, nil
}
