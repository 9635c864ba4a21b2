package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Run is one attempt of a job, as its [Handler] sees it. Its methods may be
// called from many goroutines. Every write is on the condition that the attempt
// is still the newest one and the job has not ended: otherwise it returns
// [ErrStale], nothing was written, and the attempt's context is over.
type Run struct {
	journal *journal
	spec    Submission
	attempt int
	cancel  context.CancelCauseFunc
	acquit  func() // the attempt is over or has got on: other suspects may be at work

	mu     sync.Mutex // guards what follows
	result json.RawMessage
	pace   map[string]*pace // of progress, by target
	heard  time.Time        // the newest event of the attempt
}

// newRun returns the attempt that is under way in the journal.
func newRun(j *journal) *Run {
	return &Run{
		journal: j, spec: j.status.Submission, attempt: j.status.Attempt, cancel: func(error) {}, acquit: func() {},
		pace: map[string]*pace{}, heard: time.Now(),
	}
}

// pace is when a progress was written last, and what waits to be.
type pace struct {
	at      time.Time
	waiting *Event
}

// progressEvery is how often a target's progress is written at most, apart from
// the last.
const progressEvery = 200 * time.Millisecond

// ID returns the job's id.
func (r *Run) ID() string { return r.spec.ID }

// Submission returns what the job was submitted with.
func (r *Run) Submission() Submission { return r.spec }

// Decode unmarshals the job's payload into v, a pointer.
func (r *Run) Decode(v any) error { return r.spec.Decode(v) }

// Attempt returns the attempt's number, from 1. Above 1, earlier attempts may
// have done a part of the work, or all of it.
func (r *Run) Attempt() int { return r.attempt }

// Log writes a line into the job's log: text of which 4 KiB are kept. When the
// log is full, lines are left out, without an error.
func (r *Run) Log(ctx context.Context, text string) error {
	return r.write(ctx, Event{Event: Logged, Text: clip(text, maxText)})
}

// Progress says how far the job is: done of total, in whatever unit. It is
// written at most five times a second, and the last always. A job that never
// calls it shows how many of its targets have ended.
func (r *Run) Progress(ctx context.Context, done, total int64) error {
	return r.progress(ctx, "", done, total)
}

// Checkpoint stores v as JSON, at most 64 KiB: where the next attempt goes on,
// should this one not come to its end. When it has returned nil, the steps
// before it need not be done again. A job that has written 8,000 events gets
// [ErrFull].
func (r *Run) Checkpoint(ctx context.Context, v any) error { return r.checkpoint(ctx, "", v) }

// Restore reads the newest checkpoint of this or an earlier attempt into v, a
// pointer, and reports whether there is one.
func (r *Run) Restore(v any) (bool, error) { return r.restore("", v) }

// SetResult keeps v as JSON, at most 64 KiB, to be stored with the verdict.
func (r *Run) SetResult(v any) error {
	data, err := raw("the result of "+r.spec.ID, v, maxValue)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result = data
	return nil
}

// Status returns what the job's events add up to, as far as this attempt has
// seen them.
func (r *Run) Status(ctx context.Context) (Status, error) { return r.journal.snapshot(ctx) }

func (r *Run) checkpoint(ctx context.Context, target string, v any) error {
	data, err := raw("a checkpoint of "+r.spec.ID, v, maxValue)
	if err != nil {
		return err
	}
	return r.write(ctx, Event{Event: Checkpoint, Target: target, Value: data})
}

func (r *Run) restore(target string, v any) (bool, error) {
	if err := r.journal.take(context.Background()); err != nil {
		return false, err
	}
	data := r.journal.status.checkpoints[target]
	r.journal.give()
	if data == nil {
		return false, nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return true, fmt.Errorf("job: checkpoint of %s: %w", r.spec.ID, err)
	}
	return true, nil
}

// progress writes at a bounded rate; what is held back is written by the next
// event of the target, or a second later.
func (r *Run) progress(ctx context.Context, target string, done, total int64) error {
	e := Event{Event: Progressed, Target: target, Done: done, Total: total}
	r.mu.Lock()
	p := r.pace[target]
	if p == nil {
		p = &pace{}
		r.pace[target] = p
	}
	if now := time.Now(); done < total && now.Sub(p.at) < progressEvery {
		p.waiting = &e
		r.mu.Unlock()
		return nil
	} else {
		p.at, p.waiting = now, nil
	}
	r.mu.Unlock()
	return r.writeNow(ctx, e)
}

// write writes an event, and before it the progress that waits.
func (r *Run) write(ctx context.Context, e Event) error {
	if err := r.flush(ctx, func(target string) bool { return target == e.Target }); err != nil {
		return err
	}
	return r.writeNow(ctx, e)
}

// flush writes the progress that waits.
func (r *Run) flush(ctx context.Context, which func(target string) bool) error {
	r.mu.Lock()
	var all []Event
	for target, p := range r.pace {
		if p.waiting != nil && which(target) {
			all = append(all, *p.waiting)
			p.at, p.waiting = time.Now(), nil
		}
	}
	r.mu.Unlock()
	for _, e := range all {
		if err := r.writeNow(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// errLeftOut says that an event is not worth the last places in the log.
var errLeftOut = errors.New("job: left out")

func (r *Run) writeNow(ctx context.Context, e Event) error {
	e.Attempt = r.attempt
	err := r.journal.write(ctx, func(s *Status) (Event, error) {
		if s.Events >= fullEvents && s.open {
			switch e.Event {
			case Logged, Progressed, Alive:
				return e, errLeftOut
			case Checkpoint:
				return e, fmt.Errorf("%w: %s has written %d events; write fewer lines, or checkpoints less often", ErrFull, s.ID, s.Events)
			}
		}
		return e, nil
	})
	switch {
	case err == nil:
		r.hear()
		if e.Event == Checkpoint || e.Event == Targeted && e.State != StateRunning {
			r.acquit()
		}
	case errors.Is(err, errLeftOut):
		return nil
	case errors.Is(err, ErrStale):
		r.cancel(ErrStale)
	}
	return err
}

// hear notes that the attempt is alive.
func (r *Run) hear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = time.Now()
}

func (r *Run) silence() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.heard)
}

// end writes how the attempt ended. A job that is being cancelled is cancelled by
// whatever ends its attempt.
func (r *Run) end(ctx context.Context, verdict Event) (Event, error) {
	if err := r.flush(ctx, func(string) bool { return true }); err != nil && errors.Is(err, ErrStale) {
		return verdict, err
	}
	verdict.Attempt = r.attempt
	r.mu.Lock()
	result := r.result
	r.mu.Unlock()
	err := r.journal.write(ctx, func(s *Status) (Event, error) {
		if s.State == StateCancelling && s.open && s.Attempt == r.attempt {
			verdict = Event{Event: Ended, State: StateCancelled, Attempt: r.attempt, By: s.CancelledBy, Error: verdict.Error}
		}
		if verdict.Event == Retrying && s.tries >= s.Attempts {
			verdict.Event, verdict.State, verdict.Wait = Ended, StateDead, 0
		}
		if verdict.Event == Ended {
			verdict.Result = result
		}
		return verdict, nil
	})
	return verdict, err
}
