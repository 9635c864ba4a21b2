package layer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Delivery is a message of a durable queue that this process has for itself, as
// long as it says that it is at it. Its methods may be called from many
// goroutines; of Ack, Retry, Release and Bury the first counts. They return
// [ErrStale] when the lease is over by this process's clock; to the last instant
// only a compare-and-set at the place where the work is written can tell.
type Delivery struct {
	// Message is the message.
	Message

	// Queue is where it was taken from.
	Queue string

	// Attempt says how often a worker has had the message, this time included.
	// Above 1 the work may be done in part, or in full. An attempt that ended by
	// Release does not count.
	Attempt int

	// Lost says how many of the attempts before ended without a word, because the
	// worker died, hung or lost the network.
	Lost int

	// Stored is when the message was put into the queue, or when it was due.
	Stored time.Time

	// Priority is how urgent it is.
	Priority Priority

	policy  *QueuePolicy
	lease   Lease
	settled atomic.Bool
}

// Policy returns the policy of the queue.
func (d *Delivery) Policy() QueuePolicy { return *d.policy }

// Final reports whether this is the last attempt: if it fails, the message goes
// to the dead letters.
func (d *Delivery) Final() bool { return d.Attempt >= d.policy.Attempts }

// Take waits for a message of a durable queue and takes it, for the policy's
// AckWait: longer with [Delivery.Extend]. Each message goes to one Take in the
// network at a time. What is no message, and what used up its attempts because
// its workers died, goes to the dead letters here, and reaches nobody. When ctx
// ends first, Take returns its error and has taken nothing. Other errors:
// *[NameError], [ErrNotQueue], [ErrUnavailable], [ErrClosed].
func (l *Layer) Take(ctx context.Context, queue string) (*Delivery, error) {
	policy, err := l.queuePolicyOf(queue)
	if err != nil {
		return nil, err
	}
	for {
		t, err := l.link.Take(ctx, queue)
		if err != nil {
			return nil, fmt.Errorf("layer: take from queue %s: %w", queue, err)
		}
		d := &Delivery{
			Message: Message{Data: t.Packet.Data, Header: t.Packet.Header.given()}, Queue: queue,
			Attempt: t.Attempt, Lost: t.Lost, Stored: t.Stored, Priority: t.Priority, policy: policy, lease: t.Lease,
		}
		if l.fit(ctx, d) {
			l.stats.delivered.Add(1)
			return d, nil
		}
	}
}

// fit reports whether a worker may have d, and buries it otherwise.
func (l *Layer) fit(ctx context.Context, d *Delivery) bool {
	reason, attempts := "", d.Attempt
	if err := d.Message.parse(); err != nil {
		l.malformed("queue "+d.Queue, 1, err)
		reason = err.Error()
	} else if d.Attempt > d.policy.Attempts {
		attempts = d.Attempt - 1
		reason = fmt.Sprintf("no worker was heard of for %v, in the last of %d attempts: it died, hung or lost the network", d.policy.AckWait, attempts)
	} else {
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), buryPatience)
	defer cancel()
	d.settled.Store(true)
	err := insist(ctx, buryPatience, func() error { return d.lease.Bury(ctx, reason, attempts) })
	if err == nil {
		l.log.Warn("layer: a message went to the dead letters", "queue", d.Queue, "type", d.Type, "attempts", attempts, "reason", reason)
	} else if !errors.Is(err, ErrStale) {
		l.log.Error("layer: a message cannot go to the dead letters; it comes again", "queue", d.Queue, "error", err)
		_ = d.lease.Return(ctx, d.policy.BackoffMax) // else it comes when its lease is over
	}
	return false
}

// buryPatience is for the dead letters' store, which may be electing its leader.
const buryPatience = 20 * time.Second

// Ack says that the message is dealt with: it is removed. If the word is lost on
// the way, the message comes again. Errors: [ErrStale], [ErrUnavailable],
// [ErrClosed].
func (d *Delivery) Ack(ctx context.Context) error {
	return d.settle(func() error { return d.lease.Done(ctx) })
}

// Retry says that the attempt failed. The message comes again after a pause: the
// policy's backoff, if after is 0 or less. When that was the last attempt, it
// goes to the dead letters with the reason. Errors: those of [Delivery.Ack].
func (d *Delivery) Retry(ctx context.Context, after time.Duration, reason string) error {
	if d.Final() {
		return d.Bury(ctx, reason)
	}
	if after <= 0 {
		after = d.policy.pause(d.Attempt)
	}
	return d.settle(func() error { return d.lease.Return(ctx, min(after, longest)) })
}

// Release hands the message back at once, for another worker, as if it had not
// been taken: the attempt does not count. It is for a worker that has to stop.
// Errors: those of [Delivery.Ack].
func (d *Delivery) Release(ctx context.Context) error {
	return d.Postpone(ctx, 0)
}

// Postpone is [Delivery.Release] for after a pause.
func (d *Delivery) Postpone(ctx context.Context, after time.Duration) error {
	return d.settle(func() error { return d.lease.Release(ctx, min(max(after, 0), longest)) })
}

// Bury sends the message to the dead letters, with a reason of which 1,000 bytes
// are kept. Errors: those of [Delivery.Ack], and [ErrChannelFull] when the queue
// has 10,000 dead letters: then the message comes again after the longest pause.
func (d *Delivery) Bury(ctx context.Context, reason string) error {
	return d.settle(func() error {
		err := insist(ctx, min(buryPatience, d.policy.AckWait/2), func() error { return d.lease.Bury(ctx, reason, d.Attempt) })
		if errors.Is(err, ErrChannelFull) {
			_ = d.lease.Return(ctx, d.policy.BackoffMax) // else it comes when its lease is over
		}
		return err
	})
}

// Extend says that the work goes on: nobody else gets the message for another
// AckWait. Call it at least three times in that time. Errors: those of
// [Delivery.Ack].
func (d *Delivery) Extend(ctx context.Context) error {
	if d.settled.Load() {
		return fmt.Errorf("layer: message of queue %s: %w", d.Queue, ErrStale)
	}
	return d.wrap(d.lease.Extend(ctx))
}

// settle does what ends the lease, once. What did not succeed for a reason that
// passes may be tried again.
func (d *Delivery) settle(f func() error) error {
	if !d.settled.CompareAndSwap(false, true) {
		return d.wrap(ErrStale)
	}
	err := f()
	if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, ErrChannelFull) {
		d.settled.Store(false)
	}
	return d.wrap(err)
}

func (d *Delivery) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("layer: message of queue %s: %w", d.Queue, err)
}

// pause is how long to wait after an attempt that failed.
func (q *QueuePolicy) pause(attempt int) time.Duration {
	d := q.Backoff
	for range attempt - 1 {
		if d >= q.BackoffMax/2 {
			d = q.BackoffMax
			break
		}
		d *= 2
	}
	return d/2 + rand.N(d/2+1)
}
