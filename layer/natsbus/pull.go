package natsbus

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// Each shared channel has one durable consumer, which all processes share. A
// process asks it for one message for each waiting Pull; a message that comes
// when nobody waits any more is given back at once. A message is acknowledged,
// and the acknowledgement confirmed, before Pull returns it: so it goes to one
// puller, and what a cancelled Pull leaves is there for the next.

const (
	// How long the server waits for an acknowledgement before it gives the
	// message to another process: the delay that a crash between the two costs.
	ackWait = 10 * time.Second
	// How long a request for a message stays at the server.
	pullExpiry = 10 * time.Second
	// The server tells a waiting request that it lives; after two beats of
	// silence the request is made again.
	pullBeat = 2 * time.Second
	// After that a channel's consumer that nobody asks is deleted.
	consumerIdle = 5 * time.Minute
	pullRetry    = 250 * time.Millisecond
	maxWaiting   = 8192
)

var (
	ackBody  = []byte("+ACK")
	nakBody  = []byte("-NAK")
	termBody = []byte("+TERM")
)

// queues are the shared channels that a link pulls from.
type queues struct {
	mu      sync.Mutex // guards what follows
	all     map[string]*queue
	stopped bool
}

func (q *queues) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
}

// queue is one shared channel. Its goroutine lives as long as somebody waits or
// a request is at the server.
type queue struct {
	link    *link
	channel string
	wake    chan struct{} // one token: waiting has grown, or the server is a new one

	mu      sync.Mutex // guards what follows
	waiting []*waiter
	limits  layer.Limits
	renew   bool // what was asked of the server is lost
	over    bool // the goroutine ends; a new queue takes its place
}

// waiter is one Pull.
type waiter struct {
	got chan pulled // holds one
}

type pulled struct {
	msg    *nats.Msg
	stream *stream
	err    error
}

// Pull waits for a message, through lost connections too.
func (l *link) Pull(ctx context.Context, channel string, limits layer.Limits) (*layer.Packet, error) {
	what := "receive from shared channel " + channel
	for {
		if l.closed.Load() {
			return nil, fmt.Errorf("natsbus: %s: %w", what, layer.ErrClosed)
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("natsbus: %s: %w", what, err)
		}
		got, err := l.await(ctx, channel, limits)
		if err == nil {
			err = got.err
		}
		if err != nil {
			return nil, l.fail(what, err)
		}
		if p := l.accept(got); p != nil {
			return p, nil
		}
	}
}

// await waits in the channel's queue.
func (l *link) await(ctx context.Context, channel string, limits layer.Limits) (pulled, error) {
	q, w := l.enqueue(channel, limits)
	if q == nil {
		return pulled{}, layer.ErrClosed
	}
	select {
	case got := <-w.got:
		return got, nil
	case <-ctx.Done():
	case <-l.quit:
	}
	if q.withdraw(w) {
		if err := ctx.Err(); err != nil {
			return pulled{}, err
		}
		return pulled{}, layer.ErrClosed
	}
	return <-w.got, nil // it was handed over at the same moment
}

// enqueue adds a waiter to the channel's queue and starts that if need be.
func (l *link) enqueue(channel string, limits layer.Limits) (*queue, *waiter) {
	w := &waiter{got: make(chan pulled, 1)}
	l.queues.mu.Lock()
	defer l.queues.mu.Unlock()
	if l.queues.stopped {
		return nil, nil
	}
	if q := l.queues.all[channel]; q != nil && q.join(w, limits) {
		return q, w
	}
	q := &queue{link: l, channel: channel, wake: make(chan struct{}, 1)}
	q.join(w, limits)
	if l.queues.all == nil {
		l.queues.all = make(map[string]*queue)
	}
	l.queues.all[channel] = q
	l.running.Go(q.run)
	return q, w
}

// join adds a waiter unless the queue is over.
func (q *queue) join(w *waiter, limits layer.Limits) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		return false
	}
	q.waiting = append(q.waiting, w)
	q.limits = limits
	q.signal()
	return true
}

// signal wakes the goroutine.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// withdraw removes a waiter and reports whether it had nothing yet.
func (q *queue) withdraw(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.waiting {
		if other == w {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// first takes the longest waiting one, or nil.
func (q *queue) first() *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return nil
	}
	w := q.waiting[0]
	q.waiting = q.waiting[1:]
	return w
}

// resume makes all queues ask again, after a reconnect.
func (l *link) resume() {
	l.queues.mu.Lock()
	defer l.queues.mu.Unlock()
	for _, q := range l.queues.all {
		q.mu.Lock()
		q.renew = true
		q.mu.Unlock()
		q.signal()
	}
	l.takers.renew()
}

// accept acknowledges what was pulled and returns it, or nil when it is nothing
// that may be returned. It goes on when the caller's context has ended, since
// the message is then this process's or nobody's.
func (l *link) accept(got pulled) *layer.Packet {
	m := got.msg
	if stored, ok := storedAt(m); ok && got.stream.isExpired(stored) {
		l.settleMsg(m, termBody)
		return nil
	}
	data, err := toJSON(m.Data)
	if err != nil {
		l.settleMsg(m, termBody)
		l.report(layer.LinkEvent{Kind: layer.Malformed, Count: 1, Err: malformed(m, err)})
		return nil
	}
	if !l.ack(m) {
		return nil
	}
	h, _ := readHeader(m.Header)
	return &layer.Packet{Data: data, Header: h}
}

// ack acknowledges m and reports whether the server confirmed it. It tries
// again for less than ackWait: until then nobody else gets the message.
func (l *link) ack(m *nats.Msg) bool {
	ctx, cancel := context.WithTimeout(context.Background(), ackWait*8/10)
	defer cancel()
	for {
		one, cancel := context.WithTimeout(ctx, ackWait/4)
		_, err := l.bus.conn.RequestWithContext(one, m.Reply, ackBody)
		cancel()
		if err == nil {
			return true
		}
		if l.bus.closing.Load() || !sleep(ctx, openRetry) {
			l.bus.log.Warn("natsbus: a message of a shared channel could not be acknowledged; it is delivered again unless its server is gone",
				"subject", m.Subject, "error", err)
			return false
		}
	}
}

// settleMsg gives m back or ends it. If that fails the connection is down, and
// the server does as after a crash.
func (l *link) settleMsg(m *nats.Msg, body []byte) { _ = l.bus.conn.Publish(m.Reply, body) }

// storedAt returns when the message was stored. Its reply subject is
// $JS.ACK.[<domain>.<account hash>.]<stream>.<consumer>.<delivered>.<stream
// seq>.<consumer seq>.<time in ns>.<pending>[.<token>].
func storedAt(m *nats.Msg) (time.Time, bool) {
	tokens := strings.Split(m.Reply, ".")
	at := 7
	if len(tokens) >= 11 {
		at = 9
	}
	if len(tokens) <= at {
		return time.Time{}, false
	}
	ns, err := strconv.ParseInt(tokens[at], 10, 64)
	return time.Unix(0, ns), err == nil
}
