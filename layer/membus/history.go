package membus

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// history holds the messages of the groups of one policy. The bus's mutex guards
// it.
type history struct {
	policy layer.Retention
	epoch  uint64
	last   uint64 // the newest message of any group
	groups map[string][]kept
	keys   map[key]known
	queue  []key // in the order in which they will be forgotten
	swept  time.Time
}

type kept struct {
	packet   layer.Packet
	sequence uint64
	at       time.Time
}

// key is an idempotency key, which counts within its group.
type key struct{ group, id string }

type known struct {
	sequence uint64
	until    time.Time
}

// Retain implements layer.Link. It keeps one message more than the policy says,
// by which a position right before those can be checked.
func (l *link) Retain(_ context.Context, policies []layer.Retention) ([]layer.Retention, error) {
	b := l.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range policies {
		for _, h := range b.histories {
			if p != h.policy && p.Overlaps(h.policy) {
				return nil, fmt.Errorf("membus: the network keeps %v, and this process states %v: use the same in all", h.policy, p)
			}
		}
	}
	for _, p := range policies {
		if !slices.ContainsFunc(b.histories, func(h *history) bool { return h.policy == p }) {
			b.histories = append(b.histories, &history{
				policy: p, epoch: rand.Uint64() | 1, groups: map[string][]kept{}, keys: map[key]known{}, swept: time.Now(),
			})
		}
	}
	var all []layer.Retention
	for _, h := range b.histories {
		all = append(all, h.policy)
	}
	return all, nil
}

// Store implements layer.Link.
func (l *link) Store(_ context.Context, group string, p *layer.Packet, after *layer.Stamp) (layer.Stamp, bool, error) {
	if err := l.open(); err != nil {
		return layer.Stamp{}, false, err
	}
	stamp, duplicate, full, err := l.bus.publish(group, p, after)
	if err != nil {
		return layer.Stamp{}, false, err
	}
	for _, o := range full {
		o.overrun(group)
	}
	return stamp, duplicate, nil
}

// Read implements layer.Link.
func (l *link) Read(_ context.Context, group string, after uint64, limit int) (page layer.Page, err error) {
	if err := l.open(); err != nil {
		return page, err
	}
	l.bus.mu.Lock()
	defer l.bus.mu.Unlock()
	h := l.bus.history(group)
	if h == nil {
		return page, layer.ErrNotDurable
	}
	page.Epoch = h.epoch
	all := h.trim(group, time.Now())
	i, found := slices.BinarySearchFunc(all, after, func(k kept, sequence uint64) int {
		return cmp.Compare(k.sequence, sequence)
	})
	if found {
		i, page.Anchored = i+1, true
	}
	n := min(limit, len(all)-i)
	for _, k := range all[i : i+n] {
		page.Messages = append(page.Messages, layer.Inbound{
			Subscription: layer.Subscription{Group: group},
			Packet:       layer.Packet{Data: bytes.Clone(k.packet.Data), Header: k.packet.Header},
			Stamp:        layer.Stamp{Epoch: h.epoch, Sequence: k.sequence},
		})
	}
	page.Left = len(all) - i - n
	return page, nil
}

// Last implements layer.Link.
func (l *link) Last(_ context.Context, group string) (layer.Stamp, error) {
	if err := l.open(); err != nil {
		return layer.Stamp{}, err
	}
	l.bus.mu.Lock()
	defer l.bus.mu.Unlock()
	h := l.bus.history(group)
	if h == nil {
		return layer.Stamp{}, layer.ErrNotDurable
	}
	return layer.Stamp{Epoch: h.epoch, Sequence: newest(h.trim(group, time.Now()))}, nil
}

// history returns what keeps a group's messages, or nil. Mu is held.
func (b *Bus) history(group string) *history {
	for _, h := range b.histories {
		if h.policy.Covers(group) {
			return h
		}
	}
	return nil
}

func newest(all []kept) uint64 {
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].sequence
}

// add stores p, unless a message with its key is known, or the group is not
// where it was to be.
func (h *history) add(group string, p layer.Packet, after *layer.Stamp) (s layer.Stamp, duplicate bool, err error) {
	now := time.Now()
	h.forget(now)
	k := key{group, p.Header.ID}
	if known, ok := h.keys[k]; ok && k.id != "" {
		return layer.Stamp{Epoch: h.epoch, Sequence: known.sequence}, true, nil
	}
	all := h.trim(group, now)
	if after != nil && (after.Epoch != 0 && after.Epoch != h.epoch || after.Sequence != newest(all)) {
		return s, false, layer.ErrConflict
	}
	h.last++
	s = layer.Stamp{Epoch: h.epoch, Sequence: h.last, Previous: newest(all)}
	if len(all) > h.policy.Messages {
		all = drop(all, 1)
	}
	h.groups[group] = append(all, kept{p, h.last, now})
	if k.id != "" {
		h.keys[k] = known{h.last, now.Add(h.policy.Window())}
		h.queue = append(h.queue, k)
	}
	return s, false, nil
}

// trim drops what is too old from a group, and from all groups now and then.
func (h *history) trim(group string, now time.Time) []kept {
	if now.Sub(h.swept) > h.policy.Age/2 {
		h.swept = now
		for name := range h.groups {
			h.trim(name, now)
		}
	}
	all := h.groups[group]
	n := 0
	for n < len(all) && now.Sub(all[n].at) >= h.policy.Age {
		n++
	}
	all = drop(all, n)
	if len(all) == 0 {
		delete(h.groups, group)
	} else {
		h.groups[group] = all
	}
	return all
}

// drop lets go of the first n.
func drop(all []kept, n int) []kept {
	clear(all[:n])
	return all[n:]
}

// forget drops the keys whose time is up.
func (h *history) forget(now time.Time) {
	for len(h.queue) > 0 && !now.Before(h.keys[h.queue[0]].until) {
		delete(h.keys, h.queue[0])
		h.queue = h.queue[1:]
	}
}
