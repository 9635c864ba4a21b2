package natsbus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What the network keeps under a key is a value of a key-value bucket, which is
// made at the first use. A value that ended, or was taken away, leaves a marker
// without data, as clients of such buckets expect, which ends in turn.
const markerAge = time.Minute

// State implements layer.Link. It asks the leader: a replica may lag.
func (l *link) State(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	ctx, end := l.calls.begin(ctx, openMost)
	defer end()
	err = l.inBucket(ctx, "state "+key, func() error {
		m, err := l.bus.leaderGet(ctx, "KV_"+l.bus.subjects.bucket(), msgGet{LastFor: l.bus.stateSubject(key)})
		if err != nil || m == nil {
			return err
		}
		revision = m.Seq
		if len(m.Data) > 0 {
			value = m.Data
		}
		return nil
	})
	return value, revision, err
}

// SetState implements layer.Link.
func (l *link) SetState(ctx context.Context, key string, value []byte, revision uint64, age time.Duration) (set bool, err error) {
	ctx, end := l.calls.begin(ctx, openMost)
	defer end()
	m := nats.NewMsg(l.bus.stateSubject(key))
	m.Data = value
	if len(value) == 0 {
		age = markerAge
		m.Header.Set("KV-Operation", "PURGE")
		m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	}
	opts := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0), jetstream.WithExpectStream("KV_" + l.bus.subjects.bucket()),
		jetstream.WithExpectLastSequencePerSubject(revision)}
	if age > 0 {
		opts = append(opts, jetstream.WithMsgTTL(age))
	}
	err = l.inBucket(ctx, "set state "+key, func() error {
		ctx, cancel := context.WithTimeout(ctx, roundTrip)
		defer cancel()
		_, err := l.bus.store.js.PublishMsg(ctx, m, opts...)
		var api *jetstream.APIError
		if errors.As(err, &api) && (api.ErrorCode == codeWrongLast || api.ErrorCode == codeWrongLastPending) {
			return nil
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
			return errNoAnswer // and not tried again: it may be set
		}
		set = err == nil
		return err
	})
	return set, err
}

// inBucket does what needs the bucket, which it makes if there is none.
func (l *link) inBucket(ctx context.Context, what string, do func() error) error {
	if err := l.ready(ctx, what); err != nil {
		return err
	}
	for {
		err := do()
		switch {
		case err == nil:
			return nil
		case isStreamGone(err) || isNoStream(err): // or a server does not know of it yet
			if err := l.bus.makeBucket(ctx); err != nil && !l.bus.mayComeUp(err) {
				return l.unread(ctx, what, err)
			}
		case !l.bus.mayComeUp(err):
			return l.unread(ctx, what, err)
		}
		if !sleep(ctx, openRetry/10) {
			return l.unread(ctx, what, context.Cause(ctx))
		}
	}
}

// stateSubject is where a key-value bucket keeps a key.
func (b *Bus) stateSubject(key string) string { return "$KV." + b.subjects.bucket() + "." + key }

// makeBucket makes the bucket, or finds that another process was faster.
func (b *Bus) makeBucket(ctx context.Context) error {
	began := time.Now()
	for replicas := b.replicas(); ; {
		try, cancel := context.WithTimeout(ctx, roundTrip)
		_, err := b.store.js.CreateKeyValue(try, jetstream.KeyValueConfig{
			Bucket:         b.subjects.bucket(),
			Description:    "Tideway: small shared state",
			History:        1,
			Storage:        jetstream.FileStorage,
			Replicas:       replicas,
			LimitMarkerTTL: markerAge,
		})
		cancel()
		few, forGood := b.tooFew(err, began)
		switch {
		case errors.Is(err, jetstream.ErrBucketExists):
			return nil
		case forGood && replicas > 1:
			replicas = 1
		case !few || b.server != nil || !sleep(ctx, openRetry):
			return jetStreamError(err)
		}
	}
}

// isNoStream reports whether the answer is that there is no such stream.
func isNoStream(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamNotFound
}
