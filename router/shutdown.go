package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// DrainTimeout is how long [Serve] gives connections and requests to end.
const DrainTimeout = 30 * time.Second

// Ready reports nil while the router takes connections and its layer's network
// is in reach: for a readiness probe, together with the health of what else the
// program needs.
func (r *Router) Ready() error {
	if r.conns.draining() {
		return errors.New("router: shutting down")
	}
	if r.layer != nil {
		return r.layer.Err()
	}
	return nil
}

// Shutdown refuses new connections with 503, closes the open ones with 1012
// (service restart: come back), behind what was sent to them, and waits until
// every Disconnect has run. When ctx ends first, handlers have their contexts
// cancelled, and the error says how many connections were left. A second call
// waits like the first. Call it beside http.Server's Shutdown, which knows
// nothing of upgraded connections; [Serve] does both.
func (r *Router) Shutdown(ctx context.Context) error {
	r.conns.drain()
	r.turns.close()
	everybody := func(*connection) bool { return true }
	r.conns.close("", everybody, &consumer.CloseError{Code: consumer.StatusServiceRestart, Reason: "the server restarts; come back in a moment"})
	var err error
	select {
	case <-r.conns.empty:
	case <-ctx.Done():
		_, left := r.conns.open()
		err = fmt.Errorf("router: shutdown: %d connections are left: %w", left, ctx.Err())
	}
	r.cancel()
	r.engine.Close()
	for _, stop := range r.stop {
		stop()
	}
	return err
}

// Part is something that a server serves and that has to be told of its end: a
// [Router], or an httpapi.API with streams.
type Part interface {
	// Shutdown ends what lasts, takes nothing new of that kind, and waits until it
	// has ended, or until ctx does.
	Shutdown(ctx context.Context) error
}

// Serve runs srv until ctx ends, usually by a signal (see
// signal.NotifyContext), and then shuts it and its parts down: readiness
// turns red and new sockets are refused, open ones are told to come back, and
// requests under way may finish, all within [DrainTimeout]. It listens on
// srv.Addr unless ln is given, speaks TLS if srv.TLSConfig is set, and bounds the
// time for a request's header by 5 s unless srv does. It returns nil after a
// clean end, also one by srv.Shutdown. When it cannot listen, nothing has begun.
func Serve(ctx context.Context, srv *http.Server, ln net.Listener, parts ...Part) error {
	if srv.ReadHeaderTimeout == 0 {
		srv.ReadHeaderTimeout = 5 * time.Second
	}
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", srv.Addr); err != nil {
			return fmt.Errorf("router: serve: %w", err)
		}
	}
	failed := make(chan error, 1)
	go func() { failed <- serve(srv, ln) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), DrainTimeout)
	defer cancel()
	return errors.Join(err, shutdownAll(drain, parts), srv.Shutdown(drain))
}

func serve(srv *http.Server, ln net.Listener) error {
	var err error
	if srv.TLSConfig != nil {
		err = srv.ServeTLS(ln, "", "")
	} else {
		err = srv.Serve(ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("router: serve: %w", err)
}

// shutdownAll shuts parts down together, so that none takes connections while
// another one drains.
func shutdownAll(ctx context.Context, parts []Part) error {
	errs := make([]error, len(parts))
	var all sync.WaitGroup
	for i, p := range parts {
		all.Go(func() { errs[i] = p.Shutdown(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}
