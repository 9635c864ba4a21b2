package layertest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/tideway-go/tideway/layer"
)

// durableLoad has members come, stay and go while many publish; each member's
// record is checked.
func durableLoad(t *trial) {
	a, b := t.pair(durable(10_000))
	const writers, each = 4, 150
	stay := []*layer.Channel{t.member(a, "job.1"), t.member(b, "job.1")}
	var sending sync.WaitGroup
	for w := range writers {
		sending.Go(func() {
			l := []*layer.Layer{a, b}[w%2]
			for i := range each {
				if _, err := l.Publish(t.ctx, "job.1", note{From: fmt.Sprint(w, "."), N: i}, nil); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
		})
	}
	const joins = 20
	for i := range joins { // join, then read what was before
		c := t.member(b, "job.1")
		t.publish(a, "job.1", i)
		m, err := c.Receive(t.ctx)
		t.must(err)
		before, err := t.history(b, "job.1", layer.Position{}, 0)
		t.must(err)
		rec := record{}
		for _, old := range before {
			if old.Position == m.Position {
				break
			}
			rec = append(rec, old.Position)
		}
		rec = append(rec, m.Position)
		c.Close()
		whole, err := t.history(a, "job.1", layer.Position{}, len(rec))
		t.must(err)
		if problem := rec.check(whole); problem != "" {
			t.Fatalf("history and what came live do not fit: %s", problem)
		}
	}
	sending.Wait()
	all, err := t.history(b, "job.1", layer.Position{}, 0)
	t.must(err)
	if len(all) != writers*each+joins {
		t.Fatalf("%d messages are stored, want %d", len(all), writers*each+joins)
	}
	for _, c := range stay {
		t.isWhole(c, all)
	}
}

// isWhole checks that c gets exactly these.
func (t *trial) isWhole(c *layer.Channel, all []layer.Message) {
	t.Helper()
	var rec record
	for range all {
		ctx, cancel := context.WithTimeout(t.ctx, t.opts.wait()/2)
		m, err := c.Receive(ctx)
		cancel()
		if err != nil {
			break
		}
		rec = append(rec, m.Position)
	}
	if problem := rec.check(all); problem != "" {
		t.Fatalf("%s: %s", c.Name(), problem)
	}
	t.nothing(c)
}

// record is what a member got of a durable group, in its order.
type record []layer.Position

// check compares what a member got with what is stored, and says what differs
// first: a loss, a double, a swap, or a stranger.
func (r record) check(stored []layer.Message) string {
	place := map[layer.Position]int{}
	for i, m := range stored {
		place[m.Position] = i
	}
	got := map[layer.Position]bool{}
	for i, p := range r {
		at, known := place[p]
		switch {
		case !known:
			return fmt.Sprintf("message %d, at %v, is not stored", i, p)
		case got[p]:
			return fmt.Sprintf("message %d, at %v, is there twice", i, p)
		case at < i:
			return fmt.Sprintf("message %d, at %v, comes too late", i, p)
		case at > i:
			return fmt.Sprintf("message %d, at %v, is missing before %v, or comes later", i, stored[i].Position, p)
		}
		got[p] = true
	}
	if len(r) < len(stored) {
		return fmt.Sprintf("%d messages are missing at the end", len(stored)-len(r))
	}
	return ""
}

// repaired puts a bus between that loses, doubles and delays what is live.
func repaired(t *trial) {
	for _, f := range liveFaults {
		dial := t.network(t)
		a := t.layerOn(dial(t), durable(1000))
		b := t.layerOn(&unreliable{Bus: dial(t), change: f.change()}, durable(1000))
		c := t.member(b, "job.1")
		for i := range 60 {
			t.publish(a, "job.1", i)
		}
		all, err := t.history(a, "job.1", layer.Position{}, 0)
		t.must(err)
		t.isWhole(c, all)
		s := b.Stats()
		if s.Gaps != 0 || f.repairs != (s.Repaired > 0) {
			t.Errorf("a link that %s: %d gaps and %d messages repaired", f.name, s.Gaps, s.Repaired)
		}
	}
}

// liveFaults are what may happen to the copy of a stored message on its way. The
// last of the 60 messages arrives, or the row would wait for the probe.
var liveFaults = []struct {
	name    string
	repairs bool
	change  func() func([]layer.Inbound) []layer.Inbound
}{
	{"loses one in four", true, times(func(n int) int { return min(1, (n+2)%4) })},
	{"loses the first", true, times(func(n int) int { return min(1, n) })},
	{"doubles all", false, times(func(int) int { return 2 })},
	{"repeats all from the start", false, func() func([]layer.Inbound) []layer.Inbound {
		var past []layer.Inbound // one group comes from one shard
		return func(in []layer.Inbound) []layer.Inbound {
			past = append(past, in...)
			return append(slices.Clone(in), past...)
		}
	}},
}

// times delivers each message as often as n says of its number.
func times(n func(int) int) func() func([]layer.Inbound) []layer.Inbound {
	return func() func([]layer.Inbound) []layer.Inbound {
		return func(in []layer.Inbound) (out []layer.Inbound) {
			for _, m := range in {
				for range n(numberOf(m)) {
					out = append(out, m)
				}
			}
			return out
		}
	}
}

func numberOf(in layer.Inbound) int {
	m, err := layer.ParseMessage(in.Packet.Data)
	if err != nil {
		return -1
	}
	n, err := noteOf(m)
	if err != nil {
		return -1
	}
	return n.N
}

// unreliable is a network whose live messages of groups may be changed.
type unreliable struct {
	layer.Bus
	change func([]layer.Inbound) []layer.Inbound
}

// Attach implements layer.Bus.
func (u *unreliable) Attach(ctx context.Context, process string, r layer.Receiver) (layer.Link, error) {
	return u.Bus.Attach(ctx, process, &unreliableReceiver{r, u.change})
}

type unreliableReceiver struct {
	layer.Receiver
	change func([]layer.Inbound) []layer.Inbound
}

// Deliver implements layer.Receiver.
func (r *unreliableReceiver) Deliver(in []layer.Inbound) { r.Receiver.Deliver(r.change(in)) }
