package router

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tideway-go/tideway/consumer"
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
	if deny, why := r.check(req); deny != nil {
		r.deny(w, req, deny, why)
		return
	}
	c, ok := r.place(w, req)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), r.set.HandshakeTimeout)
	defer cancel()
	user, login, ok := r.identify(ctx, w, req, c)
	if !ok {
		return
	}
	h := newHandshake(c, w, req)
	scope := r.scopes[r.scope.Add(1)%uint32(len(r.scopes))]
	setup := t.setup(ctx, h, user)
	setup.Login = login
	go consumer.Run(scope, t.app, setup, func(res consumer.Result) { t.done(c, res) })
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

// place finds a place for a connection and waits for its turn, or refuses it.
// The place comes first, so that the limits hold for those who wait, too.
func (r *Router) place(w http.ResponseWriter, req *http.Request) (_ *connection, ok bool) {
	c := &connection{router: r, address: r.set.clientAddr(req)}
	if deny, why := r.conns.enter(c); deny != nil {
		r.deny(w, req, deny, why)
		return nil, false
	}
	deny, err := r.turns.pass(req.Context())
	if err == nil {
		return c, true
	}
	r.conns.leave(c)
	r.conns.gone()
	if deny != nil {
		r.deny(w, req, deny, err.Error())
	} else {
		r.set.Logger.Info("router: the client left before its turn", "path", brief(req.URL.Path), "remote", c.address)
	}
	return nil, false
}

// identify finds out whose a connection is, or how it will say so, or refuses it
// and gives up its place.
func (r *Router) identify(ctx context.Context, w http.ResponseWriter, req *http.Request, c *connection) (user consumer.User, login *consumer.Login, ok bool) {
	defer func() {
		if !ok { // also when the authenticator panics
			r.conns.leave(c)
			r.conns.gone()
		}
	}()
	if r.set.Authenticate == nil {
		return user, nil, true
	}
	req = req.WithContext(ctx)
	user, err := r.set.Authenticate.Authenticate(req)
	switch {
	case err == nil:
	case r.set.FirstToken > 0 && errors.Is(err, consumer.ErrNoCredentials) && slices.Contains(offered(req), consumer.Protocol):
		return consumer.User{}, r.login(c), true
	default:
		r.denyBy(w, req, "authentication refused", err)
		return user, nil, false
	}
	if deny, why := r.conns.identify(c, user); deny != nil {
		r.deny(w, req, deny, why)
		return user, nil, false
	}
	return user, nil, true
}

// login has a connection begin with a token.
func (r *Router) login(c *connection) *consumer.Login {
	return &consumer.Login{Within: r.set.FirstToken, Check: func(ctx context.Context, token string) (consumer.User, error) {
		user, err := r.terms.AuthenticateToken(ctx, token)
		if err != nil || user.Anonymous() {
			return user, err
		}
		if deny, why := r.conns.identify(c, user); deny != nil {
			return user, fmt.Errorf("%w: %s", deny, why)
		}
		return user, nil
	}}
}

// setup is what the consumer is told of the connection. It is made before the
// consumer begins: later the request is no longer ours alone.
func (t *route) setup(ctx context.Context, h *handshake, user consumer.User) consumer.Setup {
	r, c := t.router, h.conn
	outer, _ := h.r.Context().Value(outerKey{}).([]consumer.Param)
	return consumer.Setup{
		Socket:       c,
		Layer:        r.layer,
		Request:      h.r,
		Handshake:    ctx,
		Params:       paramsOf(h.r, t.names, outer),
		Subprotocols: offered(h.r),
		RemoteAddr:   c.address,
		User:         user,
		Header:       h.w.Header().Clone(),
		MaxGroups:    r.set.Limits.Groups,
		Logger:       r.set.Logger,
		Stats:        &r.stats,
		Started:      c.start,
		OnUser:       func(consumer.User) { r.conns.move(c) },
		Terms:        r.terms,
	}
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
func (t *route) done(c *connection, res consumer.Result) {
	r := t.router
	r.conns.leave(c)
	defer r.conns.gone()
	if !res.Accepted {
		c.handshake.refused <- res
		return
	}
	if res.Err != nil {
		attrs := []any{"path", t.pattern, "remote", c.address, "code", int(res.Code), "err", res.Err}
		if p, ok := errors.AsType[*consumer.PanicError](res.Err); ok {
			attrs = append(attrs, "stack", string(p.Stack))
		}
		r.set.Logger.Error("router: a consumer failed", attrs...)
	}
	if c.giveBack(); c.released != nil {
		<-c.released
	}
}
