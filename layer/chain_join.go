package layer

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// joined notes that a member came.
func (c *chain) joined(m *Channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.hole && !c.repairing || c.lost {
		return
	}
	if c.late == nil {
		c.late = map[*Channel]uint64{}
	}
	c.late[m] = max(c.seen, c.target)
}

// latecomers returns who does not get all that a repair reads.
func (c *chain) latecomers(epoch uint64) map[*Channel]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		c.late = nil
	}
	return maps.Clone(c.late)
}

// since returns what c gets of a batch that was read: all, or what follows the
// newest message that was known when it joined.
func (b *Batch) since(c *Channel) *Batch {
	i, _ := slices.BinarySearchFunc(b.Messages, b.late[c]+1, func(m *Message, sequence uint64) int {
		return cmp.Compare(m.Position.sequence, sequence)
	})
	if i == 0 {
		return b
	}
	return &Batch{Messages: b.Messages[i:]}
}

// at returns the place behind the newest message that was seen or, during a
// repair, is to be read: who joins now does not get that. ok is false while it is
// not known.
func (c *chain) at() (p Position, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.epoch == 0:
		return Position{}, false
	case c.target > c.seen:
		return Position{epoch: c.epoch, sequence: c.target}, true
	case c.seen == 0, time.Since(c.arrived) >= surely(c.age):
		return c.place(), true // what was seen may have grown too old
	}
	return Position{epoch: c.epoch, sequence: c.seen}, true
}

// place returns the place of the group when seen was last known to be the
// newest, as that of a group in which nothing was kept. It serves when seen is
// no longer kept. Mu is held.
func (c *chain) place() Position {
	return Position{epoch: c.epoch, taken: max(c.confirmed.UnixMilli(), 1)}
}
