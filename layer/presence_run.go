package layer

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// presences keeps the tables of this process: one for each group with presence in
// which it has members, and no others. No process knows all.
//
// A table lives by what the others say in a group of its own (see presenceMark),
// over which each process tells its own members and what changes. Nothing there
// is stored, and all of it ages: what a process said is true for the lease that it
// states, and it says so again in time. So one that was killed vanishes from all
// tables, by their own clocks, and a message that was lost shows by the next one.
//
// Joins and leaves happen under Layer.mu, thousands at once. There they are only
// put in a line, which whoever holds presences.mu works off; what they change goes
// out together, a moment later.
type presences struct {
	layer *Layer
	every time.Duration // between sweeps over all tables
	wake  chan struct{} // something is in line, or a table is hot; capacity 1
	quit  chan struct{} // closed by close
	room  chan struct{} // holds a token for each state that is being fetched

	line    sync.Mutex // guards the next four; no other lock is taken under it
	users   map[*Channel]string
	changes []presenceChange
	running bool
	closed  bool

	mu      sync.Mutex // guards all below, and the tables
	tables  map[string]*table
	hot     map[*table]struct{} // to be looked at in the next step
	version uint64
	swept   time.Duration
	cut     bool // the link was down in the last sweep
}

// presenceChange is a channel that came into a group, or left it.
type presenceChange struct {
	group, user string
	came        bool
}

const (
	gatherTime = 50 * time.Millisecond // in which changes are joined
	maxFetches = 8                     // at the same time
	reopenTime = time.Second           // after which a table tries again to hear the others
	mostAsked  = time.Second           // within which all ask after the link was down
)

func newPresences(l *Layer) *presences {
	if len(l.opts.Presence) == 0 {
		return nil
	}
	p := &presences{
		layer: l, every: time.Second,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), room: make(chan struct{}, maxFetches),
		users:  map[*Channel]string{},
		tables: map[string]*table{}, hot: map[*table]struct{}{},
	}
	for _, o := range l.opts.Presence {
		p.every = min(p.every, o.Lease/10)
		if o.Grace > 0 {
			p.every = min(p.every, max(o.Grace/10, time.Millisecond))
		}
	}
	l.OnCommand("presence", p.answer)
	return p
}

// came and left note a membership that began or ended. Layer.mu is held.
func (p *presences) came(c *Channel, group string) { p.add(c, group, true) }
func (p *presences) left(c *Channel, group string) { p.add(c, group, false) }

func (p *presences) add(c *Channel, group string, came bool) {
	p.line.Lock()
	defer p.line.Unlock()
	p.queue(presenceChange{group, p.users[c], came})
}

// queue puts changes in line. The line is held, and Layer.mu.
func (p *presences) queue(changes ...presenceChange) {
	if p.closed {
		return
	}
	p.changes = append(p.changes, changes...)
	if !p.running {
		p.running = true
		p.layer.busy.Add(1)
		go p.run()
	}
	notify(p.wake)
}

// identify makes c that user's. Layer.mu and the channel's are held.
func (p *presences) identify(c *Channel, user string) {
	p.line.Lock()
	defer p.line.Unlock()
	old := p.users[c]
	switch {
	case old == user:
		return
	case user == "":
		delete(p.users, c)
	default:
		p.users[c] = user
	}
	for _, m := range c.groups {
		if m.group.watched {
			p.queue(presenceChange{m.group.sub.Group, user, true}, presenceChange{m.group.sub.Group, old, false})
		}
	}
}

// forget lets go of a channel that has left all its groups.
func (p *presences) forget(c *Channel) {
	p.line.Lock()
	defer p.line.Unlock()
	delete(p.users, c)
}

// drain works off the line. Mu is held.
func (p *presences) drain(now time.Duration) {
	p.line.Lock()
	changes := p.changes
	p.changes = nil
	p.line.Unlock()
	clock := time.Now().UnixMilli()
	for _, c := range changes {
		t := p.tables[c.group]
		if t == nil {
			t = newTable(c.group, p.layer.presenceOf(c.group), clock)
			p.tables[c.group] = t
		}
		if c.came {
			t.came(c.user, clock)
		} else {
			t.left(c.user, now, clock)
		}
		p.hot[t] = struct{}{}
	}
}

// run is the goroutine of all tables. Without any it only waits.
func (p *presences) run() {
	defer p.layer.busy.Done()
	sweep := time.NewTicker(p.every)
	defer sweep.Stop()
	for sweeping := true; ; {
		select {
		case <-p.wake:
			if !p.gather() {
				return
			}
		case <-sweep.C:
		case <-p.quit:
			return
		}
		some := p.step()
		switch {
		case some && !sweeping:
			sweep.Reset(p.every)
		case !some:
			sweep.Stop()
		}
		sweeping = some
	}
}

