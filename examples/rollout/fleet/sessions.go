package fleet

import (
	"context"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/tideway-go/tideway/layer"
)

const (
	sessionPrefix = "rolloutsession."
	sessionAge    = 12 * time.Hour
)

// store keeps sessions in the channel layer: each is the newest message of a
// durable group, named by the hash of its token. So all web processes know them,
// and none has to be there for long.
type store struct{ layer *layer.Layer }

var _ scs.CtxStore = (*store)(nil)

// record is a session as it is kept. One without data has ended.
type record struct {
	Expires time.Time `json:"expires"`
	Data    []byte    `json:"data,omitempty"`
}

// MessageType implements layer.Payload.
func (record) MessageType() string { return "rollout.session" }

// storeTime bounds what a page may wait for its session.
const storeTime = 5 * time.Second

// FindCtx implements scs.CtxStore.
func (s *store) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if layer.CheckGroup(sessionPrefix+token) != nil {
		return nil, false, nil
	}
	var newest record
	for m, err := range s.layer.History(ctx, sessionPrefix+token, layer.Position{}, 0) {
		if err != nil {
			return nil, false, err
		}
		if err := m.Decode(&newest); err != nil {
			return nil, false, err
		}
	}
	return newest.Data, newest.Data != nil && time.Now().Before(newest.Expires), nil
}

// CommitCtx implements scs.CtxStore.
func (s *store) CommitCtx(ctx context.Context, token string, data []byte, expires time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, err := s.layer.Publish(ctx, sessionPrefix+token, record{expires, data}, nil)
	return err
}

// DeleteCtx implements scs.CtxStore.
func (s *store) DeleteCtx(ctx context.Context, token string) error {
	return s.CommitCtx(ctx, token, nil, time.Time{})
}

// Find implements scs.Store.
func (s *store) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit implements scs.Store.
func (s *store) Commit(token string, data []byte, expires time.Time) error {
	return s.CommitCtx(context.Background(), token, data, expires)
}

// Delete implements scs.Store.
func (s *store) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }
