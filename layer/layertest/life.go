package layertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// lifeRows are about commands, and about how things end.
var lifeRows = []row{
	{"a command reaches one process or all", "Command has process carry out a command, or every process of the network when process is \"\", this one included", commands},
	{"a closed channel is in no group", "A channel that is closed leaves all its groups.", closedChannel},
	{"a closed layer ends all calls", "A layer that is closed closes its channels; calls that wait and calls that follow return [ErrClosed].", closedLayer},
	{"closing races joining", "calls that wait and calls that follow return [ErrClosed].", closeRaces},
	{"counts return to where they were", "The process stays subscribed to a group for [Options].Linger after its last member left, and no longer.", baseline},
	{"nothing is delivered after Close", "no call to the Receiver is running or follows when it returns", deafAfterClose},
}

func commands(t *trial) {
	a, b := t.pair(nil)
	for _, l := range []*layer.Layer{a, b} {
		stop := l.OnCommand("test.who", func(_ context.Context, args json.RawMessage) (any, error) {
			return l.Process() + string(args), nil
		})
		defer stop()
	}
	b.OnCommand("test.fail", func(context.Context, json.RawMessage) (any, error) { return nil, layer.ErrChannelFull })

	answers, err := a.Command(t.ctx, b.Process(), "test.who", 7)
	t.must(err)
	if got, want := fmt.Sprintf("%s", answers), fmt.Sprintf("[%q]", b.Process()+"7"); got != want {
		t.Errorf("one process: got %s, want %s", got, want)
	}
	answers, err = a.Command(t.ctx, "", "test.who", "x")
	t.must(err)
	var got []string
	for _, raw := range answers {
		var s string
		t.must(json.Unmarshal(raw, &s))
		got = append(got, s)
	}
	want := []string{a.Process() + `"x"`, b.Process() + `"x"`}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("all processes: got %v, want %v", got, want)
	}
	_, err = a.Command(t.ctx, b.Process(), "test.fail", nil)
	t.is("an error keeps its identity", err, layer.ErrChannelFull)
	_, err = a.Command(t.ctx, "twnobody", "test.who", nil)
	t.is("a process that does not exist", err, layer.ErrNoChannel)
}

// case 2, case 36, case 55
func closedChannel(t *trial) {
	a, b := t.pair(nil)
	stay, c := t.member(b, "g", "h"), t.member(b, "g", "h")
	t.nothing(c) // a Receive that timed out leaves no group
	t.must(a.GroupSend(t.ctx, "g", note{N: 0}))
	t.gets(c, 0)
	waiting := make(chan error, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		for _, err := range c.All(t.ctx) {
			waiting <- err
		}
		_, err := c.Receive(t.ctx)
		waiting <- err
	})
	t.must(c.Close())
	t.must(c.Close())
	reading.Wait()
	t.is("Receive of a closed channel", <-waiting, layer.ErrClosed)
	if got := t.next(stay); got.N != 0 {
		t.Errorf("got %d, want 0", got.N)
	}
	for i, g := range []string{"g", "h"} {
		t.must(a.GroupSend(t.ctx, g, note{N: i}))
		t.gets(stay, i)
	}
	if n := b.Stats().Channels; n != 1 {
		t.Errorf("%d channels are open, want 1", n)
	}
}

// case 36, case 47
func closedLayer(t *trial) {
	l := t.layer(nil)
	c, shared := t.member(l, "g"), t.listen(l, "work")
	ended := make(chan error, 2)
	var reading sync.WaitGroup
	for _, c := range []*layer.Channel{c, shared} {
		reading.Go(func() {
			for _, err := range c.All(t.ctx) {
				ended <- fmt.Errorf("the sequence All: %w", err)
			}
			_, err := c.Receive(t.ctx)
			ended <- err
		})
	}
	t.must(l.Close(t.ctx))
	t.must(l.Close(t.ctx))
	reading.Wait()
	close(ended)
	for err := range ended {
		if err != layer.ErrClosed && !errors.Is(err, layer.ErrClosed) {
			t.Errorf("a Receive that waited: got error %v, want ErrClosed", err)
		}
	}
	_, made := l.NewChannel(t.ctx)
	_, listened := l.Listen(t.ctx, "work")
	_, commanded := l.Command(t.ctx, "", "test.x", nil)
	for what, err := range map[string]error{
		"Send to an own channel":        l.Send(t.ctx, c.Name(), note{}),
		"Send to a process":             l.Send(t.ctx, "twother!1", note{}),
		"Send to a shared channel":      l.Send(t.ctx, "work", note{}),
		"GroupSend":                     l.GroupSend(t.ctx, "g", note{}),
		"GroupAdd":                      l.GroupAdd(t.ctx, "g", c.Name()),
		"GroupAdd of a shared channel":  l.GroupAdd(t.ctx, "g", "work"),
		"GroupDiscard":                  l.GroupDiscard(t.ctx, "g", c.Name()),
		"GroupDiscard of a shared one":  l.GroupDiscard(t.ctx, "g", "work"),
		"NewChannel":                    made,
		"Listen":                        listened,
		"Command":                       commanded,
		"the layer's own state (Err())": l.Err(),
	} {
		t.is(what, err, layer.ErrClosed)
	}
	if s := l.Stats(); s.Channels != 0 || s.Groups != 0 {
		t.Errorf("%d channels and %d groups are left", s.Channels, s.Groups)
	}
}

