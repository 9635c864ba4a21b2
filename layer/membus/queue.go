package membus

import (
	"context"
	"slices"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// queue holds a shared channel's messages until somebody pulls them or their
// time is up. The bus's mutex guards it; it exists while it holds a message or
// somebody waits.
type queue struct {
	items   []item
	waiting []chan struct{} // who pulls, in order; each of capacity 1
	timer   *time.Timer
}

type item struct {
	packet  layer.Packet
	expires time.Time
}

// expire drops what waited too long at the front of the queue. Layers with
// another Expiry may leave some behind it, which go when they come to the front.
func (q *queue) expire(now time.Time) {
	for len(q.items) > 0 && !now.Before(q.items[0].expires) {
		q.drop()
	}
}

// expireAll drops all that waited too long.
func (q *queue) expireAll(now time.Time) {
	q.items = slices.DeleteFunc(q.items, func(i item) bool { return !now.Before(i.expires) })
}

func (q *queue) drop() {
	q.items[0] = item{} // lets go of its bytes
	q.items = q.items[1:]
}

// wake tells the first who waits that there is something to take.
func (q *queue) wake() {
	if len(q.waiting) > 0 && len(q.items) > 0 {
		q.waiting[0] <- struct{}{} // has room: who is told is no longer waiting
		q.waiting = q.waiting[1:]
	}
}

// queue returns a channel's queue. Mu is held.
func (b *Bus) queue(channel string) *queue {
	q := b.queues[channel]
	if q == nil {
		q = &queue{}
		b.queues[channel] = q
	}
	return q
}

// tidy forgets a queue that nobody needs, and otherwise sees to it that it will
// be emptied of what expires. Mu is held.
func (b *Bus) tidy(channel string, q *queue) {
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	switch {
	case len(q.items) > 0:
		q.timer = time.AfterFunc(time.Until(q.items[0].expires), func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.queues[channel] == q {
				q.expire(time.Now())
				b.tidy(channel, q)
			}
		})
	case len(q.waiting) == 0:
		delete(b.queues, channel)
	}
}

func (b *Bus) push(channel string, p layer.Packet, limits layer.Limits) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(channel)
	defer b.tidy(channel, q)
	now := time.Now()
	if len(q.items) >= limits.Capacity {
		q.expireAll(now)
	}
	if len(q.items) >= limits.Capacity {
		return layer.ErrChannelFull
	}
	q.items = append(q.items, item{p, now.Add(limits.Expiry)})
	q.wake()
	return nil
}

// pull waits for a message until ctx ends or the puller's link is closed.
func (b *Bus) pull(ctx context.Context, closed <-chan struct{}, channel string, _ layer.Limits) (*layer.Packet, error) {
	told := make(chan struct{}, 1)
	for {
		if p := b.take(channel, told); p != nil {
			return p, nil
		}
		select {
		case <-told:
			continue
		case <-ctx.Done():
			b.giveUp(channel, told)
			return nil, ctx.Err()
		case <-closed:
			b.giveUp(channel, told)
			return nil, layer.ErrClosed
		}
	}
}

// take returns the oldest message, or puts told in line.
func (b *Bus) take(channel string, told chan struct{}) *layer.Packet {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(channel)
	defer b.tidy(channel, q)
	q.expire(time.Now())
	if len(q.items) == 0 {
		q.waiting = append(q.waiting, told)
		return nil
	}
	p := q.items[0].packet
	q.drop()
	return &p
}

// giveUp takes told out of the line. One that was told meanwhile passes it on.
func (b *Bus) giveUp(channel string, told chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(channel)
	q.waiting = slices.DeleteFunc(q.waiting, func(o chan struct{}) bool { return o == told })
	if len(told) > 0 {
		q.wake()
	}
	b.tidy(channel, q)
}
