package layer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Send sends p to a channel.
//
// A channel with "!" in its name belongs to one process: delivery is at most
// once, the error is [ErrChannelFull] when the owner says so and [ErrNoChannel]
// when it is known to be gone. A shared channel keeps the message until it is
// read or expires; ErrChannelFull means that it holds too many already, and
// that nothing was dropped. To a durable queue it is [Layer.Enqueue] without
// options. Other errors: *[NameError], *[MessageError],
// [ErrTooLarge], [ErrUnavailable], [ErrClosed].
func (l *Layer) Send(ctx context.Context, channel string, p Payload) error {
	if err := CheckChannel(channel); err != nil {
		return err
	}
	pkt, err := l.pack(p, nil)
	if err != nil {
		return err
	}
	defer pkt.free()
	process, owned := owner(channel)
	switch {
	case !owned:
		return l.push(ctx, channel, pkt)
	case process == l.process:
		err = l.sendHome(channel, pkt)
	default:
		err = l.link.SendTo(ctx, channel, pkt)
	}
	if err != nil {
		return fmt.Errorf("layer: send to channel %s: %w", channel, err)
	}
	l.stats.sent.Add(1)
	return nil
}

// push sends to a shared channel or a durable queue.
func (l *Layer) push(ctx context.Context, channel string, pkt *Packet) error {
	if policy := l.queuePolicy(channel); policy != nil {
		_, err := l.enqueue(ctx, policy, channel, pkt, Placing{})
		return err
	}
	if err := l.link.Push(ctx, channel, pkt, l.limitsOf(channel)); err != nil {
		return fmt.Errorf("layer: send to channel %s: %w", channel, err)
	}
	l.stats.sent.Add(1)
	return nil
}

// passOn pushes a group's message to a shared channel or queue that is a member.
func (l *Layer) passOn(ctx context.Context, channel string, pkt *Packet) error {
	policy := l.queuePolicy(channel)
	if policy == nil {
		return l.link.Push(ctx, channel, pkt, l.limitsOf(channel))
	}
	if strings.HasPrefix(pkt.Header.ID, ownKey) {
		pkt.Header.ID = "" // it was for the group
	}
	_, err := l.enqueue(ctx, policy, channel, pkt, Placing{})
	return err
}

// sendHome sends to a channel of this process. The bytes may be a [Message]'s,
// which stay the sender's.
func (l *Layer) sendHome(channel string, p *Packet) error {
	if errors.Is(l.Err(), ErrClosed) {
		return ErrClosed
	}
	return l.deliverTo(channel, Packet{Data: bytes.Clone(p.Data), Header: p.Header})
}

// GroupSend sends p to every member of a group, in any process; a group that
// nobody joined is no error. nil says that the network took the message:
// delivery is at most once, in order for each group and sender. A member whose
// channel is full misses the message, which is counted and logged there. To a
// durable group it is [Layer.Publish] without options: nil says that the message
// is stored. Errors: *[NameError], *[MessageError], [ErrTooLarge],
// [ErrUnavailable], [ErrClosed]; for a durable group also [ErrUnknown], ctx's.
func (l *Layer) GroupSend(ctx context.Context, group string, p Payload) error {
	_, err := l.Publish(ctx, group, p, nil)
	return err
}

// packets are used again: no Link keeps one when its call has returned.
var packets = sync.Pool{New: func() any { return new(Packet) }}

func (p *Packet) free() {
	*p = Packet{}
	packets.Put(p)
}

// pack makes p fit for the wire.
func (l *Layer) pack(p Payload, opts *PublishOptions) (*Packet, error) {
	data, err := Encode(p)
	if err != nil {
		return nil, err
	}
	if err := l.checkOwn(p.MessageType()); err != nil {
		return nil, err
	}
	pkt := packets.Get().(*Packet)
	*pkt = Packet{Data: data}
	switch m := p.(type) {
	case Message:
		pkt.Header = m.Header
	case *Message:
		pkt.Header = m.Header
	}
	if opts != nil {
		pkt.Header.ID = cmp.Or(opts.ID, pkt.Header.ID)
		pkt.Header.Sender = cmp.Or(opts.Sender, pkt.Header.Sender)
	}
	if err := pkt.Header.check(); err != nil {
		return nil, err
	}
	if n := len(data) + pkt.Header.size(); n > l.opts.MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes with its headers; %d is the most", ErrTooLarge, n, l.opts.MaxMessage)
	}
	return pkt, nil
}
