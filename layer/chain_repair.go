package layer

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

const (
	repairPatience = 30 * time.Second
	repairRetry    = 100 * time.Millisecond
)

// repair delivers what is stored, from what was seen on, until nothing is known
// to be missing.
func (l *Layer) repair(g *group) {
	if !l.begin() {
		return
	}
	go func() {
		defer l.busy.Done()
		for {
			from, what := g.chain.missing()
			switch {
			case what == nothing, what == all && !l.land(g), what == some && !l.readOn(g, from):
				return
			}
		}
	}()
}

// missing returns what is missing, and from where to read it. It ends the repair
// when that is nothing.
func (c *chain) missing() (from Position, what absence) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.adrift && c.hole:
		c.hole = false
		return Position{}, all
	case !c.lost && c.target <= c.seen:
		c.repairing, c.hole, c.late = false, false, nil
		return Position{}, nothing
	}
	c.lost = false
	if c.seen == 0 {
		return c.place(), some
	}
	return Position{epoch: c.epoch, sequence: c.seen}, some
}

type absence int

const (
	nothing absence = iota
	some            // of what is stored
	all             // it is not known from where on
)

// readOn delivers the messages after from. It reports false when the layer is
// closed.
func (l *Layer) readOn(g *group, from Position) bool {
	ctx, cancel := context.WithTimeout(context.Background(), repairPatience)
	defer cancel()
	for {
		r, err := l.reader(ctx, g.sub.Group, from)
		for err == nil && !r.done() {
			var page []*Message
			if page, err = r.next(ctx, pageMessages); err == nil {
				l.deliverBatch(g, &Batch{Messages: page, late: g.chain.latecomers(r.epoch)})
				g.chain.advance(r.epoch, r.after)
				l.stats.repaired.Add(int64(len(page)))
				from = Position{epoch: r.epoch, sequence: r.after}
			}
		}
		var gap *GapError
		switch {
		case err == nil:
			g.chain.settle(r.epoch, r.target)
			return true
		case errors.Is(err, ErrClosed):
			return false
		case errors.As(err, &gap) && gap.Reason == GapTrimmed && from.sequence > 0:
			from = g.chain.lastPlace() // seen may have grown too old without a successor
		case errors.As(err, &gap):
			l.shelves.forget()
			at, rolledBack := l.rolledBack(ctx, g, from)
			l.reportGap(g, err, gap.Reason, at)
			if rolledBack {
				return true
			}
			from = Position{} // what is kept is later than what was seen, or of another store
		case !pause(ctx, repairRetry):
			l.reportGap(g, err, GapLink, g.chain.giveUp())
			return true
		}
	}
}

func (c *chain) lastPlace() Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place()
}

// advance notes what a repair has delivered.
func (c *chain) advance(epoch, sequence uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		c.target, c.late = 0, nil // they were of what is gone
	}
	c.epoch, c.seen = epoch, sequence
}

// settle notes that everything up to the newest message was delivered.
func (c *chain) settle(epoch, newest uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch || newest < c.seen {
		c.target, c.late = 0, nil // they were of what is gone
	}
	c.saw(epoch, newest, time.Now())
}

// rolledBack reports whether the store has lost its end, but is the same. What
// it has was delivered, as far as anybody can tell, and its end is what was seen.
func (l *Layer) rolledBack(ctx context.Context, g *group, from Position) (end Position, ok bool) {
	tail, err := l.link.Last(ctx, g.sub.Group)
	if err != nil || tail.Epoch != from.epoch || tail.Sequence >= from.sequence || tail.Sequence == 0 {
		return Position{}, false
	}
	g.chain.settle(tail.Epoch, tail.Sequence)
	return tail.position(), true
}

// giveUp goes on behind a hole that could not be read.
func (c *chain) giveUp() Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = max(c.seen, c.target)
	if c.seen == 0 {
		return c.place()
	}
	return Position{epoch: c.epoch, sequence: c.seen}
}

// reportGap tells the members that they missed messages for good, counts it and
// logs it.
func (l *Layer) reportGap(g *group, err error, reason GapReason, at Position) {
	for c := range g.roster.all() {
		c.gapped(Gap{g.sub.Group, reason, at})
	}
	l.stats.gaps.Add(1)
	l.lost.report(slog.LevelWarn, "gap "+g.sub.Group, 1,
		"layer: messages of a durable group are lost to its members here", "group", g.sub.Group, "err", err)
}
