package job

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Watch returns the events of a job that follow a place, first those that were
// written before, then each as it comes, in order and none left out. The zero
// Position is the beginning; [Status].Position is what a page goes on from. It
// ends behind the verdict, at once if the place is behind it. An error is the
// last element: ctx's, [ErrNoJob], *[layer.GapError] for a place whose events
// are no longer kept, [layer.ErrUnavailable].
func Watch(ctx context.Context, l *layer.Layer, id string, from layer.Position) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := watch(ctx, l, id, from, yield); err != nil {
			yield(Event{}, err)
		}
	}
}

// glance is how often the store is looked at though nothing came.
const glance = 5 * time.Second

func watch(ctx context.Context, l *layer.Layer, id string, from layer.Position, yield func(Event, error) bool) error {
	// Joined first, so that nothing comes between the past and the present.
	woken, leave, err := wake(ctx, l, Group(id))
	if err != nil {
		return err
	}
	defer leave()
	status, err := Get(ctx, l, id)
	if err != nil {
		return err
	}
	for ended := status.State.Terminal(); ; {
		last := ended // nothing of what was written by then is left out
		seen := false
		for m, err := range l.History(ctx, Group(id), from, 0) {
			if err != nil {
				return fmt.Errorf("job: watch %s: %w", id, err)
			}
			from = m.Position
			e, err := ParseEvent(m)
			if err != nil {
				continue // a stranger's
			}
			seen = seen || e.Event == Ended
			if !yield(e, nil) {
				return nil
			}
		}
		switch {
		case last:
			return nil
		case seen: // perhaps the verdict, perhaps one against the rules
			if status, err = Get(ctx, l, id); err != nil {
				return err
			}
			if ended = status.State.Terminal(); ended {
				continue
			}
		}
		if err := await(ctx, woken, glance); err != nil {
			return err
		}
	}
}

// await waits for the signal, but no longer than most.
func await(ctx context.Context, woken <-chan struct{}, most time.Duration) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-woken:
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// wake joins a group and signals that something came. What came, and whether
// some of it was lost, is for the store to say.
func wake(ctx context.Context, l *layer.Layer, group string) (woken <-chan struct{}, leave func(), err error) {
	c, err := l.NewChannel(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := l.GroupAdd(ctx, group, c.Name()); err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	signal, done := make(chan struct{}, 1), make(chan struct{})
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(done)
		for {
			if _, err := c.Receive(reading); err != nil {
				return
			}
			select {
			case signal <- struct{}{}:
			default:
			}
		}
	}()
	return signal, func() {
		stop()
		<-done
		_ = c.Close() // has no way to fail but being closed
	}, nil
}
