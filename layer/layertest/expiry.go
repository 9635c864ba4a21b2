package layertest

import (
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
	a, b := t.pair(expiry(t.brief))
	t.conclude(func() bool {
		c := t.member(b, "g")
		defer c.Close()
		t.must(send(a, c, 1))
		time.Sleep(t.brief * 2 / 3)
		second := time.Now()
		t.must(send(a, c, 2))
		time.Sleep(t.brief * 2 / 3)
		t.must(send(a, c, 3))
		got := []int{t.next(c).N}
		if got[0] == 2 {
			got = append(got, t.next(c).N)
		}
		if time.Since(second) >= t.brief {
			return false
		}
		if len(got) != 2 || got[1] != 3 {
			t.Errorf("got %v, want 2 and 3", got)
		}
		t.nothing(c)
		return true
	})
}

// case 22, case 26
func sharedExpires(t *trial) {
	a, b := t.pair(expiry(t.brief))
	t.conclude(func() bool {
		t.must(a.Send(t.ctx, "work", note{N: 1}))
		time.Sleep(t.brief * 2 / 3)
		second := time.Now()
		t.must(a.Send(t.ctx, "work", note{N: 2}))
		time.Sleep(t.brief * 2 / 3)
		t.must(a.Send(t.ctx, "work", note{N: 3}))
		c := t.listen(b, "work")
		defer c.Close()
		first := t.next(c)
		took := time.Since(second)
		for n := first; n.N != 3; {
			n = t.next(c)
		}
		if took >= t.brief {
			return false
		}
		if first.N != 2 {
			t.Errorf("got %d first, want 2", first.N)
		}
		t.nothing(c)
		return true
	})
}

// case 23
func inTime(t *trial) {
	a, b := t.pair(expiry(t.brief))
	t.conclude(func() bool {
		c := t.channel(b)
		defer c.Close()
		begun := time.Now()
		for i := range 3 {
			t.must(a.Send(t.ctx, c.Name(), note{N: i}))
			time.Sleep(t.brief / 5)
		}
		got := t.next(c).N
		if time.Since(begun) >= t.brief {
			return false
		}
		for i := 1; i < 3 && got == i-1; i++ {
			got = t.next(c).N
		}
		if got != 2 {
			t.Errorf("got %d", got)
		}
		return true
	})
}

// case 25
func oldMessage(t *trial) {
	a, b := t.pair(func(o *layer.Options) { o.Expiry, o.Capacity = t.brief, 5 })
	old, other := t.member(b, "g"), t.member(b, "g")
	t.must(a.Send(t.ctx, old.Name(), note{N: 100}))
	time.Sleep(t.brief + t.brief/10)
	for i := range 10 {
		t.must(a.GroupSend(t.ctx, "g", note{N: i}))
		for _, c := range []*layer.Channel{old, other} {
			if got := t.next(c).N; got != i {
				t.Fatalf("got %d, want %d", got, i)
			}
		}
	}
	t.nothing(old)
}

// case 26, case 27
func swept(t *trial) {
	a, b := t.pair(func(o *layer.Options) { o.Expiry, o.Capacity = t.brief, 5 })
	c := t.channel(b)
	for i := range 5 {
		t.must(a.Send(t.ctx, c.Name(), note{N: i}))
	}
	t.until("all have expired", func() bool { return b.Stats().Expired == 5 })
	t.must(a.Send(t.ctx, c.Name(), note{N: 5}))
	t.gets(c, 5)
}

// case 114
func memberStays(t *trial) {
	a, b := t.pair(expiry(t.brief))
	c := t.member(b, "g")
	for i := range 3 {
		time.Sleep(t.brief)
		t.must(a.GroupSend(t.ctx, "g", note{N: i}))
		if got := t.next(c).N; got != i {
			t.Fatalf("got %d, want %d", got, i)
		}
	}
}
