package consumer

import (
	"context"
	"iter"

	"github.com/tideway-go/tideway/layer"
)

// Func is an [App] that is one function, as http.HandlerFunc is a Handler: it
// has its state in its variables and its clean-up in its defers, and asks for
// what arrives by [Conn.Receive] or [Conn.Events]. A connection that it serves
// costs two goroutines; those of a [Type] cost one.
type Func func(ctx context.Context, c *Conn) error

// Serve calls f.
func (f Func) Serve(ctx context.Context, c *Conn) error { return f(ctx, c) }

// Event is what [Conn.Receive] returns: a client's message or one of the layer.
// One of the two is set.
type Event struct {
	Frame   *Frame
	Message *layer.Message
}

// Receive accepts the connection, if nobody has yet, and waits for the next
// event. When the connection has ended and all that the client sent is
// received, the error is the *[CloseError] that ended it. It is for a [Func]:
// one call at a time, and never in a handler of a [Type], whose events arrive by
// themselves.
func (c *Conn) Receive(ctx context.Context) (Event, error) {
	if err := c.Accept(""); err != nil {
		return Event{}, err
	}
	arrived := c.startReading()
	for {
		if e := c.next(); e.Frame != nil || e.Message != nil {
			return e, nil
		}
		if over := c.ending(); over != nil {
			return Event{}, over
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// Events receives until the connection ends, quietly, or ctx does, whose error
// is the last element.
func (c *Conn) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			e, err := c.Receive(ctx)
			if CloseStatus(err) >= 0 {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// startReading starts the goroutine that reads for Receive, once. It ends with
// the connection; finish waits for that.
func (c *Conn) startReading() chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inbox.arrived == nil {
		c.inbox.arrived = make(chan struct{}, 1)
		c.inbox.woken = true // the channel may have filled before
		go c.read()
	}
	return c.inbox.arrived
}

func (c *Conn) ending() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over == nil || len(c.inbox.frames) > 0 {
		return nil
	}
	return c.over
}

// awaitEnd waits until the reader has ended.
func (c *Conn) awaitEnd() {
	for c.ending() == nil {
		c.nextFrame()
		c.mu.Lock()
		arrived, over := c.inbox.arrived, c.over != nil
		c.mu.Unlock()
		if over || arrived == nil {
			continue
		}
		<-arrived
	}
}
