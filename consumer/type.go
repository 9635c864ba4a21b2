package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/tideway-go/tideway/layer"
)

// Type is a consumer type: what the connections of one route do. C is the state
// that each connection has of its own. Every field may be left out: the zero
// Type accepts every connection and ignores what arrives.
//
// The handlers of one connection never overlap, so C needs no locks. A handler
// that takes long, or blocks, delays its own connection alone.
type Type[C any] struct {
	// New makes a connection's state. Default new(C). Set it to hand over a
	// database.
	New func() *C

	// Connect decides about a connection whose handshake is still open. nil
	// accepts it, unless Connect did so itself; an error refuses it: a
	// *[DenyError] with its status, any other with 500. Messages for groups that
	// it joins wait until it has returned. Its context ends when nobody waits
	// for the decision any more.
	Connect func(*C, context.Context, *Conn) error

	// Receive gets each message of the client. An error ends the connection: a
	// *[CloseError] with its code, any other with 1011. See [JSON].
	Receive func(*C, context.Context, *Conn, Frame) error

	// Disconnect runs once for every connection whose Connect began, as its
	// last handler, whatever ended it: the client, a handler's error or panic, a
	// kick, a drain, a lost network, a refusal. The groups have been left by
	// then. The code is the client's or ours; 1005 when the client gave none,
	// 1006 when it vanished or was refused. Its context lasts 10 s.
	Disconnect func(*C, context.Context, *Conn, StatusCode)

	// Messages says what happens with what the layer brings. See [Table].
	Messages Messages[C]

	// Groups are joined before Connect, and left before Disconnect.
	Groups []string

	// Subprotocols are those that the consumer speaks, the best first. The
	// first one that the client offers is chosen; none is no reason to refuse.
	Subprotocols []string

	// Layer takes the place of the router's layer. Default the router's.
	Layer *layer.Layer
}

// Serve implements [App].
func (t Type[C]) Serve(ctx context.Context, c *Conn) error {
	var began bool
	err := aside(func() error { return c.decide(ctx, t, &began) })
	if !began {
		return err
	}
	return c.live(ctx, err)
}

// lifecycle is an untyped consumer type: what Type is under its type parameter.
// state is a connection's own. One lifecycle serves all connections of its
// route, in two parts: what decides about one needs a deep stack, which the
// goroutine that then reads for the rest of the connection's life must not keep.
type lifecycle interface {
	open() (state any, l *layer.Layer)
	declared() (groups, subprotocols []string)
	table() *table
	connect(state any, ctx context.Context, c *Conn) error
	receive(state any, ctx context.Context, c *Conn, f Frame) error
	disconnect(state any, ctx context.Context, c *Conn, code StatusCode)
}

func (t Type[C]) open() (state any, l *layer.Layer) {
	var s *C
	if t.New != nil {
		s = t.New()
	}
	if s == nil {
		s = new(C)
	}
	return s, t.Layer
}

func (t Type[C]) declared() (groups, subprotocols []string) { return t.Groups, t.Subprotocols }

func (t Type[C]) table() *table { return t.Messages.table.orNone() }

func (t Type[C]) connect(state any, ctx context.Context, c *Conn) error {
	if t.Connect == nil {
		return nil
	}
	return t.Connect(state.(*C), ctx, c)
}

func (t Type[C]) receive(state any, ctx context.Context, c *Conn, f Frame) error {
	if t.Receive == nil {
		return nil
	}
	return t.Receive(state.(*C), ctx, c, f)
}

func (t Type[C]) disconnect(state any, ctx context.Context, c *Conn, code StatusCode) {
	if t.Disconnect == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), disconnectTimeout)
	defer cancel()
	t.Disconnect(state.(*C), ctx, c, code)
}

// adopt makes t the connection's consumer.
func (c *Conn) adopt(t lifecycle) error {
	state, l := t.open()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.typ != nil:
		return errors.New("consumer: two Types cannot serve one connection")
	case c.refused:
		return ErrNotOpen
	case l != nil && c.channel != nil && l != c.setup.Layer:
		return errors.New("consumer: Type.Layer: the connection has a channel on another layer already")
	case l != nil:
		c.setup.Layer = l
	}
	c.typ, c.state = t, state
	return nil
}

// launch serves a Type, on this goroutine up to the decision, and then on
// others.
func (c *Conn) launch(t lifecycle) {
	var began bool
	err := errGoexit
	defer func() { // Connect may have ended the goroutine
		switch {
		case !began:
			c.conclude(func() error { return err })
		case err != nil:
			c.conclude(func() error { return c.live(&c.life, err) })
		case c.polls():
			c.openInbox()
			c.poll() // which waits for nobody the first time
		default:
			go c.conclude(func() error { return c.live(&c.life, nil) })
		}
	}()
	err = guard(func() error { return c.decide(&c.life, t, &began) })
}

// aside runs f on a goroutine of its own and waits for it.
func aside(f func() error) error {
	err := errGoexit
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = guard(f)
	}()
	<-done
	return err
}

// decide runs Connect and accepts. began is set once Disconnect is due. Its
// error refuses the connection; where Connect accepted by itself, it ends it
// like any handler's.
func (c *Conn) decide(ctx context.Context, t lifecycle, began *bool) error {
	if err := c.adopt(t); err != nil {
		return err
	}
	groups, subprotocols := t.declared()
	c.prefer(subprotocols)
	if err := c.declare(ctx, groups); err != nil {
		return err
	}
	*began = true
	if err := t.connect(c.state, ctx, c); err != nil {
		return err
	}
	return c.accept(c.implied())
}

// live runs a connection whose Connect began, from the decision, whose outcome is
// err, to its end.
func (c *Conn) live(ctx context.Context, err error) error {
	defer c.disconnect(ctx)
	if err != nil && c.refuse() {
		return err
	}
	c.fail(err)
	c.openInbox()
	c.readOut()
	return nil
}

// declare joins the groups that the consumer type names.
func (c *Conn) declare(ctx context.Context, groups []string) error {
	for _, g := range groups {
		if err := c.GroupAdd(ctx, g); err != nil {
			return fmt.Errorf("consumer: declared group: %w", err)
		}
	}
	return nil
}

// disconnect ends what decide began. It is deferred, so that it runs whatever
// happens.
func (c *Conn) disconnect(ctx context.Context) {
	if c.ended() == nil { // refused
		c.end(&CloseError{Code: StatusAbnormalClosure})
	}
	c.settle()
	code := c.ended().Code
	if err := guard(func() error { c.typ.disconnect(c.state, ctx, c, code); return nil }); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.failed = errors.Join(c.failed, err)
	}
}
