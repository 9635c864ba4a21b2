package layer

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// deadPage is how many dead letters are read at once.
const deadPage = 100

// DeadLetters returns the dead letters of a queue, or with "" of all queues, the
// oldest first. Those that come while it reads may be among them. Errors, as the
// last element: *[NameError], [ErrUnavailable], [ErrClosed], ctx's.
func (l *Layer) DeadLetters(ctx context.Context, queue string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		if queue != "" {
			if err := checkQueue(queue); err != nil {
				yield(DeadLetter{}, err)
				return
			}
		}
		after := uint64(0)
		for {
			page, err := l.link.DeadLetters(ctx, queue, after, deadPage)
			if err != nil {
				yield(DeadLetter{}, fmt.Errorf("layer: dead letters: %w", err))
				return
			}
			for _, d := range page {
				after = d.ID
				d.Message.Header = d.Message.Header.given()
				_ = d.Message.parse() // what is no message has no Type
				if !yield(d, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
		}
	}
}

// Replay puts a dead letter back into its queue, with all its attempts before
// it, and then drops it. Errors: [ErrNoDeadLetter], [ErrChannelFull],
// [ErrUnavailable], [ErrClosed], ctx's. After any of them the letter is still
// there, and may be replayed again: within [QueuePolicy.Window] it is stored once.
func (l *Layer) Replay(ctx context.Context, id uint64) error {
	if err := l.link.Replay(ctx, id); err != nil {
		return fmt.Errorf("layer: replay dead letter %d: %w", id, err)
	}
	return nil
}

// Drop removes a dead letter for good. Errors: [ErrNoDeadLetter],
// [ErrUnavailable], [ErrClosed], ctx's.
func (l *Layer) Drop(ctx context.Context, id uint64) error {
	if err := l.link.Drop(ctx, id); err != nil {
		return fmt.Errorf("layer: drop dead letter %d: %w", id, err)
	}
	return nil
}

// Queues returns the durable queues of the network that hold something, by name,
// and those whose policy names one. The numbers are of this moment, more or less.
func (l *Layer) Queues(ctx context.Context) ([]QueueState, error) {
	all, err := l.link.Queues(ctx)
	if err != nil {
		return nil, fmt.Errorf("layer: queues: %w", err)
	}
	return all, nil
}

// errQueueListen is for who wants to read a durable queue as if it were none.
var errQueueListen = errors.New("is a durable queue; use Take, or router.Work")