// gather waits for more of what may go out together.
func (p *presences) gather() bool {
	select {
	case <-time.After(gatherTime):
		return true
	case <-p.quit:
		return false
	}
}

// presenceWork is what a step found to do, without a lock.
type presenceWork struct {
	states map[string][]*presenceState // by group
	news   []presenceNews
	open   []*table
	close  []*Channel
}

type presenceNews struct {
	group        string
	joined, left []Member
}

// step does all that is due, and reports whether there are tables.
func (p *presences) step() bool {
	p.mu.Lock()
	now := p.layer.now()
	p.drain(now)
	if now-p.swept >= p.every {
		p.sweep(now)
	}
	w := presenceWork{states: map[string][]*presenceState{}}
	for t := range p.hot {
		p.tend(t, now, &w)
	}
	clear(p.hot)
	some := len(p.tables) > 0
	p.mu.Unlock()
	p.do(&w)
	return some
}

// sweep looks at all tables. Mu is held.
func (p *presences) sweep(now time.Duration) {
	p.swept = now
	down := p.layer.Err() != nil
	for _, t := range p.tables {
		t.endGrace(now)
		switch {
		case down: // nobody can be heard: what is known stays
		case p.cut:
			p.askSoon(t, now)
			for _, h := range t.holders {
				h.until = max(h.until, now+t.policy.Lease)
			}
		default:
			t.expire(now)
		}
		if t.due(now) || len(t.events) > 0 || !t.open() && now >= t.retry || t.idle() {
			p.hot[t] = struct{}{}
		}
	}
	p.cut = down
}

// askSoon has a table ask what it may have missed; not all tables of all
// processes at the same moment. Mu is held.
func (p *presences) askSoon(t *table, now time.Duration) {
	if t.ask == 0 {
		t.ask = now + 1 + rand.N(min(mostAsked, t.policy.Lease/10))
	}
}

// tend finds out what is to be done for a table. Mu is held.
func (p *presences) tend(t *table, now time.Duration, w *presenceWork) {
	if p.tables[t.group] != t {
		return
	}
	if states := t.tell(now, p.layer.process, p.next); len(states) > 0 {
		w.states[t.group] = states
	}
	if joined, left := t.news(now); len(joined)+len(left) > 0 {
		w.news = append(w.news, presenceNews{t.group, joined, left})
	}
	switch {
	case t.opening:
	case t.idle(), !t.open() && len(t.own) == 0 && t.home.nobody == 0:
		delete(p.tables, t.group)
		if t.open() {
			w.close = append(w.close, t.channel)
		}
	case !t.open() && now >= t.retry:
		t.opening = true
		w.open = append(w.open, t)
	}
}

// next returns a version that was never used before. Mu is held.
func (p *presences) next() uint64 {
	p.version++
	return p.version
}

// do does what needs the network or the members. No lock is held.
func (p *presences) do(w *presenceWork) {
	for group, states := range w.states {
		p.publish(group, states)
	}
	for _, n := range w.news {
		p.deliver(n)
	}
	for _, t := range w.open {
		if p.layer.begin() {
			go p.open(t)
		}
	}
	for _, c := range w.close {
		c.Close()
	}
}

// publish tells the others. What is lost they ask for when they hear the next.
func (p *presences) publish(group string, states []*presenceState) {
	ctx, cancel := context.WithTimeout(context.Background(), subscribeTimeout)
	defer cancel()
	for _, s := range states {
		data, err := Encode(s)
		if err != nil {
			panic(err) // names, numbers and strings that are UTF-8
		}
		if p.layer.link.Publish(ctx, presenceMark+group, &Packet{Data: data}) != nil {
			return
		}
	}
}

// atOnce is how many members one message names.
const atOnce = 100

// deliver tells the members of a group who are in this process.
func (p *presences) deliver(n presenceNews) {
	l := p.layer
	l.mu.RLock()
	g := l.groups[n.group]
	l.mu.RUnlock()
	if g == nil {
		return
	}
	var b Batch
	for some := range slices.Chunk(n.left, atOnce) {
		for i := range some {
			some[i].Connections = 0
		}
		b.Messages = append(b.Messages, made(PresenceLeave{n.group, some}))
	}
	for some := range slices.Chunk(n.joined, atOnce) {
		b.Messages = append(b.Messages, made(PresenceJoin{n.group, some}))
	}
	l.deliverBatch(g, &b)
}

// made is a message that did not come from the network.
func made(p Payload) *Message {
	data, err := Encode(p)
	if err != nil {
		panic(err) // names, numbers and strings that are UTF-8
	}
	m := newDelivery(&Inbound{Packet: Packet{Data: data}})
	m.Type = p.MessageType()
	return &m.Message
}
