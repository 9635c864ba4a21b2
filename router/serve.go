package router

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router/internal/socket"
)

// route serves one pattern of the table.
type route struct {
	router  *Router
	pattern string
	app     consumer.App
	names   []string
}

// bearerPrefix marks a token that a browser passes as a subprotocol. It is
// never echoed, and no consumer sees it.
const bearerPrefix = "tideway.bearer."

// ServeHTTP checks a handshake and serves the connection. It returns when the
// handshake is decided: the connection lives on a goroutine of its own.
func (t *route) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r := t.router
	deny, why := r.check(req)
	if deny != nil {
		r.deny(w, req, deny, why)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), r.set.HandshakeTimeout)
	defer cancel()
	user, err := r.authenticate(req.WithContext(ctx))
	if err != nil {
		r.denyBy(w, req, "authentication refused", err)
		return
	}
	c := &connection{router: r, address: r.set.clientAddr(req)}
	if deny, why := r.conns.enter(c, user); deny != nil {
		r.deny(w, req, deny, why)
		return
	}
	h := &handshake{conn: c, w: w, r: req, accepted: make(chan struct{}), refused: make(chan consumer.Result, 1)}
	go t.run(h, user)
	h.wait(ctx)
}

// check refuses what can be refused without knowing who asks.
func (r *Router) check(req *http.Request) (*consumer.DenyError, string) {
	if r.conns.draining() {
		return unavailable("the server restarts"), "the router is shutting down"
	}
	if !isHandshake(req) {
		d := &consumer.DenyError{Status: http.StatusUpgradeRequired, Reason: "this is a WebSocket endpoint", Header: http.Header{}}
		d.Header.Set("Upgrade", "websocket")
		d.Header.Set("Connection", "Upgrade")
		return d, "the request is no WebSocket handshake; a proxy in between may have dropped its Upgrade header"
	}
	if ok, why := r.set.hosts.allow(req.Host); !ok {
		return &consumer.DenyError{Status: http.StatusForbidden, Reason: "this host is not served here"}, why
	}
	if ok, why := r.set.origins.allowRequest(req); !ok {
		return &consumer.DenyError{Status: http.StatusForbidden, Reason: "this origin may not connect"}, why
	}
	return nil, ""
}

// isHandshake reports whether a request asks for WebSocket (RFC 6455, section
// 4.2.1); what else may be wrong with it, the engine says.
func isHandshake(req *http.Request) bool {
	return hasToken(req.Header, "Connection", "upgrade") && hasToken(req.Header, "Upgrade", "websocket")
}

func hasToken(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

func unavailable(reason string) *consumer.DenyError {
	return &consumer.DenyError{Status: http.StatusServiceUnavailable, Reason: reason, Header: retryAfter(5)}
}

func retryAfter(seconds int) http.Header {
	return http.Header{"Retry-After": {strconv.Itoa(seconds)}}
}

func (r *Router) authenticate(req *http.Request) (consumer.User, error) {
	if r.set.Authenticate == nil {
		return consumer.User{}, nil
	}
	return r.set.Authenticate.Authenticate(req)
}

// deny answers a handshake that is refused, and logs why.
func (r *Router) deny(w http.ResponseWriter, req *http.Request, d *consumer.DenyError, why string) {
	r.conns.refused.Add(1)
	r.set.Logger.LogAttrs(req.Context(), slog.LevelWarn, "router: connection refused", slog.Int("status", statusOf(d)), slog.String("why", why),
		slog.String("path", req.URL.Path), slog.String("remote", r.set.clientAddr(req)))
	for name, values := range d.Header {
		w.Header()[name] = values
	}
	reason := d.Reason
	if reason == "" {
		reason = http.StatusText(statusOf(d))
	}
	http.Error(w, reason, statusOf(d))
}

func statusOf(d *consumer.DenyError) int {
	if d.Status < 400 || d.Status > 599 {
		return http.StatusForbidden
	}
	return d.Status
}

// denyBy is deny for an error: what is inside it goes to the log alone.
func (r *Router) denyBy(w http.ResponseWriter, req *http.Request, what string, err error) {
	var d *consumer.DenyError
	var p *consumer.PanicError
	switch {
	case errors.As(err, &d):
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, layer.ErrUnavailable), errors.Is(err, layer.ErrClosed):
		d = unavailable("try again later")
	default:
		d = &consumer.DenyError{Status: http.StatusInternalServerError, Reason: http.StatusText(http.StatusInternalServerError)}
	}
	why := what + ": " + err.Error()
	if errors.As(err, &p) {
		why += "\n" + string(p.Stack)
	}
	r.deny(w, req, d, why)
}

