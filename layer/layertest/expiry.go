package layertest

import (
	"context"
	"slices"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// expiryRows are about messages that nobody read in time.
var expiryRows = []row{
	{"what nobody read in time is never delivered", "A message that nobody read within the expiry, 60 seconds by default, is never delivered.", func(t *trial) {
		t.expires(func(l *layer.Layer, c *layer.Channel, n int) error { return l.Send(t.ctx, c.Name(), note{N: n}) })
	}},
	{"what nobody read in time is never delivered, in a group", "A message that nobody read within the expiry, 60 seconds by default, is never delivered.", func(t *trial) {
		t.expires(func(l *layer.Layer, c *layer.Channel, n int) error { return l.GroupSend(t.ctx, "g", note{N: n}) })
	}},
	{"what nobody read in time is never delivered, on a shared channel", "A message that nobody read within the expiry, 60 seconds by default, is never delivered.", sharedExpires},
	{"what is read in time arrives", "A channel is a mailbox with one reader at a time: bounded, expiring, first in first out.", inTime},
	{"an old message does not hold up new ones", "An expired message takes no room.", oldMessage},
	{"expired messages go though nobody reads", "An expired message takes no room.", swept},
	{"a member never expires", "a member never expires from its group.", memberStays},
}

// case 22, case 24, case 28
func (t *trial) expires(send func(l *layer.Layer, c *layer.Channel, n int) error) {
	t.Helper()
	t.conclude(func(brief time.Duration) bool {
		a, b := t.pair(expiry(brief))
		c := t.member(b, "g")
		defer c.Close()
		return t.thirds(brief, c, func(n int) error { return send(a, c, n) })
	})
}

// thirds sends three messages, two thirds of the expiry apart, so that the
// first has expired and the others have not. It reports false when the machine
// was so slow that they may have as well.
func (t *trial) thirds(brief time.Duration, c *layer.Channel, send func(n int) error) bool {
	t.Helper()
	t.must(send(1))
	time.Sleep(brief * 2 / 3)
	second := time.Now()
	t.must(send(2))
	time.Sleep(brief * 2 / 3)
	t.must(send(3))
	ctx, cancel := context.WithDeadline(t.ctx, second.Add(brief))
	defer cancel()
	for _, want := range []int{2, 3} {
		n, err := receive(ctx, c)
		if err == nil && n.N == 1 {
			t.Error("got 1, which has expired")
		}
		if err != nil || time.Since(second) >= brief {
			return false
		}
		if n.N != want {
			t.Errorf("got %d, want %d", n.N, want)
		}
	}
	t.nothing(c)
	return true
}

// case 22, case 26
func sharedExpires(t *trial) {
	t.conclude(func(brief time.Duration) bool {
		dial := t.network(t) // a shared channel's expiry is its network's
		a, b := t.layerOn(dial(t), expiry(brief)), t.layerOn(dial(t), expiry(brief))
		c := t.listen(b, "work")
		defer c.Close()
		return t.thirds(brief, c, func(n int) error { return a.Send(t.ctx, "work", note{N: n}) })
	})
}

// case 23
func inTime(t *trial) {
	t.conclude(func(brief time.Duration) bool {
		a, b := t.pair(expiry(brief))
		c := t.channel(b)
		begun := time.Now()
		for i := range 3 {
			t.must(a.Send(t.ctx, c.Name(), note{N: i}))
			time.Sleep(brief / 8)
		}
		got := t.whatCame(c, brief/8)
		if time.Since(begun) >= brief {
			return false
		}
		if !slices.Equal(got, ints(0, 3)) {
			t.Errorf("got %v", got)
		}
		return true
	})
}

// case 25
func oldMessage(t *trial) {
	t.conclude(func(brief time.Duration) bool {
		a, b := t.pair(func(o *layer.Options) { o.Expiry, o.Capacity = brief, 5 })
		old, other := t.member(b, "g"), t.member(b, "g")
		t.must(a.Send(t.ctx, old.Name(), note{N: 100}))
		time.Sleep(brief + brief/10)
		for i := range 10 {
			begun := time.Now()
			t.must(a.GroupSend(t.ctx, "g", note{N: i}))
			for _, c := range []*layer.Channel{old, other} {
				ctx, cancel := context.WithDeadline(t.ctx, begun.Add(brief))
				n, err := receive(ctx, c)
				cancel()
				if err != nil {
					return false
				}
				if n.N != i {
					t.Fatalf("got %d, want %d", n.N, i)
				}
			}
		}
		t.nothing(old)
		return true
	})
}

// case 26, case 27
func swept(t *trial) {
	a, b := t.pair(func(o *layer.Options) { o.Expiry, o.Capacity = t.brief, 5 })
	c := t.channel(b)
	for i := range 5 {
		t.must(a.Send(t.ctx, c.Name(), note{N: i}))
	}
	t.until("all have expired", func() bool { return b.Stats().Expired == 5 })
	t.must(a.Send(t.ctx, c.Name(), note{N: 5})) // there is room again
}

// case 114
func memberStays(t *trial) {
	a, b := t.pair(func(o *layer.Options) { o.Expiry = t.brief })
	c := t.member(b, "g")
	for i := range 3 {
		time.Sleep(t.brief)
		for got := -1; got != i; {
			t.must(a.GroupSend(t.ctx, "g", note{N: i})) // again if it expired: this is about the member
			for _, n := range t.whatCame(c, t.quiet) {
				got = n
			}
		}
	}
}
