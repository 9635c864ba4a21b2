package job

import (
	"context"
	"errors"
	"fmt"

	"github.com/tideway-go/tideway/layer"
)

// load reads a job's log.
func load(ctx context.Context, l *layer.Layer, id string) (*journal, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	j := newJournal(l, id)
	if err := j.catchUp(ctx); err != nil {
		return nil, err
	}
	if j.status.State == "" {
		return nil, fmt.Errorf("%w with the id %s", ErrNoJob, id)
	}
	return j, nil
}

// Get returns what the events of a job add up to. Errors: [ErrNoJob],
// *[NameError], [layer.ErrUnavailable].
func Get(ctx context.Context, l *layer.Layer, id string) (Status, error) {
	j, err := load(ctx, l, id)
	if err != nil {
		return Status{}, err
	}
	return j.status, nil
}

// Cancel ends a job: one that waits at once, one that runs as soon as its
// attempt returns, whose context ends with the cause [ErrCancelled]. A nil error
// is a promise: the job will be cancelled and nothing else, even if its attempt
// succeeds a moment later, or its worker dies. By is for the audit trail.
//
// If the job had ended before, the error is an *[EndedError] with its state. A
// second Cancel is no error. Others: [ErrNoJob], *[NameError],
// [layer.ErrUnavailable], [layer.ErrUnknown].
func Cancel(ctx context.Context, l *layer.Layer, id, by string) error {
	j, err := load(ctx, l, id)
	if err != nil {
		return err
	}
	by = clip(by, maxName)
	var written Event
	err = j.write(ctx, func(s *Status) (Event, error) {
		switch {
		case s.State == StateCancelling:
			return Event{}, errExists
		case s.State.Terminal():
			return Event{}, &EndedError{id, s.State}
		case s.open:
			written = Event{Event: Cancelling, By: by}
		default:
			written = Event{Event: Ended, State: StateCancelled, By: by}
		}
		return written, nil
	})
	if errors.Is(err, errExists) {
		return nil
	}
	if err == nil && written.Event == Ended {
		enter(ctx, l, &j.status)
	}
	return err
}

// Retry submits again what a job did not achieve: the same kind and payload, with
// the targets that did not succeed, or all of the job if it has none. The new
// job's id is the same for every Retry of the same job. By is for the audit
// trail of both.
//
// The job must have failed, be cancelled or dead; else the error is an
// *[EndedError] with its state. Others are those of [Submit] and [ErrNoJob].
func Retry(ctx context.Context, l *layer.Layer, id, by string) (string, error) {
	j, err := load(ctx, l, id)
	if err != nil {
		return "", err
	}
	s := &j.status
	if !s.State.Terminal() || s.State == StateSucceeded {
		return "", &EndedError{id, s.State}
	}
	var left []string
	for _, t := range s.Progress {
		if t.State != StateSucceeded {
			left = append(left, t.Name)
		}
	}
	by = clip(by, maxName)
	next, err := Submit(ctx, l, s.Kind, s.Payload, &SubmitOptions{
		Key: "retry of " + id, Title: s.Title, By: by, Targets: left, Attempts: s.Attempts, Timeout: s.timeout(), retryOf: id,
	})
	if err != nil {
		return next, err
	}
	err = j.write(ctx, func(s *Status) (Event, error) {
		if s.RetriedAs != "" {
			return Event{}, errExists
		}
		return Event{Event: Retried, By: by, Next: next}, nil
	})
	if err != nil && !errors.Is(err, errExists) {
		return next, err
	}
	return next, nil
}
