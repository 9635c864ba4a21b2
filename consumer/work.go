package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// DeadError, returned by a handler of a queue, sends the message to the dead
// letters at once: no further attempt could succeed.
type DeadError struct{ Reason string }

// Error returns the reason.
func (e *DeadError) Error() string { return e.Reason }

// RetryError, returned by a handler of a queue, says when the next attempt
// shall be. Any other error leaves that to the queue's policy.
type RetryError struct {
	After time.Duration
	Err   error // why; may be nil
}

// Error says why, and when.
func (e *RetryError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("again in %v", e.After)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *RetryError) Unwrap() error { return e.Err }

// ErrHandBack, returned by a handler of a queue, gives the message to another
// worker at once, and the attempt does not count. It is for a handler that has
// noticed [Conn.Stopping].
var ErrHandBack = errors.New("consumer: the worker stops; another one shall have the message")

// Work is what a worker knows of a message when a handler begins. Programs that
// run workers with package router never see one.
type Work struct {
	Delivery *layer.Delivery // required
	Layer    *layer.Layer    // required
	Logger   *slog.Logger    // required
	Stopping <-chan struct{} // closed when the worker has to stop; may be nil
}

// CheckWorker says what of an App is of no use for queued messages, which have no
// client.
func CheckWorker(a App) error {
	switch a := a.(type) {
	case nil:
		return errors.New("consumer: the App is nil")
	case laborer:
		return a.fit()
	}
	return nil
}

// Handle runs an App for one message of a queue. A [Type] has a state of its own
// for each message, and its message table decides; a message that no handler
// takes, or that does not fit, is a *[DeadError]. Any other App is served, with
// the message in [Conn.Delivery]. A panic is a *[PanicError].
func Handle(ctx context.Context, a App, w Work) error {
	c := newWorkConn(ctx, w)
	return guard(func() error {
		if l, ok := a.(laborer); ok {
			return l.labor(ctx, c, &w.Delivery.Message)
		}
		return a.Serve(ctx, c)
	})
}

// newWorkConn makes the Conn of a queued message.
func newWorkConn(ctx context.Context, w Work) *Conn {
	d := w.Delivery
	c := &Conn{life: life{base: ctx}, waited: func() bool { return true }, path: d.Queue, accepted: true, maxGroups: defaultMaxGroups}
	c.setup = kept{Socket: &bench{w}, Layer: w.Layer, Logger: w.Logger, Stats: new(Stats)}
	return c
}

// Delivery returns the message of a queue that is being handled, with its
// attempt, and nil on a connection. The worker acknowledges it by itself.
func (c *Conn) Delivery() *layer.Delivery {
	if b := c.bench(); b != nil {
		return b.work.Delivery
	}
	return nil
}

// Stopping is closed when the worker that handles this message has to stop: it
// has a while to finish. A handler that will take longer may return
// [ErrHandBack]. On a connection it is nil.
func (c *Conn) Stopping() <-chan struct{} {
	if b := c.bench(); b != nil {
		return b.work.Stopping
	}
	return nil
}

// bench returns what stands in the place of the socket of a queued message.
func (c *Conn) bench() *bench {
	b, _ := c.setup.Socket.(*bench)
	return b
}

// laborer is an untyped Type that handles queued messages.
type laborer interface {
	fit() error
	labor(ctx context.Context, c *Conn, m *layer.Message) error
}

// fit implements laborer.
func (t Type[C]) fit() error {
	switch {
	case t.Connect != nil, t.Receive != nil, t.Disconnect != nil:
		return errors.New("consumer: a queue has no clients, so its Type has no Connect, Receive and Disconnect")
	case len(t.Groups) > 0, len(t.Subprotocols) > 0:
		return errors.New("consumer: a queue has no clients, so its Type has no Groups and Subprotocols")
	}
	return t.Messages.table.orNone().fit()
}

// labor implements laborer.
func (t Type[C]) labor(ctx context.Context, c *Conn, m *layer.Message) error {
	var state *C
	if t.New != nil {
		state = t.New()
	}
	if state == nil {
		state = new(C)
	}
	if t.Layer != nil {
		c.setup.Layer = t.Layer
	}
	return t.Messages.table.orNone().labor(state, ctx, c, m)
}

func (t *table) fit() error {
	for typ, h := range t.handlers {
		if h.frame != nil {
			return fmt.Errorf("consumer: the queue's table has Forward or Render for %q, but a queue has no client to send to", typ)
		}
	}
	if len(t.handlers) == 0 && t.otherwise == nil {
		return errors.New("consumer: the queue's Type has no message handlers")
	}
	return nil
}

// labor handles a message of a queue.
func (t *table) labor(state any, ctx context.Context, c *Conn, m *layer.Message) error {
	h := t.find(m.Type)
	if h == nil {
		return &DeadError{fmt.Sprintf("no handler for type %q", m.Type)}
	}
	err := h.call(state, ctx, c, m)
	if u, ok := err.(*undecodable); ok {
		return &DeadError{u.Error()}
	}
	return err
}

// bench is the Socket of a queued message, which has no client.
type bench struct{ work Work }

var _ Socket = (*bench)(nil)

// Accept implements Socket. A Conn of a queued message is accepted already.
func (b *bench) Accept(string, http.Header) error { return b.noClient() }

// Read implements Socket.
func (b *bench) Read() (Frame, error) { return Frame{}, b.Err() }

// Send implements Socket.
func (b *bench) Send(context.Context, *Prepared) error { return b.noClient() }

// Offer implements Socket.
func (b *bench) Offer(*Prepared) error { return b.noClient() }

// TryOffer implements Socket.
func (b *bench) TryOffer(*Prepared) (bool, error) { return false, b.noClient() }

// OfferLatest implements Socket.
func (b *bench) OfferLatest(*Values) (int, error) { return 0, b.noClient() }

// AwaitRoom implements Socket.
func (b *bench) AwaitRoom(context.Context) error { return b.noClient() }

// Err implements Socket.
func (b *bench) Err() error { return &CloseError{Code: StatusNoStatusRcvd} }

// Close implements Socket.
func (b *bench) Close(StatusCode, string) {}

func (b *bench) noClient() error {
	return fmt.Errorf("consumer: a message of the queue %s has no client; send to a group whose members shall know", b.work.Delivery.Queue)
}

// noChannel is why the Conn of a queued message joins no groups.
func (b *bench) noChannel() error {
	return fmt.Errorf("consumer: a message of the queue %s has no channel that could be in a group; add the queue itself", b.work.Delivery.Queue)
}
