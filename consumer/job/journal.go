package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// journal is a job's log as one process sees it. Every event is published on the
// condition that the log is where the journal believes it to be; if it is not,
// what came between is read, and the writer decides anew.
type journal struct {
	l     *layer.Layer
	id    string
	group string

	turn   chan struct{} // holds one token: who has it uses status
	status Status
}

func newJournal(l *layer.Layer, id string) *journal {
	return &journal{l: l, id: id, group: Group(id), turn: make(chan struct{}, 1)}
}

// take waits for the turn.
func (j *journal) take(ctx context.Context) error {
	select {
	case j.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (j *journal) give() { <-j.turn }

// snapshot returns a copy of the status, which shares its maps.
func (j *journal) snapshot(ctx context.Context) (Status, error) {
	if err := j.take(ctx); err != nil {
		return Status{}, err
	}
	defer j.give()
	return j.status.clone(), nil
}

// catchUp reads what the log has beyond the status.
func (j *journal) catchUp(ctx context.Context) error {
	if err := j.take(ctx); err != nil {
		return err
	}
	defer j.give()
	return j.read(ctx)
}

// read is catchUp for who has the turn.
func (j *journal) read(ctx context.Context) error {
	for m, err := range j.l.History(ctx, j.group, j.status.Position, 0) {
		if err != nil {
			return fmt.Errorf("job: log of %s: %w", j.id, err)
		}
		e, err := ParseEvent(m)
		if err != nil { // a stranger's message: it has a place, and no meaning
			e = Event{Position: m.Position}
		}
		j.status.apply(e)
	}
	return nil
}

// decision returns the event that is to be written now, or why none is. It may
// be asked several times, and only reads the status.
type decision func(*Status) (Event, error)

// write publishes an event behind the newest one. It does not depend on ctx's
// end: an event that may be there or not helps nobody, and an attempt that was
// told to end may have last words.
func (j *journal) write(ctx context.Context, decide decision) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writePatience)
	defer cancel()
	if err := j.take(ctx); err != nil {
		return err
	}
	defer j.give()
	for {
		e, err := decide(&j.status)
		if err != nil {
			return err
		}
		if e.At.IsZero() {
			e.At = time.Now().UTC()
		}
		if !j.status.allows(&e) {
			return fmt.Errorf("%w: %s of attempt %d of %s, which is %s in attempt %d",
				ErrStale, e.Event, e.Attempt, j.id, j.status.State, j.status.Attempt)
		}
		r, err := j.l.Publish(ctx, j.group, e, &layer.PublishOptions{After: &j.status.Position})
		switch {
		case err == nil:
			e.Position = r.Position
			j.status.apply(e)
			return nil
		case !errors.Is(err, layer.ErrConflict):
			return fmt.Errorf("job: log of %s: %w", j.id, err)
		}
		if err := j.read(ctx); err != nil {
			return err
		}
	}
}

const writePatience = 40 * time.Second // Publish itself gives up after 30

// create writes the first event, if nobody has.
func (j *journal) create(ctx context.Context, s *Submission) error {
	err := j.write(ctx, func(now *Status) (Event, error) {
		if now.State != "" {
			return Event{}, errExists
		}
		return Event{Event: Queued, Job: s, By: s.By, At: s.Submitted}, nil
	})
	if errors.Is(err, errExists) {
		return nil
	}
	return err
}

var errExists = errors.New("job: it exists")
