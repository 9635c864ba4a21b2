package layer

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
)

// walk hands a batch to all members of a large group. Its pages are shared out
// among goroutines, one for each core; the group's next walk begins when this
// one has ended, so that every member's order holds.
type walk struct {
	batch *Batch
	begun uint64 // members who joined later are passed over
	first *page
	more  []*page
	next  atomic.Int64   // how many pages were taken
	left  sync.WaitGroup // pages; nobody waits for a helper that comes when all are taken

	mu  sync.Mutex // guards sum
	sum tally
}

// tally is what became of a batch.
type tally struct{ members, full, taken, missed int }

// deliverBatch hands a batch to all members of a group.
func (l *Layer) deliverBatch(g *group, b *Batch) {
	begun := g.roster.joins.Load()
	var t tally
	more := g.roster.others()
	if helpers := min(runtime.GOMAXPROCS(0)-1, len(more)); helpers > 0 {
		t = share(&walk{batch: b, begun: begun, first: &g.roster.first, more: more}, helpers)
	} else {
		t = g.roster.first.deliver(b, begun)
		for _, p := range more {
			t.add(p.deliver(b, begun))
		}
	}
	if t.taken > 0 {
		l.stats.delivered.Add(int64(t.taken))
	}
	if t.missed > 0 {
		l.stats.dropped.Add(int64(t.missed))
		l.lost.report(slog.LevelInfo, "group "+g.sub.Group, t.missed,
			fmt.Sprintf("layer: %d of %d channels over capacity in group %s", t.full, t.members, g.sub.Group))
	}
}

// share does a walk with the help of other goroutines.
func share(w *walk, helpers int) tally {
	w.left.Add(1 + len(w.more))
	for range helpers {
		go w.run()
	}
	w.run()
	w.left.Wait()
	return w.sum
}

// run takes pages until all are taken.
func (w *walk) run() {
	for p := w.take(); p != nil; p = w.take() {
		w.add(p.deliver(w.batch, w.begun))
		w.left.Done()
	}
}

// take returns a page that nobody else has taken, or nil.
func (w *walk) take() *page {
	switch i := int(w.next.Add(1)) - 2; {
	case i < 0:
		return w.first
	case i < len(w.more):
		return w.more[i]
	}
	return nil
}

func (w *walk) add(t tally) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sum.add(t)
}

func (t *tally) add(o tally) {
	t.members += o.members
	t.full += o.full
	t.taken += o.taken
	t.missed += o.missed
}

// deliver hands a batch to the members on a page who had joined by then.
func (p *page) deliver(b *Batch, begun uint64) (t tally) {
	for _, m := range p.list() {
		if m.since > begun {
			continue
		}
		t.members++
		own := b
		if b.late != nil {
			if own = b.since(m.channel); len(own.Messages) == 0 {
				continue
			}
		}
		taken, missed := m.channel.deliver(own)
		t.taken += taken
		if missed > 0 {
			t.full++
			t.missed += missed
		}
	}
	return t
}
