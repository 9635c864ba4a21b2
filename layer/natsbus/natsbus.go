// Package natsbus is a [layer.Bus] on NATS: by default a server inside the
// process, or a server or cluster elsewhere.
//
// # Delivery
//
// Group messages are core NATS messages: at most once, in order for each
// publisher and group. Each process holds one subscription for each group it
// has members in, whatever their number, and a [layer.Link]'s Subscribe returns
// when the interest has reached every server that has a process of the same
// prefix attached. A program that publishes with a NATS client of its own is
// covered when it is attached to one of those servers; elsewhere in a cluster
// the interest arrives some milliseconds later.
//
// A durable group's messages are stored first, in a JetStream stream in files,
// which publishes them again: in one order, each with its position. On a cluster
// of three servers or more, three hold them. [layer.Layer.Publish] waits for the
// stream's acknowledgement; a message that another program publishes without
// asking for one is stored as well, unless the server is overloaded.
//
// A shared channel's messages wait in a JetStream work-queue stream, in memory
// on one server, until one process takes them or their time is up; they are
// lost with that server.
//
// A process that uses durable groups asks their streams' leaders every two
// seconds whether they can still store. If they cannot for longer than an
// election takes, the link is reported as down, and an own connection goes to
// another server that it knows.
//
// Nothing is buffered while the connection is down: publishing then fails with
// [layer.ErrUnavailable], and what others publish is missed. The connection is
// restored for as long as the Bus is open, with every subscription.
//
// # On the wire
//
// A message is a JSON object or a MessagePack map, told apart by the first
// byte. The subjects are those of the Python package channels-nats, so a Django
// project may share the layer, and so may anything that can write
//
//	PUB channels.grp.chat.lobby 38
//
// to a socket. A name's dots separate subject tokens; an empty token is
// written "~".
package natsbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// Bus is a [layer.Bus] on NATS. Its methods may be called at the same time from
// many goroutines.
type Bus struct {
	opts     Options
	log      *slog.Logger
	id       string // names this Bus in heartbeats
	began    time.Time
	conn     *nats.Conn
	server   *embeddedServer // nil unless embedded
	subjects subjects
	peers    peers
	barrier  barrier
	store    store

	histories histories
	works     works

	events  chan connEvent
	quit    chan struct{} // closed by Close
	running sync.WaitGroup
	closing atomic.Bool
	cutOff  atomic.Bool // the server has no quorum for the durable groups; see watchQuorum
	down    bool        // LinkDown was reported; used by watch alone

	mu      sync.Mutex // guards what follows
	links   map[*link]struct{}
	own     []*nats.Subscription // heartbeats, answers to hello, and barrier
	ended   error                // why the connection closed for good
	cleaned chan struct{}        // closed when Close is done; nil before it began
}

var _ layer.Bus = (*Bus)(nil)

// New starts the embedded server or connects to the one that opts name, and
// returns when it is in reach. A nil opts embeds a server without a listener.
// It waits for an external server for Options.ConnectWait and no longer than
// ctx; the error names the address without its secrets. Call Close in the end.
func New(ctx context.Context, opts *Options) (*Bus, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Bus{
		opts:     o,
		log:      o.Logger,
		id:       rand.Text(),
		began:    time.Now(),
		subjects: subjects{prefix: o.Prefix},
		events:   make(chan connEvent, 64),
		quit:     make(chan struct{}),
		links:    make(map[*link]struct{}),
	}
	b.store.init()
	if err := b.open(ctx); err != nil {
		b.release()
		return nil, err
	}
	b.running.Go(b.watch)
	b.running.Go(b.watchQuorum)
	return b, nil
}

// open makes the Bus a part of the network.
func (b *Bus) open(ctx context.Context) (err error) {
	if e := b.opts.Embedded; e != nil {
		if b.server, err = startServer(ctx, e, b.log); err != nil {
			return err
		}
	}
	if err := b.connect(ctx); err != nil {
		return err
	}
	if err = b.store.connect(b.conn); err == nil {
		err = b.listen()
	}
	if err == nil {
		err = b.hello(ctx)
	}
	return b.fail("join the network", err)
}

// ClientURL returns the address at which NATS clients reach the embedded
// server, or "" when it has no listener for them.
func (b *Bus) ClientURL() string {
	if b.server == nil || !b.server.listens {
		return ""
	}
	return b.server.ClientURL()
}

// Conn returns the connection, for other uses of NATS by the same program. It
// must not be closed. A message that is published on it comes in order with
// those of the Bus.
func (b *Bus) Conn() *nats.Conn { return b.conn }

// Connected reports whether the server is in reach at present, and not cut off
// from those that hold the durable groups: readiness.
func (b *Bus) Connected() bool { return b.Err() == nil && b.conn.IsConnected() && !b.cutOff.Load() }

// Err returns nil as long as the Bus works or tries to: liveness. A Bus that is
// closed, by Close or by its connection, does not come back; the process should
// be restarted.
func (b *Bus) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing.Load() {
		return layer.ErrClosed
	}
	return b.ended
}

// Close closes every link, then the connection unless it is the caller's own,
// then the embedded server. When ctx ends first, Close returns its error and
// goes on in the background. Further calls wait for the first.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	done := b.cleaned
	if done == nil {
		done = make(chan struct{})
		b.cleaned = done
		b.closing.Store(true)
		go b.shut(ctx, done)
	}
	b.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *Bus) shut(ctx context.Context, done chan struct{}) {
	defer close(done)
	for _, l := range b.attached() {
		// Its error is that ctx ended, which Close reports itself.
		_ = l.Close(ctx)
	}
	close(b.quit)
	b.leave()
	b.running.Wait()
	b.release()
}

// release gives back what open took.
func (b *Bus) release() {
	b.closing.Store(true)
	for _, s := range append(b.own, b.histories.elections...) {
		_ = s.Unsubscribe() // fails when the connection is closed, which ends it too
	}
	if b.conn != nil && b.opts.Conn == nil {
		b.conn.Close()
	}
	if b.server != nil {
		b.server.stop()
	}
}

// attached returns the links of this moment.
func (b *Bus) attached() []*link {
	b.mu.Lock()
	defer b.mu.Unlock()
	links := make([]*link, 0, len(b.links))
	for l := range b.links {
		links = append(links, l)
	}
	return links
}

// report tells every link.
func (b *Bus) report(e layer.LinkEvent) {
	for _, l := range b.attached() {
		l.report(e)
	}
}

// fail wraps an error of nats.go once, so that a caller can tell what happened.
func (b *Bus) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	if b.closing.Load() {
		return fmt.Errorf("natsbus: %s: %w", what, layer.ErrClosed)
	}
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("natsbus: %s: %w: the server takes %d bytes, headers included", what, layer.ErrTooLarge, b.conn.MaxPayload())
	case isLinkError(err):
		return fmt.Errorf("natsbus: %s: %w (%w)", what, layer.ErrUnavailable, err)
	}
	return fmt.Errorf("natsbus: %s: %w", what, err)
}

// isLinkError reports whether err says that nothing was sent, for want of a
// connection.
func isLinkError(err error) bool {
	for _, e := range []error{
		nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrConnectionDraining,
		nats.ErrConnectionReconnecting, nats.ErrDisconnected, nats.ErrStaleConnection,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
