package layer

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Channel is a mailbox: a bounded, expiring, first-in-first-out queue with one
// reader at a time. [Layer.NewChannel] makes one that belongs to this process,
// [Layer.Listen] opens a shared one.
type Channel struct {
	// A delivery to a tap needs these alone: among many members each line of
	// memory is a miss.
	tap      Tap
	withheld atomic.Bool // not to be offered: it is closed, or somebody is at it; written under mu

	layer   *Layer
	name    string
	dropped atomic.Int64

	mu      sync.Mutex // guards all below, but what never changes
	queue   fifo
	gaps    *gapLine      // what a GapTap is to be told between the queue's messages; nil for nothing
	arrived chan struct{} // what a Receive waits at, nil without one; capacity 1
	cancel  func()        // ends the pull of a shared channel's Receive
	groups  []membership
	at      bool // a tap's drainer is at the queue
	reading bool // a Receive is under way
	closed  bool // no message enters or leaves any more

	shared   bool  // never changes
	capacity int32 // never changes; next to the flags it takes no room
}

// Tap takes a channel's messages as they arrive. It is how a connection is fed
// without a goroutine of its own.
type Tap interface {
	// Offer is called with what arrived while nothing older waits in the
	// channel and nobody is at it. It takes all of the batch, and reports true,
	// or nothing. It must not block, and must not keep b. Batches of different
	// groups may overlap, in Offer and in the channel; those of one group never.
	// (A tap of several channels is offered one batch for each, at once.)
	// An Offer that began before [Channel.Close] may end after it.
	Offer(b *Batch) bool

	// Wake says that messages wait in the channel and that nobody is at them:
	// from now until [Channel.Next] reports false, everything that arrives
	// queues behind them. It must not block.
	Wake()
}

// Batch is what arrived together at a [Tap], in order.
type Batch struct {
	Messages []*Message          // shared with all members: not to be modified
	late     map[*Channel]uint64 // who gets what follows a sequence only
	cache    cache
}

// Once is [Message.Once] for the batch as a whole.
func (b *Batch) Once(key any, build func(*Batch) any) any {
	return once(&b.cache, key, build, b)
}

// Name returns the channel's name, as Send and GroupAdd take it.
func (c *Channel) Name() string { return c.name }

// Dropped returns how many messages the channel missed because it was full.
func (c *Channel) Dropped() int64 { return c.dropped.Load() }

// Receive waits for the next message and takes it. When ctx ends first it
// returns ctx's error and has taken nothing: no message is lost by cancelling,
// and the channel stays in its groups. Other errors: [ErrClosed], [ErrReading],
// and for a shared channel [ErrUnavailable].
func (c *Channel) Receive(ctx context.Context) (Message, error) {
	if err := ctx.Err(); err != nil {
		return Message{}, err
	}
	if c.shared {
		return c.pull(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return Message{}, ErrClosed
	case c.reading || c.tap != nil:
		return Message{}, ErrReading
	}
	c.reading = true
	defer func() { c.reading = false }()
	if c.arrived == nil {
		c.arrived = make(chan struct{}, 1)
	}
	for {
		if m := c.pop(); m != nil {
			return m.own(), nil
		}
		if c.closed {
			return Message{}, ErrClosed
		}
		if err := c.wait(ctx); err != nil {
			return Message{}, err
		}
	}
}

// wait gives up mu until something may have arrived.
func (c *Channel) wait(ctx context.Context) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-c.arrived:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pull receives from a shared channel.
func (c *Channel) pull(ctx context.Context) (Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.beginPull(cancel); err != nil {
		return Message{}, err
	}
	defer c.endPull()
	for {
		p, err := c.layer.link.Pull(ctx, c.name, c.layer.limitsOf(c.name))
		if err != nil {
			if c.isClosed() {
				return Message{}, ErrClosed
			}
			return Message{}, err
		}
		m := Message{Data: p.Data, Header: p.Header}
		if err := m.parse(); err != nil {
			c.layer.malformed("channel "+c.name, 1, err)
			continue
		}
		c.layer.stats.delivered.Add(1)
		return m, nil
	}
}

func (c *Channel) beginPull(cancel func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return ErrClosed
	case c.reading:
		return ErrReading
	}
	c.reading, c.cancel = true, cancel
	return nil
}

func (c *Channel) endPull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading, c.cancel = false, nil
}

