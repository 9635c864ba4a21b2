package layer

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// listener is a GapTap that writes down what it is told.
type listener struct {
	channel *Channel
	busy    bool // what arrives has to wait in the channel

	mu    sync.Mutex // guards heard
	heard []string
}

func (x *listener) Offer(b *Batch) bool {
	if x.busy {
		return false
	}
	for _, m := range b.Messages {
		x.hear(m)
	}
	return true
}

func (x *listener) Wake() {}

func (x *listener) Gapped(g Gap) { x.note(fmt.Sprintf("gap %s %s %s", g.Group, g.Reason, g.At)) }

func (x *listener) hear(m *Message) { x.note(fmt.Sprintf("%s %s", m.Group, m.Data[len(m.Data)-2:])) }

func (x *listener) note(s string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heard = append(x.heard, s)
}

// empty takes what waits.
func (x *listener) empty() {
	for {
		m, ok := x.channel.Next()
		if !ok {
			return
		}
		x.hear(&m)
	}
}

func (x *listener) wants(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(x.heard, want) {
		t.Errorf("got  %q\nwant %q", x.heard, want)
	}
	x.heard = nil
}

// listeners makes a layer with a member of the groups.
func listeners(t *testing.T, o *Options, policies []Retention, groups ...string) (*Layer, *direct, *listener) {
	t.Helper()
	wire := &direct{policies: policies}
	l, err := New(wire, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(t.Context()) })
	x := &listener{}
	if x.channel, err = l.Tap(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if err := l.GroupAdd(t.Context(), g, x.channel.Name()); err != nil {
			t.Fatal(err)
		}
	}
	return l, wire, x
}

func say(t *testing.T, l *Layer, group string, n int) {
	t.Helper()
	if err := l.GroupSend(t.Context(), group, Message{Data: fmt.Appendf(nil, `{"type":"t","n":%d}`, n)}); err != nil {
		t.Fatal(err)
	}
}

// Members of ordinary groups learn that the link was down, once, between what
// came before and after.
func TestGapOfALink(t *testing.T) {
	l, wire, x := listeners(t, nil, nil, "a", "b")
	say(t, l, "a", 1)
	wire.to.Report(LinkEvent{Kind: LinkDown})
	wire.to.Report(LinkEvent{Kind: LinkUp})
	say(t, l, "a", 2)
	slices.Sort(x.heard[1:3])
	x.wants(t, "a 1}", "gap a link ", "gap b link ", "a 2}")
	wire.to.Report(LinkEvent{Kind: Dropped, Group: "a", Count: 3})
	x.wants(t, "gap a link ")
	x.busy = true
	say(t, l, "a", 3)
	wire.to.Report(LinkEvent{Kind: Dropped, Group: "a", Count: 1})
	wire.to.Report(LinkEvent{Kind: Dropped, Group: "a", Count: 1})
	say(t, l, "a", 4)
	wire.to.Report(LinkEvent{Kind: Dropped, Group: "a", Count: 1})
	x.empty()
	x.wants(t, "a 3}", "gap a link ", "a 4}", "gap a link ")
}

// A member that is full learns what it missed, once, where it missed it.
func TestGapOfAFullChannel(t *testing.T) {
	l, _, x := listeners(t, &Options{Capacity: 3}, nil, "a", "b")
	x.busy = true
	for i := range 6 {
		say(t, l, "a", i)
	}
	say(t, l, "b", 1)
	say(t, l, "b", 2)
	if m, ok := x.channel.Next(); ok {
		x.hear(&m)
	}
	say(t, l, "b", 3)
	say(t, l, "a", 7)
	x.empty()
	x.wants(t, "a 0}", "a 1}", "a 2}", "gap a slow ", "gap b slow ", "b 3}")
	x.busy = false
	say(t, l, "a", 8)
	x.wants(t, "a 8}")
	if got := l.Stats().Dropped; got != 6 {
		t.Errorf("got %d dropped, want 6", got)
	}
}

// What waited too long is missed, too.
func TestGapOfExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, x := listeners(t, &Options{Expiry: time.Minute}, nil, "a", "b")
		x.busy = true
		say(t, l, "a", 1)
		say(t, l, "a", 2)
		say(t, l, "b", 1)
		time.Sleep(40 * time.Second)
		say(t, l, "a", 3)
		time.Sleep(40 * time.Second)
		say(t, l, "a", 4)
		x.empty()
		x.wants(t, "gap a slow ", "gap b slow ", "a 3}", "a 4}")
		say(t, l, "a", 5)
		time.Sleep(5 * time.Minute)
		x.empty()
		x.wants(t, "gap a slow ")
		x.empty()
		x.wants(t)
	})
}

// While nothing is missed, none of this costs memory.
func TestNoGapAllocatesNothing(t *testing.T) {
	l, _, x := listeners(t, nil, nil, "a")
	x.busy = true
	g := l.groups["a"]
	m := &Message{Type: "t", Data: []byte(`{"type":"t"}`), Group: "a"}
	b := &Batch{Messages: []*Message{m}}
	x.channel.capacity = 1
	deliver := func() {
		l.deliverBatch(g, b)
		x.channel.Next()
		x.channel.Next()
	}
	deliver()
	if got := testing.AllocsPerRun(1000, deliver); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}
