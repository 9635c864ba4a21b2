package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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

// puller is the state of a queue's goroutine.
type puller struct {
	*queue
	in     chan *nats.Msg
	sub    *nats.Subscription
	stream *stream   // as it was last opened
	opened bool      // the stream and the consumer exist, as far as we know
	asked  int       // requests that are at the server
	heard  time.Time // when it last said something
	rested time.Time // not to ask before
}

// run is a queue's goroutine.
func (q *queue) run() {
	p := &puller{queue: q, in: make(chan *nats.Msg, 256)}
	defer p.end()
	beat := time.NewTicker(pullBeat)
	defer beat.Stop()
	for p.step() {
		select {
		case m := <-p.in:
			p.receive(m)
		case <-q.wake:
		case <-beat.C:
			if p.asked > 0 && time.Since(p.heard) > 2*pullBeat {
				p.forget()
			}
		case <-q.link.quit:
			return
		}
	}
}

// step asks for as many messages as there are waiters, and reports whether
// there is anything left to do.
func (p *puller) step() bool {
	p.mu.Lock()
	want, limits := len(p.waiting), p.limits
	renew := p.renew
	p.renew = false
	if want == 0 && p.asked == 0 {
		p.over = true
		p.mu.Unlock()
		return false
	}
	p.mu.Unlock()
	if renew {
		p.forget()
		p.rested = time.Time{}
	}
	if want <= p.asked || time.Now().Before(p.rested) {
		return true
	}
	if err := p.ask(want-p.asked, limits); err != nil {
		p.failed(err)
	}
	return true
}

// forget takes it that the server no longer knows what was asked. If it does,
// its messages still come to the same inbox.
func (p *puller) forget() { p.asked, p.opened = 0, false }

// rest puts off the next request.
func (p *puller) rest() {
	p.rested = time.Now().Add(pullRetry)
	time.AfterFunc(pullRetry, p.signal)
}

// ask sends n requests, after it has made sure that there is a consumer.
func (p *puller) ask(n int, limits layer.Limits) error {
	b := p.link.bus
	if !p.opened {
		if err := p.open(limits); err != nil {
			return err
		}
	}
	request, err := json.Marshal(map[string]int64{
		"batch": 1, "expires": int64(pullExpiry), "idle_heartbeat": int64(pullBeat),
	})
	if err != nil {
		return err
	}
	subject := "$JS.API.CONSUMER.MSG.NEXT." + b.subjects.stream() + "." + consumerName(p.channel)
	for range n {
		if err := b.conn.PublishRequest(subject, p.sub.Subject, request); err != nil {
			return err
		}
		if p.asked == 0 {
			p.heard = time.Now()
		}
		p.asked++
	}
	return nil
}

// open makes sure that the inbox, the stream and the consumer exist.
func (p *puller) open(limits layer.Limits) (err error) {
	b := p.link.bus
	if p.sub == nil {
		if p.sub, err = b.conn.ChanSubscribe(b.conn.NewInbox(), p.in); err != nil {
			return err
		}
	}
	st, err := p.link.openStream(context.Background(), limits)
	if err != nil {
		return err
	}
	ctx, end := p.link.calls.begin(context.Background(), roundTrip)
	defer end()
	_, err = st.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:           consumerName(p.channel),
		FilterSubject:     b.subjects.channel(p.channel),
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           ackWait,
		MaxDeliver:        -1,
		MaxAckPending:     -1,
		MaxWaiting:        maxWaiting,
		InactiveThreshold: consumerIdle,
		MemoryStorage:     true,
	})
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			b.store.reset()
		}
		return err
	}
	p.stream, p.opened = st, true
	return nil
}

// failed tells the waiters what will not go away, and otherwise sees to it that
// the goroutine tries again.
func (p *puller) failed(err error) {
	p.opened = false
	if isPassing(err) || !p.link.bus.conn.IsConnected() {
		p.rest()
		return
	}
	for w := p.first(); w != nil; w = p.first() {
		w.got <- pulled{err: err}
	}
}

// isPassing reports whether a pull that failed with err may soon succeed.
func isPassing(err error) bool {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, errNoJetStream):
		return false
	case errors.As(err, &api):
		return api.Code == 503 || api.ErrorCode == jetstream.JSErrCodeStreamNotFound || api.ErrorCode == codeConsumerNotFound
	}
	return isLinkError(err) || isStreamGone(err) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// receive takes a message or a status.
func (p *puller) receive(m *nats.Msg) {
	p.heard = time.Now()
	if m.Reply != "" {
		p.asked = max(0, p.asked-1)
		if w := p.first(); w != nil {
			w.got <- pulled{msg: m, stream: p.stream}
		} else {
			p.link.settleMsg(m, nakBody)
		}
		return
	}
	switch m.Header.Get("Status") {
	case "100": // it lives
	case "404", "408": // the request is over
		p.asked = max(0, p.asked-1)
	default: // the consumer is gone, has moved or has too many requests
		p.forget()
		p.rest()
	}
}

// end gives back what has arrived for nobody.
func (p *puller) end() {
	p.queue.mu.Lock()
	p.over = true
	p.queue.mu.Unlock()
	l := p.link
	l.queues.mu.Lock()
	if l.queues.all[p.channel] == p.queue {
		delete(l.queues.all, p.channel)
	}
	l.queues.mu.Unlock()
	if p.sub != nil {
		_ = p.sub.Unsubscribe() // fails when the connection is down, which ends it too
	}
	for {
		select {
		case m := <-p.in:
			if m.Reply != "" {
				l.settleMsg(m, nakBody)
			}
		default:
			return
		}
	}
}
