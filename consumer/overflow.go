package consumer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Policy says what happens to messages of a group that are forwarded to a client
// whose queue has no room for them: [CloseSlow], [Drop], [Gap] or [Latest]. See
// [Overflow]. The zero Policy is CloseSlow.
type Policy struct {
	name string // "" is to close
	key  func(*layer.Message) string
}

// CloseSlow closes the connection with 4108, behind which a client comes back and
// resumes. It is what happens in all groups for which a table has no [Overflow].
func CloseSlow() Policy { return Policy{} }

// Drop leaves out what does not fit, and counts it. The client is not told. It
// fits messages that the next ones make up for.
func Drop() Policy { return Policy{name: "drop"} }

// Gap leaves out what comes until the client has read most of its queue, and
// tells a client that speaks tideway.v1, with a gap frame whose reason is slow.
func Gap() Policy { return Policy{name: "gap"} }

// Latest keeps, of M's messages with the same key, the newest that the client was
// not sent yet. It takes the place of the older one, so that every key has its
// turn, and no older value comes after a newer one. The key is computed once per
// process and message. A message of another type, or one that does not decode,
// replaces nothing. Where the keys alone are too many for the queue, the
// connection is closed as by [CloseSlow].
func Latest[M layer.Payload](key func(M) string) Policy {
	typ := typeOf[M]("Latest")
	return Policy{"latest", func(m *layer.Message) string {
		var v M
		if m.Type != typ || m.Decode(&v) != nil {
			return ""
		}
		k := ""
		if guard(func() error { k = key(v); return nil }) != nil {
			return ""
		}
		return m.Group + "\x00" + typ + "\x00" + k
	}}
}

// Overflow is a line of a [Table] that says what happens to the messages of some
// groups when a client reads them too slowly, so that its queue is full. The
// pattern is that of [layer.Retention]: the name of a group, or the front of names
// and ">" for what follows. Of two patterns that cover a group the longer one
// counts. It is about messages that [Forward] and [Render] pass on; a handler of
// [On] sends at its client's speed.
//
// A client that reads nothing at all for the write timeout is closed under every
// policy. Messages of a durable group are never left out: under each policy but
// CloseSlow they are read from the store as soon as there is room, in order and
// without a hole.
func Overflow[C any](pattern string, p Policy) Handler[C] {
	front, open := strings.CutSuffix(pattern, ">")
	switch {
	case pattern == ">":
	case open && !strings.HasSuffix(front, "."):
		panic(fmt.Sprintf(`consumer: Overflow has the pattern %q; ">" stands alone or behind a period, as in "quotes.>"`, pattern))
	default:
		if err := layer.CheckGroup(strings.TrimSuffix(front, ".")); err != nil {
			panic(fmt.Sprintf("consumer: Overflow has the pattern %q: %v", pattern, err))
		}
	}
	return Handler[C]{&handler{rule: &rule{layer.Retention{Pattern: pattern}, p}}}
}

// rule is the policy of the groups that a pattern covers.
type rule struct {
	groups layer.Retention // for its pattern
	Policy
}

// addRule adds a line of the table, the longest pattern first: an exact one comes
// before one that ends with ">" in any case.
func (t *table) addRule(r *rule) {
	for _, o := range t.rules {
		if o.groups.Pattern == r.groups.Pattern {
			panic(fmt.Sprintf("consumer: Table has two Overflows for the pattern %q", r.groups.Pattern))
		}
	}
	t.rules = append(t.rules, r)
	slices.SortStableFunc(t.rules, func(a, b *rule) int { return len(b.groups.Pattern) - len(a.groups.Pattern) })
}

// rule returns how a group's messages overflow, nil for CloseSlow.
func (t *table) rule(group string) *rule {
	for _, r := range t.rules {
		if r.groups.Covers(group) {
			if r.name == "" {
				return nil
			}
			return r
		}
	}
	return nil
}

