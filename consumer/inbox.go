package consumer

import (
	"time"

	"github.com/tideway-go/tideway/layer"
)

const (
	// maxInbox is how many of a client's messages are read ahead while a handler
	// runs. Beyond it the client is no longer read from, so that TCP slows it down.
	maxInbox = 16

	// roomCheck is how often a reader that waits for room looks whether the
	// connection has ended.
	roomCheck = time.Second
)

// inbox is what a connection has still to handle: the client's messages, and
// the word that its channel holds something. A goroutine empties it, which lives
// only while there is something to do, so that an idle connection has none, and
// so that the reader notices at once when a client leaves, however long a
// handler takes. Conn.mu guards it.
type inbox struct {
	open    bool // handlers may run
	running bool // the goroutine is at it
	woken   bool // the channel may hold messages
	stopped bool // what is left is not handled
	turn    bool // the layer's messages come first: the two take turns
	frames  []Frame
	room    chan struct{} // what the reader waits at; nil while nobody does
	idle    chan struct{} // what the end waits at; nil while nobody does
	arrived chan struct{} // what Conn.Receive waits at; nil in a Type
	read    chan struct{} // closed when a Func's reader has ended; nil without one
}

// stop lets nothing more be handled. Mu is held.
func (c *Conn) stop() {
	c.forward.Store(nil)
	b := &c.inbox
	b.stopped = true
	b.frames = nil
	b.release()
}

// release lets a reader that waits for room go on.
func (b *inbox) release() {
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}

// tap is the Conn as its channel sees it.
type tap Conn

var _ layer.GapTap = (*tap)(nil)

// Offer forwards a batch straight to the client, if all of it is to be
// forwarded. It runs on a dispatch shard of the layer, takes no lock of the
// connection's, and allocates nothing.
func (t *tap) Offer(b *layer.Batch) bool {
	c := (*Conn)(t)
	table, rest, v1 := c.forward.Load(), b, (func(*layer.Batch) any)(nil)
	watched := table == nil
	if watched {
		if table, rest, v1 = c.admit(b); rest == nil {
			return true
		}
	}
	if table == nil {
		return false
	}
	p := table.plan(rest, v1)
	if p.queue {
		return false
	}
	if p.unknown > 0 || len(p.problems) > 0 {
		c.setup.Stats.Unknown.Add(int64(p.unknown))
		p.tell(c.setup.Logger)
	}
	if p.frames != nil && (!watched && p.sender == "" || !c.pass(rest, p.sender)) {
		c.deliver(p, rest.Messages)
	}
	return true
}

// admit is the way of a batch to a connection whose messages may not all be
// forwarded as they come: the table is nil where handlers do not run, and rest
// where nothing is left to deliver.
func (c *Conn) admit(b *layer.Batch) (t *table, rest *layer.Batch, v1 func(*layer.Batch) any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest = b
	if c.strange(b.Messages[0].Group) {
		return nil, nil, nil
	}
	if c.flow != nil && len(c.flow.joins) > 0 {
		if rest = c.flow.admit(b); rest == nil {
			return nil, nil, nil
		}
	}
	if c.inbox.open && !c.inbox.stopped {
		t = c.typ.table()
	}
	return t, rest, c.planner()
}

// Gapped takes the word that messages were lost on their way.
func (t *tap) Gapped(g layer.Gap) { (*Conn)(t).gapped(g) }

// Wake sees to it that the channel's messages are handled.
func (t *tap) Wake() {
	c := (*Conn)(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inbox.woken = true
	c.start()
}

// start begins to empty the inbox, or tells who does that. Mu is held.
func (c *Conn) start() {
	b := &c.inbox
	if b.arrived != nil {
		select {
		case b.arrived <- struct{}{}:
		default:
		}
		return
	}
	if b.open && !b.running && c.waiting() {
		b.running = true
		go c.drain()
	}
	if b.running && c.over != nil {
		c.hurryLater()
	}
}

// waiting reports whether something is to be handled. Mu is held.
func (c *Conn) waiting() bool {
	b := &c.inbox
	return !b.stopped && (len(b.frames) > 0 || b.woken && c.channel != nil || c.flow.handing())
}

// openInbox lets the handlers of a Type run. It is called when the connection
// is accepted.
func (c *Conn) openInbox() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inbox.open = true
	if !c.inbox.stopped && c.flow == nil {
		c.forward.Store(c.typ.table())
	}
	c.inbox.arrived = nil // if an App around the Type accepted, it was read for a Func so far
	c.request = nil
	c.decided()
	c.start()
}

