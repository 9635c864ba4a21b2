package job_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

func servers(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("server-%02d", i))
	}
	return names
}

// each makes a handler that works on targets.
func each(f func(context.Context, *job.Target) error, opts *job.EachOptions) map[string]job.Handler {
	return map[string]job.Handler{"update": func(ctx context.Context, r *job.Run) error { return r.Each(ctx, f, opts) }}
}

func TestTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, membus.New(), 30*time.Second)
		var now, most atomic.Int64
		work(t, l, each(func(ctx context.Context, s *job.Target) error {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			if err := s.Log(ctx, "updating"); err != nil {
				return err
			}
			for i := range int64(4) {
				time.Sleep(time.Second)
				if err := s.Progress(ctx, i+1, 4); err != nil {
					return err
				}
			}
			switch {
			case s.Name() == "server-03" && s.Try() < 3:
				return errors.New("a moment of weakness")
			case s.Name() == "server-05":
				panic("oh")
			case s.Name() == "server-07":
				<-ctx.Done()
				return ctx.Err()
			case s.Name() == "server-09":
				return job.Fail(errors.New("no such server"))
			}
			return nil
		}, &job.EachOptions{Concurrency: 3, Tries: 3, Timeout: time.Minute}), nil)
		id := submit(t, l, "update", &job.SubmitOptions{Targets: servers(12)})
		s := verdict(t, l, id, job.StateFailed)
		if most.Load() != 3 {
			t.Errorf("%d at the same time, want 3", most.Load())
		}
		if want := "3 of 12 targets failed: server-05, server-07, server-09"; s.Error != want || s.Done != 12 || s.Total != 12 {
			t.Errorf("got %q, %d of %d; want %q", s.Error, s.Done, s.Total, want)
		}
		for i, want := range map[int]job.TargetStatus{
			1: {State: job.StateSucceeded, Tries: 1},
			3: {State: job.StateSucceeded, Tries: 3},
			5: {State: job.StateFailed, Tries: 3, Error: "panic: oh"},
			7: {State: job.StateFailed, Tries: 3, Error: "no end after 1m0s"},
			9: {State: job.StateFailed, Tries: 1, Error: "no such server"},
		} {
			got := s.Progress[i]
			if got.State != want.State || got.Tries != want.Tries || got.Error != want.Error || got.Done != 4 {
				t.Errorf("target %d: got %+v, want %+v", i, got, want)
			}
		}
	})
}

func TestStopAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, membus.New(), 30*time.Second)
		work(t, l, each(func(_ context.Context, s *job.Target) error {
			time.Sleep(time.Second)
			if s.Name() > "server-05" {
				return errors.New("bad version")
			}
			return nil
		}, &job.EachOptions{Concurrency: 1, StopAfter: 2}), nil)
		id := submit(t, l, "update", &job.SubmitOptions{Targets: servers(40), By: "ann", Title: "all servers"})
		s := verdict(t, l, id, job.StateFailed)
		if want := "2 of 40 targets failed: server-06, server-07; 32 were not begun"; s.Error != want {
			t.Errorf("got %q, want %q", s.Error, want)
		}
		if s.Progress[8].State != job.StateSkipped {
			t.Errorf("got %+v", s.Progress[8])
		}

		next, err := job.Retry(t.Context(), l, id, "bob")
		if err != nil {
			t.Fatal(err)
		}
		again, err := job.Retry(t.Context(), l, id, "eve")
		if err != nil || again != next {
			t.Errorf("a second Retry: got %s, %v, want %s", again, err, next)
		}
		n := verdict(t, l, next, job.StateFailed)
		if n.RetryOf != id || len(n.Targets) != 34 || n.Targets[0] != "server-06" || n.By != "bob" || n.Title != "all servers" || string(n.Payload) != string(s.Payload) {
			t.Errorf("the new job: %+v", n.Submission)
		}
		if s, err := job.Get(t.Context(), l, id); err != nil || s.RetriedAs != next || s.RetriedBy != "bob" || s.State != job.StateFailed {
			t.Errorf("the old job: %+v, %v", s, err)
		}
	})
}

