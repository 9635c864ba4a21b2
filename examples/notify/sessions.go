package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// lifetime is for how long somebody stays logged in.
const lifetime = 24 * time.Hour

// sessions keeps the site's sessions in a bucket of the NATS server that is there
// anyway, so that a restart logs nobody out, and every process knows them.
type sessions struct{ bucket jetstream.KeyValue }

var _ scs.CtxStore = sessions{}

func openSessions(ctx context.Context, conn *nats.Conn) (s sessions, err error) {
	js, err := jetstream.New(conn)
	if err == nil {
		s.bucket, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "notify_sessions", TTL: lifetime})
	}
	if err != nil {
		return s, fmt.Errorf("notify: the sessions: %w", err)
	}
	return s, nil
}

// FindCtx implements scs.CtxStore.
func (s sessions) FindCtx(ctx context.Context, token string) (b []byte, found bool, err error) {
	entry, err := s.bucket.Get(ctx, token)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrInvalidKey):
		return nil, false, nil // a stranger may write anything into a cookie
	case err != nil:
		return nil, false, err
	}
	return entry.Value(), true, nil
}

// CommitCtx implements scs.CtxStore. The session's own deadline is part of b.
func (s sessions) CommitCtx(ctx context.Context, token string, b []byte, _ time.Time) error {
	_, err := s.bucket.Put(ctx, token, b)
	return err
}

// DeleteCtx implements scs.CtxStore.
func (s sessions) DeleteCtx(ctx context.Context, token string) error {
	return s.bucket.Delete(ctx, token)
}

// Find implements scs.Store.
func (s sessions) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit implements scs.Store.
func (s sessions) Commit(token string, b []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, b, expiry)
}

// Delete implements scs.Store.
func (s sessions) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }
