package job_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// mortal is a bus that dies after so many writes: nothing gets through any more.
type mortal struct {
	layer.Bus
	left atomic.Int64
}

func (m *mortal) Attach(ctx context.Context, process string, r layer.Receiver) (layer.Link, error) {
	l, err := m.Bus.Attach(ctx, process, r)
	return &mortalLink{l, m}, err
}

type mortalLink struct {
	layer.Link
	bus *mortal
}

func (l *mortalLink) Store(ctx context.Context, group string, p *layer.Packet, after *layer.Stamp) (layer.Stamp, bool, error) {
	if l.bus.left.Add(-1) < 0 {
		return layer.Stamp{}, false, layer.ErrClosed
	}
	return l.Link.Store(ctx, group, p, after)
}

func (l *mortalLink) Enqueue(ctx context.Context, queue string, p *layer.Packet, how layer.Placing) (bool, error) {
	if l.bus.left.Add(-1) < 0 {
		return false, layer.ErrClosed
	}
	return l.Link.Enqueue(ctx, queue, p, how)
}

// A crash between the steps of Submit leaves no job, or one that runs; and who
// submits it again with its key has one job.
func TestSubmitterDies(t *testing.T) {
	for writes := range int64(4) {
		t.Run(fmt.Sprint(writes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := membus.New()
				web := open(t, bus, 30*time.Second)
				dying := &mortal{Bus: bus}
				dying.left.Store(writes)
				opts := &job.SubmitOptions{Key: "monday"}
				id, err := job.Submit(t.Context(), open(t, dying, 30*time.Second), "k", "p", opts)
				var ran atomic.Int64
				work(t, web, map[string]job.Handler{"k": func(context.Context, *job.Run) error { ran.Add(1); return nil }}, nil)
				time.Sleep(time.Minute)
				all, listErr := job.List(t.Context(), web, nil)
				if listErr != nil {
					t.Fatal(listErr)
				}
				if accepted := writes > 0; !accepted {
					if err == nil || errors.Is(err, layer.ErrUnknown) || len(all) != 0 || ran.Load() != 0 {
						t.Errorf("got error %v, %d jobs, ran %d times; want none", err, len(all), ran.Load())
					}
				} else if len(all) != 1 || all[0].State != job.StateSucceeded || ran.Load() != 1 {
					t.Errorf("got %+v, ran %d times; want one job that succeeded", all, ran.Load())
				} else if (err != nil) != (writes < 2) || err != nil && !errors.Is(err, layer.ErrUnknown) || id != all[0].ID {
					t.Errorf("got id %s and error %v, the job is %s", id, err, all[0].ID)
				}
				again, err := job.Submit(t.Context(), web, "k", "p", opts)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				verdict(t, web, again, job.StateSucceeded)
				if ran.Load() != 1 || id != "" && again != id {
					t.Errorf("it ran %d times; ids %q and %q", ran.Load(), id, again)
				}
			})
		})
	}
}

// Whatever a cancel, the end of an attempt and the death of its worker do to each
// other, a job has one verdict, and what Cancel said holds.
func TestCancelAgainstFinishAgainstDeath(t *testing.T) {
	seeds := uint64(1000)
	if testing.Short() {
		seeds = 100
	}
	outcomes := map[job.State]int{}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { outcomes[contest(t, seed)]++ })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("outcomes: %v", outcomes)
	if len(outcomes) < 3 && seeds == 1000 {
		t.Errorf("the outcomes are %v: not much of a contest", outcomes)
	}
}

