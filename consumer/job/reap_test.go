package job_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// lossy is a bus that loses what is put into queues while it is told to.
type lossy struct {
	layer.Bus
	on atomic.Bool
}

func (b *lossy) Attach(ctx context.Context, process string, r layer.Receiver) (layer.Link, error) {
	l, err := b.Bus.Attach(ctx, process, r)
	return &lossyLink{l, b}, err
}

type lossyLink struct {
	layer.Link
	bus *lossy
}

func (l *lossyLink) Enqueue(ctx context.Context, queue string, p *layer.Packet, how layer.Placing) (bool, error) {
	if l.bus.on.Load() {
		return false, nil
	}
	return l.Link.Enqueue(ctx, queue, p, how)
}

func succeed(context.Context, *job.Run) error { return nil }

// A job whose message is gone is put into the queue anew, once.
func TestLostMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &lossy{Bus: membus.New()}
		l := open(t, bus, 30*time.Second)
		bus.on.Store(true)
		id := submit(t, l, "k", nil)
		bus.on.Store(false)
		for range 3 { // all of which look
			work(t, open(t, bus, 30*time.Second), map[string]job.Handler{"k": succeed}, nil)
		}
		time.Sleep(6 * time.Hour)
		verdict(t, l, id, job.StateSucceeded)
		isStory(t, l, id, "queued requeued started ended:succeeded")
	})
}

// A job that waits for its time is not lost, nor is one that waits for a worker.
func TestWaitingIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, membus.New(), 30*time.Second)
		work(t, l, map[string]job.Handler{"k": succeed}, nil)
		id := submit(t, l, "k", &job.SubmitOptions{Delay: 12 * time.Hour})
		submit(t, l, "nobodys", nil)
		time.Sleep(11 * time.Hour)
		isStory(t, l, id, "queued")
		time.Sleep(2 * time.Hour)
		isStory(t, l, id, "queued started ended:succeeded")
	})
}

// dies works on a job with a process that is cut off in the middle.
func dies(t *testing.T, bus layer.Bus, kind string) {
	t.Helper()
	dying := open(t, bus, 3*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- job.Work(ctx, dying, map[string]job.Handler{kind: func(ctx context.Context, _ *job.Run) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}}, &job.WorkOptions{Grace: -1, Logger: quiet()})
	}()
	time.Sleep(time.Second)
	if err := dying.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
}

// An attempt that died, and whose message somebody removed, is followed by
// another one.
func TestLostAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		l := open(t, bus, 3*time.Second)
		id := submit(t, l, "k", nil)
		dies(t, bus, "k")
		d, err := l.Take(t.Context(), "job.k")
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		work(t, l, map[string]job.Handler{"k": succeed}, nil)
		verdict(t, l, id, job.StateSucceeded)
		if took := time.Since(began); took < 14*time.Minute || took > 18*time.Minute {
			t.Errorf("it took %v, want about a quarter of an hour", took)
		}
		isStory(t, l, id, "queued started requeued started ended:succeeded")
	})
}

// A job whose message went to the dead letters by itself is dead.
func TestDeadWithoutAWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		l := open(t, bus, 3*time.Second)
		id := submit(t, l, "k", nil)
		d, err := l.Take(t.Context(), "job.k")
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Bury(t.Context(), "an operator did not like it"); err != nil {
			t.Fatal(err)
		}
		work(t, l, map[string]job.Handler{"k": succeed}, nil)
		if s := verdict(t, l, id, job.StateDead); !strings.Contains(s.Error, "did not like it") {
			t.Errorf("the reason is %q", s.Error)
		}
	})
}
