package job_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// Jobs that lost two workers are attempted one at a time, until they get on: one
// of them may be what kills. Others are at work beside them.
func TestSuspectsOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		web := open(t, bus, 30*time.Second)
		var ids []string
		for range 4 {
			ids = append(ids, submit(t, web, "k", nil))
		}
		for range 2 {
			die(t, bus, len(ids))
		}
		began := time.Now()
		var others, now, most atomic.Int64
		work(t, web, map[string]job.Handler{
			"k": func(ctx context.Context, r *job.Run) error {
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(10 * time.Second)
				now.Add(-1)
				if err := r.Checkpoint(ctx, "it does not kill"); err != nil {
					return err
				}
				time.Sleep(10 * time.Minute)
				return nil
			},
			"other": func(context.Context, *job.Run) error {
				others.Add(now.Load())
				return nil
			},
		}, nil)
		for range 120 {
			submit(t, web, "other", nil)
			time.Sleep(time.Second)
		}
		for _, id := range ids {
			s := verdict(t, web, id, job.StateSucceeded)
			if s.Attempt != 3 {
				t.Errorf("%s took %d attempts, want 3", id, s.Attempt)
			}
		}
		if most.Load() != 1 {
			t.Errorf("%d suspects were at work at the same time, want 1", most.Load())
		}
		if others.Load() < 20 {
			t.Errorf("others were at work beside suspects %d times; they had 40 s", others.Load())
		}
		if took := time.Since(began); took > 15*time.Minute {
			t.Errorf("it took %v: who got on was still taken for suspect", took)
		}
	})
}

// A suspect that waits for another one can be cancelled: it ends though the other
// one is still at work.
func TestCancelledSuspectDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		web := open(t, bus, 30*time.Second)
		ids := []string{submit(t, web, "k", nil), submit(t, web, "k", nil)}
		for range 2 {
			die(t, bus, len(ids))
		}
		at := make(chan string, len(ids))
		work(t, web, map[string]job.Handler{"k": func(ctx context.Context, r *job.Run) error {
			at <- r.ID()
			<-ctx.Done()
			return ctx.Err()
		}}, nil)
		waits := ids[0]
		if <-at == waits {
			waits = ids[1]
		}
		began := time.Now()
		if err := job.Cancel(t.Context(), web, waits, "ann"); err != nil {
			t.Fatal(err)
		}
		verdict(t, web, waits, job.StateCancelled)
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it ended after %v", took)
		}
	})
}

// die is a worker that takes so many jobs, and dies with them.
func die(t *testing.T, bus layer.Bus, jobs int) {
	t.Helper()
	l := open(t, bus, 30*time.Second)
	var begun atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- job.Work(ctx, l, map[string]job.Handler{"k": func(ctx context.Context, _ *job.Run) error {
			begun.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}}, &job.WorkOptions{Grace: -1, Logger: quiet()})
	}()
	for begun.Load() < int64(jobs) {
		time.Sleep(time.Second)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
}
