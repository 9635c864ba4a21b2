package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// Headers that the server writes on what it has stored.
const (
	streamHeader   = "Nats-Stream"
	sequenceHeader = "Nats-Sequence"
	previousHeader = "Nats-Last-Sequence"
	pendingHeader  = "Nats-Num-Pending"
	statusHeader   = "Status"
)

// history returns what keeps a group's messages, or nil.
func (l *link) history(group string) *history {
	for _, h := range l.histories {
		if h.policy.Covers(group) {
			return h
		}
	}
	return nil
}

// subject returns where a group's messages come from.
func (l *link) subject(group string) (string, *history) {
	if h := l.history(group); h != nil {
		return l.bus.subjects.log(group), h
	}
	return l.bus.subjects.newGroup(group), nil
}

// Store publishes p and returns when the stream has acknowledged it. On the wire
// an idempotency key begins with the group, since the stream compares the keys of
// all its groups; one that a layer made is nobody else's as it is.
func (l *link) Store(ctx context.Context, group string, p *layer.Packet, after *layer.Stamp) (layer.Stamp, bool, error) {
	if err := l.ready(ctx, storing); err != nil {
		return layer.Stamp{}, false, err
	}
	h := l.history(group)
	if h == nil {
		return layer.Stamp{}, false, l.fail(storing, layer.ErrNotDurable)
	}
	data, err := l.bus.encode(p.Data)
	if err != nil {
		return layer.Stamp{}, false, l.fail(storing, err)
	}
	header := p.Header
	if header.ID != "" && !strings.HasPrefix(header.ID, ownKey) {
		header.ID = group + keySeparator + header.ID
	}
	d := newDraft(l.bus.subjects.group(group), data, &header)
	defer d.free()
	if after != nil {
		return l.storeAfter(ctx, h, d, header.ID, after)
	}
	epoch := h.epoch.Load()
	ack, err := l.publishStored(ctx, &d.msg, h.stream)
	if err != nil {
		return layer.Stamp{}, false, l.notStored(ctx, h, err)
	}
	return layer.Stamp{Epoch: epoch, Sequence: ack.Sequence}, ack.Duplicate, nil
}

// storing is what Store does, in its errors; the layer names the group.
const storing = "publish to a durable group"

// keySeparator is in no group's name.
const keySeparator = "/"

// notStored says what an error of a publish means: not stored, or not known.
func (l *link) notStored(ctx context.Context, h *history, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, layer.ErrConflict), errors.Is(err, errOtherStream):
		return l.fail(storing, err)
	case errors.As(err, &api) && (api.Code == 503 || api.ErrorCode == codeWrongLastPending):
		return l.fail(storing, fmt.Errorf("%w: %w", layer.ErrUnavailable, err))
	case api != nil && api.ErrorCode == codeIDPending:
	case api != nil, isLinkError(err), errors.Is(err, nats.ErrMaxPayload):
		return l.fail(storing, err)
	case isStreamGone(err):
		if _, lost := l.bus.openHistory(ctx, h.policy, l.bus.replicas()); lost != nil && !l.bus.mayComeUp(lost) {
			return l.fail(storing, lost)
		}
		return l.fail(storing, fmt.Errorf("%w: %w", layer.ErrUnavailable, err))
	}
	return fmt.Errorf("natsbus: %s: %w (%w)", storing, layer.ErrUnknown, because(ctx, err))
}

// Last asks the stream's leader. It learns of a new epoch, too.
func (l *link) Last(ctx context.Context, group string) (layer.Stamp, error) {
	what := "position of group " + group
	h, ctx, end, err := l.ask(ctx, what, group)
	if err != nil {
		return layer.Stamp{}, err
	}
	defer end()
	if err := l.bus.learnEpoch(ctx, h); err != nil {
		return layer.Stamp{}, l.unread(ctx, what, err)
	}
	s := layer.Stamp{Epoch: h.epoch.Load()}
	m, err := l.bus.leaderGet(ctx, h.stream, msgGet{LastFor: l.bus.subjects.group(group)})
	if err != nil {
		return layer.Stamp{}, l.unread(ctx, what, err)
	}
	if m != nil {
		s.Sequence = m.Seq
	}
	return s, nil
}

// ask begins a call that reads.
func (l *link) ask(ctx context.Context, what, group string) (*history, context.Context, func(), error) {
	if err := l.ready(ctx, what); err != nil {
		return nil, nil, nil, err
	}
	h := l.history(group)
	if h == nil {
		return nil, nil, nil, l.fail(what, layer.ErrNotDurable)
	}
	ctx, end := l.calls.begin(ctx, roundTrip)
	return h, ctx, end, nil
}

// unread makes an error of a call that reads.
func (l *link) unread(ctx context.Context, what string, err error) error {
	err = because(ctx, err)
	if errors.Is(err, errNoAnswer) || isStreamGone(err) || errors.Is(err, nats.ErrTimeout) {
		err = fmt.Errorf("%w: the stream does not answer (%w)", layer.ErrUnavailable, err)
	}
	return l.fail(what, err)
}

