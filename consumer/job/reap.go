package job

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/tideway-go/tideway/layer"
)

const (
	// quietRun is how long an attempt may be silent before its job is put into
	// the queue anew; one that lives says so every five minutes.
	quietRun = 3 * aliveEvery
	// quietQueue is the same for a job that waits, doubled each time: most such
	// jobs wait for a worker, and have their message.
	quietQueue = time.Hour
)

// reapAll looks after the jobs that nobody has, until ctx ends.
func (w *worker) reapAll(ctx context.Context) {
	for pause(ctx, w.o.reapEvery/2+rand.N(w.o.reapEvery)) {
		if err := w.reap(ctx); err != nil && ctx.Err() == nil {
			w.o.Logger.Warn("job: lost jobs could not be looked for", "error", err)
		}
	}
}

// reap goes through the jobs that have not ended, as far as the index knows.
func (w *worker) reap(ctx context.Context) error {
	all, err := readIndex(ctx, w.l)
	if err != nil {
		return err
	}
	var open []Summary
	for _, s := range all {
		if !s.State.Terminal() && time.Since(s.Submitted) > w.o.reapEvery {
			open = append(open, s)
		}
	}
	if len(open) == 0 {
		return nil
	}
	dead, err := w.dead(ctx)
	if err != nil {
		return err
	}
	for _, s := range open {
		if err := w.look(ctx, s.ID, dead[s.ID]); err != nil && !errors.Is(err, ErrNoJob) && !errors.Is(err, ErrStale) {
			return err
		}
	}
	return nil
}

// dead returns the reasons of the jobs whose message lies with the dead letters.
func (w *worker) dead(ctx context.Context) (map[string]string, error) {
	reasons := map[string]string{}
	for d, err := range w.l.DeadLetters(ctx, "") {
		if err != nil {
			return nil, err
		}
		var t ticket
		if d.Message.Type == t.MessageType() && d.Message.Decode(&t) == nil {
			reasons[t.ID] = orDefault(d.Reason, "its message went to the dead letters")
		}
	}
	return reasons, nil
}

// look sees to it that a job reaches its end: it makes good the index, ends a job
// whose message lies with the dead letters, and puts one that nobody has into
// the queue anew.
func (w *worker) look(ctx context.Context, id, dead string) error {
	j, err := load(ctx, w.l, id)
	if err != nil {
		return err
	}
	if j.status.State.Terminal() {
		enter(ctx, w.l, &j.status)
		return nil
	}
	if dead != "" {
		err := j.write(ctx, func(s *Status) (Event, error) {
			if s.State == StateCancelling {
				return Event{Event: Ended, State: StateCancelled, By: s.CancelledBy}, nil
			}
			return Event{Event: Ended, State: StateDead, Error: clip(dead, maxText)}, nil
		})
		if err == nil {
			enter(ctx, w.l, &j.status)
		}
		return err
	}
	if !j.status.lost(time.Now()) {
		return nil
	}
	return w.requeue(ctx, j)
}

// lost reports whether nothing was heard of a job for so long that its message
// must be gone.
func (s *Status) lost(now time.Time) bool {
	if s.open {
		return now.Sub(s.Last) > quietRun
	}
	since := s.Last
	if s.due.After(since) {
		since = s.due
	}
	return now.Sub(since) > quietQueue<<min(s.ticket, 10)
}

// requeue puts a job into the queue anew. The event comes first: from then on an
// older message of the job is void, should there still be one, and if the new
// one does not get there, the next time is later.
func (w *worker) requeue(ctx context.Context, j *journal) error {
	err := j.write(ctx, func(s *Status) (Event, error) {
		if !s.lost(time.Now()) {
			return Event{}, ErrStale
		}
		return Event{Event: Requeued, Ticket: s.ticket + 1}, nil
	})
	if err != nil {
		return err
	}
	t := ticket{j.status.Submission, j.status.ticket}
	_, err = w.l.Enqueue(ctx, queueOf(t.Kind), t, &layer.EnqueueOptions{ID: t.ID + "." + strconv.Itoa(t.Ticket)})
	w.o.Logger.Warn("job: nothing was heard of a job; it is in the queue again", "job", t.ID, "kind", t.Kind, "ticket", t.Ticket)
	return err
}
