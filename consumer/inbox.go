package consumer

import (
	"context"

	"github.com/tideway-go/tideway/layer"
)

// maxInbox is how many of a client's messages are read ahead while a handler
// runs. Beyond it the client is no longer read from, so that TCP slows it down.
const maxInbox = 16

// inbox is what a connection has still to handle: the client's messages, and
// the word that its channel holds something. A goroutine empties it, which lives
// only while there is something to do, so that an idle connection has none, and
// so that the reader notices at once when a client leaves, however long a
// handler takes. Conn.mu guards it.
type inbox struct {
	open    bool // handlers may run
	running bool // the goroutine is at it
	woken   bool // the channel may hold messages
	ended   bool // nothing more is read from the client
	drop    bool // what is left of the client's messages is not handled
	frames  []Frame
	room    chan struct{} // what the reader waits at; nil while nobody does
	idle    chan struct{} // what the end waits at; nil while nobody does
	arrived chan struct{} // what Conn.Receive waits at; nil in a Type
}

// closing notes that we end the connection. What the client sent before is
// still handled when the server only goes away, not when it had enough.
func (b *inbox) closing(code StatusCode) {
	if code != StatusServiceRestart && code != StatusGoingAway {
		b.drop = true
		b.frames = nil
		b.release()
	}
}

// events is an untyped consumer: what Type is under its type parameter.
type events interface {
	receive(ctx context.Context, c *Conn, f Frame) error
	message(ctx context.Context, c *Conn, m *layer.Message) error
	plan(b *layer.Batch) *plan
}

// tap is the Conn as its channel sees it.
type tap Conn

var _ layer.Tap = (*tap)(nil)

// Offer forwards a batch straight to the client, if all of it is to be
// forwarded. It runs on a dispatch shard of the layer and allocates nothing.
func (t *tap) Offer(b *layer.Batch) bool {
	c := (*Conn)(t)
	if c.events == nil {
		return false
	}
	p := c.events.plan(b)
	if p.queue || !c.isOpen() {
		return false
	}
	if p.unknown > 0 {
		c.setup.Stats.Unknown.Add(int64(p.unknown))
	}
	p.tell(c.setup.Logger)
	if p.frames != nil {
		c.setup.Socket.Offer(p.frames) // an error means that the connection ends
	}
	return true
}

func (c *Conn) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inbox.open
}

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
	if b.open && !b.running && (b.woken || len(b.frames) > 0) {
		b.running = true
		go c.drain()
	}
}

// openInbox lets handlers run. It is called when the connection is accepted.
func (c *Conn) openInbox() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inbox.open = true
	c.request = nil
	c.start()
}

// next takes what is to be handled next: a client's message, else one of the
// layer, else neither.
func (c *Conn) next() (e Event) {
	if f := c.nextFrame(); f != nil {
		return Event{Frame: f}
	}
	c.mu.Lock()
	woken, channel := c.inbox.woken && c.channel != nil, c.channel
	c.inbox.woken = false
	c.mu.Unlock()
	if !woken {
		return e
	}
	// Wake may come again as soon as Next reports false, not before.
	m, some := channel.Next()
	if !some {
		return e
	}
	c.mu.Lock()
	c.inbox.woken = true
	c.mu.Unlock()
	return Event{Message: &m}
}

func (c *Conn) nextFrame() *Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.inbox
	if len(b.frames) == 0 {
		return nil
	}
	f := b.frames[0]
	if b.frames = b.frames[1:]; len(b.frames) == 0 {
		b.frames = nil
	}
	b.release()
	return &f
}

// release lets a reader that waits for room go on. Conn.mu is held.
func (b *inbox) release() {
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}

// drain handles what is in the inbox, one event at a time, and ends.
func (c *Conn) drain() {
	finished := false
	defer func() {
		if !finished { // a handler called runtime.Goexit
			c.fail(errGoexit)
			c.rest()
		}
	}()
	for {
		switch e := c.next(); {
		case e.Frame != nil:
			c.fail(guard(func() error { return c.events.receive(c.ctx, c, *e.Frame) }))
		case e.Message != nil:
			c.fail(guard(func() error { return c.events.message(c.ctx, c, e.Message) }))
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
	b := &c.inbox
	if len(b.frames) > 0 || b.woken && c.channel != nil {
		return false
	}
	b.running = false
	if b.idle != nil {
		close(b.idle)
		b.idle = nil
	}
	return true
}

// put adds a client's message, waiting for room.
func (c *Conn) put(f Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.inbox
	for len(b.frames) >= maxInbox && !b.drop {
		if b.room == nil {
			b.room = make(chan struct{})
		}
		room := b.room
		c.mu.Unlock()
		<-room
		c.mu.Lock()
	}
	if !b.drop {
		b.frames = append(b.frames, f)
		c.start()
	}
}
