package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// lease is a layer.Lease. The server takes an acknowledgement from whoever sends
// it, so it is the lease that knows when it is over, by this process's clock, a
// little before the server does.
type lease struct {
	link     *link
	taker    *taker
	msg      *nats.Msg
	place    place
	released int          // attempts that do not count
	until    atomic.Int64 // when the lease is over, as nanoseconds since zero
	zero     time.Time
}

var _ layer.Lease = (*lease)(nil)

// margin is the part of a lease that is given up, for what the message took to
// arrive and what the word about it takes.
const margin = 10

// lease makes what Take returns of a message that arrived.
func (l *link) lease(ctx context.Context, t *taker, got taken) (*layer.Taken, error) {
	what := "take from queue " + t.queue
	if got.err != nil {
		return nil, l.fail(what, got.err)
	}
	m := got.msg
	place, ok := placeOf(m)
	if !ok {
		return nil, l.fail(what, fmt.Errorf("the server's reply subject %q is not of the form that is known", m.Reply))
	}
	s := &lease{link: l, taker: t, msg: m, place: place, zero: got.at}
	s.renew(got.at)
	if place.delivered > 1 {
		s.released = l.bus.releasedOf(ctx, t.tokens, place)
	}
	out := &layer.Taken{Attempt: place.delivered - s.released, Stored: place.stored, Lease: s}
	switch m.Subject {
	case t.subjects[levelHigh]:
		out.Priority = layer.High
	case t.subjects[levelLow]:
		out.Priority = layer.Low
	}
	out.Packet.Data = m.Data
	if data, err := toJSON(m.Data); err == nil {
		out.Packet.Data = data
	}
	out.Packet.Header = queuedHeader(m, t.queue)
	return out, nil
}

// queuedHeader reads a message's headers, with the idempotency key that its
// sender gave.
func queuedHeader(m *nats.Msg, queue string) layer.Header {
	if len(m.Header) == 0 {
		return layer.Header{}
	}
	h, _ := readHeader(m.Header)
	h.ID = strings.TrimPrefix(h.ID, queue+keySeparator)
	if key := m.Header.Get(keyHeader); key != "" && len(key) <= maxHeaderValue {
		h.ID = key
	}
	if strings.HasPrefix(h.ID, ownKey) {
		h.ID = ""
	}
	return h
}

// renew says that the lease begins anew at a time.
func (s *lease) renew(from time.Time) {
	wait := s.taker.work.policy.AckWait
	s.until.Store(int64(from.Add(wait - wait/margin).Sub(s.zero)))
}

func (s *lease) stale() bool { return int64(time.Since(s.zero)) >= s.until.Load() }

// word sends one to the server, which does not answer.
func (s *lease) word(what string, body []byte) error {
	l := s.link
	switch {
	case l.closed.Load():
		return fmt.Errorf("natsbus: %s: %w", what, layer.ErrClosed)
	case s.stale():
		return layer.ErrStale
	case !l.bus.conn.IsConnected():
		return l.fail(what, nats.ErrDisconnected)
	}
	return l.fail(what, l.bus.conn.Publish(s.msg.Reply, body))
}

// Done implements layer.Lease.
func (s *lease) Done(context.Context) error { return s.word("acknowledge", ackBody) }

// Return implements layer.Lease.
func (s *lease) Return(_ context.Context, pause time.Duration) error {
	return s.word("give a message back", fmt.Appendf(nil, `-NAK {"delay":%d}`, int64(pause)))
}

// Extend implements layer.Lease. The server answers, so that nobody takes a
// lease for renewed that is not.
func (s *lease) Extend(ctx context.Context) error {
	const what = "extend a lease"
	if s.stale() {
		return layer.ErrStale
	}
	sent := time.Now()
	if err := s.confirmed(ctx, what, "+WPI"); err != nil {
		return err
	}
	if s.stale() {
		return layer.ErrStale
	}
	s.renew(sent)
	return nil
}

// confirmed sends a word that the server answers.
func (s *lease) confirmed(ctx context.Context, what, body string) error {
	l := s.link
	if err := l.ready(ctx, what); err != nil {
		return err
	}
	ctx, end := l.calls.begin(ctx, min(roundTrip, s.taker.work.policy.AckWait/3))
	defer end()
	_, err := l.bus.conn.RequestWithContext(ctx, s.msg.Reply, []byte(body))
	return l.unread(ctx, what, err)
}

// Release implements layer.Lease. What is lost between its two steps costs
// nothing: the message comes again when its lease is over.
func (s *lease) Release(ctx context.Context) error {
	const what = "release a message"
	if s.stale() {
		return layer.ErrStale
	}
	l := s.link
	if err := l.ready(ctx, what); err != nil {
		return err
	}
	ctx, end := l.calls.begin(ctx, roundTrip)
	defer end()
	if err := l.bus.noteReleased(ctx, s.taker.tokens, s.place, s.released+1); err != nil {
		return l.unread(ctx, what, err)
	}
	return s.word(what, nakBody)
}

// noteReleased stores how many attempts of a message do not count.
func (b *Bus) noteReleased(ctx context.Context, tokens string, p place, n int) error {
	m := nats.NewMsg(b.subjects.released(tokens, p.stream, p.sequence))
	m.Data = strconv.AppendInt(nil, int64(n), 10)
	m.Header.Set("Nats-Rollup", "sub")
	m.Header.Set("Nats-TTL", releasedKept.String())
	_, err := b.store.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	return err
}

// releasedOf reads it; when nobody knows, all count.
func (b *Bus) releasedOf(ctx context.Context, tokens string, p place) int {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), roundTrip/2)
	defer cancel()
	m, err := b.leaderGet(ctx, b.subjects.laterStream(), msgGet{LastFor: b.subjects.released(tokens, p.stream, p.sequence)})
	if err != nil || m == nil {
		return 0
	}
	n, err := strconv.Atoi(string(m.Data))
	if err != nil || n < 0 || n >= p.delivered {
		return 0
	}
	return n
}

// giveBack releases a message that came for nobody.
func (l *link) giveBack(t *taker, m *nats.Msg) {
	place, ok := placeOf(m)
	if !ok {
		return
	}
	l.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), roundTrip)
		defer cancel()
		released := 0
		if place.delivered > 1 {
			released = l.bus.releasedOf(ctx, t.tokens, place)
		}
		_ = l.bus.noteReleased(ctx, t.tokens, place, released+1) // else the attempt counts
		l.settleMsg(m, nakBody)
	})
}

// Bury implements layer.Lease. The dead letter has a key of the message, and so
// is stored once if the message comes again because the last word was lost.
func (s *lease) Bury(ctx context.Context, reason string, attempts int) error {
	const what = "bury a message"
	if s.stale() {
		return layer.ErrStale
	}
	l := s.link
	if err := l.ready(ctx, what); err != nil {
		return err
	}
	ctx, end := l.calls.begin(ctx, roundTrip)
	defer end()
	_, err := l.bus.store.js.PublishMsg(ctx, s.letter(reason, attempts), jetstream.WithRetryAttempts(0))
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode == codeStoreFailed:
		return l.fail(what, fmt.Errorf("%w: the queue has too many dead letters: replay or drop them (%w)", layer.ErrChannelFull, err))
	case err != nil:
		return l.notQueued(ctx, what, s.taker.work, err)
	}
	return s.confirmed(ctx, what, string(ackBody))
}
