package layer

import (
	"context"
	"errors"
	"sync"
	"time"
)

// chain follows the messages of one durable group in this process. Each names
// the one before it, so a message that was lost on the way shows as soon as the
// next one comes, and the tail is asked for where none may come. The hole is
// read from the store once, for all members, before anything later is delivered.
//
// At any time one goroutine at most delivers: the group's shard, or a repair,
// which takes over when the shard has met a hole. While it runs, the shard only
// notes how far to read: what arrives is in the store, too.
//
// A member gets what is newer than anything that was known to be stored when it
// joined, all of it or a gap; it may get some that is older, with its position.
type chain struct {
	age time.Duration // how long messages are kept

	mu         sync.Mutex // guards all below
	epoch      uint64     // 0 until the tail is known or a message came
	seen       uint64     // the newest message that was delivered
	arrived    time.Time  // when seen was delivered, or found
	confirmed  time.Time  // when seen was known to be the newest there was
	target     uint64     // the newest message known to be stored
	hole       bool       // a repair is due when the shard is done
	lost       bool       // what is stored does not follow what was seen
	delivering bool       // the shard is at it
	repairing  bool       // a repair is at it
	adrift     bool       // members joined, and what was the newest then is not known

	late map[*Channel]uint64 // who joined during the repair, and the newest message known then
}

// admit takes what the shard is to deliver now: the messages that follow what
// was seen. Doubles are dropped. It keeps the order and uses ms again.
func (c *chain) admit(ms []*Message) []*Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	newest := ms[len(ms)-1].Position
	if c.repairing {
		c.note(newest.epoch, newest.sequence)
		return nil
	}
	c.delivering = true
	admitted, now := ms[:0], time.Now()
	for _, m := range ms {
		switch p := m.Position; {
		case c.epoch == p.epoch && p.sequence <= c.seen:
			continue
		case c.adrift, !c.follows(m):
			c.hole = true
			c.note(newest.epoch, newest.sequence)
			return admitted
		default:
			c.saw(p.epoch, p.sequence, now)
			admitted = append(admitted, m)
		}
	}
	return admitted
}

// saw notes what is the newest. Mu is held.
func (c *chain) saw(epoch, sequence uint64, now time.Time) {
	c.epoch, c.seen, c.arrived, c.confirmed = epoch, sequence, now, now
}

// follows reports whether no message is missing between what was seen and m. Mu
// is held.
func (c *chain) follows(m *Message) bool {
	switch {
	case c.epoch == 0:
		return true // it is the first since the join
	case c.epoch != m.Position.epoch:
		return false
	case m.previous == 0:
		// The one before it is no longer kept. If that was another than the one
		// that was seen, it came and went since seen was the newest.
		return c.seen == 0 || time.Since(c.confirmed) < surely(c.age)
	}
	return m.previous == c.seen
}

// note remembers how far to read. Mu is held.
func (c *chain) note(epoch, sequence uint64) {
	if epoch != c.epoch {
		c.lost = !c.adrift
		return
	}
	c.target = max(c.target, sequence)
}

// admitted ends what admit began, and reports whether the caller has to repair.
func (c *chain) admitted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delivering = false
	return c.due()
}

// due begins a repair if one is needed and nobody delivers. Mu is held.
func (c *chain) due() bool {
	if !c.hole || c.delivering || c.repairing {
		return false
	}
	c.hole, c.repairing = c.adrift, true
	return true
}

// quiet returns for how long it has been unknown whether seen is the newest.
func (c *chain) quiet() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.confirmed)
}

// state returns what was seen.
func (c *chain) state() (epoch, seen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch, c.seen
}

// probed takes the tail, which was asked for when epoch and seen were the state,
// and reports whether the caller has to repair.
func (c *chain) probed(tail Stamp, epoch, seen uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch now := time.Now(); {
	case c.adrift:
		c.hole = true
	case c.epoch == 0:
		c.saw(tail.Epoch, tail.Sequence, now)
	case tail.Epoch != c.epoch, epoch == c.epoch && c.shrank(tail.Sequence, seen):
		c.lost, c.hole = true, true
	case tail.Sequence > c.seen:
		c.hole = true
		c.note(tail.Epoch, tail.Sequence)
	case tail.Sequence == c.seen,
		tail.Sequence == 0 && now.Sub(c.confirmed) < surely(c.age): // a newer one cannot have come and gone
		c.confirmed = now
	}
	return c.due()
}

