package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tideway-go/tideway/layer"
)

// place is a group that the connection is in, or on its way into. It may be joined
// by its consumer and by any process at the same time, and discarded meanwhile:
// who joins goes on only with the place that it booked.
type place struct {
	group   string
	number  uint32 // among the places that the connection had so far
	joining int32  // joins under way
	in      bool   // one of them has succeeded
}

// placeOf returns the place of a group, or nil. Mu is held.
func (c *Conn) placeOf(group string) *place {
	for i := range c.places {
		if c.places[i].group == group {
			return &c.places[i]
		}
	}
	return nil
}

// isIn reports whether the connection is in a group, or on its way. Mu is held.
func (c *Conn) isIn(group string) bool { return c.placeOf(group) != nil }

// strange reports whether a client that hears of joins would get a message of a
// group that it did not join: one that was under way when it left, or before a join
// that was overtaken by that. "" is no group. Mu is held.
func (c *Conn) strange(group string) bool { return group != "" && c.flow.speaks() && !c.isIn(group) }

// vacate gives a place up. Mu is held.
func (c *Conn) vacate(group string) {
	c.places = slices.DeleteFunc(c.places, func(p place) bool { return p.group == group })
	c.forgetJoin(group)
}

// book begins a join, for which there has to be a place, and returns its number.
// A guest is one whom another than the consumer adds: its client goes on from its
// cursor if it has one, where it would otherwise begin anew.
func (c *Conn) book(group string, guest bool, opts *JoinOptions) (number uint32, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.mostGroups()
	p := c.placeOf(group)
	fresh := p == nil
	switch {
	case fresh && limit > 0 && len(c.places) >= limit:
		return 0, fmt.Errorf("%w: it is in %d, and %q would be one more", ErrTooManyGroups, limit, group)
	case fresh:
		c.booked++
		c.places = append(c.places, place{group: group, number: c.booked})
		p = &c.places[len(c.places)-1]
	}
	p.joining++
	if guest && fresh && c.maySpeak() {
		opts = &JoinOptions{Most: mostReplayed}
	}
	c.beginJoin(group, fresh, opts)
	return p.number, nil
}

// enter joins a group: with opts as Join does, with nil as GroupAdd.
func (c *Conn) enter(ctx context.Context, group string, opts *JoinOptions) error {
	ch, err := c.ownChannel()
	if err != nil {
		return err
	}
	return c.take(ctx, ch, group, false, opts)
}

// take makes the connection a member of a group. Where a durable group stands it
// asks before the first message is held back, or else before anybody can count on
// the join: so none that is held back later counts as one that the client has. If
// the group has moved on by then, what came between is read from the store.
func (c *Conn) take(ctx context.Context, ch *layer.Channel, group string, guest bool, opts *JoinOptions) error {
	from, known := c.setup.Layer.Seen(group)
	number, err := c.book(group, guest, opts)
	if err != nil {
		return err
	}
	err = ch.Join(ctx, group)
	since, _ := c.setup.Layer.Seen(group)
	if !known {
		from = since
	}
	return c.afterEnd(c.took(ctx, ch, group, number, from, since, err))
}

// took ends a join of the layer: what the connection gets begins behind from, and
// what comes by itself behind since; either is the zero Position where that is not
// known. Or err is why it is no member.
func (c *Conn) took(ctx context.Context, ch *layer.Channel, group string, number uint32, from, since layer.Position, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.placeOf(group)
	switch {
	case p == nil && err == nil:
		// It was discarded meanwhile, and the layer may have let it in since. With
		// mu, so that nobody who books it anew is thrown out.
		return ch.Leave(ctx, group)
	case p == nil, p.number != number: // joined anew, which is another's business
	case err == nil:
		p.joining--
		p.in = true
		c.joined(group, from, since)
	default:
		if p.joining--; p.joining == 0 && !p.in {
			c.vacate(group)
		}
	}
	return err
}

// exit takes the connection out of a group. A client that knows it was in is told.
// Mu is held over it, or a join that ends meanwhile would not know which of the two
// was last; nothing in it waits for the network.
func (c *Conn) exit(ctx context.Context, ch *layer.Channel, group string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ch.Leave(ctx, group); err != nil {
		return err
	}
	p := c.placeOf(group)
	if p == nil {
		return nil
	}
	known := p.in
	if c.flow != nil && c.flow.joins[group] != nil && c.flow.joins[group].untold {
		known = false
	}
	c.vacate(group)
	if known {
		c.announce(leftFrame(group))
	}
	return nil
}

// unjoined tells a client that came back which of its groups the connection is not
// in, when both have come: its cursors, and the end of Connect. It may be joined yet,
// as any connection may, and goes on from its cursor then. Mu is held.
func (c *Conn) unjoined() {
	f := c.flow
	if !f.speaks() || !f.known || !f.decided {
		return
	}
	for _, group := range slices.Sorted(maps.Keys(f.cursors)) {
		if !c.isIn(group) {
			c.announce(leftFrame(group))
		}
	}
}

// decided notes that the consumer has joined what it joins by itself: its Connect
// has returned, or its Func receives. Mu is held.
func (c *Conn) decided() {
	if c.flow != nil && !c.flow.decided {
		c.flow.decided = true
		c.unjoined()
	}
}

var _ layer.MemberTap = (*tap)(nil)

// Join has the connection be added to a group by another than its consumer, which
// its client learns as if it had been the consumer.
func (t *tap) Join(ctx context.Context, group string) error {
	return (*Conn)(t).byOthers(func(ch *layer.Channel) error { return (*Conn)(t).take(ctx, ch, group, true, nil) })
}

// Leave has the connection be taken out of a group by another than its consumer.
func (t *tap) Leave(group string) error {
	return (*Conn)(t).byOthers(func(ch *layer.Channel) error { return (*Conn)(t).exit(context.Background(), ch, group) })
}

// byOthers changes a membership for whoever knows the connection's channel, and
// nothing else of it.
func (c *Conn) byOthers(change func(*layer.Channel) error) error {
	ch, err := c.ownChannel()
	if err == nil {
		err = change(ch)
	}
	if errors.Is(err, ErrNotOpen) {
		return layer.ErrNoChannel
	}
	return err
}
