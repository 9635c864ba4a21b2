package consumer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type lifeKey struct{}

// A life is a context like any other, whether it ends before, while or after
// somebody waits for it, or what it descends from ends.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, cancelBase := context.WithCancel(context.WithValue(context.Background(), lifeKey{}, "v"))
		defer cancelBase()
		early, waited, orphan := &life{base: base}, &life{base: base}, &life{base: base}
		early.cancel()
		<-early.Done()
		child, cancel := context.WithTimeout(waited, time.Hour)
		defer cancel()
		grandchild, cancelGrandchild := context.WithCancelCause(waited)
		defer cancelGrandchild(nil)
		if child.Err() != nil || waited.Err() != nil || orphan.Err() != nil {
			t.Error("a life ended before its time")
		}
		for _, l := range []*life{early, waited, orphan} {
			if v := l.Value(lifeKey{}); v != "v" {
				t.Errorf("Value = %v, want the base's", v)
			}
			if _, ok := l.Deadline(); ok {
				t.Error("a life has a deadline")
			}
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { <-orphan.Done() })
		}
		waited.cancel()
		waited.cancel()
		<-child.Done()
		<-grandchild.Done()
		for _, ctx := range []context.Context{early, waited, child, grandchild} {
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("Err = %v, want canceled", ctx.Err())
			}
		}
		cancelBase()
		all.Wait()
		untouched := &life{base: base}
		if untouched.Err() == nil || orphan.Err() == nil {
			t.Error("a life outlives what it descends from")
		}
	})
}

// What descends from a life needs no goroutine, and a life that nobody waits for
// costs nothing.
func TestLifeIsCheap(t *testing.T) {
	base := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		l := life{base: base}
		_ = l.Err()
		_ = l.Value(lifeKey{})
		l.cancel()
	}); n > 1 {
		t.Errorf("a life that nobody waits for costs %v allocations, want at most its own", n)
	}
}