// shrank reports whether the store lost its end: its newest message is older
// than what was seen before, which cannot have grown too old. Mu is held.
func (c *chain) shrank(tail, seen uint64) bool {
	return tail < seen && (tail > 0 || time.Since(c.arrived) < surely(c.age))
}

// anchor makes the tail what was seen, so that the first message after a join is
// checked like all others. Without an answer the first news of the group tells
// the members of a gap: what was sent before it may be lost.
func (l *Layer) anchor(ctx context.Context, g *group) {
	ctx, cancel := context.WithTimeout(ctx, subscribeTimeout/5)
	defer cancel()
	tail, err := l.link.Last(ctx, g.sub.Group)
	switch {
	case err != nil && g.chain.drift(), err == nil && g.chain.probed(tail, 0, 0):
		l.repair(g)
	}
}

// drift notes that it is not known what was the newest message at a join. It
// reports whether the caller has to repair that.
func (c *chain) drift() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.adrift = c.epoch == 0
	c.hole = c.hole || c.adrift
	return c.due()
}

// land ends being adrift: the tail becomes what was seen, and the members are
// told of a gap before it. It reports false when the layer is closed.
func (l *Layer) land(g *group) bool {
	ctx, cancel := context.WithTimeout(context.Background(), repairPatience)
	defer cancel()
	for {
		tail, err := l.link.Last(ctx, g.sub.Group)
		switch {
		case err == nil:
			g.chain.landed(tail)
			l.reportGap(g, errAdrift, GapLink, tail.position())
			return true
		case errors.Is(err, ErrClosed):
			return false
		case !pause(ctx, repairRetry):
			return true // the next message tries again
		}
	}
}

var errAdrift = errors.New("the store did not answer when the first member joined")

func (c *chain) landed(tail Stamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.adrift, c.late = false, nil
	c.saw(tail.Epoch, tail.Sequence, time.Now())
}

// maxProbes is how many tails are asked for at the same time.
const maxProbes = 16

// probeQuiet asks, from time to time, for the tails of the groups from which
// nothing came: the last message of a quiet group has no successor that would
// show its loss.
func (l *Layer) probeQuiet() {
	if len(l.policies) == 0 {
		return
	}
	every := maxQuiet
	for _, p := range l.policies {
		every = min(every, p.Age/4)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.probeTimer = time.AfterFunc(every, func() {
			l.probe(every)
			l.probeQuiet()
		})
	}
}

// maxQuiet is how long a lost message of a quiet group may stay unnoticed.
const maxQuiet = time.Minute

// probe compares the tails of the durable groups that were quiet for so long
// with what was seen. It does not wait for the network.
func (l *Layer) probe(quiet time.Duration) {
	l.mu.RLock()
	var all []*group
	for _, g := range l.groups {
		if g.chain != nil && g.state == live && g.chain.quiet() >= quiet {
			all = append(all, g)
		}
	}
	l.mu.RUnlock()
	if len(all) == 0 || !l.begin() {
		return
	}
	go func() {
		defer l.busy.Done()
		room := make(chan struct{}, maxProbes)
		var asking sync.WaitGroup
		for _, g := range all {
			room <- struct{}{}
			asking.Go(func() {
				l.probeGroup(g)
				<-room
			})
		}
		asking.Wait()
	}()
}

func (l *Layer) probeGroup(g *group) {
	ctx, cancel := context.WithTimeout(context.Background(), repairPatience)
	defer cancel()
	for {
		epoch, seen := g.chain.state()
		tail, err := l.link.Last(ctx, g.sub.Group)
		switch {
		case err == nil:
			if g.chain.probed(tail, epoch, seen) {
				l.repair(g)
			}
			return
		case errors.Is(err, ErrClosed) || !pause(ctx, repairRetry):
			return // whatever comes next on a link that works is checked
		}
	}
}
