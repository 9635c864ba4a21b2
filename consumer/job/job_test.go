package job_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// open makes a layer on a bus, for jobs whose worker may be silent for wait.
func open(t testing.TB, bus layer.Bus, wait time.Duration) *layer.Layer {
	t.Helper()
	queues := job.Queues()
	queues[0].AckWait = wait
	l, err := layer.New(bus, &layer.Options{Groups: job.Groups(), Queues: queues, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l
}

// work runs a worker until the test ends or stop is called.
func work(t testing.TB, l *layer.Layer, handlers map[string]job.Handler, opts *job.WorkOptions) (stop func()) {
	t.Helper()
	if opts == nil {
		opts = &job.WorkOptions{Grace: -1}
	}
	opts.Logger = quiet()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- job.Work(ctx, l, handlers, opts) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Work: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// verdict waits for the end of a job, and checks it.
func verdict(t testing.TB, l *layer.Layer, id string, want job.State) job.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for e, err := range job.Watch(ctx, l, id, layer.Position{}) {
		if err != nil {
			t.Fatalf("watch %s: %v", id, err)
		}
		_ = e
	}
	s, err := job.Get(t.Context(), l, id)
	if err != nil {
		t.Fatal(err)
	}
	if s.State != want {
		t.Fatalf("job %s is %s (%s), want %s", id, s.State, s.Error, want)
	}
	return s
}

func submit(t testing.TB, l *layer.Layer, kind string, opts *job.SubmitOptions) string {
	t.Helper()
	id, err := job.Submit(t.Context(), l, kind, map[string]int{"version": 7}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// story is what a job's log says, an event a word.
func story(t testing.TB, l *layer.Layer, id string) string {
	t.Helper()
	var words []string
	for m, err := range l.History(t.Context(), job.Group(id), layer.Position{}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := job.ParseEvent(m)
		if err != nil {
			t.Fatal(err)
		}
		word := string(e.Event)
		for _, more := range []string{e.Target, string(e.State), e.Text, string(e.Value)} {
			if more != "" {
				word += ":" + more
			}
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func isStory(t testing.TB, l *layer.Layer, id, want string) {
	t.Helper()
	if got := story(t, l, id); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		web, worker := open(t, bus, 30*time.Second), open(t, bus, 30*time.Second)
		id := submit(t, web, "update", &job.SubmitOptions{By: "ann"})
		s, err := job.Get(t.Context(), web, id)
		if err != nil || s.State != job.StateQueued || s.By != "ann" || s.Kind != "update" {
			t.Fatalf("got %+v, %v", s, err)
		}
		work(t, worker, map[string]job.Handler{"update": func(ctx context.Context, r *job.Run) error {
			var payload struct{ Version int }
			if err := r.Decode(&payload); err != nil || payload.Version != 7 {
				t.Errorf("payload %+v, %v", payload, err)
			}
			for i := range int64(3) {
				if err := r.Log(ctx, fmt.Sprint("line ", i)); err != nil {
					return err
				}
				if err := r.Progress(ctx, i+1, 3); err != nil {
					return err
				}
				time.Sleep(time.Second)
			}
			return r.SetResult("done")
		}}, nil)
		s = verdict(t, web, id, job.StateSucceeded)
		if s.Done != 3 || s.Total != 3 || string(s.Result) != `"done"` || s.Attempt != 1 {
			t.Errorf("got %+v", s)
		}
		isStory(t, web, id, "queued started log:line 0 progress log:line 1 progress log:line 2 progress ended:succeeded")
		all, err := job.List(t.Context(), web, nil)
		if err != nil || len(all) != 1 || all[0].ID != id || all[0].State != job.StateSucceeded {
			t.Errorf("List: got %+v, %v", all, err)
		}
	})
}

func TestSameKeySameJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		l := open(t, bus, 30*time.Second)
		var ran atomic.Int64
		opts := &job.SubmitOptions{Key: "monday"}
		var ids sync.Map
		var submitting sync.WaitGroup
		for range 10 {
			submitting.Go(func() { ids.Store(submit(t, l, "report", opts), true) })
		}
		submitting.Wait()
		work(t, l, map[string]job.Handler{"report": func(context.Context, *job.Run) error { ran.Add(1); return nil }}, nil)
		time.Sleep(time.Hour) // longer than any window
		ids.Store(submit(t, l, "report", opts), true)
		time.Sleep(time.Hour)
		n := 0
		ids.Range(func(any, any) bool { n++; return true })
		if n != 1 || ran.Load() != 1 {
			t.Errorf("%d jobs, ran %d times, want one", n, ran.Load())
		}
		if other := submit(t, l, "report", &job.SubmitOptions{Key: "tuesday"}); other == "" {
			t.Error("no id")
		}
	})
}

// An attempt that fails is followed by another, which goes on at the checkpoint.
func TestCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, membus.New(), 30*time.Second)
		var steps []int
		work(t, l, map[string]job.Handler{"count": func(ctx context.Context, r *job.Run) error {
			next := 0
			if _, err := r.Restore(&next); err != nil {
				return err
			}
			for i := next; i < 12; i++ {
				steps = append(steps, i)
				if err := r.Checkpoint(ctx, i+1); err != nil {
					return err
				}
				switch {
				case i == 4 && r.Attempt() == 1:
					return errors.New("the disk is full")
				case i == 7 && r.Attempt() == 2:
					panic("oh")
				}
			}
			return nil
		}}, nil)
		id := submit(t, l, "count", nil)
		s := verdict(t, l, id, job.StateSucceeded)
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}; !slices.Equal(steps, want) || s.Attempt != 3 {
			t.Errorf("steps %v in %d attempts, want each once in 3", steps, s.Attempt)
		}
	})
}

