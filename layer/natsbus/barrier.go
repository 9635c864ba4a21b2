package natsbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// The interest barrier answers the question when a subscription is known to
// every server that a publisher may be attached to. NATS does not acknowledge
// that: after a flush the own server knows, the others some time later (across
// a cluster, one in five of the messages that were published at once was
// missed). But interest and messages travel in order on the one route between
// two servers, so an answer from a process at another server proves that what
// was subscribed before the question has arrived there.
//
// One round serves all who began to wait before it started.
type barrier struct {
	mu      sync.Mutex // guards what follows
	running bool       // a goroutine runs rounds
	next    *round     // the round that has not started; nil when nobody waits
}

type round struct {
	done chan struct{} // closed when err is set
	err  error
}

// wait returns nil when the interest of all subscriptions that were made before
// the call has reached all known servers, and [layer.ErrClosed] when quit is
// closed before. A round that finds a peer lost takes as long as that.
func (w *barrier) wait(ctx context.Context, b *Bus, quit <-chan struct{}) error {
	w.mu.Lock()
	if w.next == nil {
		w.next = &round{done: make(chan struct{})}
	}
	r := w.next
	if !w.running {
		w.running = true
		go w.run(b)
	}
	w.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	case <-quit:
		return layer.ErrClosed
	}
}

// run runs rounds until nobody waits. Each is bounded in time.
func (w *barrier) run(b *Bus) {
	for {
		w.mu.Lock()
		r := w.next
		w.next = nil
		if r == nil {
			w.running = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		r.err = b.reachAll()
		close(r.done)
	}
}

// reachAll is one round.
func (b *Bus) reachAll() error {
	servers := b.peers.servers(b.conn.ConnectedServerId())
	errs := make([]error, len(servers))
	var asked sync.WaitGroup
	for i, id := range servers {
		asked.Go(func() { errs[i] = b.reach(id) })
	}
	// The own server, which also finds out that a link is broken.
	err := b.flush()
	asked.Wait()
	return errors.Join(append(errs, err)...)
}

// reach returns when the interest has reached one server, or nobody is there
// any more.
func (b *Bus) reach(id string) error {
	const patience = time.Second
	subject := b.subjects.barrier(id)
	for {
		_, err := b.conn.Request(subject, nil, patience)
		switch {
		case err == nil, errors.Is(err, nats.ErrNoResponders):
			return nil
		case !errors.Is(err, nats.ErrTimeout):
			return err
		case !b.conn.IsConnected() || b.closing.Load():
			return nats.ErrDisconnected
		case !b.peers.hosts(id):
			return nil
		}
	}
}

// flush returns when the server has taken all that was sent so far.
func (b *Bus) flush() error {
	if !b.conn.IsConnected() {
		return nats.ErrDisconnected // it would wait in vain
	}
	err := b.conn.FlushTimeout(roundTrip)
	if errors.Is(err, nats.ErrTimeout) {
		return fmt.Errorf("%w: the server did not answer within %v", layer.ErrUnavailable, roundTrip)
	}
	return err
}
