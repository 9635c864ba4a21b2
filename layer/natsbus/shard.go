package natsbus

import (
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// shard takes the messages of some groups from the connection, in order.
type shard struct {
	in chan *nats.Msg

	mu      sync.RWMutex      // guards entries
	entries map[string]*entry // by their key
}

// groupKey is a subscription as NATS sees it.
type groupKey struct{ subject, queue string }

// key is the key in one string, which takes half of the room: mostly there is no
// queue. No subject holds a space.
func (k groupKey) key() string {
	if k.queue == "" {
		return k.subject
	}
	return k.subject + " " + k.queue
}

// entry is one subscription of the link. That of the process's own channels and
// calls has no group.
type entry struct {
	subscription layer.Subscription
	history      *history           // nil for an ordinary group
	sub          *nats.Subscription // nil at first; guarded by the shard's mutex until Subscribe returns
	lost         int                // reported so far; guarded by the link's drops.mu
}

// maxBatch bounds how many messages are delivered in one call.
const maxBatch = 512

func newShard(pending int) *shard {
	return &shard{in: make(chan *nats.Msg, pending), entries: make(map[string]*entry)}
}

// add makes an entry before its NATS subscription exists, since a message may
// arrive before that call returns.
func (s *shard) add(key groupKey, sub layer.Subscription, h *history) (e *entry, isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key.key()]; e != nil {
		return e, false
	}
	e = &entry{subscription: sub, history: h}
	s.entries[key.key()] = e
	return e, true
}

func (s *shard) remove(key groupKey) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key.key()]
	delete(s.entries, key.key())
	return e
}

func (s *shard) set(e *entry, sub *nats.Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.sub = sub
}

// owner returns the entry of a NATS subscription, or nil.
func (s *shard) owner(sub *nats.Subscription) *entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.entries[groupKey{sub.Subject, sub.Queue}.key()]; e != nil && e.sub == sub {
		return e
	}
	return nil
}

// clear removes all entries and returns their NATS subscriptions.
func (s *shard) clear() []*nats.Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*nats.Subscription, 0, len(s.entries))
	for _, e := range s.entries {
		if e.sub != nil {
			all = append(all, e.sub)
		}
	}
	clear(s.entries)
	return all
}

// dispatch is a shard's goroutine.
func (l *link) dispatch(s *shard) {
	var c collector
	for {
		select {
		case m := <-s.in:
			c.collect(s, m)
		case <-l.quit:
			return
		}
		if len(c.batch) > 0 {
			l.receiver.Deliver(c.batch)
		}
		for _, e := range c.bad {
			l.report(e)
		}
		c.reset()
	}
}

// collector makes a batch of what is waiting. Its slices are used again.
type collector struct {
	batch []layer.Inbound
	bad   []layer.LinkEvent
}

// collect takes m and all that is waiting behind it, up to a bound.
func (c *collector) collect(s *shard, m *nats.Msg) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var e *entry
	for last := (*nats.Subscription)(nil); ; {
		if m.Sub != last {
			e, last = s.entries[groupKey{m.Subject, m.Sub.Queue}.key()], m.Sub
		}
		if e != nil { // else its subscription has ended while it was under way
			c.add(e, m)
		}
		if len(c.batch) >= maxBatch || len(c.bad) >= maxBatch {
			return
		}
		select {
		case m = <-s.in:
		default:
			return
		}
	}
}

func (c *collector) add(e *entry, m *nats.Msg) {
	data, err := toJSON(m.Data)
	if err != nil {
		c.bad = append(c.bad, layer.LinkEvent{
			Kind: layer.Malformed, Group: e.subscription.Group, Count: 1, Err: malformed(m, err),
		})
		return
	}
	in := layer.Inbound{Subscription: e.subscription, Packet: layer.Packet{Data: data}}
	switch {
	case e.history != nil:
		if !e.history.stamp(&in, m) {
			return // a stranger's, who may not publish there
		}
	case m.Header != nil:
		in.Packet.Header, _ = readHeader(m.Header)
	}
	c.batch = append(c.batch, in)
}

// malformed names the subject, by which an operator finds who sends that.
func malformed(m *nats.Msg, err error) error {
	return fmt.Errorf("natsbus: on subject %s: %w", m.Subject, err)
}

// reset lets go of the messages.
func (c *collector) reset() {
	clear(c.batch)
	clear(c.bad)
	c.batch, c.bad = c.batch[:0], c.bad[:0]
}
