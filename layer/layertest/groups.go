package layertest

import (
	"context"
	"fmt"
	"sync"

	"github.com/tideway-go/tideway/layer"
)

// groupRows are about who gets a group's messages.
var groupRows = []row{
	{"a group reaches its members and nobody else", "A message that is sent to a group reaches every member, in whichever process it lives.", members},
	{"a group reaches a thousand members", "A message that is sent to a group reaches every member, in whichever process it lives.", manyMembers},
	{"sending to nobody is no error", "A group needs no creation: sending to one that nobody joined is no error.", nobody},
	{"joining twice and leaving what was not joined do nothing", "Adding a member again does nothing.", idempotent},
	{"the next GroupSend from anywhere reaches who joined", "After GroupAdd returned, every message that is sent to the group from then on, anywhere in the network, reaches the channel.", immediate},
	{"nothing that is sent after GroupDiscard arrives", "After GroupDiscard returned, nothing that is sent from then on does.", discarded},
	{"any process adds and discards any channel", "The channel may be this process's, another Tideway process's, or a shared one.", remoteMembers},
	{"who gives up joining is no member, who does not is", "Members may come and go while messages flow; those that stay miss nothing, and nobody gets a message twice.", givesUp},
	{"a full member keeps what it has", "A member that is full keeps what it has and misses the new message of a group; the others get it, and GroupSend does not fail.", fullMember},
	{"drops are counted and logged at a limited rate", "Such losses are counted in [Stats], and logged at a limited rate", dropsLogged},
	{"networks do not hear each other", "A [Layer] is one process's place in all this.", separate},
	{"layers may share a bus", "One Bus may serve several layers; each is a process of its own.", oneBus},
}

// case 10, case 14, case 15
func members(t *trial) {
	a, b := t.pair(nil)
	stay := []*layer.Channel{t.member(a, "g"), t.member(a, "g"), t.member(b, "g"), t.member(b, "g", "other")}
	gone, never := t.member(b, "g"), t.channel(a)
	t.must(b.GroupDiscard(t.ctx, "g", gone.Name()))
	other := t.member(a, "other")
	for i := range 2 {
		t.must(a.GroupSend(t.ctx, "g", note{N: i}))
	}
	for _, c := range stay {
		t.gets(c, 0, 1)
	}
	t.nothing(gone)
	t.nothing(never)
	t.nothing(other)
}

// case 16
func manyMembers(t *trial) {
	a, b := t.pair(nil)
	for _, n := range []int{1, 10, 100, 1000} {
		group := fmt.Sprint("size.", n)
		var all []*layer.Channel
		for i := range n {
			all = append(all, t.member([]*layer.Layer{a, b}[i%2], group))
		}
		t.must(a.GroupSend(t.ctx, group, note{N: n}))
		for _, c := range all {
			if got := t.next(c); got.N != n {
				t.Fatalf("got %d, want %d", got.N, n)
			}
		}
		t.nothing(all[0])
		t.nothing(all[n-1])
	}
}

// case 32
func nobody(t *trial) {
	a, b := t.pair(nil)
	t.must(a.GroupSend(t.ctx, "empty", note{N: 1}))
	c := t.member(b, "empty")
	t.must(a.GroupSend(t.ctx, "empty", note{N: 2}))
	if got := t.next(c).N; got == 1 { // it was under way when c came
		got = t.next(c).N
		if got != 2 {
			t.Errorf("got %d, want 2", got)
		}
	} else if got != 2 {
		t.Errorf("got %d, want 2", got)
	}
	t.nothing(c)
}

// case 31
func idempotent(t *trial) {
	l := t.layer(nil)
	c := t.channel(l)
	t.must(l.GroupDiscard(t.ctx, "g", c.Name()))
	for range 3 {
		t.must(l.GroupAdd(t.ctx, "g", c.Name()))
	}
	t.must(l.GroupSend(t.ctx, "g", note{N: 1}))
	t.gets(c, 1)
	t.must(l.GroupDiscard(t.ctx, "g", c.Name()))
	t.must(l.GroupDiscard(t.ctx, "g", c.Name()))
	t.must(l.GroupSend(t.ctx, "g", note{N: 2}))
	t.nothing(c)
}

// case 33
func immediate(t *trial) {
	a, b := t.pair(func(o *layer.Options) { o.Linger = -1 })
	var joining sync.WaitGroup
	defer joining.Wait()
	for w := range 4 {
		joining.Go(func() {
			for i := range 50 {
				group := fmt.Sprintf("now.%d.%d", w, i%3)
				c, err := b.NewChannel(t.ctx)
				if err == nil {
					err = b.GroupAdd(t.ctx, group, c.Name())
				}
				if err == nil {
					err = a.GroupSend(t.ctx, group, note{N: i})
				}
				for n := (note{N: -1}); err == nil && n.N != i; {
					var m layer.Message
					if m, err = c.Receive(t.ctx); err == nil {
						n, err = noteOf(m)
					}
				}
				if err != nil {
					t.Errorf("join %d of group %s: %v", i, group, err)
					return
				}
				c.Close()
			}
		})
	}
}

