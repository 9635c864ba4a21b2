// Package sessions keeps the sessions of the examples' sites in the channel
// layer: each is the newest message of a durable group, named by its token. So all
// web processes know them, and none has to be there for long.
package sessions

import (
	"context"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/tideway-go/tideway/layer"
)

// Group returns the policy that the sessions of a site need, which begin with
// prefix, such as "rolloutsession.", and last for age.
func Group(prefix string, age time.Duration) layer.Retention {
	return layer.Retention{Pattern: prefix + ">", Messages: 1, Age: age}
}

// New returns a store for a site's sessions. The layer needs what [Group] says.
func New(l *layer.Layer, prefix string) scs.CtxStore { return &store{l, prefix} }

type store struct {
	layer  *layer.Layer
	prefix string
}

// record is a session as it is kept. One without data has ended.
type record struct {
	Expires time.Time `json:"expires"`
	Data    []byte    `json:"data,omitempty"`
}

// MessageType implements layer.Payload.
func (record) MessageType() string { return "session" }

// patience bounds what a page may wait for its session.
const patience = 5 * time.Second

// FindCtx implements scs.CtxStore.
func (s *store) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if layer.CheckGroup(s.prefix+token) != nil {
		return nil, false, nil // a stranger may write anything into a cookie
	}
	var newest record
	for m, err := range s.layer.History(ctx, s.prefix+token, layer.Position{}, 0) {
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
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := s.layer.Publish(ctx, s.prefix+token, record{expires, data}, nil)
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
