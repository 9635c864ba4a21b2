package layertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// channelRows are about the channels of one process.
var channelRows = []row{
	{"a channel is first in, first out", "and so do messages of one sender to one channel.", channelOrder},
	{"a reader that waits gets what comes", "Send to a channel of a Tideway process returns nil when the message is in the channel", waitingReader},
	{"a full channel refuses", "A Send over capacity is refused with [ErrChannelFull], and nothing is dropped for it.", fullChannel},
	{"capacity goes by pattern", "A channel holds as many unread messages as its capacity says, 100 unless [Options] say otherwise, for all channels or by pattern.", patterns},
	{"names of channels are fresh", "under a fresh name that any process may send to.", freshNames},
	{"only its process reads a channel", "A channel's name may hold one \"!\", behind the name of the process that owns it.", foreignChannel},
	{"cancelling Receive loses nothing", "[Channel.Receive] takes a message or nothing: cancelling it loses nothing, and the channel stays in its groups.", cancelLocal},
	{"a channel has one reader at a time", "A channel is a mailbox with one reader at a time", oneReaderAtATime},
	{"a channel that is gone is an error", "a channel that is gone is [ErrNoChannel].", goneChannel},
	{"a hundred concurrent sends arrive", "Send to a channel of a Tideway process returns nil when the message is in the channel", concurrentSends},
	{"a tap is offered or woken, in order", "from now until [Channel.Next] reports false, everything that arrives queues behind them.", tapOrder},
}

// case 2, case 7
func channelOrder(t *trial) {
	a, b := t.pair(nil)
	for _, sender := range []*layer.Layer{a, b} {
		c := t.channel(b)
		for i := range 100 {
			t.must(sender.Send(t.ctx, c.Name(), note{N: i}))
		}
		t.gets(c, ints(0, 100)...)
	}
}

// case 3, case 35
func waitingReader(t *trial) {
	a, b := t.pair(nil)
	c := t.channel(b)
	t.nothing(c)
	for i := range 20 {
		got := make(chan note, 1)
		var waiting sync.WaitGroup
		waiting.Go(func() {
			m, err := c.Receive(t.ctx)
			if err != nil {
				t.Error(err)
			}
			n, err := noteOf(m)
			if err != nil {
				t.Error(err)
			}
			got <- n
		})
		t.must(a.Send(t.ctx, c.Name(), note{N: i}))
		waiting.Wait()
		if n := <-got; n.N != i {
			t.Fatalf("got %d, want %d", n.N, i)
		}
	}
}

// case 4
func fullChannel(t *trial) {
	a, b := t.pair(capacity(3))
	c := t.channel(b)
	for i := range 3 {
		t.must(a.Send(t.ctx, c.Name(), note{N: i}))
	}
	t.is("Send from another process", a.Send(t.ctx, c.Name(), note{N: 3}), layer.ErrChannelFull)
	t.is("Send from its own process", b.Send(t.ctx, c.Name(), note{N: 4}), layer.ErrChannelFull)
	t.gets(c, 0, 1, 2)
	t.must(a.Send(t.ctx, c.Name(), note{N: 5}))
	t.gets(c, 5)
}

// case 5
func patterns(t *trial) {
	l := t.layer(func(o *layer.Options) {
		o.Capacity = 2
		o.Capacities = []layer.Capacity{{Pattern: "one", Limit: 1}, {Pattern: "job.*", Limit: 4}, {Pattern: "job.x", Limit: 1}, {Pattern: "tw*!*", Limit: 3}}
	})
	for name, want := range map[string]int{"one": 1, "two": 2, "job.x": 4, "job.a.b": 4, t.channel(l).Name(): 3} {
		for i := range want {
			if err := l.Send(t.ctx, name, note{N: i}); err != nil {
				t.Errorf("message %d of %d to %s: %v", i+1, want, name, err)
			}
		}
		t.is(fmt.Sprintf("message %d to %s", want+1, name), l.Send(t.ctx, name, note{}), layer.ErrChannelFull)
	}
}

// case 20, case 21, case 52
func freshNames(t *trial) {
	a, b := t.pair(nil)
	var (
		making sync.WaitGroup
		mu     sync.Mutex
		made   = map[string]*layer.Channel{}
	)
	for range 8 {
		for _, l := range []*layer.Layer{a, b} {
			making.Go(func() {
				for range 20 {
					c, err := l.NewChannel(t.ctx)
					if err != nil {
						t.Error(err)
						return
					}
					if err := layer.CheckChannel(c.Name()); err != nil {
						t.Error(err)
					}
					mu.Lock()
					if made[c.Name()] != nil {
						t.Errorf("two channels are named %s", c.Name())
					}
					made[c.Name()] = c
					mu.Unlock()
				}
			})
		}
	}
	making.Wait()
	i := 0
	for name := range made {
		t.must(a.Send(t.ctx, name, note{N: i}))
		if got := t.next(made[name]); got.N != i {
			t.Fatalf("%s got %v, want %d", name, got, i)
		}
		i++
	}
	for _, c := range made {
		t.empty(c)
	}
}

// empty checks that nothing waits in c, without giving it time to come.
func (t *trial) empty(c *layer.Channel) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, time.Millisecond)
	defer cancel()
	if m, err := c.Receive(ctx); err == nil {
		t.Errorf("%s: got %s where nothing should wait", c.Name(), m.Data)
	}
}

// case 9
func foreignChannel(t *trial) {
	a, b := t.pair(nil)
	c := t.channel(b)
	var bad *layer.NameError
	if _, err := a.Listen(t.ctx, c.Name()); !errors.As(err, &bad) {
		t.Errorf("Listen on another process's channel: got error %v, want a NameError", err)
	}
	t.is("GroupAdd of a channel that is not Tideway's", a.GroupAdd(t.ctx, "g", "specific.x!y"), layer.ErrNoChannel)
}

