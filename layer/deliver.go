package layer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// receiver is the Layer as its link sees it.
type receiver Layer

var _ Receiver = (*receiver)(nil)

// delivery is a message with what its members share, in one piece.
type delivery struct {
	Message
	shared cache
}

// newDelivery makes a message, which is yet to be parsed, of what arrived.
func newDelivery(in *Inbound) *delivery {
	m := &delivery{}
	m.init(in)
	return m
}

// init makes m a message, which is yet to be parsed, of what arrived.
func (m *delivery) init(in *Inbound) {
	m.Data, m.Group, m.Header, m.cache = in.Packet.Data, in.Subscription.Group, in.Packet.Header, &m.shared
	if in.Stamp.Epoch != 0 {
		m.Position, m.previous = in.Stamp.position(), in.Stamp.Previous
		if strings.HasPrefix(m.Header.ID, ownKey) {
			m.Header.ID = ""
		}
	}
}

// maxTogether bounds how many messages share one allocation, and so how many
// others a member may keep alive that has kept one.
const maxTogether = 8

// together returns room for the messages of one group that in begins with: all
// members get them at once, and mostly let go of them at once.
func together(in []Inbound) []delivery {
	n := 1
	for n < min(len(in), maxTogether) && in[n].Subscription == in[0].Subscription {
		n++
	}
	return make([]delivery, n)
}

// scratch is what one Deliver works with; it is used again.
type scratch struct {
	subs    []Subscription
	batches []Batch
	last    int                  // where the message before this one went
	index   map[Subscription]int // of subs, if there are several
}

var scratches = sync.Pool{New: func() any { return &scratch{index: map[Subscription]int{}} }}

// Deliver sorts a batch by group, in order, and hands each group's part to its
// members at once.
func (r *receiver) Deliver(in []Inbound) {
	l := (*Layer)(r)
	s := scratches.Get().(*scratch)
	var room []delivery
	for i := range in {
		if len(room) == 0 {
			room = together(in[i:])
		}
		m := &room[0]
		room = room[1:]
		m.init(&in[i])
		if err := l.parse(&m.Message); err != nil {
			l.malformed("group "+m.Group, 1, err)
			continue
		}
		s.add(in[i].Subscription, &m.Message)
	}
	for i, sub := range s.subs {
		l.deliverGroup(sub, &s.batches[i])
	}
	if s.reset() {
		scratches.Put(s)
	}
}

func (s *scratch) add(sub Subscription, m *Message) {
	if len(s.subs) == 0 || s.subs[s.last] != sub {
		s.last = s.find(sub)
	}
	b := &s.batches[s.last]
	b.Messages = append(b.Messages, m)
}

// find returns which batch is that of sub. Mostly all messages are of one
// group, which then need not be looked up.
func (s *scratch) find(sub Subscription) int {
	n := len(s.subs)
	if n == 1 {
		s.index[s.subs[0]] = 0
	}
	if n > 0 {
		if i, ok := s.index[sub]; ok {
			return i
		}
		s.index[sub] = n
	}
	s.subs = append(s.subs, sub)
	if n == len(s.batches) {
		s.batches = append(s.batches, Batch{})
	}
	return n
}

// maxScratch bounds the room that is kept for the next Deliver: after a flood
// of groups or messages it goes back to the collector.
const maxScratch = 1024

// reset lets go of all messages but keeps the room. It reports false when there
// is so much of it that it had better not be kept.
func (s *scratch) reset() bool {
	if len(s.subs) > maxScratch {
		return false
	}
	for i := range s.subs {
		b := &s.batches[i]
		clear(b.Messages)
		b.Messages = b.Messages[:0]
		if cap(b.Messages) > maxScratch {
			b.Messages = nil
		}
		b.cache.built.Store(nil)
	}
	clear(s.index)
	clear(s.subs)
	s.subs, s.last = s.subs[:0], 0
	return true
}

// deliverGroup hands a batch to the members of one group.
func (l *Layer) deliverGroup(sub Subscription, b *Batch) {
	l.mu.RLock()
	g := l.groups[sub.key()]
	l.mu.RUnlock()
	if g == nil {
		return // the last member left while this was under way
	}
	if g.chain == nil {
		g.turn.Lock()
		l.tellCut(g)
		l.deliverBatch(g, b)
		g.turn.Unlock()
		l.settleCut(g)
		return
	}
	if b.Messages = g.chain.admit(b.Messages); len(b.Messages) > 0 {
		l.deliverBatch(g, b)
	}
	if g.chain.admitted() {
		l.repair(g)
	}
}

// DeliverTo takes a message for one of this process's channels.
func (r *receiver) DeliverTo(channel string, p Packet) error {
	return (*Layer)(r).deliverTo(channel, p)
}