func contest(t *testing.T, seed uint64) job.State {
	rng := rand.New(rand.NewPCG(seed, 7))
	bus := membus.New()
	web := open(t, bus, time.Second)
	length, fails := upTo(rng, 4*time.Second), rng.IntN(3) == 0
	h := map[string]job.Handler{"k": func(ctx context.Context, r *job.Run) error {
		step := 0
		if _, err := r.Restore(&step); err != nil {
			return err
		}
		for ; step < 4; step++ {
			select {
			case <-time.After(length / 4):
			case <-ctx.Done():
				if !errors.Is(context.Cause(ctx), job.ErrCancelled) || seed%2 == 0 {
					return context.Cause(ctx)
				} // one that does not care
			}
			if err := r.Checkpoint(ctx, step+1); err != nil {
				return err
			}
		}
		if fails {
			return errors.New("it failed")
		}
		return nil
	}}
	id := submit(t, web, "k", &job.SubmitOptions{Attempts: 1 + rng.IntN(3)})
	opts := func() *job.WorkOptions {
		return &job.WorkOptions{Grace: -1, Logger: quiet(), Backoff: 100 * time.Millisecond}
	}
	dying := open(t, bus, time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	dead := make(chan error, 1)
	go func() { dead <- job.Work(ctx, dying, h, opts()) }()
	promised := make(chan error, 1)
	when := upTo(rng, 5*time.Second)
	go func() {
		time.Sleep(when)
		promised <- job.Cancel(t.Context(), web, id, "ann")
	}()
	time.Sleep(upTo(rng, 4*time.Second))
	if err := dying.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-dead
	work(t, web, h, opts())

	err := <-promised
	status := waitFor(t, web, id)
	verdicts := 0
	var s job.Status
	var events []job.Event
	for m, err := range web.History(t.Context(), job.Group(id), layer.Position{}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := job.ParseEvent(m)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
		if e.Event == job.Ended {
			verdicts++
		}
	}
	s = job.Fold(events)
	var ended *job.EndedError
	switch {
	case verdicts != 1 || s.State != status.State:
		t.Errorf("%d verdicts, %s and %s", verdicts, s.State, status.State)
	case err == nil && status.State != job.StateCancelled:
		t.Errorf("Cancel promised, and the job is %s", status.State)
	case err != nil && (!errors.As(err, &ended) || ended.State != status.State):
		t.Errorf("Cancel said %v, and the job is %s", err, status.State)
	case err != nil && status.State == job.StateCancelled:
		t.Error("the job was cancelled by nobody")
	}
	return status.State
}

// waitFor waits for the end of a job.
func waitFor(t testing.TB, l *layer.Layer, id string) job.Status {
	t.Helper()
	for _, err := range job.Watch(t.Context(), l, id, layer.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := job.Get(t.Context(), l, id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An attempt whose process stood still is overtaken, and nothing of what it says
// afterwards is heard.
func TestFrozenAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &freezer{Bus: membus.New()}
		frozen, other := open(t, bus, 3*time.Second), open(t, bus.Bus, 3*time.Second)
		wake := make(chan struct{})
		said := make(chan error, 3)
		h := map[string]job.Handler{"k": func(ctx context.Context, r *job.Run) error {
			if r.Attempt() > 1 {
				return r.Log(ctx, "second")
			}
			bus.frozen.Store(true)
			<-wake
			bus.frozen.Store(false)
			said <- r.Log(context.WithoutCancel(ctx), "first")
			said <- r.Checkpoint(ctx, 1)
			said <- r.Progress(ctx, 1, 1)
			if cause := context.Cause(ctx); !errors.Is(cause, job.ErrStale) {
				t.Errorf("the cause is %v", cause)
			}
			return nil
		}}
		id := submit(t, other, "k", nil)
		work(t, frozen, h, nil)
		time.Sleep(time.Second)
		work(t, other, h, nil)
		verdict(t, other, id, job.StateSucceeded)
		close(wake)
		for i := range 3 {
			if err := <-said; !errors.Is(err, job.ErrStale) {
				t.Errorf("write %d of the attempt that woke: got error %v, want %v", i, err, job.ErrStale)
			}
		}
		time.Sleep(time.Minute)
		isStory(t, other, id, "queued started started log:second ended:succeeded")
	})
}

// freezer is a bus whose links do nothing while it is frozen.
type freezer struct {
	layer.Bus
	frozen atomic.Bool
}

func (f *freezer) Attach(ctx context.Context, process string, r layer.Receiver) (layer.Link, error) {
	l, err := f.Bus.Attach(ctx, process, r)
	return &freezerLink{l, f}, err
}

type freezerLink struct {
	layer.Link
	bus *freezer
}

func (l *freezerLink) Take(ctx context.Context, queue string) (*layer.Taken, error) {
	t, err := l.Link.Take(ctx, queue)
	if t != nil {
		t.Lease = &freezerLease{t.Lease, l.bus}
	}
	return t, err
}

type freezerLease struct {
	layer.Lease
	bus *freezer
}

func (l *freezerLease) Extend(ctx context.Context) error {
	if l.bus.frozen.Load() {
		return layer.ErrUnavailable
	}
	return l.Lease.Extend(ctx)
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }
