package natsbus

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// link is one process's end of a Bus.
type link struct {
	bus      *Bus
	process  string
	receiver layer.Receiver
	seed     maphash.Seed
	shards   []*shard
	direct   inlet // messages for this process's channels
	control  inlet // calls
	drops    drops
	queues   queues
	takers   takers
	calls    calls
	answers  answers

	histories []*history    // set by Retain, before the layer subscribes
	works     []*workStream // set by Govern, then too

	answering chan struct{} // holds a token for each call that is being answered
	closed    atomic.Bool
	quit      chan struct{}  // closed by Close
	running   sync.WaitGroup // all goroutines

	mu      sync.Mutex // guards reports and stopped
	reports sync.WaitGroup
	stopped bool
}

var _ layer.Link = (*link)(nil)

// inlet is a channel of messages that one goroutine takes.
type inlet struct {
	in      chan *nats.Msg
	entries []*entry
}

// maxInlet is how many messages to the process's own channels, and how many
// calls, may wait.
const maxInlet = 8192

// Attach makes a process a part of the network. It returns when messages to
// its channels arrive from everywhere.
func (b *Bus) Attach(ctx context.Context, process string, r layer.Receiver) (layer.Link, error) {
	switch {
	case !strings.HasPrefix(process, "tw") || strings.ContainsFunc(process, func(r rune) bool { return !isNameRune(r) }) || len(process) > 99:
		return nil, fmt.Errorf("natsbus: process name %.120q is not valid: want \"tw\" and letters, digits, hyphens, underscores or periods, at most 99", process)
	case b.closing.Load():
		return nil, fmt.Errorf("natsbus: attach %s: %w", process, layer.ErrClosed)
	}
	l := &link{bus: b, process: process, receiver: r, seed: maphash.MakeSeed(), quit: make(chan struct{})}
	l.answering = make(chan struct{}, maxAnswering)
	l.direct.in = make(chan *nats.Msg, maxInlet)
	l.control.in = make(chan *nats.Msg, maxInlet)
	for range b.opts.Shards {
		s := newShard(b.opts.Pending)
		l.shards = append(l.shards, s)
		l.running.Go(func() { l.dispatch(s) })
	}
	l.running.Go(func() { l.take(&l.direct, l.takeDirect) })
	l.running.Go(func() { l.take(&l.control, l.takeCall) })
	if err := l.join(ctx); err != nil {
		_ = l.Close(context.WithoutCancel(ctx)) // the reason is err
		return nil, err
	}
	return l, nil
}

// join subscribes to what concerns the process.
func (l *link) join(ctx context.Context) error {
	s := &l.bus.subjects
	for _, sub := range []struct {
		to      *inlet
		subject string
	}{
		{&l.direct, s.process(l.process)},
		{&l.control, s.control(l.process)},
		{&l.control, s.control("")},
	} {
		n, err := l.bus.conn.ChanSubscribe(sub.subject, sub.to.in)
		if err != nil {
			return l.fail("subscribe to "+sub.subject, err)
		}
		sub.to.entries = append(sub.to.entries, &entry{sub: n})
	}
	l.bus.mu.Lock()
	l.bus.links[l] = struct{}{}
	l.bus.mu.Unlock()
	l.bus.beat()
	return l.settle(ctx, "attach "+l.process)
}

// settle waits for the interest barrier.
func (l *link) settle(ctx context.Context, what string) error {
	return l.fail(what, l.bus.barrier.wait(ctx, l.bus, l.quit))
}

// fail is Bus.fail for a link, which may be closed alone.
func (l *link) fail(what string, err error) error {
	if err != nil && l.closed.Load() {
		return fmt.Errorf("natsbus: %s: %w", what, layer.ErrClosed)
	}
	return l.bus.fail(what, err)
}