// What ended before a worker died is not done again.
func TestTargetsGoOnElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		web := open(t, bus, 3*time.Second)
		times := map[string]*atomic.Int64{}
		for _, s := range servers(12) {
			times[s] = new(atomic.Int64)
		}
		h := each(func(ctx context.Context, s *job.Target) error {
			times[s.Name()].Add(1)
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}, &job.EachOptions{Concurrency: 1})
		id := submit(t, web, "update", &job.SubmitOptions{Targets: servers(12)})
		for range 3 {
			// A process whose network is cut is as good as dead.
			dying := open(t, bus, 3*time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- job.Work(ctx, dying, h, &job.WorkOptions{Grace: -1, Logger: quiet()}) }()
			time.Sleep(5500 * time.Millisecond)
			if err := dying.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			cancel()
			<-done
		}
		work(t, web, h, nil)
		s := verdict(t, web, id, job.StateSucceeded)
		for name, n := range times {
			if n.Load() > 4 {
				t.Errorf("%s was updated %d times", name, n.Load())
			}
		}
		total := int64(0)
		for _, n := range times {
			total += n.Load()
		}
		if total > 12+3 || s.Attempt != 4 {
			t.Errorf("%d updates in %d attempts, want 12 and one more for each death", total, s.Attempt)
		}
	})
}

// One at a time holds the lock, over all processes, and death frees it.
func TestLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		web := open(t, bus, 3*time.Second)
		var holders atomic.Int64
		var tokens []uint64
		h := map[string]job.Handler{"update": func(ctx context.Context, r *job.Run) error {
			lock, err := r.Lock(ctx, "server-7")
			if err != nil {
				return err
			}
			defer lock.Unlock(ctx)
			if holders.Add(1) > 1 {
				t.Error("two hold the lock")
			}
			defer holders.Add(-1)
			tokens = append(tokens, lock.Token())
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			return nil
		}}
		stuck := open(t, bus, 3*time.Second)
		dead := submit(t, web, "die", &job.SubmitOptions{Attempts: 1})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- job.Work(ctx, stuck, map[string]job.Handler{"die": func(ctx context.Context, r *job.Run) error {
				if _, err := r.Lock(ctx, "server-7"); err != nil {
					return err
				}
				<-ctx.Done()
				return context.Cause(ctx)
			}}, &job.WorkOptions{Grace: -1, Logger: quiet()})
		}()
		time.Sleep(time.Second)
		var ids []string
		for range 9 {
			ids = append(ids, submit(t, web, "update", nil))
		}
		for range 3 {
			work(t, open(t, bus, 3*time.Second), h, nil)
		}
		time.Sleep(10 * time.Second)
		if len(tokens) > 0 {
			t.Error("the lock was taken from a holder that lives")
		}
		if err := stuck.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-done
		work(t, open(t, bus, 3*time.Second), map[string]job.Handler{"die": func(context.Context, *job.Run) error { return nil }}, nil)
		verdict(t, web, dead, job.StateDead)
		for _, id := range ids {
			verdict(t, web, id, job.StateSucceeded)
		}
		if len(tokens) != len(ids) {
			t.Errorf("the lock was taken %d times, want %d", len(tokens), len(ids))
		}
		for i := 1; i < len(tokens); i++ {
			if tokens[i] <= tokens[i-1] {
				t.Errorf("tokens %v do not grow", tokens)
			}
		}
	})
}

// Whoever watches sees every event once, in order, from the place it has.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		web, worker := open(t, bus, 30*time.Second), open(t, bus, 30*time.Second)
		const lines = 500 // more than a channel holds
		work(t, worker, map[string]job.Handler{"k": func(ctx context.Context, r *job.Run) error {
			for i := range lines {
				if err := r.Log(ctx, fmt.Sprint(i)); err != nil {
					return err
				}
				if i%50 == 0 {
					time.Sleep(time.Second)
				}
			}
			return nil
		}}, nil)
		id := submit(t, web, "k", nil)
		watch := func(from layer.Position) (n int, last string, places []layer.Position) {
			for e, err := range job.Watch(t.Context(), web, id, from) {
				if err != nil {
					t.Fatal(err)
				}
				places = append(places, e.Position)
				if e.Event == job.Logged {
					if last != "" {
						var a, b int
						fmt.Sscan(last, &a)
						fmt.Sscan(e.Text, &b)
						if b != a+1 {
							t.Errorf("line %d after line %d", b, a)
						}
					}
					last = e.Text
					n++
				}
			}
			return n, last, places
		}
		time.Sleep(2500 * time.Millisecond)
		n, last, places := watch(layer.Position{})
		if n != lines || last != "499" {
			t.Errorf("got %d lines, the last %q", n, last)
		}
		if n, _, _ := watch(places[10]); n != lines-9 { // behind queued, started and nine lines
			t.Errorf("got %d lines from the middle", n)
		}
		if n, _, rest := watch(places[len(places)-1]); n != 0 || len(rest) != 0 {
			t.Errorf("got %d lines from the end", n)
		}
		for _, err := range job.Watch(t.Context(), web, "nosuchjob", layer.Position{}) {
			if !errors.Is(err, job.ErrNoJob) {
				t.Errorf("no such job: got error %v", err)
			}
		}
	})
}
