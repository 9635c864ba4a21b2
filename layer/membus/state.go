package membus

import (
	"bytes"
	"context"
	"time"
)

// sweepState is how often what is over is thrown away, at the most: with the next
// value that is set.
const sweepState = time.Second

// value is what the network keeps under a key.
type value struct {
	data     []byte
	revision uint64
	until    time.Time // zero: for ever
}

func (v value) over(now time.Time) bool { return !v.until.IsZero() && !now.Before(v.until) }

// states are all values. Bus.mu guards them.
type states struct {
	values   map[string]value
	revision uint64 // the newest of all: none is used twice
	swept    time.Time
}

// at returns what is kept under key.
func (s *states) at(key string) value {
	if v := s.values[key]; !v.over(time.Now()) {
		return v
	}
	return value{}
}

// sweep throws away what is over.
func (s *states) sweep() {
	now := time.Now()
	if now.Sub(s.swept) < sweepState {
		return
	}
	s.swept = now
	for key, v := range s.values {
		if v.over(now) {
			delete(s.values, key)
		}
	}
}

// State implements layer.Link.
func (l *link) State(_ context.Context, key string) (data []byte, revision uint64, err error) {
	if err := l.open(); err != nil {
		return nil, 0, err
	}
	l.bus.mu.RLock()
	defer l.bus.mu.RUnlock()
	v := l.bus.states.at(key)
	return bytes.Clone(v.data), v.revision, nil
}

// SetState implements layer.Link.
func (l *link) SetState(_ context.Context, key string, data []byte, revision uint64, age time.Duration) (set bool, err error) {
	if err := l.open(); err != nil {
		return false, err
	}
	l.bus.mu.Lock()
	defer l.bus.mu.Unlock()
	s := &l.bus.states
	if s.at(key).revision != revision {
		return false, nil
	}
	s.sweep()
	if len(data) == 0 {
		delete(s.values, key)
		return true, nil
	}
	if s.values == nil {
		s.values = map[string]value{}
	}
	s.revision++
	v := value{data: bytes.Clone(data), revision: s.revision}
	if age > 0 {
		v.until = time.Now().Add(age)
	}
	s.values[key] = v
	return true, nil
}