// case 19
func cancelLocal(t *trial) {
	a, b := t.pair(nil)
	c := t.channel(b)
	t.cancelAtMoments(c, func(i int) error { return a.Send(t.ctx, c.Name(), note{N: i}) })
}

// cancelAtMoments cancels Receive at 100 moments around the arrival of a
// message, which must come in one of two Receives.
func (t *trial) cancelAtMoments(c *layer.Channel, send func(i int) error) {
	t.Helper()
	const step = 50 * time.Microsecond
	for i := range 100 {
		ctx, cancel := context.WithCancel(t.ctx)
		var sending sync.WaitGroup
		sending.Go(func() {
			time.Sleep(40 * step)
			if err := send(i); err != nil {
				t.Error(err)
			}
		})
		end := time.AfterFunc(time.Duration(i)*step, cancel)
		m, err := c.Receive(ctx)
		switch {
		case err == nil:
		case errors.Is(err, context.Canceled):
			m, err = c.Receive(t.ctx)
		}
		end.Stop()
		cancel()
		sending.Wait()
		if err != nil {
			t.Fatalf("moment %d: %v", i, err)
		}
		if n, err := noteOf(m); err != nil || n.N != i {
			t.Fatalf("moment %d: got %v, error %v", i, n, err)
		}
	}
	t.nothing(c)
}

func oneReaderAtATime(t *trial) {
	l := t.layer(nil)
	for _, c := range []*layer.Channel{t.channel(l), t.listen(l, "shared")} {
		ended := make(chan error, 2)
		ctx, cancel := context.WithCancel(t.ctx)
		var reading sync.WaitGroup
		for range 2 {
			reading.Go(func() {
				_, err := c.Receive(ctx)
				ended <- err
			})
		}
		t.is("the later of two Receives", <-ended, layer.ErrReading)
		cancel()
		reading.Wait()
		t.is("the first, which was cancelled", <-ended, context.Canceled)
	}
}

func goneChannel(t *trial) {
	a, b := t.pair(nil)
	c, d := t.channel(b), t.channel(b)
	t.must(a.Send(t.ctx, c.Name(), note{}))
	t.must(c.Close())
	t.is("Send to a closed channel", a.Send(t.ctx, c.Name(), note{}), layer.ErrNoChannel)
	t.is("GroupAdd of a closed channel", a.GroupAdd(t.ctx, "g", c.Name()), layer.ErrNoChannel)
	t.must(a.GroupDiscard(t.ctx, "g", c.Name()))
	t.must(b.Close(t.ctx))
	t.is("Send to a closed process", a.Send(t.ctx, d.Name(), note{}), layer.ErrNoChannel)
	t.is("GroupAdd of a closed process's channel", a.GroupAdd(t.ctx, "g", d.Name()), layer.ErrNoChannel)
	t.must(a.GroupDiscard(t.ctx, "g", d.Name()))
}

// case 50
func concurrentSends(t *trial) {
	a, b := t.pair(capacity(1000))
	direct, member := t.channel(b), t.member(b, "many")
	var sending sync.WaitGroup
	for i := range 100 {
		sending.Go(func() {
			if err := a.Send(t.ctx, direct.Name(), note{N: i}); err != nil {
				t.Error(err)
			}
		})
		sending.Go(func() {
			if err := a.GroupSend(t.ctx, "many", note{N: i}); err != nil {
				t.Error(err)
			}
		})
	}
	sending.Wait()
	for _, c := range []*layer.Channel{direct, member} {
		var got []int
		for range 100 {
			got = append(got, t.next(c).N)
		}
		slices.Sort(got)
		if !slices.Equal(got, ints(0, 100)) {
			t.Errorf("got %v", got)
		}
		t.nothing(c)
	}
}

// picky is a tap that takes three batches of four at once and is woken for the
// others.
type picky struct {
	mu      sync.Mutex // guards all below
	channel *layer.Channel
	offers  int
	got     []int
	failed  []error
	drained sync.WaitGroup
}

func (p *picky) take(m *layer.Message) {
	n, err := noteOf(*m)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed = append(p.failed, err)
	}
	p.got = append(p.got, n.N)
}

// Offer implements layer.Tap.
func (p *picky) Offer(b *layer.Batch) bool {
	p.mu.Lock()
	p.offers++
	no := p.offers%4 == 0
	p.mu.Unlock()
	if no {
		return false
	}
	for _, m := range b.Messages {
		p.take(m)
	}
	return true
}

// Wake implements layer.Tap.
func (p *picky) Wake() {
	p.drained.Go(func() {
		for {
			m, ok := p.channel.Next()
			if !ok {
				return
			}
			p.take(&m)
		}
	})
}

func (p *picky) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.got)
}

func tapOrder(t *trial) {
	a, b := t.pair(capacity(1000))
	p := &picky{}
	c, err := b.Tap(t.ctx, p)
	t.must(err)
	p.channel = c
	t.must(b.GroupAdd(t.ctx, "tap", c.Name()))
	const n = 500
	for i := range n {
		t.must(a.GroupSend(t.ctx, "tap", note{N: i}))
	}
	t.until("the tap has all", func() bool { return p.count() >= n })
	p.drained.Wait()
	if !slices.Equal(p.got, ints(0, n)) || len(p.failed) > 0 {
		t.Errorf("got %v, errors %v", p.got, p.failed)
	}
	t.until("all are counted", func() bool { return b.Stats().Delivered == n })
	_, err = c.Receive(t.ctx)
	t.is("Receive of a tapped channel", err, layer.ErrReading)
}
