package membus

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// DeadLetters implements layer.Link.
func (l *link) DeadLetters(_ context.Context, queue string, after uint64, limit int) (page []layer.DeadLetter, err error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	w := &l.bus.work
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.dead {
		if d.ID > after && (queue == "" || d.Queue == queue) && len(page) < limit {
			d.Message.Data = bytes.Clone(d.Message.Data)
			page = append(page, d)
		}
	}
	return page, nil
}

// letter returns the place of a dead letter. Mu is held.
func (w *work) letter(id uint64) (int, error) {
	i, found := slices.BinarySearchFunc(w.dead, id, func(d layer.DeadLetter, id uint64) int { return cmp.Compare(d.ID, id) })
	if !found {
		return 0, layer.ErrNoDeadLetter
	}
	return i, nil
}

// Replay implements layer.Link.
func (l *link) Replay(_ context.Context, id uint64) error {
	if err := l.open(); err != nil {
		return err
	}
	w := &l.bus.work
	w.mu.Lock()
	defer w.mu.Unlock()
	i, err := w.letter(id)
	if err != nil {
		return err
	}
	d := w.dead[i]
	q, err := w.tasks(d.Queue)
	if err != nil {
		return err
	}
	if q.count[d.Priority+1] >= q.policy.Capacity {
		return layer.ErrChannelFull
	}
	q.add(&task{packet: layer.Packet{Data: d.Message.Data, Header: d.Message.Header}, priority: d.Priority, stored: time.Now()})
	w.dead = slices.Delete(w.dead, i, i+1)
	return nil
}

// Drop implements layer.Link.
func (l *link) Drop(_ context.Context, id uint64) error {
	if err := l.open(); err != nil {
		return err
	}
	w := &l.bus.work
	w.mu.Lock()
	defer w.mu.Unlock()
	i, err := w.letter(id)
	if err == nil {
		w.dead = slices.Delete(w.dead, i, i+1)
	}
	return err
}

// Queues implements layer.Link.
func (l *link) Queues(context.Context) ([]layer.QueueState, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	w := &l.bus.work
	w.mu.Lock()
	defer w.mu.Unlock()
	found := map[string]*layer.QueueState{}
	at := func(queue string) *layer.QueueState {
		if found[queue] == nil {
			found[queue] = &layer.QueueState{Name: queue}
		}
		return found[queue]
	}
	for _, r := range w.rules {
		if !strings.HasSuffix(r.Pattern, ">") {
			at(r.Pattern)
		}
	}
	for name, q := range w.queues {
		q.expire(time.Now())
		if n := q.count[0] + q.count[1] + q.count[2]; n+len(q.plans) > 0 {
			s := at(name)
			s.Ready, s.Working, s.Delayed = n-q.held, q.held, len(q.plans)
		}
	}
	for _, d := range w.dead {
		at(d.Queue).Dead++
	}
	var all []layer.QueueState
	for _, s := range found {
		if i := slices.IndexFunc(w.rules, func(r layer.QueuePolicy) bool { return r.Covers(s.Name) }); i >= 0 {
			s.Policy = w.rules[i]
		}
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b layer.QueueState) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}
