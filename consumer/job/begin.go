package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// begin makes the message an attempt. It returns nil without an error when there
// is nothing to do: the job has ended, ends here, or has to wait.
func (w *worker) begin(ctx context.Context, d *layer.Delivery, token string) (*Run, error) {
	var t ticket
	if d.Type != t.MessageType() || d.Decode(&t) != nil || CheckID(t.ID) != nil || queueOf(t.Kind) != d.Queue {
		return nil, d.Bury(ctx, fmt.Sprintf("job: a message of type %.60q that is no job of this kind", d.Type))
	}
	j, err := w.read(ctx, &t)
	if err != nil {
		return nil, err
	}
	leave, ok := w.admit(&j.status, t.Ticket)
	if !ok {
		wait := min(d.Policy().AckWait/4, 5*time.Second)
		return nil, d.Postpone(ctx, wait/2+rand.N(wait))
	}
	r, err := w.start(ctx, d, j, t.Ticket, token)
	if r == nil {
		leave()
		return nil, err
	}
	r.acquit = leave
	return r, nil
}

// read reads a job's log, and writes its beginning should whoever submitted it
// have died before he did.
func (w *worker) read(ctx context.Context, t *ticket) (*journal, error) {
	j := newJournal(w.l, t.ID)
	if err := j.catchUp(ctx); err != nil {
		return nil, err
	}
	if j.status.State == "" {
		if err := j.create(ctx, &t.Submission); err != nil {
			return nil, err
		}
	}
	if j.status.Attempt == 0 && !j.status.State.Terminal() {
		enter(ctx, w.l, &j.status)
	}
	return j, nil
}

// suspectAfter is how many attempts without a word make a job suspect of killing
// its workers.
const suspectAfter = 2

// admit reports whether a job may be attempted here and now. One that is suspect
// may not while another one is at work: what dies with a job that kills its
// workers comes again together with it, since their leases end together, and
// would be beside it each time until all of them were dead. One that is to end
// here, without an attempt, harms nobody. What it returns is to be called when the
// attempt is over or has got on.
func (w *worker) admit(s *Status, ticket int) (leave func(), ok bool) {
	if w.suspect == nil || !s.suspect() || s.next(ticket, "", "").Event != Started {
		return func() {}, true
	}
	select {
	case w.suspect <- struct{}{}:
		return sync.OnceFunc(func() { <-w.suspect }), true
	default:
		return nil, false
	}
}

// start writes what follows for a job that a worker has got: mostly, that an
// attempt begins.
func (w *worker) start(ctx context.Context, d *layer.Delivery, j *journal, ticket int, token string) (*Run, error) {
	var verdict Event
	err := j.write(ctx, func(s *Status) (Event, error) {
		if !s.State.Terminal() && ticket == s.ticket && d.Attempt < s.delivery {
			return verdict, ErrStale // the message had lain here while others got it
		}
		verdict = s.next(ticket, w.o.Name, token)
		verdict.Delivery = d.Attempt
		if verdict.Event == "" {
			return verdict, errExists
		}
		return verdict, nil
	})
	switch {
	case errors.Is(err, errExists) && j.status.State == StateDead:
		return nil, d.Bury(ctx, j.status.Error)
	case errors.Is(err, errExists):
		return nil, d.Ack(ctx)
	case errors.Is(err, ErrStale):
		return nil, nil // the message is another's
	case err != nil:
		return nil, err
	case verdict.Event == Ended:
		enter(ctx, w.l, &j.status)
		return nil, w.settle(ctx, d, verdict)
	}
	return newRun(j), nil
}

// next is what has to be written when a worker has got the job: that an attempt
// begins, or that the job has ended, or nothing (no name).
func (s *Status) next(ticket int, worker, token string) Event {
	switch {
	case s.State.Terminal() || ticket < s.ticket:
		return Event{}
	case s.State == StateCancelling:
		return Event{Event: Ended, State: StateCancelled, By: s.CancelledBy}
	case s.tries >= s.Attempts:
		reason := cmp.Or(s.Error, "no worker came to its end: it died, hung or lost the network")
		return Event{Event: Ended, State: StateDead, Error: clip(fmt.Sprintf("%d attempts did not get on; the last: %s", s.tries, reason), maxText)}
	}
	return Event{Event: Started, Attempt: s.Attempt + 1, Worker: worker, Token: token}
}
