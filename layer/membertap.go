package layer

import (
	"context"
	"fmt"
)

// MemberTap is a [Tap] that has a say when somebody puts its channel into a group
// or takes it out, as [Layer.GroupAdd] and [Layer.GroupDiscard] do in any process.
// The layer calls it instead, on the caller's goroutine or on that of a command,
// and holds no lock meanwhile; calls may overlap. It carries the change out by
// [Channel.Join] or [Channel.Leave], before or after which it does what its owner
// has to know.
type MemberTap interface {
	Tap

	// Join makes the channel a member, or says why not. It keeps the promise of
	// GroupAdd when it returns nil.
	Join(ctx context.Context, group string) error

	// Leave takes the channel out; where it is no member that is no error.
	Leave(group string) error
}

// Join is [Layer.GroupAdd] of the channel by its owner: its [MemberTap] is not
// asked.
func (c *Channel) Join(ctx context.Context, group string) error {
	if c.shared {
		return c.layer.GroupAdd(ctx, group, c.name)
	}
	err := CheckGroup(group)
	if err == nil {
		err = c.layer.join(ctx, Subscription{Group: group}, c)
	}
	return c.membershipError("add", group, err)
}

// Leave is [Layer.GroupDiscard] of the channel by its owner: its [MemberTap] is not
// asked. It does not wait for the network, unless the channel is shared.
func (c *Channel) Leave(ctx context.Context, group string) error {
	if c.shared {
		return c.layer.GroupDiscard(ctx, group, c.name)
	}
	err := CheckGroup(group)
	if err == nil {
		err = c.layer.part(group, c)
	}
	return c.membershipError("discard", group, err)
}

func (c *Channel) membershipError(verb, group string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("layer: group %s, %s %s: %w", group, verb, c.name, err)
}

// part takes c, a channel of this process, out of a group.
func (l *Layer) part(group string, c *Channel) error {
	l.mu.RLock()
	closed := l.closed
	l.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	l.leave(Subscription{Group: group}, c)
	return nil
}

// local adds or discards a channel of this process.
func (l *Layer) local(ctx context.Context, verb, group, channel string) error {
	l.mu.RLock()
	c, closed := l.channels[channel], l.closed
	l.mu.RUnlock()
	switch {
	case closed:
		return ErrClosed
	case c == nil && verb == "discard":
		return nil
	case c == nil:
		return ErrNoChannel
	}
	tap, asked := c.tap.(MemberTap)
	switch {
	case asked && verb == "discard":
		return tap.Leave(group)
	case asked:
		return tap.Join(ctx, group)
	case verb == "discard":
		return l.part(group, c)
	}
	return l.join(ctx, Subscription{Group: group}, c)
}
