package layer

import (
	"slices"
	"sync"
	"time"
)

// leave takes c, or with nil every member, out of a group.
func (l *Layer) leave(sub Subscription, c *Channel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[sub.key()]
	switch {
	case g == nil:
	case c != nil:
		l.remove(g, c)
	default:
		for m := range g.roster.all() {
			l.remove(g, m)
		}
	}
}

// remove takes c out of g, if it is in. Mu is held.
func (l *Layer) remove(g *group, c *Channel) {
	if !c.leave(g) {
		return
	}
	if g.sub.Relay != "" {
		l.retire(c)
	}
	l.checkEmpty(g)
}

// departures are the channels that were closed and are still on the books. When
// thousands end at once, each would wait for Layer.mu behind all the others, and
// the dispatch shards between them, for a hold that is far shorter than the way
// to it. So one of them does the work of all who came meanwhile.
type departures struct {
	mu   sync.Mutex // guards all below
	busy bool       // somebody does the work
	line []departure
	done chan struct{} // closed when those in line have left; nil while there are none
}

type departure struct {
	channel *Channel
	groups  []membership
}

// forget takes a channel that was closed out of the layer and its groups.
func (l *Layer) forget(c *Channel, groups []membership) {
	d := &l.departures
	d.mu.Lock()
	if d.busy {
		if d.done == nil {
			d.done = make(chan struct{})
		}
		done := d.done
		d.line = append(d.line, departure{c, groups})
		d.mu.Unlock()
		<-done
		return
	}
	d.busy = true
	d.mu.Unlock()
	l.strike(departure{c, groups})
	for {
		line, done := d.next()
		if done == nil {
			return
		}
		for some := range slices.Chunk(line, strikes) {
			l.strike(some...)
		}
		close(done)
	}
}

// strikes bounds for how many departures Layer.mu is held at a time.
const strikes = 64

// next returns those who came meanwhile; without any the work is done.
func (d *departures) next() (line []departure, done chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	line, done = d.line, d.done
	d.line, d.done = nil, nil
	d.busy = done != nil
	return line, done
}

// strike takes closed channels off the books.
func (l *Layer) strike(line ...departure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range line {
		delete(l.channels, d.channel.name)
		for _, m := range d.groups {
			if m.group.roster.remove(m.page, d.channel, len(line) > 1) {
				l.checkEmpty(m.group)
			}
			if m.group.watched {
				l.presence.left(d.channel, m.group.sub.Group)
			}
		}
		if l.presence != nil {
			l.presence.forget(d.channel)
		}
	}
}

// checkEmpty lets a live group without members leave after Linger. Mu is held.
func (l *Layer) checkEmpty(g *group) {
	if g.state != live || g.roster.size > 0 || l.closed {
		return
	}
	g.emptied = l.now()
	l.empty = append(l.empty, emptied{g, g.emptied})
	l.leaveLater()
}

// leaveLater arms the sweep of empty groups. Mu is held.
func (l *Layer) leaveLater() {
	if l.leaving || len(l.empty) == 0 || l.closed {
		return
	}
	l.leaving = true
	linger := max(l.opts.Linger, 0)
	l.leaveTimer = time.AfterFunc(l.empty[0].at+linger-l.now(), func() {
		l.leaveEmpty(linger)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leaving = false
		l.leaveLater()
	})
}

// leaveEmpty unsubscribes from the groups that have been empty for linger.
func (l *Layer) leaveEmpty(linger time.Duration) {
	if !l.begin() {
		return
	}
	defer l.busy.Done()
	for _, g := range l.beginLeaving(linger) {
		l.endLeaving(g)
	}
}

// endLeaving ends the subscription of a group whose leaving has begun.
func (l *Layer) endLeaving(g *group) {
	l.link.Unsubscribe(g.sub) // it fails when the link is down, which ends it too
	l.mu.Lock()
	delete(l.groups, g.sub.key())
	l.mu.Unlock()
	close(g.settled)
}

// leaveNow unsubscribes from a relay's group without lingering: as long as this
// process is subscribed, the bus gives it messages that are then missed by the
// relay of another process. The sweep of empty groups passes over it.
func (l *Layer) leaveNow(sub Subscription) {
	if !l.begin() {
		return
	}
	defer l.busy.Done()
	l.mu.Lock()
	g := l.groups[sub.key()]
	if g == nil || g.state != live || g.roster.size > 0 {
		l.mu.Unlock()
		return
	}
	g.state, g.settled = leaving, make(chan struct{})
	l.mu.Unlock()
	l.endLeaving(g)
}

func (l *Layer) beginLeaving(linger time.Duration) (due []*group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.now() - linger
	for len(l.empty) > 0 && l.empty[0].at <= limit {
		g, at := l.empty[0].group, l.empty[0].at
		l.empty = l.empty[1:]
		if g.state == live && g.roster.size == 0 && g.emptied == at {
			g.state, g.settled = leaving, make(chan struct{})
			due = append(due, g)
		}
	}
	if len(l.empty) == 0 {
		l.empty = nil
	}
	return due
}