// What does not get on is dead, with the reason, and lies with the dead letters.
func TestDead(t *testing.T) {
	for name, h := range map[string]job.Handler{
		"error":  func(context.Context, *job.Run) error { return errors.New("no such server") },
		"panic":  func(context.Context, *job.Run) error { panic("no such server") },
		"hanger": func(ctx context.Context, _ *job.Run) error { <-ctx.Done(); return errors.New("no such server") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, membus.New(), 30*time.Second)
				work(t, l, map[string]job.Handler{"k": h}, nil)
				id := submit(t, l, "k", &job.SubmitOptions{Timeout: time.Minute})
				s := verdict(t, l, id, job.StateDead)
				if s.Attempt != 5 || !strings.Contains(s.Error, "no such server") {
					t.Errorf("got %d attempts and the error %q", s.Attempt, s.Error)
				}
				synctest.Wait()
				n := 0
				for d, err := range l.DeadLetters(t.Context(), "job.k") {
					if err != nil || !strings.Contains(d.Reason, "no such server") {
						t.Errorf("dead letter %+v, %v", d, err)
					}
					n++
				}
				if n != 1 {
					t.Errorf("%d dead letters, want 1", n)
				}
			})
		})
	}
}

func TestFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, membus.New(), 30*time.Second)
		work(t, l, map[string]job.Handler{"k": func(context.Context, *job.Run) error { return job.Fail(errors.New("no such version")) }}, nil)
		id := submit(t, l, "k", nil)
		if s := verdict(t, l, id, job.StateFailed); s.Attempt != 1 || s.Error != "no such version" {
			t.Errorf("got %d attempts and the error %q", s.Attempt, s.Error)
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		web, worker := open(t, bus, 30*time.Second), open(t, bus, 30*time.Second)
		waiting := submit(t, web, "k", nil)
		if err := job.Cancel(t.Context(), web, waiting, "bob"); err != nil {
			t.Fatal(err)
		}
		if s := verdict(t, web, waiting, job.StateCancelled); s.CancelledBy != "bob" || s.Attempt != 0 {
			t.Errorf("got %+v", s)
		}
		var cause error
		work(t, worker, map[string]job.Handler{"k": func(ctx context.Context, r *job.Run) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return r.Log(ctx, "last words")
		}}, nil)
		running := submit(t, web, "k", nil)
		time.Sleep(time.Minute)
		began := time.Now()
		if err := job.Cancel(t.Context(), web, running, "bob"); err != nil {
			t.Fatal(err)
		}
		s := verdict(t, web, running, job.StateCancelled)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if !errors.Is(cause, job.ErrCancelled) || s.CancelledBy != "bob" {
			t.Errorf("cause %v, status %+v", cause, s)
		}
		isStory(t, web, running, "queued started cancelling log:last words ended:cancelled")
		var ended *job.EndedError
		if err := job.Cancel(t.Context(), web, running, "bob"); !errors.As(err, &ended) || ended.State != job.StateCancelled {
			t.Errorf("a second Cancel: got error %v", err)
		}
		if err := job.Cancel(t.Context(), web, "nosuchjob", "bob"); !errors.Is(err, job.ErrNoJob) {
			t.Errorf("no such job: got error %v", err)
		}
	})
}

// A worker that stops lets jobs end, and hands back what does not.
func TestGracefulStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		l, other := open(t, bus, 30*time.Second), open(t, bus, 30*time.Second)
		h := map[string]job.Handler{"k": func(ctx context.Context, r *job.Run) error {
			var payload struct{ Version int }
			if err := r.Decode(&payload); err != nil {
				return err
			}
			select {
			case <-time.After(time.Duration(payload.Version) * time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}}
		stop := work(t, l, h, &job.WorkOptions{Grace: 20 * time.Second})
		short := submit(t, l, "k", nil)
		long, err := job.Submit(t.Context(), l, "k", map[string]int{"version": 60}, &job.SubmitOptions{Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("stopping took %v", took)
		}
		verdict(t, other, short, job.StateSucceeded)
		work(t, other, h, nil)
		verdict(t, other, long, job.StateSucceeded)
		isStory(t, other, long, "queued started released started ended:succeeded")
	})
}
