package membus

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/internal/cron"
)

// work is the durable queues of a network: they outlive the layers, but not the
// Bus.
type work struct {
	mu     sync.Mutex // guards all below, and every task
	rules  []layer.QueuePolicy
	queues map[string]*tasks
	dead   []layer.DeadLetter
	buried uint64 // the newest dead letter
}

// maxDead is how many dead letters a queue may have.
const maxDead = 10_000

// tasks is one queue. It exists while it holds something or somebody waits.
type tasks struct {
	policy  layer.QueuePolicy
	ready   [3][]*task // by priority, from low to high
	held    int        // tasks that are leased or pause
	count   [3]int     // all, by priority
	waiting []chan struct{}
	plans   map[string]*plan
	keys    map[string]time.Time // IDs, until they are forgotten
	swept   time.Time
}

// task is one message.
type task struct {
	packet   layer.Packet
	priority layer.Priority
	stored   time.Time
	attempt  int
	lost     int         // attempts that ended without a word
	turn     int         // grows with each lease: an old one is known by it
	timer    *time.Timer // ends the lease or the pause
	until    time.Time   // the end of the lease
}

// plan is a message that will come later, or again and again.
type plan struct {
	packet layer.Packet
	timer  *time.Timer
}

// Govern implements layer.Link.
func (l *link) Govern(_ context.Context, policies []layer.QueuePolicy) ([]layer.QueuePolicy, error) {
	w := &l.bus.work
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range policies {
		for _, r := range w.rules {
			if p != r && p.Overlaps(r) {
				return nil, fmt.Errorf("membus: the network has the queues %v, and this process states %v: use the same in all", r, p)
			}
		}
	}
	for _, p := range policies {
		if !slices.Contains(w.rules, p) {
			w.rules = append(w.rules, p)
		}
	}
	return slices.Clone(w.rules), nil
}

// tasks returns a queue. Mu is held.
func (w *work) tasks(queue string) (*tasks, error) {
	q := w.queues[queue]
	if q != nil {
		return q, nil
	}
	for _, r := range w.rules {
		if r.Covers(queue) {
			q = &tasks{policy: r, plans: map[string]*plan{}, keys: map[string]time.Time{}, swept: time.Now()}
			if w.queues == nil {
				w.queues = map[string]*tasks{}
			}
			w.queues[queue] = q
			return q, nil
		}
	}
	return nil, layer.ErrNotQueue
}

// tidy forgets a queue that nobody needs. Mu is held.
func (w *work) tidy(queue string, q *tasks) {
	if q.held == 0 && q.count == [3]int{} && len(q.waiting) == 0 && len(q.plans) == 0 && len(q.keys) == 0 {
		delete(w.queues, queue)
	}
}

// Enqueue implements layer.Link.
func (l *link) Enqueue(_ context.Context, queue string, p *layer.Packet, how layer.Placing) (duplicate bool, err error) {
	if err := l.open(); err != nil {
		return false, err
	}
	w := &l.bus.work
	w.mu.Lock()
	defer w.mu.Unlock()
	q, err := w.tasks(queue)
	if err != nil {
		return false, err
	}
	defer w.tidy(queue, q)
	packet := layer.Packet{Data: bytes.Clone(p.Data), Header: p.Header}
	if how.Cancel || how.Every != "" || !how.At.IsZero() {
		return w.later(queue, q, packet, how)
	}
	now := time.Now()
	if q.knows(p.Header.ID, now) {
		return true, nil
	}
	if q.count[how.Priority+1] >= q.policy.Capacity && !q.expire(now) {
		return false, layer.ErrChannelFull
	}
	if id := p.Header.ID; id != "" {
		q.keys[id] = now.Add(q.policy.Window)
	}
	q.add(&task{packet: packet, priority: how.Priority, stored: now})
	return false, nil
}

// knows reports whether a message with that ID was stored in the window. It
// forgets those whose time is up, now and then.
func (q *tasks) knows(id string, now time.Time) bool {
	if now.Sub(q.swept) > q.policy.Window/2 {
		q.swept = now
		for k, until := range q.keys {
			if !now.Before(until) {
				delete(q.keys, k)
			}
		}
	}
	until, known := q.keys[id]
	return known && id != "" && now.Before(until)
}

// expire drops what waits for longer than the policy says, and reports whether
// there was any.
func (q *tasks) expire(now time.Time) (any bool) {
	if q.policy.Age == 0 {
		return false
	}
	for i := range q.ready {
		q.ready[i] = slices.DeleteFunc(q.ready[i], func(t *task) bool {
			old := now.Sub(t.stored) >= q.policy.Age
			if old {
				q.count[i]--
				any = true
			}
			return old
		})
	}
	return any
}

// add puts a task behind the others of its priority.
func (q *tasks) add(t *task) {
	q.count[t.priority+1]++
	q.put(t, false)
}

// put makes a task wait for a worker, in front if it was there before.
func (q *tasks) put(t *task, front bool) {
	list := &q.ready[t.priority+1]
	if front {
		*list = slices.Insert(*list, 0, t)
	} else {
		*list = append(*list, t)
	}
	q.wake()
}

// wake tells the first who waits that there is something to take.
func (q *tasks) wake() {
	if len(q.waiting) > 0 {
		q.waiting[0] <- struct{}{} // has room: who is told is no longer waiting
		q.waiting = q.waiting[1:]
	}
}

// later keeps a message for later, or cancels one that was kept. Mu is held.
func (w *work) later(queue string, q *tasks, packet layer.Packet, how layer.Placing) (bool, error) {
	id := packet.Header.ID
	old := q.plans[id]
	switch {
	case how.Cancel:
		if old != nil {
			old.timer.Stop()
			delete(q.plans, id)
		}
		return old != nil, nil
	case old != nil && how.Every == "":
		return true, nil
	case old != nil:
		old.timer.Stop()
	case len(q.plans) >= q.policy.Capacity:
		return false, layer.ErrChannelFull
	}
	next := func(time.Time) time.Time { return time.Time{} }
	due := how.At
	if how.Every != "" {
		s, err := cron.Parse(how.Every, how.Zone)
		if err != nil {
			return false, err
		}
		next, due = s.Next, s.Next(time.Now())
	}
	p := &plan{packet: packet}
	p.timer = time.AfterFunc(time.Until(due), func() { w.due(queue, p, next) })
	q.plans[id] = p
	return false, nil
}

// due puts a message that was kept into its queue.
func (w *work) due(queue string, p *plan, next func(time.Time) time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queues[queue]
	id := p.packet.Header.ID
	if q == nil || q.plans[id] != p {
		return
	}
	now := time.Now()
	q.add(&task{packet: p.packet, stored: now})
	if again := next(now); !again.IsZero() {
		p.timer.Reset(time.Until(again))
	} else {
		delete(q.plans, id)
	}
}
