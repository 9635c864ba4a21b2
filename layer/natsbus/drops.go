package natsbus

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// nats.go drops messages that find their channel full, inside the connection's
// read loop, and tells it once when that begins. How many were lost has to be
// asked, until no more are.
type drops struct {
	mu      sync.Mutex     // guards what follows, and entry.lost
	watched map[*entry]int // for how many intervals it lost no more
	stopped bool
}

const (
	dropInterval = 100 * time.Millisecond
	dropQuiet    = 10 // intervals without a drop after which a watch ends
)

// slow begins to watch s and reports whether it is a subscription of this link.
func (l *link) slow(s *nats.Subscription) bool {
	e := l.owner(s)
	if e == nil {
		return false
	}
	d := &l.drops
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return true
	}
	if len(d.watched) == 0 {
		d.watched = make(map[*entry]int)
		l.running.Go(l.watchDrops)
	}
	d.watched[e] = 0
	return true
}

// owner returns the entry of a subscription of this link, or nil.
func (l *link) owner(s *nats.Subscription) *entry {
	for _, in := range []*inlet{&l.direct, &l.control} {
		for _, e := range in.entries {
			if e.sub == s {
				return e
			}
		}
	}
	for _, shard := range l.shards {
		if e := shard.owner(s); e != nil {
			return e
		}
	}
	return nil
}

// watchDrops reports until nothing is watched.
func (l *link) watchDrops() {
	tick := time.NewTicker(dropInterval)
	defer tick.Stop()
	for {
		lost, more := l.drops.count()
		for _, e := range lost {
			l.report(e)
		}
		if !more {
			return
		}
		select {
		case <-tick.C:
		case <-l.quit:
			return
		}
	}
}

// count returns what was lost since the last call, and whether to go on.
func (d *drops) count() (lost []layer.LinkEvent, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for e, quiet := range d.watched {
		total, err := e.sub.Dropped()
		switch n := total - e.lost; {
		case err == nil && n > 0:
			e.lost = total
			d.watched[e] = 0
			lost = append(lost, layer.LinkEvent{
				Kind: layer.Dropped, Group: e.subscription.Group, Count: n, Err: nats.ErrSlowConsumer,
			})
		case err != nil || quiet >= dropQuiet: // err: it has ended
			delete(d.watched, e)
		default:
			d.watched[e] = quiet + 1
		}
	}
	return lost, len(d.watched) > 0
}

// stop makes sure that no goroutine is started any more.
func (d *drops) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
}
