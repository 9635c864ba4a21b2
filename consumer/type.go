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
	var s lifecycle
	err := aside(func() error { return c.decide(ctx, t, &s) })
	return c.live(ctx, s, err)
}

// open makes the connection's state.
func (t Type[C]) open(c *Conn) (lifecycle, error) {
	s := &session[C]{typ: &t}
	if t.New != nil {
		s.state = t.New()
	}
	if s.state == nil {
		s.state = new(C)
	}
	return s, c.adopt(s, t.Layer)
}

// opener is an untyped Type, which serves a connection in two parts: what
// decides about it needs a deep stack, which the goroutine that then reads for
// the rest of the connection's life must not keep.
type opener interface {
	open(c *Conn) (lifecycle, error)
}

// adopt makes s the connection's consumer.
func (c *Conn) adopt(s events, l *layer.Layer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.events != nil:
		return errors.New("consumer: two Types cannot serve one connection")
	case c.refused:
		return ErrNotOpen
	case l != nil && c.channel != nil && l != c.setup.Layer:
		return errors.New("consumer: Type.Layer: the connection has a channel on another layer already")
	case l != nil:
		c.setup.Layer = l
	}
	c.events = s
	return nil
}

// session is one connection of a Type. It is all that is generic about it.
type session[C any] struct {
	typ   *Type[C]
	state *C
}

func (s *session[C]) connect(ctx context.Context, c *Conn) error {
	if s.typ.Connect == nil {
		return nil
	}
	return s.typ.Connect(s.state, ctx, c)
}

func (s *session[C]) receive(ctx context.Context, c *Conn, f Frame) error {
	if s.typ.Receive == nil {
		return nil
	}
	return s.typ.Receive(s.state, ctx, c, f)
}

func (s *session[C]) message(ctx context.Context, c *Conn, m *layer.Message) error {
	return s.typ.Messages.table.orNone().handle(s.state, ctx, c, m)
}

func (s *session[C]) table() *table { return s.typ.Messages.table.orNone() }

func (s *session[C]) disconnect(ctx context.Context, c *Conn, code StatusCode) {
	if s.typ.Disconnect == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), disconnectTimeout)
	defer cancel()
	s.typ.Disconnect(s.state, ctx, c, code)
}

func (s *session[C]) declared() (groups, subprotocols []string) {
	return s.typ.Groups, s.typ.Subprotocols
}

// lifecycle is one connection of an untyped consumer type.
type lifecycle interface {
	events
	declared() (groups, subprotocols []string)
	connect(ctx context.Context, c *Conn) error
	disconnect(ctx context.Context, c *Conn, code StatusCode)
}

// launch serves a Type, on this goroutine up to the decision, and then on a
// fresh one.
func (c *Conn) launch(t opener, done func(Result)) {
	var s lifecycle
	err := errGoexit
	rest := func() {
		decision := err
		err = errGoexit // what Disconnect may still do
		defer func() { done(c.finish(err)) }()
		err = c.live(c.ctx, s, decision)
	}
	defer func() { // Connect may have ended the goroutine
		p, polls := c.setup.Socket.(Poller)
		switch {
		case err != nil:
			rest()
		case polls:
			c.openInbox()
			go c.poll(p, rest)
		default:
			go rest()
		}
	}()
	err = guard(func() error { return c.decide(c.ctx, t, &s) })
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
func (c *Conn) decide(ctx context.Context, t opener, began *lifecycle) error {
	s, err := t.open(c)
	if err != nil {
		return err
	}
	groups, subprotocols := s.declared()
	c.prefer(subprotocols)
	if err := c.declare(ctx, groups); err != nil {
		return err
	}
	*began = s
	if err := s.connect(ctx, c); err != nil {
		return err
	}
	return c.accept(c.implied())
}

// live runs a connection from the decision, whose outcome is err, to its end.
func (c *Conn) live(ctx context.Context, s lifecycle, err error) error {
	if s == nil {
		return err
	}
	defer c.disconnect(ctx, s)
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
func (c *Conn) disconnect(ctx context.Context, s lifecycle) {
	if c.ended() == nil { // refused
		c.end(&CloseError{Code: StatusAbnormalClosure})
	}
	c.settle()
	code := c.ended().Code
	if err := guard(func() error { s.disconnect(ctx, c, code); return nil }); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.failed = errors.Join(c.failed, err)
	}
}