// run serves the connection from Connect to its end.
func (t *route) run(h *handshake, user consumer.User) {
	r, c := t.router, h.conn
	outer, _ := h.r.Context().Value(outerKey{}).([]consumer.Param)
	consumer.Run(r.base, t.app, consumer.Setup{
		Socket:       h,
		Layer:        r.layer,
		Request:      h.r,
		Params:       paramsOf(h.r, t.names, outer),
		Subprotocols: offered(h.r),
		RemoteAddr:   c.address,
		User:         user,
		Header:       h.w.Header(),
		Logger:       r.set.Logger.With("path", h.r.URL.Path, "remote", c.address),
		Stats:        &r.stats,
		Started:      func(conn *consumer.Conn) { c.start(conn) },
		OnUser:       func(consumer.User) { r.conns.move(c) },
	}, func(res consumer.Result) { t.done(h, res) })
}

// offered returns the subprotocols that a client offers, credentials left out.
func offered(req *http.Request) (list []string) {
	for _, v := range req.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.TrimSpace(p); p != "" && !strings.HasPrefix(p, bearerPrefix) {
				list = append(list, p)
			}
		}
	}
	return list
}

// done ends what ServeHTTP began.
func (t *route) done(h *handshake, res consumer.Result) {
	r := t.router
	r.conns.leave(h.conn)
	defer r.conns.gone(h.conn)
	if !res.Accepted {
		h.refused <- res
		return
	}
	if res.Err != nil {
		attrs := []any{"path", t.pattern, "remote", h.conn.address, "code", int(res.Code), "err", res.Err}
		var p *consumer.PanicError
		if errors.As(res.Err, &p) {
			attrs = append(attrs, "stack", string(p.Stack))
		}
		r.set.Logger.Error("router: a consumer failed", attrs...)
	}
	<-h.released
}

// handshake is the Socket of a connection whose handshake is open, and becomes
// the engine's once it is accepted.
type handshake struct {
	conn     *connection
	accepted chan struct{}        // closed when the handshake succeeded
	refused  chan consumer.Result // gets the result of one that did not
	released chan struct{}        // closed when the accepted socket is given back
	once     sync.Once            // gives it back

	mu      sync.Mutex // guards all below until accepted is closed
	w       http.ResponseWriter
	r       *http.Request
	expired bool
	socket  *socket.Socket
}

var _ consumer.Socket = (*handshake)(nil)

// wait blocks until the handshake is decided, and answers one that is refused or
// takes too long.
func (h *handshake) wait(ctx context.Context) {
	r := h.conn.router
	select {
	case <-h.accepted:
		return
	case res := <-h.refused:
		h.answer(res)
		return
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.socket != nil {
		return
	}
	h.expired = true // nobody may touch the ResponseWriter any more
	if h.r.Context().Err() != nil {
		r.set.Logger.Info("router: the client left during the handshake", "path", h.r.URL.Path, "remote", h.conn.address)
		return
	}
	r.deny(h.w, h.r, unavailable("try again later"), "Connect did not decide within "+r.set.HandshakeTimeout.String())
}

// answer refuses, unless the engine has answered already.
func (h *handshake) answer(res consumer.Result) {
	r := h.conn.router
	var u *upgradeError
	if errors.As(res.Err, &u) {
		r.conns.refused.Add(1)
		r.set.Logger.Warn("router: the handshake failed", "why", u.err.Error(), "path", h.r.URL.Path, "remote", h.conn.address)
		return
	}
	r.denyBy(h.w, h.r, "the consumer refused", res.Err)
}

// upgradeError is an error of the engine, which has answered the request.
type upgradeError struct{ err error }

func (e *upgradeError) Error() string { return e.err.Error() }
func (e *upgradeError) Unwrap() error { return e.err }

var errExpired = errors.New("router: the handshake took too long, or its client left")

// Accept implements consumer.Socket. The headers are those of the response
// itself.
func (h *handshake) Accept(subprotocol string, _ http.Header) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.expired {
		return errExpired
	}
	s, err := h.conn.router.engine.Upgrade(h.w, h.r, subprotocol)
	if err != nil {
		h.expired = true
		return &upgradeError{err}
	}
	h.socket, h.released = s, make(chan struct{})
	h.w, h.r = nil, nil // a request kept would cost more than the connection
	close(h.accepted)
	return nil
}

// Read implements consumer.Socket. Once the connection has ended, it is given
// back while the consumer is still ending: that may take long.
func (h *handshake) Read() (consumer.Frame, error) {
	f, err := h.socket.Read()
	if err != nil {
		h.once.Do(func() { go h.release() })
	}
	return f, err
}

func (h *handshake) release() {
	defer close(h.released)
	h.socket.Release()
}

// Send implements consumer.Socket.
func (h *handshake) Send(ctx context.Context, p *consumer.Prepared) error {
	return h.socket.Send(ctx, p)
}

// Offer implements consumer.Socket.
func (h *handshake) Offer(p *consumer.Prepared) error { return h.socket.Offer(p) }

// Close implements consumer.Socket.
func (h *handshake) Close(code consumer.StatusCode, reason string) { h.socket.Close(code, reason) }
