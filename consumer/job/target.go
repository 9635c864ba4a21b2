package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// EachOptions are the settings of [Run.Each]. A nil *EachOptions and the zero
// EachOptions mean the defaults.
type EachOptions struct {
	// Concurrency is how many targets are worked on at the same time. Default 4.
	Concurrency int

	// Timeout bounds one try of one target. Default 10 minutes; a negative one is
	// none.
	Timeout time.Duration

	// Tries is how often a target that fails is tried in one attempt of the job.
	// Default 1.
	Tries int

	// Backoff is the pause before the second try of a target; each further one
	// doubles it, up to a minute. What is waited is drawn from the upper half.
	// Default 1 s.
	Backoff time.Duration

	// StopAfter is how many targets may fail before no other is begun. Default 0:
	// all are tried.
	StopAfter int

	// Lock names the lock under which a target is worked on, "" for none; see
	// [Run.Lock]. Default none.
	Lock func(target string) string
}

func (o *EachOptions) resolve() (EachOptions, error) {
	var r EachOptions
	if o != nil {
		r = *o
	}
	if r.Concurrency < 0 || r.Tries < 0 || r.Backoff < 0 || r.StopAfter < 0 {
		return r, errors.New("job: EachOptions has a number below 0")
	}
	r.Concurrency = orDefault(r.Concurrency, 4)
	r.Timeout = orDefault(r.Timeout, 10*time.Minute)
	r.Tries = orDefault(r.Tries, 1)
	r.Backoff = orDefault(r.Backoff, time.Second)
	return r, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// TargetsError is what [Run.Each] returns when targets failed. A handler that
// returns it gives the job its verdict, [StateFailed].
type TargetsError struct {
	Failed  []string // in the order of the submission
	Skipped int      // how many were not begun
	Total   int
}

func (e *TargetsError) Error() string {
	names := strings.Join(e.Failed[:min(len(e.Failed), 5)], ", ")
	if len(e.Failed) > 5 {
		names += ", …"
	}
	s := fmt.Sprintf("job: %d of %d targets failed: %s", len(e.Failed), e.Total, names)
	if e.Skipped > 0 {
		s += fmt.Sprintf("; %d were not begun", e.Skipped)
	}
	return s
}

// Target is one target of a job, in the try that is under way.
type Target struct {
	run  *Run
	name string
	try  int
	over atomic.Bool // the try has ended: what it still says is not heard
}

// Name returns the target's name.
func (t *Target) Name() string { return t.name }

// Try returns the number of this try within the attempt, from 1.
func (t *Target) Try() int { return t.try }

// Log writes a line about the target; see [Run.Log].
func (t *Target) Log(ctx context.Context, text string) error {
	if t.over.Load() {
		return ErrStale
	}
	return t.run.write(ctx, Event{Event: Logged, Target: t.name, Text: clip(text, maxText)})
}

// Progress says how far the target is; see [Run.Progress].
func (t *Target) Progress(ctx context.Context, done, total int64) error {
	if t.over.Load() {
		return ErrStale
	}
	return t.run.progress(ctx, t.name, done, total)
}

// Checkpoint stores where the next try of this target goes on, in this attempt
// of the job or the next; see [Run.Checkpoint].
func (t *Target) Checkpoint(ctx context.Context, v any) error {
	if t.over.Load() {
		return ErrStale
	}
	return t.run.checkpoint(ctx, t.name, v)
}

// Restore reads the target's newest checkpoint; see [Run.Restore].
func (t *Target) Restore(v any) (bool, error) { return t.run.restore(t.name, v) }

// Each calls work for every target of the job that has not ended, a few at the
// same time, and writes down how each of them ends. A new attempt goes on with
// those that had not: what ended before the old one died is not done again.
//
// It returns nil when all targets have succeeded, in this attempt or before; a
// *[TargetsError] when some failed; and otherwise what kept it from going on,
// which is for the handler to return: the cause of ctx's end, or an error of the
// log. A panic of work is its failure. One that does not return 10 s after its
// time is up is left behind.
func (r *Run) Each(ctx context.Context, work func(ctx context.Context, t *Target) error, opts *EachOptions) error {
	o, err := opts.resolve()
	if err != nil {
		return err
	}
	status, err := r.Status(ctx)
	if err != nil {
		return err
	}
	e := &each{run: r, o: o, work: work}
	for _, t := range status.Progress {
		if t.State == StateFailed {
			e.failed = append(e.failed, t.Name)
		}
	}
	e.all(ctx, status.Progress)
	return e.verdict(ctx, status.Progress)
}

// each is one call of Each.
type each struct {
	run  *Run
	o    EachOptions
	work func(context.Context, *Target) error

	mu     sync.Mutex // guards what follows
	failed []string
	begun  int
	err    error // what keeps it from going on
}

// all works on the targets that have not ended, and waits for them.
func (e *each) all(ctx context.Context, targets []TargetStatus) {
	var working sync.WaitGroup
	defer working.Wait()
	slots := make(chan struct{}, e.o.Concurrency)
	for _, t := range targets {
		if t.ended() {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil || !e.begin() {
			return
		}
		working.Go(func() {
			defer func() { <-slots }()
			e.end(t.Name, e.one(ctx, t.Name))
		})
	}
}

// begin reports whether another target may be begun.
func (e *each) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil || e.o.StopAfter > 0 && len(e.failed) >= e.o.StopAfter {
		return false
	}
	e.begun++
	return true
}

// failure is how a target ended that did not succeed, in contrast to an error of
// the log.
type failure struct{ error }

func (e *each) end(name string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var f failure
	switch {
	case err == nil:
	case errors.As(err, &f):
		e.failed = append(e.failed, name)
	case e.err == nil:
		e.err = err
	}
}

func (e *each) verdict(ctx context.Context, targets []TargetStatus) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e.err != nil || len(e.failed) == 0 {
		return e.err
	}
	skipped := -e.begun
	order := map[string]int{}
	for i, t := range targets {
		order[t.Name] = i
		if !t.ended() {
			skipped++
		}
	}
	slices.SortFunc(e.failed, func(a, b string) int { return order[a] - order[b] })
	return &TargetsError{Failed: e.failed, Skipped: skipped, Total: len(targets)}
}

