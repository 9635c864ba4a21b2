package natsbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// store is the JetStream stream that holds the shared channels: a work queue in
// memory, on one server, which refuses a channel's message when it holds as
// many as it may. It is created at the first use.
type store struct {
	js      jetstream.JetStream
	opening chan struct{} // holds one token: who has it may open the stream

	mu     sync.Mutex // guards stream
	stream *stream    // nil: not open, or to be opened again
}

// stream is the open stream.
type stream struct {
	jetstream.Stream
	perChannel int           // how many messages a channel holds
	expiry     time.Duration // how long
	ahead      time.Duration // the server's clock, less ours
}

const (
	maxConsumers      = 100_000
	openRetry         = 200 * time.Millisecond
	openMost          = 15 * time.Second       // a cluster may be electing who answers
	shortestExpiry    = 100 * time.Millisecond // of a stream's messages, says nats-server
	longestDuplicates = 2 * time.Minute
)

func (s *store) init() { s.opening = make(chan struct{}, 1) }

func (s *store) connect(nc *nats.Conn) (err error) {
	s.js, err = jetstream.New(nc)
	return err
}

// reset makes the next use look at the stream again.
func (s *store) reset() { s.put(nil) }

func (s *store) put(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = st
}

func (s *store) get() *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream
}

// open returns the stream, which it creates when it does not exist. A stream
// with other limits is an error when the program stated its own.
func (b *Bus) openStream(ctx context.Context, limits layer.Limits) (*stream, error) {
	st := b.store.get()
	if st == nil {
		select {
		case b.store.opening <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		defer func() { <-b.store.opening }()
		if st = b.store.get(); st == nil {
			var err error
			if st, err = b.findStream(ctx, limits); err != nil {
				return nil, err
			}
			b.store.put(st)
		}
	}
	if limits.Stated && (st.perChannel != limits.Ceiling || st.expiry != limits.Expiry) {
		return nil, fmt.Errorf("stream %s keeps %d messages of a channel for %v, but the options of this layer say %d and %v:"+
			" use the same in all programs, or another prefix, or delete the stream",
			b.subjects.stream(), st.perChannel, st.expiry, limits.Ceiling, limits.Expiry)
	}
	return st, nil
}

// findStream asks for the stream until there is an answer or ctx ends; a
// cluster that has just been formed has none for a moment.
func (b *Bus) findStream(ctx context.Context, limits layer.Limits) (*stream, error) {
	for {
		st, err := b.tryStream(ctx, limits)
		if err == nil || !b.mayComeUp(err) || !sleep(ctx, openRetry) {
			return st, err
		}
	}
}

var errNoJetStream = fmt.Errorf("%w: shared channels need JetStream, which the NATS server does not offer", layer.ErrUnavailable)

// mayComeUp reports whether a JetStream error may go away by itself.
func (b *Bus) mayComeUp(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code == 503 && api.ErrorCode != jetstream.JSErrCodeJetStreamNotEnabled &&
			api.ErrorCode != jetstream.JSErrCodeJetStreamNotEnabledForAccount
	}
	if errors.Is(err, nats.ErrNoResponders) && b.conn.IsConnected() {
		return b.server != nil && b.server.JetStreamEnabled() || b.conn.ConnectedClusterName() != ""
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
}

func (b *Bus) tryStream(ctx context.Context, limits layer.Limits) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTrip/2)
	defer cancel()
	name, sent := b.subjects.stream(), time.Now()
	s, err := b.store.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if limits.Expiry < shortestExpiry {
			return nil, fmt.Errorf("expiry %v of shared channels is too short: NATS wants at least %v", limits.Expiry, shortestExpiry)
		}
		sent = time.Now()
		s, err = b.store.js.CreateStream(ctx, b.streamConfig(limits))
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		s, err = b.store.js.Stream(ctx, name) // another process was faster, with other limits
	}
	if err != nil {
		return nil, jetStreamError(err)
	}
	info := s.CachedInfo()
	c := info.Config
	if want := b.subjects.channel(">"); c.Retention != jetstream.WorkQueuePolicy || len(c.Subjects) != 1 || c.Subjects[0] != want {
		return nil, fmt.Errorf("stream %s is not ours: it has the subjects %q and %s retention, not %q and a work queue's; use another prefix",
			name, c.Subjects, c.Retention, want)
	}
	st := &stream{Stream: s, perChannel: int(c.MaxMsgsPerSubject), expiry: c.MaxAge}
	if !info.TimeStamp.IsZero() {
		st.ahead = clockAhead(info.TimeStamp, sent, time.Now())
	}
	return st, nil
}

// clockAhead returns how much a clock is ahead of ours that said at between sent
// and now. What may be the same clock is: an answer that took long says little.
func clockAhead(at, sent, now time.Time) time.Duration {
	return min(at.Sub(sent), 0) + max(at.Sub(now), 0)
}

// streamConfig has no MaxBytes: the server would set that much memory aside at
// once. Its own bound for JetStream holds.
func (b *Bus) streamConfig(limits layer.Limits) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                 b.subjects.stream(),
		Description:          "Tideway: messages of shared channels that no process has read yet",
		Subjects:             []string{b.subjects.channel(">")},
		Retention:            jetstream.WorkQueuePolicy,
		Storage:              jetstream.MemoryStorage,
		Replicas:             1,
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		MaxMsgsPerSubject:    int64(limits.Ceiling),
		MaxAge:               limits.Expiry,
		MaxConsumers:         maxConsumers,
		Duplicates:           min(longestDuplicates, limits.Expiry),
		AllowMsgTTL:          true,
	}
}

// jetStreamError makes clear that JetStream is what is missing.
func jetStreamError(err error) error {
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) ||
		errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("%w (%w)", errNoJetStream, err)
	}
	return err
}
