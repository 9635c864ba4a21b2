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

// Each durable queue has up to four consumers, which all processes share: for
// urgent messages, those that were due later, ordinary ones, and idle ones. A
// process never asks the server for more messages than it has Takes that wait,
// so that a crash costs no attempt of a message that nobody has seen.

// takers are the queues that a link takes from.
type takers struct {
	mu      sync.Mutex // guards what follows
	all     map[string]*taker
	stopped bool
}

func (t *takers) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
}

// renew makes all ask again, after a reconnect.
func (t *takers) renew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range t.all {
		q.mu.Lock()
		q.lost = true
		q.mu.Unlock()
		q.signal()
	}
}

// taker is one queue. Its goroutine lives as long as somebody waits or a request
// is at the server, and a little longer.
type taker struct {
	link     *link
	queue    string
	tokens   string
	work     *workStream
	subjects [levels]string
	wake     chan struct{} // one token: waiting has grown, a message was announced, or the server is a new one

	mu      sync.Mutex // guards what follows
	waiting []*taking
	told    [levels]bool // there may be messages of that level
	back    []*nats.Msg  // messages that came for nobody, while they are given back
	held    time.Time    // when the first of them came
	lost    bool         // what was asked of the server is lost
	over    bool         // the goroutine ends; a new taker takes its place
}

// taking is one Take.
type taking struct {
	got chan taken // holds one
}

type taken struct {
	msg *nats.Msg
	at  time.Time
	err error
}

// Take implements layer.Link. It waits through lost connections, too.
func (l *link) Take(ctx context.Context, queue string) (*layer.Taken, error) {
	what := "take from queue " + queue
	w, err := l.work(queue)
	if err != nil {
		return nil, l.fail(what, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("natsbus: %s: %w", what, err)
	}
	t, mine := l.line(queue, w)
	if t == nil {
		return nil, fmt.Errorf("natsbus: %s: %w", what, layer.ErrClosed)
	}
	select {
	case got := <-mine.got:
		return l.lease(ctx, t, got)
	case <-ctx.Done():
	case <-l.quit:
	}
	if !t.withdraw(mine) {
		return l.lease(ctx, t, <-mine.got) // it was handed over at the same moment
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("natsbus: %s: %w", what, err)
	}
	return nil, fmt.Errorf("natsbus: %s: %w", what, layer.ErrClosed)
}

// line puts a Take in line, and starts the queue's goroutine if need be.
func (l *link) line(queue string, w *workStream) (*taker, *taking) {
	mine := &taking{got: make(chan taken, 1)}
	l.takers.mu.Lock()
	defer l.takers.mu.Unlock()
	if l.takers.stopped {
		return nil, nil
	}
	if t := l.takers.all[queue]; t != nil && t.join(mine) {
		return t, mine
	}
	t := &taker{link: l, queue: queue, tokens: toTokens(queue), work: w, wake: make(chan struct{}, 1)}
	s := &l.bus.subjects
	t.subjects = [levels]string{s.urgent(t.tokens), s.due(t.tokens), s.queue(t.tokens), s.idle(t.tokens)}
	t.join(mine)
	if l.takers.all == nil {
		l.takers.all = make(map[string]*taker)
	}
	l.takers.all[queue] = t
	l.running.Go(t.run)
	return t, mine
}

// join adds a Take unless the taker is over.
func (t *taker) join(w *taking) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	t.waiting = append(t.waiting, w)
	t.signal()
	return true
}

// withdraw removes a Take and reports whether it had nothing yet.
func (t *taker) withdraw(w *taking) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.waiting {
		if other == w {
			t.waiting = append(t.waiting[:i], t.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// first takes the longest waiting one, or nil.
func (t *taker) first() *taking {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		return nil
	}
	w := t.waiting[0]
	t.waiting = t.waiting[1:]
	return w
}

// tell notes that there may be messages of a level.
func (t *taker) tell(level int) {
	t.mu.Lock()
	t.told[level] = true
	t.mu.Unlock()
	t.signal()
}

// giveBack returns a message that came for nobody.
func (t *taker) giveBack(m *nats.Msg) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.back = append(t.back, m)
	if len(t.back) == 1 {
		t.held = time.Now()
		t.link.running.Go(t.giveAllBack)
	}
}

// giveAllBack returns one message after the other, so that they come again in
// their order.
func (t *taker) giveAllBack() {
	for more := true; more; {
		t.mu.Lock()
		m := t.back[0]
		t.mu.Unlock()
		t.link.giveBack(t, m)
		t.mu.Lock()
		t.back = t.back[1:]
		more = len(t.back) > 0
		t.mu.Unlock()
	}
	t.signal()
}

func (t *taker) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// place is what the reply subject of a message says of it:
// $JS.ACK.[<domain>.<account hash>.]<stream>.<consumer>.<delivered>.<stream
// seq>.<consumer seq>.<time in ns>.<pending>[.<token>].
type place struct {
	stream    string
	sequence  uint64
	delivered int
	stored    time.Time
}

func placeOf(m *nats.Msg) (p place, ok bool) {
	tokens := strings.Split(m.Reply, ".")
	if len(tokens) >= 11 {
		tokens = tokens[2:]
	}
	if len(tokens) < 8 {
		return p, false
	}
	p.stream = tokens[2]
	var failed [3]error
	var ns int64
	p.delivered, failed[0] = strconv.Atoi(tokens[4])
	p.sequence, failed[1] = strconv.ParseUint(tokens[5], 10, 64)
	ns, failed[2] = strconv.ParseInt(tokens[7], 10, 64)
	p.stored = time.Unix(0, ns)
	return p, failed == [3]error{}
}