func (c *Channel) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// All receives until ctx ends or the channel or its layer is closed, which end
// the sequence quietly; any other error is its last element.
func (c *Channel) All(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := c.Receive(ctx)
			if err != nil {
				if ctx.Err() == nil && !errors.Is(err, ErrClosed) {
					yield(Message{}, err)
				}
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// Close takes the channel out of all its groups and drops what is unread; a
// Receive that waits returns [ErrClosed]. What is sent to it from then on is
// lost, except on a shared channel, where it waits for another reader. Close
// does not wait for the network and never fails; a second one does nothing.
func (c *Channel) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.withheld.Store(true)
	c.queue, c.gaps = fifo{}, nil
	groups, cancel, arrived := c.groups, c.cancel, c.arrived
	c.groups = nil
	c.mu.Unlock()

	if cancel != nil {
		cancel()
	}
	if arrived != nil {
		notify(arrived)
	}
	if !c.shared {
		c.layer.forget(c, groups)
	}
	return nil
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Next takes the next message without waiting, for a [Tap] that was woken. When
// it reports false the channel is empty, and the tap will be offered or woken
// with what arrives next. A message of a group is shared with its other members:
// it must not be modified. A gap that waits before it goes to the [GapTap] first,
// within this call.
func (c *Channel) Next() (Message, bool) {
	for {
		m, g := c.next()
		switch {
		case g != nil:
			c.tap.(GapTap).Gapped(*g)
		case m != nil:
			return *m, true
		default:
			return Message{}, false
		}
	}
}

// next takes the oldest message, or the gap that stands before it.
func (c *Channel) next() (*Message, *Gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	if g := c.popGap(); g != nil {
		return nil, g
	}
	m := c.pop()
	if m == nil {
		c.at = false
		c.withheld.Store(c.closed)
	}
	return m, nil
}

// deliver hands a batch to the channel and returns how many of its messages a
// tap took at once, and how many did not fit.
func (c *Channel) deliver(b *Batch) (taken, missed int) {
	// While messages wait in it, somebody is at it.
	if c.tap != nil && !c.withheld.Load() && c.tap.Offer(b) {
		return len(b.Messages), 0
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, 0
	}
	for _, m := range b.Messages {
		if !c.push(m) {
			missed++
			c.missed(m)
		}
	}
	wake := c.tap != nil && !c.at && c.queue.len() > 0
	if wake {
		c.at = true
		c.withheld.Store(true)
	}
	if c.arrived != nil {
		notify(c.arrived)
	}
	c.mu.Unlock()
	if missed > 0 {
		c.dropped.Add(int64(missed))
	}
	if wake {
		c.tap.Wake()
	}
	return 0, missed
}

// push appends m if there is room; messages that expired take none. Mu is held.
func (c *Channel) push(m *Message) bool {
	if c.queue.len() >= int(c.capacity) {
		c.expire()
	}
	if c.queue.len() >= int(c.capacity) {
		return false
	}
	c.queue.push(queued{m, c.layer.now()})
	c.layer.sweepLater()
	return true
}

// pop takes the oldest message that has not expired, or nil. Mu is held.
func (c *Channel) pop() *Message {
	c.expire()
	if c.queue.len() == 0 {
		return nil
	}
	c.layer.stats.delivered.Add(1)
	return c.unqueue()
}

// unqueue takes the oldest message. Mu is held.
func (c *Channel) unqueue() *Message {
	if c.gaps != nil {
		c.gaps.popped++
	}
	return c.queue.pop().message
}

// expire drops what waited too long. Mu is held.
func (c *Channel) expire() {
	if c.queue.len() == 0 {
		return
	}
	limit := c.layer.now() - c.layer.opts.Expiry
	for c.queue.len() > 0 && c.queue.oldest().at <= limit {
		c.lapsed(c.unqueue())
		c.layer.stats.expired.Add(1)
	}
}

// own returns a copy of m whose bytes the receiver may modify: the members of
// a group do not share a message.
func (m *Message) own() Message {
	c := *m
	c.Data = slices.Clone(m.Data)
	c.cache = nil
	return c
}

// fifo is a queue of messages that owns no memory while it is empty for long.
type fifo struct {
	items []queued
	head  int
}

type queued struct {
	message *Message
	at      time.Duration // when it arrived, see Layer.now
}

func (q *fifo) len() int        { return len(q.items) - q.head }
func (q *fifo) oldest() *queued { return &q.items[q.head] }

func (q *fifo) push(m queued) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, m)
}

func (q *fifo) pop() queued {
	m := q.items[q.head]
	q.items[q.head] = queued{}
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > 4 {
			q.items = nil
		}
	}
	return m
}
