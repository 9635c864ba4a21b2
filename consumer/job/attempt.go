package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

const (
	// settlePatience is how long the end of an attempt may take to be written.
	settlePatience = time.Minute
	// aliveEvery is how often an attempt that writes nothing says that it is
	// alive, which is what the reaper goes by.
	aliveEvery = 5 * time.Minute
	flushEvery = time.Second
)

// attend has the handler do the work, while it keeps the message and listens for
// the job's end, and then writes down how the attempt ended.
func (w *worker) attend(ctx context.Context, d *layer.Delivery, r *Run, h Handler) {
	defer r.acquit()
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.cancel = cancel
	bounded := run
	if most := orDefault(r.spec.timeout(), w.o.Timeout); most > 0 {
		var end context.CancelFunc
		bounded, end = context.WithTimeoutCause(run, most, fmt.Errorf("job: no end after %v", most))
		defer end()
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	beside.Go(func() { w.keep(watching, d, r) })
	beside.Go(func() { r.listen(watching) })
	err := guard(bounded, func(ctx context.Context) error { return h(ctx, r) })
	var panicked *PanicError
	if errors.As(err, &panicked) {
		w.o.Logger.Error("job: a handler panicked", "job", r.spec.ID, "kind", r.spec.Kind, "attempt", r.attempt,
			"panic", panicked.Value, "stack", string(panicked.Stack))
	}
	ending, done := context.WithTimeout(context.WithoutCancel(ctx), settlePatience)
	defer done()
	if err := w.finish(ending, d, r, verdict(err, context.Cause(run))); err != nil && !errors.Is(err, layer.ErrStale) {
		w.o.Logger.Warn("job: the end of an attempt could not be written; the job comes again",
			"job", r.spec.ID, "kind", r.spec.Kind, "attempt", r.attempt, "error", err)
	}
	stop()
	beside.Wait()
}

// verdict makes an event of how the handler ended.
func verdict(err, cause error) Event {
	var failed *Failure
	var targets *TargetsError
	switch {
	case err == nil:
		return Event{Event: Ended, State: StateSucceeded}
	case errors.As(err, &failed), errors.As(err, &targets):
		return Event{Event: Ended, State: StateFailed, Error: reason(err)}
	case errors.Is(cause, ErrStopping):
		return Event{Event: Released}
	case errors.Is(cause, ErrCancelled) && errors.Is(err, ErrCancelled):
		return Event{Event: Retrying} // which becomes the verdict
	}
	return Event{Event: Retrying, Error: reason(err)}
}

// reason is an error as a job's log has it, which is for people who do not know
// this package.
func reason(err error) string { return clip(strings.TrimPrefix(err.Error(), "job: "), maxText) }

// finish writes the end of an attempt, and then settles the message: if the
// process dies in between, the message comes again and finds the job ended.
func (w *worker) finish(ctx context.Context, d *layer.Delivery, r *Run, verdict Event) error {
	if verdict.Event == Retrying {
		s, err := r.journal.snapshot(ctx)
		if err != nil {
			return err
		}
		verdict.Wait = backoff(w.o.Backoff, w.o.BackoffMax, max(s.tries, 1)).Milliseconds()
	}
	written, err := r.end(ctx, verdict)
	if errors.Is(err, ErrStale) {
		return w.overtaken(ctx, d, r)
	}
	if err != nil {
		return err
	}
	if written.Event == Ended {
		s, err := r.journal.snapshot(ctx)
		if err != nil {
			return err
		}
		enter(ctx, w.l, &s)
	}
	return w.settle(ctx, d, written)
}

// overtaken settles the message of an attempt that somebody else ended: it is
// void if the job has ended or has a newer message, and otherwise the newer
// attempt's.
func (w *worker) overtaken(ctx context.Context, d *layer.Delivery, r *Run) error {
	if err := r.journal.catchUp(ctx); err != nil {
		return err
	}
	s, err := r.journal.snapshot(ctx)
	var t ticket
	switch {
	case err != nil:
		return err
	case s.State == StateDead:
		return d.Bury(ctx, s.Error)
	case s.State.Terminal(), d.Decode(&t) == nil && t.Ticket < s.ticket:
		return d.Ack(ctx)
	case s.Attempt == r.attempt && !s.open: // ended by who makes it, over HTTP
		return d.Retry(ctx, backoff(w.o.Backoff, w.o.BackoffMax, max(s.tries, 1)), s.Error)
	}
	return nil
}

// settle does with the message what the job's log says.
func (w *worker) settle(ctx context.Context, d *layer.Delivery, written Event) error {
	switch {
	case written.Event == Retrying:
		return d.Retry(ctx, time.Duration(written.Wait)*time.Millisecond, written.Error)
	case written.Event == Released:
		return d.Release(ctx)
	case written.State == StateDead:
		return d.Bury(ctx, written.Error)
	}
	return d.Ack(ctx)
}

// keep extends the lease of the message until ctx ends, writes the progress that
// waits, and looks at the log now and then, in case a word about the job's end
// was lost.
func (w *worker) keep(ctx context.Context, d *layer.Delivery, r *Run) {
	lease := d.Policy().AckWait / 4
	extended, looked := time.Now(), time.Now()
	tick := time.NewTicker(min(lease, flushEvery))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_ = r.flush(ctx, func(string) bool { return true }) // the next write says it again
		if time.Since(extended) >= lease {
			extended = time.Now()
			if err := d.Extend(ctx); errors.Is(err, layer.ErrStale) {
				r.look(ctx)
			}
		}
		if time.Since(looked) >= glance {
			looked = time.Now()
			r.look(ctx)
		}
		if r.silence() > aliveEvery {
			_ = r.writeNow(ctx, Event{Event: Alive})
		}
	}
}

// look reads the log, and ends the attempt if the log says so.
func (r *Run) look(ctx context.Context) {
	if r.journal.catchUp(ctx) != nil {
		return
	}
	s, err := r.journal.snapshot(ctx)
	if err != nil {
		return
	}
	r.heed(&s)
}

// heed ends the attempt if the job has ended, is to be cancelled, or has a newer
// attempt.
func (r *Run) heed(s *Status) {
	switch {
	case s.Attempt != r.attempt || !s.open:
		r.cancel(ErrStale)
	case s.State == StateCancelling:
		r.cancel(ErrCancelled)
	}
}

// listen waits for others' events, which are about the attempt's end, and for
// those of a worker that reports from elsewhere.
func (r *Run) listen(ctx context.Context) {
	c, err := r.journal.l.NewChannel(ctx)
	if err != nil {
		return // the layer is closed, or keep finds out
	}
	defer c.Close()
	if r.journal.l.GroupAdd(ctx, r.journal.group, c.Name()) != nil {
		return
	}
	r.look(ctx) // what came before
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			return
		}
		e, err := ParseEvent(m)
		switch {
		case err != nil:
		case e.Attempt == r.attempt && e.Event != Ended && e.Event != Retrying:
			r.hear()
		default:
			r.look(ctx)
		}
	}
}