func discarded(t *trial) {
	a, b := t.pair(nil)
	stay, c := t.member(b, "g"), t.member(b, "g")
	for i := range 50 {
		t.must(a.GroupSend(t.ctx, "g", note{N: 2 * i}))
		for t.next(c).N != 2*i {
		}
		t.must(b.GroupDiscard(t.ctx, "g", c.Name()))
		t.must(a.GroupSend(t.ctx, "g", note{N: 2*i + 1}))
		for t.next(stay).N != 2*i+1 {
		}
		t.must(b.GroupAdd(t.ctx, "g", c.Name()))
	}
	t.nothing(c)
}

func remoteMembers(t *trial) {
	a, b := t.pair(nil)
	mine, theirs := t.channel(a), t.channel(b)
	t.must(a.GroupAdd(t.ctx, "g", theirs.Name()))
	t.must(b.GroupAdd(t.ctx, "g", mine.Name()))
	t.must(a.GroupSend(t.ctx, "g", note{N: 1}))
	t.gets(mine, 1)
	t.gets(theirs, 1)
	t.must(a.GroupDiscard(t.ctx, "g", theirs.Name()))
	t.must(a.GroupSend(t.ctx, "g", note{N: 2}))
	t.gets(mine, 2)
	t.nothing(theirs)
}

// Two calls add one channel; one of them gives up at any moment.
func givesUp(t *trial) {
	a, b := t.pair(func(o *layer.Options) { o.Linger = -1 })
	for i := range 50 {
		group := fmt.Sprint("up.", i)
		c := t.channel(b)
		ctx, cancel := context.WithCancel(t.ctx)
		var joining sync.WaitGroup
		for range 2 {
			joining.Go(func() {
				b.GroupAdd(ctx, group, c.Name())
			})
		}
		joining.Go(cancel)
		err := b.GroupAdd(t.ctx, group, c.Name())
		joining.Wait()
		t.must(err)
		t.must(a.GroupSend(t.ctx, group, note{N: i}))
		if got := t.next(c); got.N != i {
			t.Fatalf("got %d, want %d", got.N, i)
		}
		c.Close()
	}
}

// case 11, case 12, case 13
func fullMember(t *trial) {
	a, b := t.pair(capacity(3))
	full, free := t.member(b, "g"), t.member(b, "g")
	t.must(a.Send(t.ctx, full.Name(), note{N: 100}))
	for i := range 5 {
		t.must(a.GroupSend(t.ctx, "g", note{N: i}))
		if got := t.next(free); got.N != i {
			t.Fatalf("got %d, want %d", got.N, i)
		}
	}
	t.gets(full, 100, 0, 1)
	t.until("the losses are counted", func() bool { return full.Dropped() == 3 && b.Stats().Dropped == 3 })
	t.until("the log says that 1 of 2 channels is over capacity", func() bool {
		return len(t.log.with("layer: 1 of 2 channels over capacity in group g")) > 0
	})
	if free.Dropped() != 0 {
		t.Errorf("the free member dropped %d", free.Dropped())
	}
}

// case 58
func dropsLogged(t *trial) {
	a, b := t.pair(capacity(1))
	t.member(b, "g")
	for i := range 200 {
		t.must(a.GroupSend(t.ctx, "g", note{N: i}))
	}
	t.until("all losses are counted", func() bool { return b.Stats().Dropped == 199 })
	t.must(b.Close(t.ctx))
	lines := t.log.with("layer: 1 of 1 channels over capacity in group g")
	if len(lines) == 0 || len(lines) > 4 {
		t.Fatalf("%d lines about 199 losses: %v", len(lines), lines)
	}
	sum := int64(0)
	for _, l := range lines {
		sum += l.attrs["messages"].Int64()
	}
	if sum != 199 {
		t.Errorf("the log tells of %d losses, want 199: %v", sum, lines)
	}
	if last := lines[len(lines)-1]; len(lines) > 1 && last.attrs["total"].Int64() != 199 {
		t.Errorf("the last line does not tell the total: %v", last)
	}
}

// case 46
func separate(t *trial) {
	here := t.layer(nil)
	there := t.layerOn(t.network(t)(t), nil)
	h, o := t.member(here, "g"), t.member(there, "g")
	t.must(here.GroupSend(t.ctx, "g", note{N: 1}))
	t.must(here.Send(t.ctx, "work", note{N: 2}))
	t.is("Send to a channel of another network", here.Send(t.ctx, o.Name(), note{}), layer.ErrNoChannel)
	t.gets(h, 1)
	t.nothing(o)
	t.nothing(t.listen(there, "work"))
	t.gets(t.listen(here, "work"), 2)
}

func oneBus(t *trial) {
	bus := t.dial(t)
	a, b := t.layerOn(bus, nil), t.layerOn(bus, nil)
	if a.Process() == b.Process() {
		t.Fatalf("both processes are named %s", a.Process())
	}
	ca, cb := t.member(a, "g"), t.member(b, "g")
	t.must(a.GroupSend(t.ctx, "g", note{N: 1}))
	t.must(a.Send(t.ctx, cb.Name(), note{N: 2}))
	t.gets(ca, 1)
	n, m := t.next(cb), t.next(cb)
	if n.N+m.N != 3 {
		t.Errorf("got %v and %v", n, m)
	}
	t.must(a.Close(t.ctx))
	t.must(b.GroupSend(t.ctx, "g", note{N: 3}))
	t.gets(cb, 3)
}
