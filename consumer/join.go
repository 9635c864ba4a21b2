package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/tideway-go/tideway/layer"
)

// JoinOptions are the settings of [Conn.Join]. A nil *JoinOptions and the zero
// JoinOptions mean the defaults.
type JoinOptions struct {
	// Last is how many of the newest messages a client gets that brings no
	// position of its own. Default none: it begins with what comes next.
	Last int

	// FromStart gives such a client all that is kept.
	FromStart bool

	// Most is how many messages at most are replayed to a client that comes back;
	// one that missed more is told of a gap, with the reason far. Default 10,000.
	Most int
}

// mostReplayed is the default of JoinOptions.Most.
const mostReplayed = 10_000

func (o *JoinOptions) resolve(group string, durable bool) (JoinOptions, error) {
	var r JoinOptions
	if o != nil {
		r = *o
	}
	if r.Most == 0 {
		r.Most = mostReplayed
	}
	switch {
	case r.Last < 0 || r.Most < 0:
		return r, fmt.Errorf("consumer: join %s: JoinOptions.Last is %d and Most %d; they count messages", group, r.Last, r.Most)
	case r.Last > 0 && r.FromStart:
		return r, fmt.Errorf("consumer: join %s: JoinOptions has both Last and FromStart; choose one", group)
	case !durable && (r.Last > 0 || r.FromStart):
		return r, fmt.Errorf("consumer: join %s: JoinOptions asks for older messages: %w", group, layer.ErrNotDurable)
	}
	return r, nil
}

// Join is [Conn.GroupAdd] for a client that shall miss nothing: before the
// group's live messages it gets, through the consumer's table and in order, those
// that follow the position with which it comes back, or, if it brings none, what
// opts say. Then the live ones follow, none missing and none twice. The client's
// position is used by itself, as far as it speaks tideway.v1 and the group is
// durable; whether it may have the messages, Connect decides anew by calling Join
// or not. Where something is gone for good, the client is told of a gap, and the
// live messages follow.
//
// Join returns as soon as the connection is a member: what is replayed is handled
// like what arrives, one message at a time, at the speed of the client, and while
// that lasts the group's live messages are held back. In a group that is not
// durable it is GroupAdd, and Last and FromStart are an error. A Join of a group
// that is being joined does nothing. Errors: those of GroupAdd.
func (c *Conn) Join(ctx context.Context, group string, opts *JoinOptions) error {
	if c.setup.Layer == nil {
		return errNoLayer
	}
	o, err := opts.resolve(group, c.setup.Layer.Durable(group))
	if err != nil {
		return err
	}
	return c.enter(ctx, group, &o)
}

// GroupAdd makes the connection a member of a group until it ends, see
// [layer.Layer.GroupAdd]. It begins with what is sent from then on; [Conn.Join]
// also brings what a client missed. In a group with presence, the connection's user
// is a member from then on, see layer.Options.Presence; its [layer.PresenceJoin] and
// [layer.PresenceLeave] come through the consumer's table. Other errors:
// [ErrTooManyGroups], and [ErrNotOpen] once the connection has ended.
func (c *Conn) GroupAdd(ctx context.Context, group string) error { return c.enter(ctx, group, nil) }

// join is one group on its way from GroupAdd to live. Conn.mu guards it.
type join struct {
	group   string
	durable bool
	opts    *JoinOptions // nil: from now on, whatever the client has
	awaits  bool         // GroupAdd is under way
	untold  bool         // the client has yet to hear that it joined

	// began is the place behind which the layer delivers; zero if it is not known.
	began layer.Position

	// held says that live messages are kept back. Those of a durable group are
	// kept up to a bound, beyond which it is only noted how far to read.
	held   bool
	kept   []*layer.Message
	bytes  int
	missed layer.Position // the newest one that was not kept; zero when all are
	again  bool           // read again: something may have come before the join, or been lost on the way

	// catchUp says that the connection has joined before, and has the messages up
	// to from.
	catchUp bool
	from    layer.Position

	// behind is the first message for which the queue of a member had no room,
	// nil in a join of a newcomer; dropped is how many were left out since.
	behind  *layer.Message
	dropped int64

	// floor is how far the client has got when held ends. The process may lag
	// behind it, so up to there what arrives is a double.
	floor layer.Position
}

const (
	maxHeld      = 128       // messages that a join keeps back
	maxHeldBytes = 128 << 10 // and their bytes
	maxEarly     = 1000      // frames that wait for hello
)

