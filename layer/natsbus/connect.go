package natsbus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

const (
	dialTimeout   = 2 * time.Second
	dialRetry     = 100 * time.Millisecond
	reconnectWait = 250 * time.Millisecond
	// Spreads the processes of a large site over a second after an outage.
	reconnectJitter = time.Second
	pingInterval    = 10 * time.Second
	// What an answer may take; on a healthy link it takes far less.
	roundTrip = 5 * time.Second
)

// connEvent is what happened to the connection.
type connEvent struct {
	kind layer.LinkEventKind
	err  error
}

// connect sets b.conn.
func (b *Bus) connect(ctx context.Context) error {
	if nc := b.opts.Conn; nc != nil {
		if !nc.IsConnected() {
			return fmt.Errorf("natsbus: Options.Conn: %w: its status is %v", layer.ErrUnavailable, nc.Status())
		}
		b.conn = nc
		b.adopt(nc)
		return nil
	}
	options, err := b.connOptions()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(b.opts.ConnectWait)
	for {
		b.conn, err = nats.Connect(b.opts.URL, options...)
		if err == nil {
			return nil
		}
		if isAuthError(err) || time.Until(deadline) < dialRetry || !sleep(ctx, dialRetry) {
			return b.connectError(err)
		}
	}
}

func (b *Bus) connectError(err error) error {
	if b.server != nil {
		// The pipe breaks without a reason when the server refuses its client.
		return fmt.Errorf("natsbus: the embedded server refused its own connection: does Embedded.Configure set users? %w", err)
	}
	where := withoutSecrets(b.opts.URL)
	if isAuthError(err) {
		return fmt.Errorf("natsbus: the NATS server at %s refused the credentials: %w", where, err)
	}
	return fmt.Errorf("natsbus: no NATS server at %s within %v: %w (%w)", where, b.opts.ConnectWait, layer.ErrUnavailable, err)
}

func isAuthError(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}

// connOptions are those of a connection that belongs to the Bus.
func (b *Bus) connOptions() ([]nats.Option, error) {
	o := []nats.Option{
		nats.Name("tideway " + b.id),
		nats.Timeout(dialTimeout),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a server with a broken user list is repaired some day
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.ReconnectBufSize(-1), // it would accept now and deliver stale messages later
		nats.PingInterval(pingInterval),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) { b.onError(s, err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { b.onEvent(layer.LinkDown, err) }),
		nats.ReconnectHandler(func(*nats.Conn) { b.onEvent(layer.LinkUp, nil) }),
		nats.ClosedHandler(func(nc *nats.Conn) { b.onEvent(layer.LinkClosed, nc.LastError()) }),
		nats.DiscoveredServersHandler(func(*nats.Conn) { b.onEvent(topologyChanged, nil) }),
	}
	if b.server != nil {
		return append(o, nats.InProcessServer(b.server), b.server.login), nil
	}
	if b.opts.TLS != nil {
		o = append(o, nats.Secure(b.opts.TLS))
	}
	switch {
	case b.opts.CredsFile != "":
		o = append(o, nats.UserCredentials(b.opts.CredsFile))
	case b.opts.Token != "":
		o = append(o, nats.Token(b.opts.Token))
	case b.opts.User != "":
		o = append(o, nats.UserInfo(b.opts.User, b.opts.Password))
	case b.opts.NKeyFile != "":
		key, err := nats.NkeyOptionFromSeed(b.opts.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("natsbus: Options.NKeyFile %s: %w", b.opts.NKeyFile, err)
		}
		o = append(o, key)
	}
	return o, nil
}

// adopt adds the Bus's handlers to those of the caller's own connection.
func (b *Bus) adopt(nc *nats.Conn) {
	onError, onDown := nc.ErrorHandler(), nc.DisconnectErrHandler()
	onUp, onClosed, onServers := nc.ReconnectHandler(), nc.ClosedHandler(), nc.DiscoveredServersHandler()
	nc.SetErrorHandler(func(nc *nats.Conn, s *nats.Subscription, err error) {
		if !b.onError(s, err) && onError != nil {
			onError(nc, s, err)
		}
	})
	nc.SetDisconnectErrHandler(func(nc *nats.Conn, err error) {
		b.onEvent(layer.LinkDown, err)
		if onDown != nil {
			onDown(nc, err)
		}
	})
	chain := func(kind layer.LinkEventKind, then nats.ConnHandler) nats.ConnHandler {
		return func(nc *nats.Conn) {
			b.onEvent(kind, nil)
			if then != nil {
				then(nc)
			}
		}
	}
	nc.SetReconnectHandler(chain(layer.LinkUp, onUp))
	nc.SetClosedHandler(chain(layer.LinkClosed, onClosed))
	nc.SetDiscoveredServersHandler(chain(topologyChanged, onServers))
}

