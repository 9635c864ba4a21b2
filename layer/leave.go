package layer

import (
	"time"
)

// leave takes c, or with nil every member, out of a group.
func (l *Layer) leave(sub Subscription, c *Channel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[sub]
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

// forget takes a channel that was closed out of the layer and its groups.
func (l *Layer) forget(c *Channel, groups []membership) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.channels, c.name)
	for _, m := range groups {
		m.group.roster.remove(m.page, c)
		l.checkEmpty(m.group)
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
	delete(l.groups, g.sub)
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
	g := l.groups[sub]
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
