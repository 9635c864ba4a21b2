package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/tideway-go/tideway/layer"
)

// defaultMaxGroups is how many groups a connection may be in.
const defaultMaxGroups = 128

var errNoLayer = errors.New("consumer: this connection has no channel layer; give the router one")

// Layer returns the channel layer of this connection.
func (c *Conn) Layer() *layer.Layer { return c.setup.Layer }

// ChannelName returns the name of the connection's own channel, to which any
// process may send and which may be added to any group. It is "" where there is
// no layer, and when the connection had none by its end. For a message of a queue
// it is the queue's name.
func (c *Conn) ChannelName() string {
	if b := c.bench(); b != nil {
		return b.work.Delivery.Queue
	}
	ch, err := c.ownChannel()
	if err != nil {
		return ""
	}
	return ch.Name()
}

// ownChannel opens the connection's channel, once.
func (c *Conn) ownChannel() (*layer.Channel, error) {
	if b := c.bench(); b != nil {
		return nil, b.noChannel()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.channel != nil:
		return c.channel, nil
	case c.over != nil:
		return nil, ErrNotOpen
	case c.setup.Layer == nil:
		return nil, errNoLayer
	}
	ch, err := c.setup.Layer.Tap(context.Background(), (*tap)(c))
	if err != nil {
		return nil, fmt.Errorf("consumer: the connection's channel: %w", err)
	}
	c.channel = ch
	if id := c.User().ID; id != "" {
		c.identify(id)
	}
	return ch, nil
}

// identify tells the layer who stands behind the connection's channel, for the
// presence in its groups. Mu is held.
func (c *Conn) identify(id string) {
	if err := c.channel.Identify(id); err != nil && !errors.Is(err, layer.ErrClosed) {
		c.Logger().Warn("consumer: the connection is present without a user", "err", err)
	}
}

// GroupDiscard takes the connection out of a group; one that it is not in is no
// error. A client that speaks tideway.v1 is told that it was in.
func (c *Conn) GroupDiscard(ctx context.Context, group string) error {
	ch, err := c.ownChannel()
	if err != nil {
		return err
	}
	return c.afterEnd(c.exit(ctx, ch, group))
}

// mostGroups is how many groups the connection may be in; negative is no limit.
func (c *Conn) mostGroups() int { return int(c.maxGroups) }

// afterEnd makes ErrNotOpen of what the layer says of a channel that was closed
// because the connection ended.
func (c *Conn) afterEnd(err error) error {
	if c.ended() != nil && (errors.Is(err, layer.ErrNoChannel) || errors.Is(err, layer.ErrClosed)) {
		return ErrNotOpen
	}
	return err
}

// InGroup reports whether the connection is a member of a group, or is about to be:
// whoever added it, this process or another.
func (c *Conn) InGroup(group string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isIn(group)
}

// GroupSend sends to a group, of which the connection need not be a member. See
// [layer.Layer.GroupSend].
func (c *Conn) GroupSend(ctx context.Context, group string, p layer.Payload) error {
	if c.setup.Layer == nil {
		return errNoLayer
	}
	return c.setup.Layer.GroupSend(ctx, group, p)
}

// GroupSendOthers is GroupSend to all members but this connection. A client that
// speaks tideway.v1 does not get it later, either, when it comes back over another
// connection.
func (c *Conn) GroupSendOthers(ctx context.Context, group string, p layer.Payload) error {
	if c.setup.Layer == nil {
		return errNoLayer
	}
	_, err := c.setup.Layer.Publish(ctx, group, p, &layer.PublishOptions{Sender: c.sender()})
	return err
}