// ready returns nil when the link may be used.
func (l *link) ready(ctx context.Context, what string) error {
	if l.closed.Load() {
		return fmt.Errorf("natsbus: %s: %w", what, layer.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("natsbus: %s: %w", what, err)
	}
	if !l.bus.conn.IsConnected() {
		return l.fail(what, nats.ErrDisconnected)
	}
	return nil
}

// Subscribe subscribes and waits for the interest barrier. After an error there
// is no subscription.
func (l *link) Subscribe(ctx context.Context, s layer.Subscription) error {
	what := "subscribe to group " + s.Group
	if err := l.ready(ctx, what); err != nil {
		return err
	}
	to := l.shard(s.Group)
	subject, h := l.subject(s.Group)
	key := groupKey{subject, s.Relay}
	e, isNew := to.add(key, s, h)
	if isNew {
		sub, err := l.bus.chanSubscribe(key, to.in)
		if err != nil {
			to.remove(key)
			return l.fail(what, err)
		}
		to.set(e, sub)
		if l.closed.Load() {
			_ = sub.Unsubscribe() // Close may have missed it
		}
	}
	err := l.settle(ctx, what)
	if err != nil && isNew {
		_ = l.Unsubscribe(s) // the reason is err
	}
	return err
}

// chanSubscribe subscribes in a queue group when the key names one.
func (b *Bus) chanSubscribe(key groupKey, in chan *nats.Msg) (*nats.Subscription, error) {
	if key.queue == "" {
		return b.conn.ChanSubscribe(key.subject, in)
	}
	return b.conn.ChanQueueSubscribe(key.subject, key.queue, in)
}

// Unsubscribe ends a subscription. One that does not exist is no error.
func (l *link) Unsubscribe(s layer.Subscription) error {
	subject, _ := l.subject(s.Group)
	e := l.shard(s.Group).remove(groupKey{subject, s.Relay})
	if e == nil {
		return nil
	}
	err := e.sub.Unsubscribe()
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubscription) {
		return nil // it ended with the connection
	}
	return l.fail("unsubscribe from group "+s.Group, err)
}

// Publish hands p to the connection.
func (l *link) Publish(ctx context.Context, group string, p *layer.Packet) error {
	if l.closed.Load() {
		return fmt.Errorf("natsbus: publish to group %s: %w", group, layer.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("natsbus: publish to group %s: %w", group, err)
	}
	data, err := l.bus.encode(p.Data)
	if err == nil {
		err = l.bus.publish(l.bus.subjects.group(group), data, &p.Header)
	}
	if err != nil {
		return l.fail("publish to group "+group, err)
	}
	return nil
}

// publish sends a core message. Without a header it allocates nothing.
func (b *Bus) publish(subject string, data []byte, h *layer.Header) error {
	if b.opts.Conn != nil && !b.conn.IsConnected() {
		return nats.ErrDisconnected // the caller's connection may have a reconnect buffer
	}
	if *h == (layer.Header{}) {
		return b.conn.Publish(subject, data)
	}
	return b.conn.PublishMsg(newMsg(subject, data, h))
}

// encode returns data in the form that the options ask for.
func (b *Bus) encode(data []byte) ([]byte, error) {
	if b.opts.Encoding == JSON {
		return data, nil
	}
	return toMsgpack(data)
}

func (l *link) shard(group string) *shard {
	if len(l.shards) == 1 {
		return l.shards[0]
	}
	return l.shards[maphash.String(l.seed, group)%uint64(len(l.shards))]
}

// take calls f for each message until Close.
func (l *link) take(from *inlet, f func(*nats.Msg)) {
	for {
		select {
		case m := <-from.in:
			f(m)
		case <-l.quit:
			return
		}
	}
}

// report tells the receiver, unless the link is closed.
func (l *link) report(e layer.LinkEvent) {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return
	}
	l.reports.Add(1)
	l.mu.Unlock()
	defer l.reports.Done()
	l.receiver.Report(e)
}

// part waits, for a moment, until the other servers know that the process is
// gone. A message to one of its channels that is sent later is then refused at
// once, where it would get no answer otherwise.
func (l *link) part(ctx context.Context) {
	if !l.bus.conn.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = l.bus.barrier.wait(ctx, l.bus, nil) // they find out a little later
}

// Close ends delivery. It must not be called by the receiver.
func (l *link) Close(ctx context.Context) error {
	if !l.closed.CompareAndSwap(false, true) {
		return nil
	}
	l.bus.mu.Lock()
	delete(l.bus.links, l)
	l.bus.mu.Unlock()
	// An error here says that the connection is gone, and the subscription with it.
	for _, in := range []*inlet{&l.direct, &l.control} {
		for _, e := range in.entries {
			_ = e.sub.Unsubscribe()
		}
	}
	for _, s := range l.shards {
		for _, sub := range s.clear() {
			_ = sub.Unsubscribe()
		}
	}
	l.part(ctx)
	close(l.quit)
	l.calls.stop()
	l.drops.stop()
	l.queues.stop()
	l.takers.stop()
	l.answers.stop()
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	done := make(chan struct{})
	go func() {
		l.running.Wait()
		l.reports.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("natsbus: close %s: %w", l.process, ctx.Err())
	}
}
