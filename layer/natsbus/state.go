package natsbus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What the network keeps under a key is a value of a key-value bucket, which is
// made at the first use.

// State implements layer.Link. It asks the leader: a replica may lag.
func (l *link) State(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	what := "state " + key
	if err := l.ready(ctx, what); err != nil {
		return nil, 0, err
	}
	ctx, end := l.calls.begin(ctx, openMost)
	defer end()
	b := l.bus
	for {
		m, err := b.leaderGet(ctx, "KV_"+b.subjects.bucket(), msgGet{LastFor: b.stateSubject(key)})
		switch {
		case err == nil && m == nil:
			return nil, 0, nil
		case err == nil:
			return m.Data, m.Seq, nil
		case isStreamGone(err) || isNoStream(err):
			if err := b.makeBucket(ctx); err != nil && !b.mayComeUp(err) {
				return nil, 0, l.unread(ctx, what, err)
			}
		case !b.mayComeUp(err):
			return nil, 0, l.unread(ctx, what, err)
		}
		if !sleep(ctx, openRetry/10) {
			return nil, 0, l.unread(ctx, what, context.Cause(ctx))
		}
	}
}

// SetState implements layer.Link.
func (l *link) SetState(ctx context.Context, key string, value []byte, revision uint64) (set bool, err error) {
	what := "set state " + key
	if err := l.ready(ctx, what); err != nil {
		return false, err
	}
	ctx, end := l.calls.begin(ctx, roundTrip)
	defer end()
	_, err = l.bus.store.js.Publish(ctx, l.bus.stateSubject(key), value, jetstream.WithRetryAttempts(0),
		jetstream.WithExpectStream("KV_"+l.bus.subjects.bucket()), jetstream.WithExpectLastSequencePerSubject(revision))
	var api *jetstream.APIError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &api) && (api.ErrorCode == codeWrongLast || api.ErrorCode == codeWrongLastPending):
		return false, nil
	case isStreamGone(err): // not all servers of a cluster know of a new stream at once
		sleep(ctx, openRetry/10)
		return false, nil
	}
	return false, l.unread(ctx, what, err)
}

// stateSubject is where a key-value bucket keeps a key.
func (b *Bus) stateSubject(key string) string { return "$KV." + b.subjects.bucket() + "." + key }

// makeBucket makes the bucket, or finds that another process was faster.
func (b *Bus) makeBucket(ctx context.Context) error {
	for replicas := b.replicas(); ; replicas = 1 {
		_, err := b.store.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:         b.subjects.bucket(),
			Description:    "Tideway: small shared state",
			History:        1,
			Storage:        jetstream.FileStorage,
			Replicas:       replicas,
			LimitMarkerTTL: time.Minute,
		})
		var api *jetstream.APIError
		few := errors.As(err, &api) && (api.ErrorCode == codeNoCluster || api.ErrorCode == codeNoPeers)
		switch {
		case errors.Is(err, jetstream.ErrBucketExists):
			return nil
		case !few || replicas == 1 || b.server != nil:
			return jetStreamError(err)
		}
	}
}

// isNoStream reports whether the answer is that there is no such stream.
func isNoStream(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamNotFound
}