// rulePlan adds to a plan what the rule for its group needs. The messages are
// those whose frames it has.
func (t *table) rulePlan(p *plan, messages []*layer.Message, frames []*Prepared) {
	if len(t.rules) == 0 || len(messages) == 0 {
		return
	}
	p.rule = t.rule(messages[0].Group)
	if p.rule.latest(messages[0]) {
		p.values = p.rule.values(messages, frames, p.frames)
	}
}

// latest reports whether m is a value, which a newer one may replace. The rule
// may be nil.
func (r *rule) latest(m *layer.Message) bool { return r != nil && r.key != nil && m.Position.IsZero() }

func (r *rule) values(messages []*layer.Message, frames []*Prepared, all *Prepared) *Values {
	v := &Values{All: all, Each: frames, Keys: make([]string, len(messages))}
	for i, m := range messages {
		v.Keys[i] = m.Once(r, r.keyOf).(string)
	}
	return v
}

func (r *rule) keyOf(m *layer.Message) any { return r.key(m) }

// deliver offers a plan's frames to the client, and does as the rule says when
// they do not fit. It never waits.
func (c *Conn) deliver(p *plan, messages []*layer.Message) {
	s := c.setup.Socket
	switch {
	case p.rule == nil:
		s.Offer(p.frames) // an error means that the connection ends
	case p.values != nil:
		if n, _ := s.OfferLatest(p.values); n > 0 {
			c.setup.Stats.Replaced.Add(int64(n))
		}
	default:
		if ok, err := s.TryOffer(p.frames); ok || err != nil {
			return
		}
		c.overflow(p.rule, messages)
		if p.slow.CompareAndSwap(false, true) {
			p.table.tellSlow(c, p.rule, messages[0].Group)
		}
	}
}

// deliverOne is deliver for a message that waited behind others.
func (c *Conn) deliverOne(ctx context.Context, t *table, m *layer.Message, frame *Prepared) error {
	p := &plan{table: t, frames: frame}
	t.rulePlan(p, []*layer.Message{m}, []*Prepared{frame})
	if p.rule == nil {
		return c.setup.Socket.Send(ctx, frame)
	}
	c.deliver(p, []*layer.Message{m})
	return nil
}

// overflow leaves messages of one group out, for which there was no room.
func (c *Conn) overflow(r *rule, messages []*layer.Message) {
	durable := !messages[0].Position.IsZero()
	if r.name == "drop" && !durable {
		c.setup.Stats.Dropped.Add(int64(len(messages)))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	j := &join{group: messages[0].Group, durable: durable, held: true, behind: messages[0]}
	rest := messages[1:]
	if !durable {
		rest = messages
	}
	for _, m := range rest {
		j.hold(m)
	}
	f := c.theFlow()
	f.joins[j.group] = j
	f.queue = append(f.queue, j)
	c.replayOn()
}

// resume begins to bring a client up to date whose queue was full: from the
// message on that did not fit, if the group is durable; else it is told of the gap.
func (r *replayer) resume(ctx context.Context) error {
	c, j := r.c, r.j
	if err := c.setup.Socket.AwaitRoom(ctx); err != nil {
		return err
	}
	if j.durable {
		r.told = true
		return r.deliver(ctx, []*layer.Message{j.behind})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setup.Stats.Dropped.Add(j.dropped)
	if c.flow.joins[j.group] == j {
		delete(c.flow.joins, j.group)
		c.setup.Stats.Gaps.Add(1)
		c.announce(gapFrame(j.group, layer.GapSlow))
	}
	return errLeft
}

// tellSlow logs that a client does not keep up with a group, not more than once a
// minute for each group.
func (t *table) tellSlow(c *Conn, r *rule, group string) {
	if t.due("overflow of "+group, time.Now()) {
		c.Logger().Warn("consumer: a client is too slow for its groups", "group", group, "policy", r.name)
	}
}