// topologyChanged is an event of the Bus's own: the cluster has other servers
// than before.
const topologyChanged layer.LinkEventKind = math.MaxInt32

func (b *Bus) onEvent(kind layer.LinkEventKind, err error) {
	if b.closing.Load() {
		return
	}
	select {
	case b.events <- connEvent{kind, err}:
	case <-b.quit:
	}
}

// onError takes what nats.go tells apart from any call. It reports whether the
// error is about a subscription of a link.
func (b *Bus) onError(s *nats.Subscription, err error) bool {
	if b.closing.Load() {
		return false
	}
	if errors.Is(err, nats.ErrSlowConsumer) && s != nil {
		for _, l := range b.attached() {
			if l.slow(s) {
				return true
			}
		}
	}
	if b.opts.Conn == nil {
		b.log.Error("natsbus: an error on the NATS connection", "error", err)
	}
	return false
}

// watch is the Bus's goroutine: it handles the connection's events in their
// order, and sends heartbeats.
func (b *Bus) watch() {
	beat := time.NewTicker(b.opts.Heartbeat)
	defer beat.Stop()
	routes := time.NewTicker(200 * time.Millisecond)
	defer routes.Stop()
	if b.server == nil || !b.server.networks {
		routes.Stop()
	}
	known := b.routes()
	for {
		select {
		case e := <-b.events:
			b.handle(e)
		case <-beat.C:
			b.beat()
		case <-routes.C:
			if n := b.routes(); n != known {
				known = n
				b.beat()
			}
		case <-b.quit:
			return
		}
	}
}

// routes counts the connections of the embedded server to others.
func (b *Bus) routes() int {
	if b.server == nil {
		return 0
	}
	return b.server.NumRoutes() + b.server.NumLeafNodes()
}

func (b *Bus) handle(e connEvent) {
	switch e.kind {
	case layer.LinkDown:
		b.log.Warn("natsbus: the connection to NATS is lost, reconnecting", "error", e.err)
		b.reportDown(e.err)
	case layer.LinkUp:
		b.recover()
	case quorumLost:
		b.log.Error("natsbus: the durable groups are out of reach", "error", e.err)
		b.cutOff.Store(true)
		b.reportDown(e.err)
	case quorumBack:
		b.log.Info("natsbus: the durable groups are in reach again", "server", b.conn.ConnectedUrlRedacted())
		b.cutOff.Store(false)
		b.reportUp()
	case topologyChanged:
		b.beat()
	case layer.LinkClosed:
		err := fmt.Errorf("natsbus: the connection to NATS is closed: %w", layer.ErrClosed)
		if e.err != nil {
			err = fmt.Errorf("natsbus: the connection to NATS is closed: %w (%w)", layer.ErrClosed, e.err)
		}
		b.mu.Lock()
		b.ended = err
		b.mu.Unlock()
		b.log.Error("natsbus: the connection to NATS is closed for good", "error", e.err)
		b.report(layer.LinkEvent{Kind: layer.LinkClosed, Err: err})
	}
}

// recover follows a reconnect, which has restored the subscriptions at the
// server, perhaps another one than before. The link is up when the rest of the
// network knows of them. If the connection breaks meanwhile, its next event is
// waiting.
func (b *Bus) recover() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*roundTrip)
	defer cancel()
	err := b.listen()
	if err == nil {
		err = b.hello(ctx)
	}
	if err == nil {
		err = b.barrier.wait(ctx, b, nil)
	}
	if err != nil && !b.conn.IsConnected() {
		return
	}
	if err != nil {
		b.log.Error("natsbus: back at NATS, but other servers may not know all groups of this process", "error", err)
	}
	b.store.reset()
	b.restore(ctx)
	b.restoreWorks(ctx)
	for _, l := range b.attached() {
		l.resume()
	}
	b.log.Info("natsbus: connected to NATS again", "server", b.conn.ConnectedUrlRedacted())
	b.reportUp()
}

// reportDown tells the links, once until they are up again.
func (b *Bus) reportDown(err error) {
	if !b.down {
		b.down = true
		b.report(layer.LinkEvent{Kind: layer.LinkDown, Err: err})
	}
}

// reportUp tells the links, if there is a connection and its server is not cut
// off. Otherwise an event that comes later does.
func (b *Bus) reportUp() {
	if b.down && b.conn.IsConnected() && !b.cutOff.Load() {
		b.down = false
		b.report(layer.LinkEvent{Kind: layer.LinkUp})
	}
}

// sleep waits for d and reports whether it did so to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
