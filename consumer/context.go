package consumer

import (
	"context"
	"sync/atomic"
	"time"
)

// life is a connection's life as the context of its handlers, which run on
// goroutines that nobody with a context of his own starts. It costs next to
// nothing until somebody asks for its end: few handlers do, and of a silent
// connection none.
type life struct {
	base context.Context // what all connections of a server descend from
	real atomic.Pointer[lifetime]
}

// lifetime is a life that somebody waits for.
type lifetime struct {
	context.Context
	cancel context.CancelFunc
}

// ended is the lifetime of all that ended before anybody asked.
var ended = func() *lifetime {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return &lifetime{ctx, cancel}
}()

// cancel ends the life.
func (l *life) cancel() {
	if l.real.CompareAndSwap(nil, ended) {
		return
	}
	l.real.Load().cancel()
}

// Deadline implements context.Context.
func (l *life) Deadline() (time.Time, bool) { return l.base.Deadline() }

// Done implements context.Context.
func (l *life) Done() <-chan struct{} {
	if r := l.real.Load(); r != nil {
		return r.Done()
	}
	ctx, cancel := context.WithCancel(l.base)
	if !l.real.CompareAndSwap(nil, &lifetime{ctx, cancel}) {
		cancel() // somebody else was faster
	}
	return l.real.Load().Done()
}

// Err implements context.Context.
func (l *life) Err() error {
	if r := l.real.Load(); r != nil {
		return r.Err()
	}
	return l.base.Err()
}

// Value implements context.Context. By the lifetime's own values package context
// knows it again, and needs no goroutine for what descends from it.
func (l *life) Value(key any) any {
	if r := l.real.Load(); r != nil && r != ended {
		return r.Value(key)
	}
	return l.base.Value(key)
}
