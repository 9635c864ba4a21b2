package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Handler does the work of one attempt. It runs on a goroutine of its own. Its
// context descends from the worker's alone and ends when the job is cancelled,
// its time is up, the worker stops, or another attempt has overtaken this one;
// context.Cause says which: [ErrCancelled], [ErrStopping], [ErrStale].
//
// If it returns nil, the job has succeeded. An error, or a panic, ends the
// attempt, and another follows after a pause, until the job has not got on in
// [SubmitOptions].Attempts of them and is dead. An error made by [Fail], or a
// *[TargetsError], is the job's own verdict: it has failed.
type Handler func(ctx context.Context, r *Run) error

// Failure is an error that ends a job, or a target, as failed: another attempt
// would come to the same end.
type Failure struct{ Err error }

// Fail makes err a [Failure].
func Fail(err error) error { return &Failure{err} }

func (e *Failure) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e *Failure) Unwrap() error { return e.Err }

// WorkOptions are the settings of [Work]. A nil *WorkOptions and the zero
// WorkOptions mean the defaults.
type WorkOptions struct {
	// Concurrency is how many jobs of each kind this process works on at the
	// same time. Default 4.
	Concurrency int

	// Timeout bounds an attempt of a job that was submitted without one. Default
	// 1 hour; a negative one is none.
	Timeout time.Duration

	// Grace is how long jobs may go on after the worker was told to stop, before
	// their contexts end and they are handed back. Default 20 s; a negative one
	// is none.
	Grace time.Duration

	// Backoff is the pause after a failed attempt; each further one in a row
	// doubles it, up to BackoffMax. What is waited is drawn from the upper half.
	// Defaults 2 s and 5 minutes.
	Backoff    time.Duration
	BackoffMax time.Duration

	// Name is what the log of a job says about who works on it. Default: the
	// name of the machine and the process id.
	Name string

	// Logger takes what nobody can be told by an error. Default slog.Default().
	Logger *slog.Logger

	reapEvery time.Duration
}

func (o *WorkOptions) resolve() (WorkOptions, error) {
	var r WorkOptions
	if o != nil {
		r = *o
	}
	if r.Concurrency < 0 || r.Backoff < 0 || r.BackoffMax < 0 {
		return r, errors.New("job: WorkOptions has a Concurrency or a Backoff below 0")
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	r.Concurrency = orDefault(r.Concurrency, 4)
	r.Timeout = orDefault(r.Timeout, time.Hour)
	r.Grace = orDefault(r.Grace, 20*time.Second)
	r.Backoff = orDefault(r.Backoff, 2*time.Second)
	r.BackoffMax = orDefault(r.BackoffMax, max(5*time.Minute, r.Backoff))
	r.Name = clip(orDefault(r.Name, fmt.Sprintf("%s/%d", host, os.Getpid())), maxName)
	r.Logger = orDefault(r.Logger, slog.Default())
	r.reapEvery = orDefault(r.reapEvery, time.Minute)
	return r, nil
}

// worker is one call of [Work], or one [Remote].
type worker struct {
	l *layer.Layer
	o WorkOptions

	// suspect has room for one suspect job that is at work. It is nil where the
	// work is done elsewhere and cannot harm this process.
	suspect chan struct{}
}

// Work takes jobs of the given kinds and has the handlers do them, until ctx
// ends: then it takes no more, lets those that are under way go on for
// [WorkOptions].Grace, hands back what has not ended, and returns nil when all
// handlers have returned. It also looks after jobs that nobody has anymore.
//
// Any other return is an error at the start, or of a layer that is closed. While
// the network is away it waits.
func Work(ctx context.Context, l *layer.Layer, handlers map[string]Handler, opts *WorkOptions) error {
	o, err := opts.resolve()
	if err != nil {
		return err
	}
	if len(handlers) == 0 {
		return errors.New("job: Work has no handler")
	}
	for kind, h := range handlers {
		if err := CheckKind(kind); err != nil {
			return err
		}
		if h == nil {
			return fmt.Errorf("job: the handler of the kind %q is nil", kind)
		}
	}
	w := &worker{l, o, make(chan struct{}, 1)}
	taking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	running, end := w.running(ctx)
	var working sync.WaitGroup
	for kind, h := range handlers {
		working.Go(func() {
			if err := w.kind(taking, running, kind, h); err != nil {
				stop(err)
			}
		})
	}
	working.Go(func() { w.reapAll(taking) })
	<-taking.Done()
	ended := make(chan struct{})
	go func() { working.Wait(); close(ended) }()
	if w.o.Grace > 0 {
		timer := time.NewTimer(w.o.Grace)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
		}
	}
	end(ErrStopping)
	<-ended
	if err := context.Cause(taking); ctx.Err() == nil {
		return err
	}
	return nil
}

// running returns the context of the attempts, which outlives the taking.
func (w *worker) running(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	return context.WithCancelCause(context.WithoutCancel(ctx))
}

// kind takes jobs of one kind until ctx ends, and waits for its attempts.
func (w *worker) kind(ctx, running context.Context, kind string, h Handler) error {
	var attempts sync.WaitGroup
	defer attempts.Wait()
	slots := make(chan struct{}, w.o.Concurrency)
	for failures := 0; ; {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		d, err := w.l.Take(ctx, queueOf(kind))
		switch {
		case ctx.Err() != nil && err != nil:
			return nil
		case err != nil && (errors.Is(err, layer.ErrNotQueue) || errors.Is(err, layer.ErrClosed)):
			return fmt.Errorf("job: work on %s: %w", kind, err)
		case err != nil:
			<-slots
			if failures++; failures == 1 {
				w.o.Logger.Warn("job: no jobs can be taken; trying on", "kind", kind, "error", err)
			}
			pause(ctx, backoff(100*time.Millisecond, 5*time.Second, failures))
			continue
		}
		failures = 0
		attempts.Go(func() {
			defer func() { <-slots }()
			w.serve(running, d, h)
		})
	}
}

// serve makes one attempt of the job that a message of the queue is about.
func (w *worker) serve(ctx context.Context, d *layer.Delivery, h Handler) {
	r, err := w.begin(ctx, d, "")
	if err != nil {
		w.o.Logger.Warn("job: an attempt could not begin; the job comes again", "queue", d.Queue, "error", err)
		return
	}
	if r == nil {
		return // nothing was to be done
	}
	w.attend(ctx, d, r, h)
}

// timeout returns the bound of an attempt, 0 for the worker's.
func (s *Submission) timeout() time.Duration { return time.Duration(s.Timeout) * time.Millisecond }