// case 47
func closeRaces(t *trial) {
	bus := t.dial(t)
	for i := range 20 {
		l := t.layerOn(bus, func(o *layer.Options) { o.Linger = -1 })
		c := t.channel(l)
		var racing sync.WaitGroup
		for j := range 4 {
			racing.Go(func() {
				group := fmt.Sprint("g", j%2)
				if err := l.GroupAdd(t.ctx, group, c.Name()); err != nil && !errors.Is(err, layer.ErrClosed) && !errors.Is(err, layer.ErrNoChannel) {
					t.Errorf("GroupAdd: %v", err)
				}
				if err := l.GroupDiscard(t.ctx, group, c.Name()); err != nil && !errors.Is(err, layer.ErrClosed) {
					t.Errorf("GroupDiscard: %v", err)
				}
			})
		}
		racing.Go(func() {
			time.Sleep(time.Duration(i*20) * time.Microsecond)
			t.report(l.Close(t.ctx))
		})
		racing.Wait()
	}
}

func baseline(t *trial) {
	a, b := t.pair(func(o *layer.Options) { o.Linger = t.quiet / 4 })
	before := b.Stats()
	for range 3 {
		var open []*layer.Channel
		for i := range 30 {
			open = append(open, t.member(b, fmt.Sprint("g", i%7), "all"))
		}
		t.must(a.GroupSend(t.ctx, "all", note{}))
		if s := b.Stats(); s.Channels != 30 || s.Groups != 8 {
			t.Errorf("%d channels and %d groups, want 30 and 8", s.Channels, s.Groups)
		}
		for i, c := range open {
			if i%3 == 0 {
				t.must(b.GroupDiscard(t.ctx, "all", c.Name()))
			}
			t.must(c.Close())
		}
		// One that comes and goes all the time must not keep the others.
		t.until("the groups are left", func() bool {
			c := t.member(b, "restless")
			t.must(c.Close())
			return b.Stats().Groups <= 1
		})
		t.until("all groups are left", func() bool { return b.Stats().Groups == before.Groups })
	}
	if s := b.Stats(); s.Channels != before.Channels {
		t.Errorf("%d channels are left", s.Channels)
	}
}

// listener counts what a link delivers, and whether it came too late.
type listener struct {
	mute
	mu     sync.Mutex // guards all below
	got    int
	closed bool
	late   int
}

// Deliver implements layer.Receiver.
func (x *listener) Deliver(in []layer.Inbound) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.got += len(in)
	if x.closed {
		x.late++
	}
}

func deafAfterClose(t *trial) {
	l := t.layer(nil)
	var sending sync.WaitGroup
	defer sending.Wait()
	ctx, stop := context.WithCancel(t.ctx)
	defer stop()
	sending.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := l.GroupSend(ctx, "g", note{N: i}); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			time.Sleep(50 * time.Microsecond)
		}
	})
	var closed []*listener
	for i := range 10 {
		x := &listener{}
		link, err := t.dial(t).Attach(t.ctx, fmt.Sprint("twlistener", i), x)
		t.must(err)
		t.must(link.Subscribe(t.ctx, layer.Subscription{Group: "g"}))
		t.until("something arrives", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return x.got > 0 })
		t.must(link.Close(t.ctx))
		x.mu.Lock()
		x.closed = true
		x.mu.Unlock()
		closed = append(closed, x)
	}
	time.Sleep(t.quiet)
	for _, x := range closed {
		x.mu.Lock()
		if x.late > 0 {
			t.Errorf("%d messages came after Close", x.late)
		}
		x.mu.Unlock()
	}
}
