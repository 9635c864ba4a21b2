package natsbus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// traffic puts numbered messages into a queue and takes them from there.
type traffic struct {
	last     atomic.Int64 // the highest number that was given to a message
	stored   atomic.Int64 // messages whose Enqueue succeeded
	stalled  atomic.Int64 // the longest wait for that
	attempts atomic.Int64 // the most that a message had

	mu    sync.Mutex // guards what follows
	known map[int]bool
	done  map[int]int // how often a worker had the message and said so
}

type numberedWork struct {
	N int `json:"n"`
}

func (numberedWork) MessageType() string { return "work" }

// raise makes n the value of v if it is larger.
func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); n > old && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

// put puts messages in until ctx ends. Each is tried until it is stored.
func (x *traffic) put(ctx context.Context, t *testing.T, l *layer.Layer) {
	for ctx.Err() == nil {
		n, began := int(x.last.Add(1)), time.Now()
		for {
			_, err := l.Enqueue(t.Context(), "files", numberedWork{n}, &layer.EnqueueOptions{ID: fmt.Sprint(n)})
			if err == nil {
				break
			}
			if !errors.Is(err, layer.ErrUnknown) && !errors.Is(err, layer.ErrUnavailable) || time.Since(began) > time.Minute {
				t.Errorf("enqueue %d: %v after %v", n, err, time.Since(began))
				return
			}
		}
		raise(&x.stalled, int64(time.Since(began)))
		x.mu.Lock()
		x.known[n] = true
		x.mu.Unlock()
		x.stored.Add(1)
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// work takes messages and acknowledges them until ctx ends.
func (x *traffic) work(ctx context.Context, t *testing.T, l *layer.Layer) {
	for {
		d, err := l.Take(ctx, "files")
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if !errors.Is(err, layer.ErrUnavailable) {
				t.Errorf("take: %v", err)
				return
			}
			continue
		}
		var m numberedWork
		if err := d.Message.Decode(&m); err != nil {
			t.Errorf("got %s: %v", d.Data, err)
		}
		raise(&x.attempts, int64(d.Attempt))
		if d.Ack(ctx) == nil { // otherwise it comes again
			x.mu.Lock()
			x.done[m.N]++
			x.mu.Unlock()
		}
	}
}

// open returns the messages that are stored and that no worker has acknowledged.
func (x *traffic) open() (all []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for k := range x.known {
		if x.done[k] == 0 {
			all = append(all, k)
		}
	}
	return all
}

// The leader of a queue's stream is killed, or frozen and thawed, while messages
// are put in and taken: each that was said to be stored is done by a worker, the
// queue is empty in the end, and nothing is dead. One kill for a short test;
// `FAILOVERS=5` for a long one, with freezing.
func TestQueueLeaderFails(t *testing.T) {
	t.Parallel()
	kills, freezes := failovers(t)
	nodes, urls := startNodes(t)
	join := func() (*natsbus.Bus, *layer.Layer) {
		b := open(t, &natsbus.Options{URL: urls})
		l, err := layer.New(b, &layer.Options{
			Queues: []layer.QueuePolicy{{Pattern: "files", AckWait: 5 * time.Second, Capacity: 100_000, Window: 10 * time.Minute}},
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close(context.Background()) })
		return b, l
	}
	watcher, putter := join()
	_, first := join()
	_, second := join()

	x := &traffic{known: map[int]bool{}, done: map[int]int{}}
	putting, stop := context.WithCancel(t.Context())
	defer stop()
	working, end := context.WithCancel(t.Context())
	var putters, workers sync.WaitGroup
	defer workers.Wait()
	defer end()
	for range 4 {
		putters.Go(func() { x.put(putting, t, putter) })
		workers.Go(func() { x.work(working, t, first) })
		workers.Go(func() { x.work(working, t, second) })
	}
	disturb(t, nodes, watcher, "CHANNELS_queue_files", kills, freezes, &x.stored)
	stop()
	putters.Wait()
	began := time.Now()
	defer func() {
		if t.Failed() {
			all, err := putter.Queues(context.Background())
			t.Logf("open are %v of %d; the queue is %+v, %v", x.open(), x.stored.Load(), all, err)
		}
	}()
	eventually(t, "all messages are done", func() bool { return len(x.open()) == 0 })
	var state layer.QueueState
	eventually(t, "the queue is empty", func() bool {
		all, err := putter.Queues(t.Context())
		if err != nil || len(all) == 0 {
			return false
		}
		state = all[0]
		return state.Ready+state.Working+state.Delayed == 0
	})
	if state.Dead > 0 {
		t.Errorf("%d messages are dead", state.Dead)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	again := 0
	for _, n := range x.done {
		again += n - 1
	}
	t.Logf("%d kills, %d freezes: %d stored, the longest wait %v; %d acknowledged again, at most %d attempts; all done %v after the last",
		kills, freezes, x.stored.Load(), time.Duration(x.stalled.Load()).Round(time.Millisecond),
		again, x.attempts.Load(), time.Since(began).Round(time.Millisecond))
}
