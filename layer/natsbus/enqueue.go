package natsbus

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// Headers of messages that come later.
const (
	scheduleHeader = "Nats-Schedule"
	targetHeader   = "Nats-Schedule-Target"
	zoneHeader     = "Nats-Schedule-Time-Zone"
	keyHeader      = "Tideway-Id" // the idempotency key, where Nats-Msg-Id would be taken for another
)

// ownKey begins the keys that a layer makes by itself.
const ownKey = "~"

// work returns the stream of a queue.
func (l *link) work(queue string) (*workStream, error) {
	for _, w := range l.works {
		if w.policy.Covers(queue) {
			return w, nil
		}
	}
	return nil, layer.ErrNotQueue
}

// Enqueue implements layer.Link. On the wire the idempotency key begins with the
// queue, since the stream compares the keys of all its queues.
func (l *link) Enqueue(ctx context.Context, queue string, p *layer.Packet, how layer.Placing) (duplicate bool, err error) {
	what := "send to queue " + queue
	if err := l.ready(ctx, what); err != nil {
		return false, err
	}
	w, err := l.work(queue)
	if err != nil {
		return false, l.fail(what, err)
	}
	b, tokens := l.bus, toTokens(queue)
	if how.Cancel {
		ctx, end := l.calls.begin(ctx, roundTrip)
		defer end()
		n, err := b.purge(ctx, b.subjects.laterStream(), b.subjects.later(tokens, laterKey(p.Header.ID)))
		return n > 0, l.unread(ctx, what, err)
	}
	data, err := b.encode(p.Data)
	if err != nil {
		return false, l.fail(what, err)
	}
	header := p.Header
	if how.Every != "" || !how.At.IsZero() {
		return l.enqueueLater(ctx, what, w, tokens, newMsg("", data, &header), how)
	}
	keyless := w.alone && strings.HasPrefix(header.ID, ownKey)
	switch {
	case keyless:
		header.ID = ""
	case header.ID != "":
		header.ID = queue + keySeparator + header.ID
	}
	subject := b.subjects.queue(tokens)
	switch how.Priority {
	case layer.High:
		subject = b.subjects.urgent(tokens)
	case layer.Low:
		subject = b.subjects.idle(tokens)
	}
	d := newDraft(subject, data, &header)
	ack, err := l.publishStored(ctx, &d.msg, w.stream)
	d.free()
	if err != nil {
		err = l.notQueued(ctx, what, w, err)
		if keyless && errors.Is(err, layer.ErrUnknown) {
			err = fmt.Errorf("%w: %w", err, layer.ErrNoID)
		}
		return false, err
	}
	return ack.Duplicate && !strings.HasPrefix(p.Header.ID, ownKey), nil
}

// laterKey makes a subject's token of an idempotency key.
func laterKey(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16])
}

// enqueueLater stores a message for the server to publish when it is due.
func (l *link) enqueueLater(ctx context.Context, what string, w *workStream, tokens string, m *nats.Msg, how layer.Placing) (duplicate bool, err error) {
	ctx, end := l.calls.begin(ctx, roundTrip)
	defer end()
	b := l.bus
	b.works.mu.Lock()
	lack := b.works.lack
	b.works.mu.Unlock()
	if lack != nil {
		return false, l.fail(what, lack)
	}
	if err := b.roomLater(ctx, tokens, w.policy.Capacity); err != nil {
		return false, l.unread(ctx, what, err)
	}
	id := m.Header.Get(idHeader)
	m.Subject = b.subjects.later(tokens, laterKey(id))
	m.Header.Del(idHeader)
	own := strings.HasPrefix(id, ownKey)
	if own {
		m.Header.Set(idHeader, id) // it cannot be used twice on purpose
	} else {
		m.Header.Set(keyHeader, id)
	}
	m.Header.Set(targetHeader, b.subjects.due(tokens))
	options := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	if how.Every != "" {
		m.Header.Set(scheduleHeader, how.Every)
		if how.Zone != nil {
			m.Header.Set(zoneHeader, how.Zone.String())
		}
	} else {
		m.Header.Set(scheduleHeader, "@at "+how.At.UTC().Format(time.RFC3339Nano))
		options = append(options, jetstream.WithExpectLastSequencePerSubject(0))
	}
	ack, err := b.store.js.PublishMsg(ctx, m, options...)
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && (api.ErrorCode == codeWrongLast || api.ErrorCode == codeWrongLastPending):
		return !own, nil
	case err != nil:
		return false, l.notQueued(ctx, what, w, err)
	}
	return ack.Duplicate && !own, nil
}

// roomLater returns ErrChannelFull when too many messages of a queue wait for
// their time. Several senders at once may put in a few more.
func (b *Bus) roomLater(ctx context.Context, tokens string, capacity int) error {
	msgs, left, err := b.readBatch(ctx, b.subjects.laterStream(), b.subjects.prefix+".qat."+tokens+".*", 1, 1)
	if err == nil && len(msgs)+left >= capacity {
		return fmt.Errorf("%w: %d messages wait for their time", layer.ErrChannelFull, len(msgs)+left)
	}
	return err
}

// purge removes the messages of a subject and returns how many there were.
func (b *Bus) purge(ctx context.Context, stream, subject string) (uint64, error) {
	var answer struct {
		Error  *jetstream.APIError `json:"error"`
		Purged uint64              `json:"purged"`
	}
	err := b.ask(ctx, "STREAM.PURGE."+stream, map[string]string{"filter": subject}, &answer)
	if err == nil && answer.Error != nil {
		err = answer.Error
	}
	return answer.Purged, err
}

// notQueued says what an error of a publish means: not stored, or not known.
func (l *link) notQueued(ctx context.Context, what string, w *workStream, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode == codeStoreFailed:
		return l.fail(what, fmt.Errorf("%w: %s", layer.ErrChannelFull, api.Description))
	case api != nil && api.Code == 503:
		return l.fail(what, fmt.Errorf("%w: %w", layer.ErrUnavailable, err))
	case api != nil, isLinkError(err), errors.Is(err, nats.ErrMaxPayload):
		return l.fail(what, err)
	case isStreamGone(err):
		if lost := l.bus.reopenWork(ctx, w); lost != nil && !l.bus.mayComeUp(lost) {
			return l.fail(what, lost)
		}
		return l.fail(what, fmt.Errorf("%w: %w", layer.ErrUnavailable, err))
	}
	return fmt.Errorf("natsbus: %s: %w (%w)", what, layer.ErrUnknown, because(ctx, err))
}
