package natsbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// JetStream error codes that nats.go has no name for.
const (
	codeStoreFailed      jetstream.ErrorCode = 10077 // a limit of the stream
	codeNoResources      jetstream.ErrorCode = 10023 // the server's memory for JetStream
	codeWrongLast        jetstream.ErrorCode = 10071 // the expected last sequence was wrong
	codeWrongLastPending jetstream.ErrorCode = 10164 // another publish to the subject is under way
	codeConsumerNotFound jetstream.ErrorCode = 10014
)

// Push stores p and returns when the server has acknowledged it. After a
// timeout nobody knows whether it is stored; a Header.ID makes it safe to push
// again.
func (l *link) Push(ctx context.Context, channel string, p *layer.Packet, limits layer.Limits) error {
	what := "send to shared channel " + channel
	if err := l.ready(ctx, what); err != nil {
		return err
	}
	data, err := l.bus.encode(p.Data)
	if err != nil {
		return l.fail(what, err)
	}
	m := newMsg(l.bus.subjects.channel(channel), data, &p.Header)
	return l.fail(what, l.store(ctx, m, limits))
}

// store stores m, in a new stream when the server has lost the old one. On a
// cluster, the servers do not all know of a new stream at once: a publish that
// nobody answers has stored nothing and is tried again.
func (l *link) store(ctx context.Context, m *nats.Msg, limits layer.Limits) error {
	deadline := time.Now().Add(openMost)
	for {
		st, err := l.openStream(ctx, limits)
		if err == nil {
			err = l.push(ctx, st, m, limits)
		}
		if !isStreamGone(err) {
			return err
		}
		l.bus.store.reset()
		if time.Now().After(deadline) || !sleep(ctx, openRetry/10) {
			return fmt.Errorf("%w: the stream does not answer (%w)", layer.ErrUnavailable, err)
		}
	}
}

// openStream is Bus.openStream for a caller.
func (l *link) openStream(ctx context.Context, limits layer.Limits) (*stream, error) {
	ctx, end := l.calls.begin(ctx, openMost)
	defer end()
	st, err := l.bus.openStream(ctx, limits)
	if err != nil && errors.Is(context.Cause(ctx), errNoAnswer) && !errors.Is(err, layer.ErrUnavailable) {
		return nil, fmt.Errorf("%w: JetStream does not answer within %v (%w)", layer.ErrUnavailable, openMost, err)
	}
	return st, err
}

// push stores m in st.
func (l *link) push(ctx context.Context, st *stream, m *nats.Msg, limits layer.Limits) error {
	ctx, end := l.calls.begin(ctx, roundTrip)
	defer end()
	b := l.bus
	for swept := false; ; {
		err := b.pushOnce(ctx, st, m, limits)
		var api *jetstream.APIError
		switch {
		case errors.Is(err, layer.ErrChannelFull):
			// Expired messages stay for up to a quarter of a second. Without any it
			// is tried again, too: the server may have removed them just now.
			if swept {
				return err
			}
			b.sweep(ctx, st, m.Subject)
			swept = true
		case errors.As(err, &api) && (api.ErrorCode == codeWrongLast || api.ErrorCode == codeWrongLastPending):
			if !sleep(ctx, time.Duration(1+rand.IntN(1000))*time.Microsecond) {
				return context.Cause(ctx)
			}
		default:
			return because(ctx, err)
		}
	}
}

// pushOnce stores m unless the channel is full. The stream has one limit for
// all channels; a lower one is checked here, and holds exactly among senders
// that check it: the message is stored only if the channel's last one is still
// the one that was there before its messages were counted.
func (b *Bus) pushOnce(ctx context.Context, st *stream, m *nats.Msg, limits layer.Limits) error {
	options := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0), jetstream.WithExpectStream(b.subjects.stream())}
	if limits.Stated && limits.Capacity < st.perChannel {
		last, err := st.last(ctx, m.Subject)
		if err != nil {
			return err
		}
		n, err := st.count(ctx, m.Subject)
		if err != nil {
			return err
		}
		if n >= limits.Capacity {
			return layer.ErrChannelFull
		}
		options = append(options, jetstream.WithExpectLastSequencePerSubject(last))
	}
	_, err := b.store.js.PublishMsg(ctx, m, options...)
	var api *jetstream.APIError
	switch {
	case !errors.As(err, &api):
		return err
	case api.ErrorCode == codeStoreFailed:
		return fmt.Errorf("%w: %s", layer.ErrChannelFull, api.Description)
	case api.ErrorCode == codeNoResources:
		return fmt.Errorf("%w: the server's memory for JetStream is used up (%w)", layer.ErrUnavailable, err)
	}
	return err
}

// last returns the sequence of the channel's last message, 0 without one.
func (s *stream) last(ctx context.Context, subject string) (uint64, error) {
	m, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return m.Sequence, nil
}

// count returns how many messages the channel holds.
func (s *stream) count(ctx context.Context, subject string) (int, error) {
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, err
	}
	return int(info.State.Subjects[subject]), nil
}

// sweep removes the channel's expired messages.
func (b *Bus) sweep(ctx context.Context, st *stream, subject string) {
	for {
		m, err := st.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subject))
		if err != nil || !st.isExpired(m.Time) {
			return
		}
		if err := st.DeleteMsg(ctx, m.Sequence); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return
		}
	}
}

// isExpired reports whether a message that was stored at that time, by the
// server's clock, is too old.
func (s *stream) isExpired(stored time.Time) bool {
	return s.expiry > 0 && time.Now().Add(s.ahead).Sub(stored) > s.expiry
}

// isStreamGone reports whether err says that there is no such stream.
func isStreamGone(err error) bool {
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) ||
		errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, errNoJetStream)
}