// Read reads from any server that has the stream, and asks the leader whether
// the first message is still there: then none behind it was removed meanwhile,
// since the oldest go first. Of one message alone that need not be known.
func (l *link) Read(ctx context.Context, group string, after uint64, limit int) (layer.Page, error) {
	what := "history of group " + group
	h, ctx, end, err := l.ask(ctx, what, group)
	if err != nil {
		return layer.Page{}, err
	}
	defer end()
	page := layer.Page{Epoch: h.epoch.Load()}
	begin, most := max(after, 1), limit
	if after > 0 {
		most++ // the anchor
	}
	subject := l.bus.subjects.group(group)
	msgs, left, err := l.bus.readBatch(ctx, h.stream, subject, begin, most)
	if err != nil {
		return page, l.unread(ctx, what, err)
	}
	first, anchor := uint64(0), after
	if len(msgs) > 0 {
		first = number(msgs[0], sequenceHeader)
	}
	if first > after {
		anchor = first // there is none at after, or it was trimmed
	}
	there := anchor == 0 || anchor != after && limit == 1
	if !there {
		m, err := l.bus.leaderGet(ctx, h.stream, msgGet{Seq: anchor})
		if err != nil {
			return page, l.unread(ctx, what, err)
		}
		there = m != nil && m.Subject == subject
	}
	page.Anchored = after > 0 && anchor == after && there
	if !there || first != anchor {
		return page, nil // trimmed, or the server that answered lags behind
	}
	if page.Anchored {
		msgs = msgs[1:]
	}
	page.Left = left + max(len(msgs)-limit, 0)
	for _, m := range msgs[:min(limit, len(msgs))] {
		page.Messages = append(page.Messages, h.inbound(layer.Subscription{Group: group}, m))
	}
	return page, nil
}

// inbound makes what the layer takes of a stored message. Data that are no
// message are left as they are, for the layer to find out.
func (h *history) inbound(s layer.Subscription, m *nats.Msg) layer.Inbound {
	in := layer.Inbound{Subscription: s, Packet: layer.Packet{Data: m.Data}}
	if data, err := toJSON(m.Data); err == nil {
		in.Packet.Data = data
	}
	h.stamp(&in, m)
	in.Stamp.Previous = 0
	return in
}

// stamp reads the headers of a stored message, its own and the server's. It
// reports false when the server has not written any.
func (h *history) stamp(in *layer.Inbound, m *nats.Msg) bool {
	in.Packet.Header, _ = readHeader(m.Header)
	group := in.Subscription.Group
	if id := in.Packet.Header.ID; len(id) > len(group) && strings.HasPrefix(id, group) && strings.HasPrefix(id[len(group):], keySeparator) {
		in.Packet.Header.ID = id[len(group)+len(keySeparator):]
	}
	in.Stamp = layer.Stamp{Epoch: h.epoch.Load(), Sequence: number(m, sequenceHeader), Previous: number(m, previousHeader)}
	return in.Stamp.Sequence > 0
}

// number returns a header's value, 0 without one.
func number(m *nats.Msg, header string) uint64 {
	values := m.Header[header]
	if len(values) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(values[0], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// batchGet asks for the next messages of a subject, from a sequence on.
type batchGet struct {
	Seq      uint64 `json:"seq"`
	NextFor  string `json:"next_by_subj"`
	Batch    int    `json:"batch"`
	MaxBytes int    `json:"max_bytes"`
}

// readBatch returns up to n messages, and how many follow. The server reads a
// batch as a whole, apart from writes.
func (b *Bus) readBatch(ctx context.Context, stream, subject string, first uint64, n int) (msgs []*nats.Msg, left int, err error) {
	request, err := json.Marshal(batchGet{first, subject, n, max(readBytes, 2*int(b.conn.MaxPayload()))})
	if err != nil {
		return nil, 0, err
	}
	in := make(chan *nats.Msg, n+1)
	s, err := b.conn.ChanSubscribe(b.conn.NewInbox(), in)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = s.Unsubscribe() }() // fails when the connection is down, which ends it too
	if err := b.conn.PublishRequest("$JS.API.DIRECT.GET."+stream, s.Subject, request); err != nil {
		return nil, 0, err
	}
	for {
		select {
		case m := <-in:
			switch status := m.Header.Get(statusHeader); status {
			case "":
				msgs = append(msgs, m)
			case "204":
				return msgs, int(number(m, pendingHeader)), nil
			case "404":
				return msgs, 0, nil
			case "503":
				return nil, 0, nats.ErrNoResponders
			default:
				return nil, 0, fmt.Errorf("stream %s: %s %s", stream, status, m.Header.Get("Description"))
			}
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

// readBytes bounds what one batch puts on the wire.
const readBytes = 4 << 20
