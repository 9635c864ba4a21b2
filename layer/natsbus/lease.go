package natsbus

import (
	"context"
	"errors"
	"fmt"
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
	link  *link
	taker *taker
	msg   *nats.Msg
	place place
	spent spent        // what became of the attempts before
	until atomic.Int64 // when the lease is over, as nanoseconds since zero
	zero  time.Time
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
		s.spent = l.bus.spentOf(ctx, t.tokens, place)
	}
	out := &layer.Taken{Attempt: place.delivered - s.spent.released, Lost: place.delivered - 1 - s.spent.released - s.spent.failed, Stored: place.stored, Lease: s}
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

// Return implements layer.Lease.
func (s *lease) Return(ctx context.Context, pause time.Duration) error {
	return s.back(ctx, spent{s.spent.released, s.spent.failed + 1}, pause)
}

// Release implements layer.Lease.
func (s *lease) Release(ctx context.Context, pause time.Duration) error {
	return s.back(ctx, spent{s.spent.released + 1, s.spent.failed}, pause)
}

// back gives the message back, with what became of its attempts. What is lost
// between the two steps costs nothing: the message comes again when its lease is
// over.
func (s *lease) back(ctx context.Context, now spent, pause time.Duration) error {
	const what = "give a message back"
	if s.stale() {
		return layer.ErrStale
	}
	l := s.link
	if err := l.ready(ctx, what); err != nil {
		return err
	}
	ctx, end := l.calls.begin(ctx, min(roundTrip, s.taker.work.policy.AckWait/2))
	defer end()
	if err := l.bus.noteSpent(ctx, s.taker.tokens, s.place, now); err != nil {
		return l.unread(ctx, what, err)
	}
	return s.word(what, nak(pause))
}

// nak is the word that gives a message back.
func nak(pause time.Duration) []byte {
	if pause <= 0 {
		return nakBody
	}
	return fmt.Appendf(nil, `-NAK {"delay":%d}`, int64(pause))
}

// spent is what became of a message's attempts. The server counts deliveries
// alone, so what else there is to know stands in a message beside it.
type spent struct{ released, failed int }

// noteSpent stores it.
func (b *Bus) noteSpent(ctx context.Context, tokens string, p place, now spent) error {
	m := nats.NewMsg(b.subjects.spent(tokens, p.stream, p.sequence))
	m.Data = fmt.Appendf(nil, "%d %d", now.released, now.failed)
	m.Header.Set("Nats-Rollup", "sub")
	m.Header.Set("Nats-TTL", spentKept.String())
	_, err := b.store.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	return err
}

// spentOf reads it; when nobody knows, all attempts were lost.
func (b *Bus) spentOf(ctx context.Context, tokens string, p place) (was spent) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), roundTrip/2)
	defer cancel()
	m, err := b.leaderGet(ctx, b.subjects.laterStream(), msgGet{LastFor: b.subjects.spent(tokens, p.stream, p.sequence)})
	if err != nil || m == nil {
		return spent{}
	}
	_, err = fmt.Sscanf(string(m.Data), "%d %d", &was.released, &was.failed)
	if err != nil || was.released < 0 || was.failed < 0 || was.released+was.failed >= p.delivered {
		return spent{}
	}
	return was
}

// giveBack releases a message that came for nobody, and returns when the server
// has it.
func (l *link) giveBack(t *taker, m *nats.Msg) {
	place, ok := placeOf(m)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), roundTrip)
	defer cancel()
	var now spent
	if place.delivered > 1 {
		now = l.bus.spentOf(ctx, t.tokens, place)
	}
	now.released++
	_ = l.bus.noteSpent(ctx, t.tokens, place, now) // else the attempt counts
	// If that fails, the server does as after a crash.
	_, _ = l.bus.conn.RequestWithContext(ctx, m.Reply, nakBody)
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
