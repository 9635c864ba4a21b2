package layertest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// layerExpiry is the expiry that a layer has by default.
const layerExpiry = time.Minute

// sharedRows are about shared channels, alone and as members of groups.
var sharedRows = []row{
	{"a shared channel keeps messages until they are read", "A shared channel keeps each message until it is read or expires, whether or not anybody reads at the moment.", kept},
	{"each message of a shared channel goes to one reader", "under a name that all processes know: each of its messages goes to one reader.", oneReader},
	{"a full shared channel refuses", "A Send over capacity is refused with [ErrChannelFull], and nothing is dropped for it.", fullShared},
	{"cancelling Receive of a shared channel loses nothing", "[Channel.Receive] takes a message or nothing: cancelling it loses nothing, and the channel stays in its groups.", cancelShared},
	{"an expired message of a shared channel takes no room", "An expired message takes no room.", sharedExpiry},
	{"a reader that stops leaves the rest to others", "What is sent to it from then on is lost, except on a shared channel, where it waits for another reader.", readerStops},
	{"workers get each message of a group once", "As a member of a group a shared channel gets each message once, however many processes added it and however many workers read it", workers},
	{"a shared channel is discarded everywhere", "A shared channel is taken out in all processes.", discardShared},
	{"a shared member outlives the process that added it", "is a member for as long as one of these processes lives.", relayOutlives},
}

func kept(t *trial) {
	a, b := t.pair(nil)
	for i := range 10 {
		t.must(a.Send(t.ctx, "work", note{N: i}))
	}
	t.gets(t.listen(b, "work"), ints(0, 10)...)
}

// case 44
func oneReader(t *trial) {
	a, b := t.pair(nil)
	readers := []*layer.Channel{t.listen(a, "work"), t.listen(b, "work"), t.listen(b, "work")}
	got := t.readAll(readers, 60, func() {
		for i := range 60 {
			t.report(a.Send(t.ctx, "work", note{N: i}))
		}
	})
	if want := ints(0, 60); !slices.Equal(got, want) {
		t.Errorf("got %v, want each of 0 to 59 once", got)
	}
}

// readAll reads from all channels at once, while send sends, until n messages
// came and nothing follows; it returns their numbers, sorted.
func (t *trial) readAll(readers []*layer.Channel, n int, send func()) []int {
	t.Helper()
	var (
		reading sync.WaitGroup
		came    = make(chan int)
	)
	ctx, stop := context.WithCancel(t.ctx)
	defer reading.Wait()
	defer stop()
	for _, c := range readers {
		reading.Go(func() {
			for m, err := range c.All(ctx) {
				if err != nil {
					t.Error(err)
					return
				}
				x, err := noteOf(m)
				if err != nil {
					t.Error(err)
				}
				select {
				case came <- x.N:
				case <-ctx.Done():
				}
			}
		})
	}
	reading.Go(send)
	var got []int
	wait := t.ctx.Done()
	for quiet := (<-chan time.Time)(nil); ; {
		select {
		case x := <-came:
			got = append(got, x)
		case <-quiet:
			slices.Sort(got)
			return got
		case <-wait:
			t.Errorf("%d of %d messages came", len(got), n)
			slices.Sort(got)
			return got
		}
		if len(got) >= n {
			quiet = time.After(t.quiet)
		}
	}
}

func fullShared(t *trial) {
	a, b := t.pair(capacity(3))
	for i := range 3 {
		t.must(a.Send(t.ctx, "work", note{N: i}))
	}
	t.is("Send over capacity", a.Send(t.ctx, "work", note{N: 3}), layer.ErrChannelFull)
	t.is("Send over capacity", b.Send(t.ctx, "work", note{N: 4}), layer.ErrChannelFull)
	t.must(a.Send(t.ctx, "other", note{}))
	c := t.listen(b, "work")
	t.gets(c, 0, 1, 2)
	t.must(a.Send(t.ctx, "work", note{N: 5}))
	t.gets(c, 5)
}

// case 19
func cancelShared(t *trial) {
	a, b := t.pair(nil)
	c := t.listen(b, "work")
	t.cancelAtMoments(c, func(i int) error { return a.Send(t.ctx, "work", note{N: i}) })
}

