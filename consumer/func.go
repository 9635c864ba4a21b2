package consumer

import (
	"context"
	"errors"
	"iter"

	"github.com/tideway-go/tideway/layer"
)

// Func is an [App] that is one function, as http.HandlerFunc is a Handler: it
// has its state in its variables and its clean-up in its defers, and asks for
// what arrives by [Conn.Receive] or [Conn.Events]. A connection that it serves
// costs a goroutine more than that of a [Type], which has one, or none while a
// [Poller] is silent.
//
// The function may go on for 10 s after its connection has ended, to work
// through what the client sent last; then its context is cancelled. One that
// does not receive learns of the end by that, or by the error of its next Send.
type Func func(ctx context.Context, c *Conn) error

// Serve calls f.
func (f Func) Serve(ctx context.Context, c *Conn) error { return f(ctx, c) }

// Event is what [Conn.Receive] returns: a client's message or one of the layer.
// One of the two is set. A Message's data may be shared with other connections:
// it must not be modified.
type Event struct {
	Frame   *Frame
	Message *layer.Message
}

var errNotFunc = errors.New("consumer: Receive and Events are for a Func on a connection; the events of a Type arrive by themselves, and the message of a queue is Delivery")

// Receive accepts the connection, if nobody has yet, and waits for the next
// event. When the connection has ended and all that the client sent is
// received, the error is the *[CloseError] that ended it. It is for a [Func]:
// one call at a time, and never in a handler of a [Type], where it fails.
func (c *Conn) Receive(ctx context.Context) (Event, error) {
	if err := c.accept(c.implied()); err != nil {
		return Event{}, err
	}
	c.mu.Lock()
	arrived := c.inbox.arrived
	c.decided()
	c.mu.Unlock()
	if arrived == nil {
		return Event{}, errNotFunc
	}
	if err := c.handled(nil); err != nil {
		return Event{}, err
	}
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

// readAlong reads from the client beside a Func, so that the end is noticed and
// pings are answered whether or not it receives: on a goroutine that ends with the
// connection, or with a [Poller] as long as there is something to read. Finish
// waits for the end. Mu is held.
func (c *Conn) readAlong() {
	c.inbox.arrived = make(chan struct{}, 1)
	read := make(chan struct{})
	c.inbox.read = read
	if c.polls() {
		go c.poll()
		return
	}
	go func() {
		defer close(read)
		c.read()
	}()
}

// ending returns how the connection ended, once nothing of it is left to handle.
func (c *Conn) ending() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over == nil || len(c.inbox.frames) > 0 {
		return nil
	}
	return c.over
}