// one works on a target until it has ended. It returns a failure, or what keeps
// the target from its end.
func (e *each) one(ctx context.Context, name string) error {
	if e.o.Lock != nil {
		if key := e.o.Lock(name); key != "" {
			lock, err := e.run.Lock(ctx, key)
			if err != nil {
				return err
			}
			defer lock.Unlock(ctx)
		}
	}
	for try := 1; ; try++ {
		if err := e.run.write(ctx, Event{Event: Targeted, Target: name, State: StateRunning}); err != nil {
			return err
		}
		err := e.try(ctx, name, try)
		switch {
		case err == nil:
			return e.run.write(ctx, Event{Event: Targeted, Target: name, State: StateSucceeded})
		case ctx.Err() != nil:
			return context.Cause(ctx) // it is not the target that failed
		case errors.Is(err, ErrStale):
			return err
		}
		text := clip(err.Error(), maxText)
		var final *Failure
		if try >= e.o.Tries || errors.As(err, &final) {
			if err := e.run.write(ctx, Event{Event: Targeted, Target: name, State: StateFailed, Error: text}); err != nil {
				return err
			}
			return failure{err}
		}
		if err := e.run.write(ctx, Event{Event: Logged, Target: name, Text: clip(fmt.Sprintf("try %d failed: %s", try, text), maxText)}); err != nil {
			return err
		}
		if !pause(ctx, backoff(e.o.Backoff, time.Minute, try)) {
			return context.Cause(ctx)
		}
	}
}

// try calls the work once.
func (e *each) try(ctx context.Context, name string, try int) error {
	if e.o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, e.o.Timeout, fmt.Errorf("no end after %v", e.o.Timeout))
		defer cancel()
	}
	t := &Target{run: e.run, name: name, try: try}
	defer t.over.Store(true)
	return guard(ctx, func(ctx context.Context) error { return e.work(ctx, t) })
}

// leave is how long something may take to return after its time is up.
const leave = 10 * time.Second

// guard calls f, on a goroutine of its own so that it can be left behind, and
// makes an error of a panic.
func guard(ctx context.Context, f func(context.Context) error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- &PanicError{Value: p, Stack: debug.Stack()}
			}
		}()
		err := f(ctx)
		if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = context.Cause(ctx) // says more than "context canceled"
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(leave)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("%w, and did not return %v later: left behind", context.Cause(ctx), leave)
	}
}

// PanicError is how a panic of a handler ends its attempt.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// backoff is how long to wait after a failure, drawn from the upper half.
func backoff(first, most time.Duration, failures int) time.Duration {
	d := first
	for range failures - 1 {
		if d >= most/2 {
			d = most
			break
		}
		d *= 2
	}
	return d/2 + rand.N(d/2+1)
}

// pause waits for d and reports whether it did so to the end.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