// case 26, case 57
func sharedExpiry(t *trial) {
	t.conclude(func(brief time.Duration) bool {
		dial, full := t.network(t), func(o *layer.Options) { o.Expiry, o.Capacity = brief, 2 }
		a, b := t.layerOn(dial(t), full), t.layerOn(dial(t), full)
		t.must(a.Send(t.ctx, "work", note{N: 1}))
		t.must(a.Send(t.ctx, "work", note{N: 2}))
		var third time.Time
		t.until("there is room again", func() bool {
			third = time.Now()
			err := a.Send(t.ctx, "work", note{N: 3})
			if err != nil && !errors.Is(err, layer.ErrChannelFull) {
				t.Fatal(err)
			}
			return err == nil
		})
		c := t.listen(b, "work")
		defer c.Close()
		ctx, cancel := context.WithDeadline(t.ctx, third.Add(brief))
		defer cancel()
		for {
			// With the second message a little younger than the first, both may
			// not have gone at the same moment.
			switch got, err := receive(ctx, c); {
			case err != nil || time.Since(third) >= brief:
				return false
			case got.N == 3:
				t.nothing(c)
				return true
			case got.N != 2:
				t.Fatalf("got %d, which has expired", got.N)
			}
		}
	})
}

// case 36
func readerStops(t *trial) {
	a, b := t.pair(nil)
	first := t.listen(b, "work")
	stopped := make(chan error, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		_, err := first.Receive(t.ctx)
		stopped <- err
	})
	time.Sleep(t.quiet / 4) // so that it waits, which nothing shows from outside
	t.must(first.Close())
	reading.Wait()
	t.is("Receive of a channel that is closed", <-stopped, layer.ErrClosed)
	for i := range 5 {
		t.must(a.Send(t.ctx, "work", note{N: i}))
	}
	second := t.listen(b, "work")
	for i := range 2 {
		if got := t.next(second); got.N != i {
			t.Fatalf("got %d, want %d", got.N, i)
		}
	}
	t.must(b.Close(t.ctx))
	t.gets(t.listen(a, "work"), 2, 3, 4)
}

// case 53
func workers(t *trial) {
	a, b := t.pair(nil)
	c := t.layer(nil)
	var readers []*layer.Channel
	for _, l := range []*layer.Layer{a, b, c} {
		t.must(l.GroupAdd(t.ctx, "jobs", "work"))
		t.must(l.GroupAdd(t.ctx, "jobs", "work"))
		readers = append(readers, t.listen(l, "work"))
	}
	ordinary := t.member(b, "jobs")
	got := t.readAll(readers, 60, func() {
		for i := range 60 {
			t.report(a.GroupSend(t.ctx, "jobs", note{N: i}))
		}
	})
	if !slices.Equal(got, ints(0, 60)) {
		t.Errorf("got %v, want each of 0 to 59 once", got)
	}
	t.gets(ordinary, ints(0, 60)...)
}

func discardShared(t *trial) {
	a, b := t.pair(nil)
	c := t.layer(nil)
	t.must(a.GroupAdd(t.ctx, "jobs", "work"))
	t.must(b.GroupAdd(t.ctx, "jobs", "work"))
	t.must(b.GroupAdd(t.ctx, "more", "work"))
	reader := t.listen(c, "work")
	t.must(c.GroupSend(t.ctx, "jobs", note{N: 1}))
	t.gets(reader, 1)
	t.must(c.GroupDiscard(t.ctx, "jobs", "work"))
	t.must(c.GroupSend(t.ctx, "jobs", note{N: 2}))
	t.nothing(reader)
	t.must(c.GroupSend(t.ctx, "more", note{N: 3}))
	t.gets(reader, 3)
	t.must(a.GroupAdd(t.ctx, "jobs", "work"))
	for i := range 6 { // b, which is no member any more, must not swallow any
		t.must(c.GroupSend(t.ctx, "jobs", note{N: 4 + i}))
	}
	t.gets(reader, ints(4, 10)...)
}

// case 59
func relayOutlives(t *trial) {
	a, b := t.pair(nil)
	c := t.layer(nil)
	t.must(a.GroupAdd(t.ctx, "jobs", "work"))
	t.must(b.GroupAdd(t.ctx, "jobs", "work"))
	reader := t.listen(c, "work")
	t.must(a.Close(t.ctx))
	for i := range 10 {
		t.must(c.GroupSend(t.ctx, "jobs", note{N: i}))
	}
	t.gets(reader, ints(0, 10)...)
}