func (l *Layer) deliverTo(channel string, p Packet) error {
	l.mu.RLock()
	c := l.channels[channel]
	l.mu.RUnlock()
	if c == nil {
		return ErrNoChannel
	}
	m := newDelivery(&Inbound{Packet: p})
	if err := l.parse(&m.Message); err != nil {
		l.malformed("channel "+channel, 1, err)
		return err
	}
	taken, missed := c.deliver(&Batch{Messages: []*Message{&m.Message}})
	l.stats.delivered.Add(int64(taken))
	if missed > 0 {
		return ErrChannelFull
	}
	return nil
}

// Call answers a request of another process.
func (r *receiver) Call(ctx context.Context, request []byte) []byte {
	answer, err := json.Marshal((*Layer)(r).answer(ctx, request))
	if err != nil { // a handler returned what JSON cannot carry
		answer, _ = json.Marshal(commandAnswer{Error: &commandError{Message: err.Error()}})
	}
	return answer
}

// Report takes what happened on the link.
func (r *receiver) Report(e LinkEvent) {
	l := (*Layer)(r)
	switch e.Kind {
	case LinkDown, LinkUp, Doubtful:
		l.shelves.forget()
	}
	switch e.Kind {
	case LinkDown:
		l.setLink(fmt.Errorf("%w: %w", ErrUnavailable, orUnknown(e.Err)))
		l.log.Warn("layer: the link to the network is down", "process", l.process, "err", e.Err)
	case LinkUp:
		l.setLink(nil)
		l.log.Info("layer: the link to the network is up again", "process", l.process)
		l.probe(0)
		l.cut("")
	case LinkClosed:
		l.setLink(fmt.Errorf("%w: the link ended: %w", ErrClosed, orUnknown(e.Err)))
		l.log.Error("layer: the link to the network is closed for good", "process", l.process, "err", e.Err)
	case Dropped:
		l.stats.dropped.Add(int64(e.Count))
		l.lost.report(slog.LevelWarn, "link "+e.Group, e.Count, "layer: messages were lost because this process is too slow",
			"group", e.Group, "err", e.Err)
		l.probe(0)
		l.cut(e.Group)
	case Doubtful:
		l.probe(0)
	case Malformed:
		l.malformed("link", e.Count, e.Err)
	}
}

func orUnknown(err error) error {
	if err == nil {
		return fmt.Errorf("for an unknown reason")
	}
	return err
}

// setLink records the link's state, nil for up. A layer that was closed stays so.
func (l *Layer) setLink(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
	case err == nil:
		l.linkErr.Store(nil)
	default:
		l.linkErr.Store(&err)
	}
}

// malformed counts what arrived and is no message. It reaches nobody.
func (l *Layer) malformed(where string, n int, err error) {
	l.stats.malformed.Add(int64(n))
	l.lost.report(slog.LevelWarn, "malformed "+where, n, "layer: something that is no message arrived", "at", where, "err", err)
}

// relay returns the channel that feeds a shared channel from its groups. Mu is
// held, so that the relay cannot be retired before it is a member.
func (l *Layer) relay(shared string) *Channel {
	c := l.relays[shared]
	if c == nil {
		t := &relayTap{layer: l, shared: shared}
		c = &Channel{layer: l, name: shared, capacity: l.capacityOf(shared), tap: t}
		t.channel = c
		l.relays[shared] = c
	}
	return c
}

// retire forgets a relay that is in no group any more. Mu is held.
func (l *Layer) retire(relay *Channel) {
	relay.mu.Lock()
	defer relay.mu.Unlock()
	if len(relay.groups) == 0 {
		delete(l.relays, relay.name)
	}
}

// relayTap pushes what a relay channel gets into the shared channel. A push
// waits for the network, so it has a goroutine while there is something to do.
type relayTap struct {
	layer   *Layer
	channel *Channel
	shared  string
}

// Offer declines: nothing can be pushed without waiting.
func (t *relayTap) Offer(*Batch) bool { return false }

// Wake starts the goroutine that empties the relay.
func (t *relayTap) Wake() {
	if t.layer.begin() {
		go t.run()
	}
}

func (t *relayTap) run() {
	l := t.layer
	defer l.busy.Done()
	for {
		m, ok := t.channel.Next()
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), subscribeTimeout)
		err := l.passOn(ctx, t.shared, &Packet{Data: m.Data, Header: m.Header})
		cancel()
		if err != nil {
			l.stats.dropped.Add(1)
			l.lost.report(slog.LevelInfo, "relay "+m.Group+" "+t.shared, 1,
				fmt.Sprintf("layer: the shared channel %s missed a message of group %s", t.shared, m.Group), "err", err)
		}
	}
}