// next takes what is to be handled next, if there is anything. The client's
// messages and the layer's take turns, so that neither starves the other.
func (c *Conn) next() Event {
	c.mu.Lock()
	turn := c.inbox.turn
	c.inbox.turn = !turn
	c.mu.Unlock()
	if turn {
		if m := c.nextMessage(); m != nil {
			return Event{Message: m}
		}
	}
	if f := c.nextFrame(); f != nil {
		return Event{Frame: f}
	}
	if turn {
		return Event{}
	}
	return Event{Message: c.nextMessage()}
}

func (c *Conn) nextFrame() *Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.inbox
	if len(b.frames) == 0 {
		return nil
	}
	f := b.frames[0]
	if c.flow.speaks() {
		c.flow.begin()
	}
	b.frames[0] = Frame{}
	if b.frames = b.frames[1:]; len(b.frames) == 0 {
		b.frames = nil
	}
	b.release()
	return &f
}

// nextMessage takes a message from the channel, leaving out what the connection
// itself sent to the others.
func (c *Conn) nextMessage() *layer.Message {
	for {
		c.mu.Lock()
		if c.flow != nil && !c.inbox.stopped {
			if m := c.flow.nextReplayed(); m != nil {
				c.mu.Unlock()
				return m
			}
		}
		woken, channel := c.inbox.woken && c.channel != nil && !c.inbox.stopped, c.channel
		c.inbox.woken = false
		c.mu.Unlock()
		if !woken {
			return nil
		}
		// Wake may come again as soon as Next reports false, not before.
		m, some := channel.Next()
		if !some {
			return nil
		}
		c.mu.Lock()
		c.inbox.woken = true
		due := c.flow == nil || !c.strange(m.Group) && c.flow.admitOne(&m)
		if due && c.flow != nil {
			c.flow.passed(&m)
		}
		due = due && !c.isOwn(m.Header.Sender)
		c.mu.Unlock()
		if due {
			return &m
		}
	}
}

// drain handles what is in the inbox, one event at a time, and ends.
func (c *Conn) drain() {
	finished := false
	defer func() {
		if !finished { // a handler called runtime.Goexit
			c.fail(c.handled(errGoexit))
			c.rest()
		}
	}()
	for {
		switch e := c.next(); {
		case e.Frame != nil:
			c.fail(c.handled(guard(func() error { return c.typ.receive(c.state, &c.life, c, *e.Frame) })))
		case e.Message != nil:
			c.fail(guard(func() error { return c.typ.table().handle(c.state, &c.life, c, e.Message) }))
		case c.rest():
			finished = true
			return
		}
	}
}

// rest ends the draining if there is nothing left to do.
func (c *Conn) rest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting() {
		return false
	}
	b := &c.inbox
	b.running = false
	if b.idle != nil {
		close(b.idle)
		b.idle = nil
	}
	return true
}

// put adds a client's message, waiting for room.
func (c *Conn) put(f Frame) {
	c.setup.Stats.Received.Add(1)
	id := ""
	if c.speaks() {
		var data bool
		if f, id, data = c.understand(f); !data {
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.inbox
	began := time.Time{}
	for len(b.frames) >= maxInbox && c.setup.Socket.Err() == nil {
		if began.IsZero() {
			began = time.Now()
		}
		c.awaitRoom()
	}
	if !began.IsZero() && c.flow.speaks() {
		c.flow.rate.excuse(c.setup.Terms, time.Since(began))
	}
	if !b.stopped {
		b.frames = append(b.frames, f)
		if c.flow.speaks() {
			c.flow.requests = append(c.flow.requests, id)
		}
		c.start()
	}
}

// awaitRoom waits until something was taken out, or for a moment. Mu is held,
// and given up meanwhile.
func (c *Conn) awaitRoom() {
	room := make(chan struct{})
	c.inbox.room = room
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-room:
	case <-time.After(roomCheck):
	}
}
