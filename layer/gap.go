package layer

import (
	"fmt"
	"slices"
)

// GapReason is why messages of a group cannot be had.
type GapReason string

const (
	// GapTrimmed: the message at the position is no longer kept, so what
	// followed it may be gone, too.
	GapTrimmed GapReason = "trimmed"
	// GapReset: the position is not of this store, which was made anew or lost
	// its end.
	GapReset GapReason = "reset"
	// GapLink: the process was cut off from the network, or too slow for it, for
	// some time.
	GapLink GapReason = "link"
	// GapSlow: the channel was full, or its messages waited too long.
	GapSlow GapReason = "slow"
)

// GapError reports that what follows a position is not there in full. Whoever
// gets it has to fetch the state anew, and go on from [Layer.Position].
type GapError struct {
	Group  string
	From   Position
	Reason GapReason
}

// Error names the group, the position and the reason.
func (e *GapError) Error() string {
	why := "messages after it are no longer kept"
	if e.Reason == GapReset {
		why = "the store was made anew since"
	}
	return fmt.Sprintf("layer: history of group %s from position %s: %s (%s); fetch the state anew", e.Group, e.From, why, e.Reason)
}

// Gap says that a member of a group missed messages, or may have.
type Gap struct {
	Group  string
	Reason GapReason

	// At is the place from which delivery goes on: [Layer.History] from there
	// returns what the member gets next. It is the zero Position in a group that
	// is not durable, and where delivery goes on from the oldest that is kept.
	At Position
}

// GapTap is a [Tap] that wants to know of gaps in the groups of its channel.
type GapTap interface {
	Tap

	// Gapped is called when the channel missed messages of a group: behind the
	// last that came before the gap, and before the first that came after it,
	// once for all that were missed in between. It is called by whoever delivers
	// the group's messages, between its batches, or by [Channel.Next], if
	// messages wait in the channel. It must not block.
	Gapped(g Gap)
}

// cut tells the members of an ordinary group, of all for "", that messages may
// have been lost on the way to this process. The chains of durable groups find
// out for themselves.
func (l *Layer) cut(name string) {
	var all []*group
	l.mu.RLock()
	for _, g := range l.groups {
		if g.chain == nil && g.sub.Relay == "" && (name == "" || g.sub.Group == name) {
			all = append(all, g)
		}
	}
	l.mu.RUnlock()
	for _, g := range all {
		g.missed.Store(true)
		l.settleCut(g)
	}
}

// settleCut tells g's members, unless a batch is being delivered: whoever does
// that comes here afterwards.
func (l *Layer) settleCut(g *group) {
	for g.missed.Load() && g.turn.TryLock() {
		l.tellCut(g)
		g.turn.Unlock()
	}
}

// tellCut tells g's members if they are to be told. The caller holds g.turn.
func (l *Layer) tellCut(g *group) {
	if !g.missed.Load() || !g.missed.Swap(false) {
		return
	}
	for c := range g.roster.all() {
		c.gapped(Gap{Group: g.sub.Group, Reason: GapLink})
	}
}

// gapLine is the gaps that wait in a channel, each between two messages.
type gapLine struct {
	waiting []waitingGap // in order
	popped  int          // how many messages have left the queue since the line began
}

type waitingGap struct {
	Gap
	behind int // how many messages, of those that leave the queue, come before it
}

// gapped tells the channel's tap of a gap, behind what waits already. Messages
// of the group are not delivered meanwhile.
func (c *Channel) gapped(g Gap) {
	t, ok := c.tap.(GapTap)
	if !ok {
		return
	}
	c.mu.Lock()
	at, closed := c.at, c.closed
	if at && !closed {
		c.addGap(g)
	}
	c.mu.Unlock()
	if !at && !closed {
		t.Gapped(g)
	}
}

// missed notes that a message did not fit. Mu is held.
func (c *Channel) missed(m *Message) {
	if _, ok := c.tap.(GapTap); ok && m.Group != "" {
		c.addGap(Gap{m.Group, GapSlow, m.Position})
	}
}

// addGap puts a gap behind the messages that wait, or makes the last one larger
// if no message of its group has come since. Mu is held.
func (c *Channel) addGap(g Gap) {
	if c.gaps == nil {
		c.gaps = &gapLine{}
	}
	l := c.gaps
	for i := len(l.waiting) - 1; i >= 0; i-- {
		w := &l.waiting[i]
		if w.Group != g.Group {
			continue
		}
		if since := max(w.behind-l.popped, 0); !c.queue.has(g.Group, since) {
			w.Gap = g
			return
		}
		break
	}
	l.waiting = append(l.waiting, waitingGap{g, l.popped + c.queue.len()})
}

// lapsed notes that a message was dropped from the head of the queue. Mu is held.
func (c *Channel) lapsed(m *Message) {
	if _, ok := c.tap.(GapTap); !ok || m.Group == "" {
		return
	}
	if c.gaps == nil {
		c.gaps = &gapLine{}
	}
	l, g := c.gaps, Gap{m.Group, GapSlow, m.Position}
	i := 0
	for ; i < len(l.waiting) && l.waiting[i].behind <= l.popped; i++ {
		if l.waiting[i].Group == g.Group {
			l.waiting[i].Gap = g
			return
		}
	}
	l.waiting = slices.Insert(l.waiting, i, waitingGap{g, l.popped})
}

// popGap takes the gap that stands before the oldest message, or nil. Mu is held.
func (c *Channel) popGap() *Gap {
	l := c.gaps
	if l == nil || l.waiting[0].behind > l.popped {
		return nil
	}
	g := l.waiting[0].Gap
	if l.waiting = l.waiting[1:]; len(l.waiting) == 0 {
		c.gaps = nil
	}
	return &g
}

// has reports whether a message of group is among those behind the first n.
func (q *fifo) has(group string, n int) bool {
	return slices.ContainsFunc(q.items[q.head+n:], func(m queued) bool { return m.message.Group == group })
}
