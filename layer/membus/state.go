package membus

import (
	"bytes"
	"context"
)

// value is what the network keeps under a key.
type value struct {
	data     []byte
	revision uint64
}

// State implements layer.Link.
func (l *link) State(_ context.Context, key string) (data []byte, revision uint64, err error) {
	if err := l.open(); err != nil {
		return nil, 0, err
	}
	l.bus.mu.RLock()
	defer l.bus.mu.RUnlock()
	v := l.bus.state[key]
	return bytes.Clone(v.data), v.revision, nil
}

// SetState implements layer.Link.
func (l *link) SetState(_ context.Context, key string, data []byte, revision uint64) (set bool, err error) {
	if err := l.open(); err != nil {
		return false, err
	}
	b := l.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state[key].revision != revision {
		return false, nil
	}
	if b.state == nil {
		b.state = map[string]value{}
	}
	b.state[key] = value{bytes.Clone(data), revision + 1}
	return true, nil
}
