package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
)

// Queues says which consumer handles the messages of which durable queue. It is
// what ChannelNameRouter and runworker are to Channels.
//
//	err := router.Work(ctx, l, router.Queues{"thumbnails": thumbnails}, nil)
type Queues map[string]consumer.App

// WorkOptions are the settings of [Work]. A nil *WorkOptions and the zero
// WorkOptions mean the defaults.
type WorkOptions struct {
	// Concurrency is how many messages of each queue are handled at the same
	// time, and how many this process takes. Default 10.
	Concurrency int

	// Limits are exceptions from Concurrency, by queue. Default none.
	Limits map[string]int

	// Timeout is how long a handler may take; then its context ends, and the
	// attempt has failed. Default 0: as long as it likes. Set it where handlers
	// might hang.
	Timeout time.Duration

	// Grace is how long handlers may go on after Work's context has ended. Then
	// theirs ends, too, and what they do not finish within a second goes back to
	// its queue. Default 20 s; negative: no time.
	Grace time.Duration

	// Logger takes failed attempts and what hinders the work. Default
	// slog.Default().
	Logger *slog.Logger

	// Stats counts. Default nil: nobody wants to know.
	Stats *WorkStats
}

// WorkStats are counts of a worker.
type WorkStats struct {
	Running  atomic.Int64 // handlers at work now
	Done     atomic.Int64 // messages that were acknowledged
	Failed   atomic.Int64 // attempts that failed, of which Dead were the last ones
	Dead     atomic.Int64 // messages that went to the dead letters
	Returned atomic.Int64 // messages that went back because the worker stopped
	Lost     atomic.Int64 // handlers that lost the message to another worker
}

// stopNotice is how long a handler has to notice that its context has ended.
const stopNotice = time.Second

// hangNotice is the same for a handler that took too long.
const hangNotice = 5 * time.Second

// Work takes the messages of durable queues and handles them, until ctx ends;
// then it finishes as WorkOptions.Grace says and returns nil. A message is
// acknowledged when its handler has returned nil, and stays this worker's for as
// long as the handler runs. An attempt that failed, by an error or a panic, is
// followed by another after a pause, here or in another process, as the queue's
// policy says; the last one sends the message to the dead letters. See package
// consumer on what handlers may return.
//
// It returns an error at once when a queue is none of the layer's
// ([layer.Options].Queues) or its App is of no use for it; later, when the layer
// is closed, or when so many handlers hang that the process should be started
// anew.
func Work(ctx context.Context, l *layer.Layer, q Queues, opts *WorkOptions) error {
	w, err := newWorker(l, q, opts)
	if err != nil {
		return err
	}
	taking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w.taking, w.stop = taking, stop
	handling, halt := context.WithCancelCause(context.WithoutCancel(ctx))
	defer halt(nil)
	defer context.AfterFunc(taking, func() { time.AfterFunc(w.opts.Grace, func() { halt(errStopped) }) })()
	var slots sync.WaitGroup
	for name, app := range q {
		for range w.limit(name) {
			slots.Go(func() { w.slot(handling, name, app) })
		}
	}
	slots.Wait()
	if err := context.Cause(taking); ctx.Err() == nil && err != nil {
		return err
	}
	return nil
}

var errStopped = errors.New("router: the worker stops")

// worker is one call of Work.
type worker struct {
	layer *layer.Layer
	opts  WorkOptions
	hung  atomic.Int64 // handlers that nobody waits for any more
	most  int64        // how many that may be

	suspect sync.Mutex // held while a suspect message is handled

	// The life of Work's call, which its slots look at.
	taking context.Context
	stop   context.CancelCauseFunc
}

func newWorker(l *layer.Layer, q Queues, opts *WorkOptions) (*worker, error) {
	w := &worker{layer: l}
	if opts != nil {
		w.opts = *opts
	}
	o := &w.opts
	if o.Concurrency == 0 {
		o.Concurrency = 10
	}
	if o.Grace == 0 {
		o.Grace = 20 * time.Second
	}
	o.Grace = max(o.Grace, 0)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Stats == nil {
		o.Stats = new(WorkStats)
	}
	switch {
	case l == nil:
		return nil, errors.New("router: Work needs a layer")
	case len(q) == 0:
		return nil, errors.New("router: Work has no queues")
	case o.Concurrency < 1:
		return nil, fmt.Errorf("router: WorkOptions.Concurrency is %d, less than 1", o.Concurrency)
	case o.Timeout < 0:
		return nil, fmt.Errorf("router: WorkOptions.Timeout is %v, less than 0", o.Timeout)
	}
	for name, limit := range o.Limits {
		if q[name] == nil || limit < 1 {
			return nil, fmt.Errorf("router: WorkOptions.Limits gives %q a limit of %d; want 1 or more, for one of the queues", name, limit)
		}
	}
	for name, app := range q {
		if _, err := l.QueuePolicy(name); err != nil {
			return nil, fmt.Errorf("router: queue %q: %w", name, err)
		}
		if err := consumer.CheckWorker(app); err != nil {
			return nil, fmt.Errorf("router: queue %q: %w", name, err)
		}
		w.most += int64(w.limit(name))
	}
	return w, nil
}

// limit is how many messages of a queue are handled at the same time.
func (w *worker) limit(queue string) int {
	if n := w.opts.Limits[queue]; n > 0 {
		return n
	}
	return w.opts.Concurrency
}

// takePause is how long a slot rests when it cannot take.
const takePause = 500 * time.Millisecond

// slot handles one message after the other.
func (w *worker) slot(handling context.Context, queue string, app consumer.App) {
	for w.taking.Err() == nil {
		d, err := w.layer.Take(w.taking, queue)
		switch {
		case err == nil:
			t := task{worker: w, app: app, delivery: d, log: w.opts.Logger.With("queue", queue, "type", d.Type, "attempt", d.Attempt)}
			w.admit(&t, func() { t.run(handling) })
		case w.taking.Err() != nil:
		case errors.Is(err, layer.ErrClosed):
			w.stop(fmt.Errorf("router: work: %w", err))
		default:
			w.opts.Logger.Warn("router: a worker cannot take from its queue; it tries again", "queue", queue, "err", err)
			w.rest(takePause/2 + rand.N(takePause))
		}
	}
}

// suspectAfter is how many attempts without a word make a message suspect of
// killing its workers.
const suspectAfter = 2

// admit runs f, unless the message is suspect and another one is at work: those
// that were at work beside a message that kills its workers must not be beside it
// each time, or all of them would use up their attempts together.
func (w *worker) admit(t *task, f func()) {
	if t.delivery.Lost < suspectAfter {
		f()
		return
	}
	if !w.suspect.TryLock() {
		wait := min(t.delivery.Policy().AckWait/4, 5*time.Second)
		t.settle(func(ctx context.Context) error { return t.delivery.Postpone(ctx, wait/2+rand.N(wait)) })
		return
	}
	defer w.suspect.Unlock()
	t.log.Warn("router: workers died with this message, or lost the network", "times", t.delivery.Lost)
	f()
}

func (w *worker) rest(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.taking.Done():
	}
}
