package layer

import (
	"iter"
	"slices"
	"sync/atomic"
)

// pageSize bounds what a leave, and now and then a join, copies: one page, and
// the list of pages.
const pageSize = 256

// roster is the members of a group in this process, in pages: a dispatch shard
// walks over it without a lock, while members come and go at a cost that hardly
// grows with the group. Who leaves has his page copied; who comes is put behind
// the end of the newest list, where no shard looks that has an older one. Writers
// hold Layer.mu.
type roster struct {
	size  int
	joins atomic.Uint64           // how often a member came; see member.since
	first page                    // all that most groups need
	more  atomic.Pointer[[]*page] // the others
	room  []*page                 // of more, those that are not full; a page may be here and empty
}

// member is a channel on a roster. One that leaves and comes back while a shard
// walks may stand on a page that the shard has yet to reach: since tells the
// shard that it came after the walk began, or it would get the batch twice.
type member struct {
	channel *Channel
	since   uint64 // the roster's joins when it came
}

type page struct {
	members atomic.Pointer[[]member]
}

func (p *page) list() []member {
	if m := p.members.Load(); m != nil {
		return *m
	}
	return nil
}

// others returns the pages behind the first.
func (r *roster) others() []*page {
	if p := r.more.Load(); p != nil {
		return *p
	}
	return nil
}

// all yields the members. It takes no lock; members that come or go meanwhile
// may or may not be seen.
func (r *roster) all() iter.Seq[*Channel] {
	return func(yield func(*Channel) bool) {
		for i, others := -1, r.others(); i < len(others); i++ {
			p := &r.first
			if i >= 0 {
				p = others[i]
			}
			for _, m := range p.list() {
				if !yield(m.channel) {
					return
				}
			}
		}
	}
}

// add returns the page that c is now on.
func (r *roster) add(c *Channel) *page {
	p := r.vacant()
	members := append(p.list(), member{c, r.joins.Add(1)})
	p.members.Store(&members)
	r.size++
	if len(members) == pageSize && p != &r.first {
		r.room = r.room[:len(r.room)-1]
	}
	return p
}

// vacant returns a page that is not full: the first, or the last of room.
func (r *roster) vacant() *page {
	if len(r.first.list()) < pageSize {
		return &r.first
	}
	if len(r.room) == 0 {
		p := new(page)
		more := append(slices.Clip(slices.Clone(r.others())), p)
		r.more.Store(&more)
		r.room = append(r.room, p)
	}
	return r.room[len(r.room)-1]
}

// remove takes c off its page; with closed also all others there that were
// closed and are about to be removed: a page that many leave at once is then
// copied once. It reports whether c was still there.
func (r *roster) remove(p *page, c *Channel, closed bool) bool {
	old := p.list()
	i := slices.IndexFunc(old, func(m member) bool { return m.channel == c })
	if i < 0 {
		return false
	}
	members := slices.Delete(slices.Clone(old), i, i+1)
	if closed {
		members = slices.DeleteFunc(members, func(m member) bool { return m.channel.isClosed() })
	}
	r.size -= len(old) - len(members)
	if len(members) == 0 {
		p.members.Store(nil)
	} else {
		p.members.Store(&members)
	}
	switch {
	case p == &r.first:
	case len(members) == 0:
		r.drop(p)
	case len(old) == pageSize:
		r.room = append(r.room, p)
	}
	return true
}

// drop takes an empty page away.
func (r *roster) drop(p *page) {
	same := func(q *page) bool { return q == p }
	r.room = slices.DeleteFunc(r.room, same)
	more := slices.DeleteFunc(slices.Clone(r.others()), same)
	r.more.Store(&more)
}

// membership is a channel's side of a group.
type membership struct {
	group *group
	page  *page
}

// remember makes c a member of g, and reports whether it was none before.
// Layer.mu is held.
func (c *Channel) remember(g *group) (fresh bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false, ErrClosed
	}
	if slices.ContainsFunc(c.groups, func(m membership) bool { return m.group == g }) {
		return false, nil
	}
	if g.chain != nil {
		g.chain.joined(c)
	}
	c.groups = append(c.groups, membership{g, g.roster.add(c)})
	if g.watched {
		c.layer.presence.came(c, g.sub.Group)
	}
	return true, nil
}

// leave ends c's membership of g, and reports whether it had one. Layer.mu is
// held.
func (c *Channel) leave(g *group) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, m := range c.groups {
		if m.group == g {
			c.groups = slices.Delete(c.groups, i, i+1)
			g.roster.remove(m.page, c, false)
			if g.watched {
				c.layer.presence.left(c, g.sub.Group)
			}
			return true
		}
	}
	return false
}