// beginJoin begins to hold the messages of a group back, unless GroupAdd is all
// there is to do: nobody is to be told, and nothing replayed. Mu is held.
func (c *Conn) beginJoin(group string, fresh bool, opts *JoinOptions) {
	durable := c.setup.Layer.Durable(group)
	replays := durable && opts != nil
	if !replays && !(fresh && c.maySpeak()) {
		return
	}
	f := c.theFlow()
	if old := f.joins[group]; old != nil && old.held && !fresh {
		return
	}
	f.joins[group] = &join{group: group, durable: durable, opts: opts, awaits: true, untold: fresh, held: true}
}

// forgetJoin forgets whatever is known of a group that was left, or not joined. Mu
// is held.
func (c *Conn) forgetJoin(group string) {
	if c.flow != nil {
		delete(c.flow.joins, group)
		delete(c.flow.last, group)
	}
}

// joined goes on with the join of a group of which the connection is a member now:
// in an ordinary group the client is told, and live messages flow. Mu is held.
func (c *Conn) joined(group string, from, since layer.Position) {
	if c.flow == nil {
		return
	}
	f := c.flow
	j := f.joins[group]
	switch {
	case j == nil || !j.awaits:
	case j.durable:
		j.awaits, j.began = false, from
		j.again = j.again || since != from
		f.queue = append(f.queue, j)
		if c.accepted {
			c.replayOn()
		}
	default:
		c.announce(joinedFrame{Group: group, Outcome: outcomeLive}.bytes())
		delete(f.joins, group)
	}
}

// hold takes a message of a group that is being joined. Mu is held.
func (j *join) hold(m *layer.Message) {
	size := len(m.Data)
	switch {
	case !j.durable: // of a newcomer, on whom its sender cannot have counted: GroupAdd has yet to return
		j.dropped++
	case j.missed.IsZero() && len(j.kept) < maxHeld && j.bytes+size <= maxHeldBytes:
		j.kept = append(j.kept, m)
		j.bytes += size
	default:
		j.kept, j.bytes, j.missed = nil, 0, m.Position
	}
}

// admit takes what the joins under way are about out of what arrives, which is of
// one group: it returns what is left of the batch, nil for nothing. Mu is held.
func (f *flow) admit(b *layer.Batch) *layer.Batch {
	j := f.joins[b.Messages[0].Group]
	switch {
	case j == nil:
		return b
	case j.held:
		for _, m := range b.Messages {
			j.hold(m)
		}
		return nil
	}
	n := 0
	for n < len(b.Messages) && j.floor.Reaches(b.Messages[n].Position) {
		n++
	}
	switch n {
	case 0:
		delete(f.joins, j.group)
		return b
	case len(b.Messages):
		return nil
	}
	// The join stays, for the whole batch if it has to wait in the channel.
	return &layer.Batch{Messages: b.Messages[n:]}
}

// passed notes how far a group has been handled or forwarded, if that is of use.
// Mu is held.
func (f *flow) passed(m *layer.Message) {
	if _, ok := f.last[m.Group]; ok {
		f.last[m.Group] = m.Position
	}
}

// admitOne is admit for a message that waited in the channel. Mu is held.
func (f *flow) admitOne(m *layer.Message) bool {
	j := f.joins[m.Group]
	switch {
	case j == nil:
		return true
	case j.held:
		j.hold(m)
		return false
	case j.floor.Reaches(m.Position):
		return false
	}
	delete(f.joins, m.Group)
	return true
}

// gapped takes the word that messages of a group were lost on their way. A join
// that is under way reads again, and misses nothing; so does a connection whose
// handlers are too slow for a durable group. Else a client that speaks tideway.v1
// is told, and all are counted.
func (c *Conn) gapped(g layer.Gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.strange(g.Group) {
		return
	}
	if c.flow != nil {
		j := c.flow.joins[g.Group]
		switch {
		case j == nil:
		case j.held:
			j.again = true
			return
		case !g.At.IsZero() && j.floor.Reaches(g.At):
			return // all of it was read from the store
		default:
			delete(c.flow.joins, g.Group)
		}
		if from, ok := c.flow.last[g.Group]; ok && g.Reason == layer.GapSlow && c.accepted {
			j := &join{group: g.Group, durable: true, held: true, again: true, catchUp: true, from: from}
			c.flow.joins[g.Group] = j
			c.flow.queue = append(c.flow.queue, j)
			c.replayOn()
			return
		}
	}
	c.setup.Stats.Gaps.Add(1)
	c.announce(gapFrame(g.Group, g.Reason))
}

// announce sends a frame of the protocol, to a client that speaks it: behind
// hello, if that is yet to come. Mu is held.
func (c *Conn) announce(b []byte) {
	switch {
	case c.flow.speaks():
		c.offer(b)
	case c.maySpeak() && len(c.theFlow().early) < maxEarly:
		c.flow.early = append(c.flow.early, b)
	}
}

// errLeft says that a group was left while it was being joined.
var errLeft = errors.New("consumer: the group was left")
