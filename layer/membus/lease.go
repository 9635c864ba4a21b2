package membus

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// lease is a layer.Lease.
type lease struct {
	link  *link
	queue string
	tasks *tasks
	task  *task
	turn  int // the task's turn that this lease is
}

// Take implements layer.Link.
func (l *link) Take(ctx context.Context, queue string) (*layer.Taken, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	w := &l.bus.work
	told := make(chan struct{}, 1)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t, err := w.take(l, queue, told)
		if t != nil || err != nil {
			return t, err
		}
		select {
		case <-told:
			continue
		case <-ctx.Done():
			err = ctx.Err()
		case <-l.done:
			err = layer.ErrClosed
		}
		w.giveUp(queue, told)
		return nil, err
	}
}

// take leases the first message to l, or puts told in line.
func (w *work) take(l *link, queue string, told chan struct{}) (*layer.Taken, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	q, err := w.tasks(queue)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	q.expire(now)
	for i := len(q.ready) - 1; i >= 0; i-- {
		if len(q.ready[i]) == 0 {
			continue
		}
		t := q.ready[i][0]
		q.ready[i][0] = nil // lets go of its bytes
		q.ready[i] = q.ready[i][1:]
		t.attempt++
		t.turn++
		q.held++
		t.hold(q, w, q.policy.AckWait, true)
		return &layer.Taken{
			Packet:  layer.Packet{Data: bytes.Clone(t.packet.Data), Header: t.packet.Header},
			Attempt: t.attempt, Lost: t.lost, Stored: t.stored, Priority: t.priority,
			Lease: &lease{l, queue, q, t, t.turn},
		}, nil
	}
	q.waiting = append(q.waiting, told)
	return nil, nil
}

// giveUp takes told out of the line. One that was told meanwhile passes it on.
func (w *work) giveUp(queue string, told chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queues[queue]
	if q == nil {
		return
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(o chan struct{}) bool { return o == told })
	if len(told) > 0 {
		q.wake()
	}
	w.tidy(queue, q)
}

// hold puts a task aside until d has passed: then it waits for a worker again.
// If it is leased meanwhile, it was lost then. Mu is held.
func (t *task) hold(q *tasks, w *work, d time.Duration, leased bool) {
	if t.timer != nil {
		t.timer.Stop()
	}
	t.until = time.Now().Add(d)
	turn := t.turn
	t.timer = time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if t.turn == turn && !time.Now().Before(t.until) {
			if leased {
				t.lost++
			}
			t.back(q)
		}
	})
}

// back makes a task that was put aside wait again, before those that came later.
func (t *task) back(q *tasks) {
	t.turn++
	q.held--
	q.put(t, true)
}

// begin locks the queues for who has the lease. When it returns nil, the caller
// has to unlock them.
func (l *lease) begin() error {
	if err := l.link.open(); err != nil {
		return err
	}
	w := &l.link.bus.work
	w.mu.Lock()
	if l.task.turn != l.turn || !time.Now().Before(l.task.until) {
		w.mu.Unlock()
		return layer.ErrStale
	}
	return nil
}

// Done implements layer.Lease.
func (l *lease) Done(context.Context) error {
	if err := l.begin(); err != nil {
		return err
	}
	defer l.link.bus.work.mu.Unlock()
	l.remove()
	return nil
}

// remove ends the task. Mu is held.
func (l *lease) remove() {
	l.task.turn++
	l.task.timer.Stop()
	l.tasks.held--
	l.tasks.count[l.task.priority+1]--
	l.link.bus.work.tidy(l.queue, l.tasks)
}

// Return implements layer.Lease.
func (l *lease) Return(_ context.Context, pause time.Duration) error {
	if err := l.begin(); err != nil {
		return err
	}
	w := &l.link.bus.work
	defer w.mu.Unlock()
	l.task.turn++
	l.task.hold(l.tasks, w, pause, false)
	return nil
}

// Release implements layer.Lease.
func (l *lease) Release(_ context.Context, pause time.Duration) error {
	if err := l.begin(); err != nil {
		return err
	}
	w := &l.link.bus.work
	defer w.mu.Unlock()
	l.task.attempt--
	if pause > 0 {
		l.task.turn++
		l.task.hold(l.tasks, w, pause, false)
		return nil
	}
	l.task.timer.Stop()
	l.task.back(l.tasks)
	return nil
}

// Extend implements layer.Lease.
func (l *lease) Extend(context.Context) error {
	if err := l.begin(); err != nil {
		return err
	}
	w := &l.link.bus.work
	defer w.mu.Unlock()
	l.task.hold(l.tasks, w, l.tasks.policy.AckWait, true)
	return nil
}

// Bury implements layer.Lease.
func (l *lease) Bury(_ context.Context, reason string, attempts int) error {
	if err := l.begin(); err != nil {
		return err
	}
	w := &l.link.bus.work
	defer w.mu.Unlock()
	n := 0
	for i := range w.dead {
		if w.dead[i].Queue == l.queue {
			n++
		}
	}
	if n >= maxDead {
		return layer.ErrChannelFull
	}
	w.buried++
	w.dead = append(w.dead, layer.DeadLetter{
		ID: w.buried, Queue: l.queue, Message: layer.Message{Data: l.task.packet.Data, Header: l.task.packet.Header},
		Priority: l.task.priority, Reason: layer.CutReason(reason), Attempts: attempts, Stored: l.task.stored, Died: time.Now(),
	})
	l.remove()
	return nil
}
