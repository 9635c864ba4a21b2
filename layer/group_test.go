package layer_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// gate is a bus on which subscribing waits to be let through.
type gate struct {
	layer.Bus
	mu    sync.Mutex // guards all below
	wait  chan error // what the next Subscribe returns; nil: at once
	calls []string
}

func (g *gate) Attach(ctx context.Context, process string, r layer.Receiver) (layer.Link, error) {
	l, err := g.Bus.Attach(ctx, process, r)
	return &gatedLink{Link: l, gate: g, closed: make(chan struct{})}, err
}

func (g *gate) note(call string) chan error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, call)
	return g.wait
}

func (g *gate) called() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.calls)
}

type gatedLink struct {
	layer.Link
	gate   *gate
	closed chan struct{}
}

func (l *gatedLink) Subscribe(ctx context.Context, s layer.Subscription) error {
	if wait := l.gate.note("subscribe " + s.Group + s.Relay); wait != nil {
		select {
		case err := <-wait:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-l.closed:
			return layer.ErrClosed
		}
	}
	return l.Link.Subscribe(ctx, s)
}

func (l *gatedLink) Unsubscribe(s layer.Subscription) error {
	l.gate.note("unsubscribe " + s.Group + s.Relay)
	return l.Link.Unsubscribe(s)
}

func (l *gatedLink) Close(ctx context.Context) error {
	close(l.closed)
	return l.Link.Close(ctx)
}

// joins starts n calls of GroupAdd, each for a channel of its own.
func joins(ctx context.Context, t *testing.T, l *layer.Layer, n int) (channels []*layer.Channel, results chan error) {
	results = make(chan error, n)
	for range n {
		c := newChannel(t, l)
		channels = append(channels, c)
		go func() { results <- l.GroupAdd(ctx, "g", c.Name()) }()
	}
	return channels, results
}

func newChannel(t testing.TB, l *layer.Layer) *layer.Channel {
	t.Helper()
	c, err := l.NewChannel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFailedSubscribeLeavesNoMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &gate{Bus: membus.New(), wait: make(chan error)}
		l := newLayer(t, bus, nil)
		channels, results := joins(t.Context(), t, l, 3)
		synctest.Wait()
		broken := errors.New("broken")
		bus.wait <- broken
		for range 3 {
			if err := <-results; !errors.Is(err, broken) {
				t.Errorf("got error %v, want the bus's", err)
			}
		}
		if n := l.Stats().Groups; n != 0 {
			t.Errorf("%d groups are left", n)
		}
		bus.wait = nil
		other := newChannel(t, l)
		if err := l.GroupAdd(t.Context(), "g", other.Name()); err != nil {
			t.Fatal(err)
		}
		if err := l.GroupSend(t.Context(), "g", note{"x"}); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, c := range channels {
			expectNothing(t, c)
		}
	})
}

func expectNothing(t testing.TB, c *layer.Channel) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if m, err := c.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %s, error %v, where nothing should come", m.Data, err)
	}
}

// One subscription serves all who join together; a caller that gives up does
// not end it for the others.
func TestJoinsShareASubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &gate{Bus: membus.New(), wait: make(chan error)}
		l := newLayer(t, bus, nil)
		ctx, cancel := context.WithCancel(t.Context())
		left, gaveUp := joins(ctx, t, l, 1)
		synctest.Wait()
		_, stayed := joins(t.Context(), t, l, 2)
		// The same channel, by a caller that waits on.
		both := make(chan error, 1)
		go func() { both <- l.GroupAdd(t.Context(), "g", left[0].Name()) }()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want context.Canceled", err)
		}
		bus.wait <- nil
		for range 2 {
			if err := <-stayed; err != nil {
				t.Error(err)
			}
		}
		if err := <-both; err != nil {
			t.Error(err)
		}
		if got, want := bus.called(), []string{"subscribe g"}; !slices.Equal(got, want) {
			t.Errorf("got calls %q, want %q", got, want)
		}
		l.GroupSend(t.Context(), "g", note{"x"})
		if _, err := left[0].Receive(t.Context()); err != nil {
			t.Errorf("the channel that two calls added: %v", err)
		}
	})
}

func TestCloseEndsJoinsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &gate{Bus: membus.New(), wait: make(chan error)}
		l := newLayer(t, bus, nil)
		_, results := joins(t.Context(), t, l, 3)
		synctest.Wait()
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := <-results; !errors.Is(err, layer.ErrClosed) {
				t.Errorf("got error %v, want ErrClosed", err)
			}
		}
	})
}

// A reload of a page, which leaves and joins within Linger, costs the network
// nothing; a group that stays empty is left once.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &gate{Bus: membus.New()}
		l := newLayer(t, bus, nil)
		for range 5 {
			c := newChannel(t, l)
			if err := l.GroupAdd(t.Context(), "g", c.Name()); err != nil {
				t.Fatal(err)
			}
			c.Close()
			time.Sleep(900 * time.Millisecond)
		}
		if got, want := bus.called(), []string{"subscribe g"}; !slices.Equal(got, want) {
			t.Errorf("while members come and go: got calls %q, want %q", got, want)
		}
		time.Sleep(200 * time.Millisecond)
		if got, want := bus.called(), []string{"subscribe g", "unsubscribe g"}; !slices.Equal(got, want) {
			t.Errorf("afterwards: got calls %q, want %q", got, want)
		}
	})
}

// A group whose only member comes and goes faster than Linger does not keep
// others from being left.
func TestRestlessGroupHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLayer(t, membus.New(), nil)
		quiet := newChannel(t, l)
		for i := range 30 {
			c := newChannel(t, l)
			if err := l.GroupAdd(t.Context(), "restless", c.Name()); err != nil {
				t.Fatal(err)
			}
			c.Close()
			if i == 0 {
				l.GroupAdd(t.Context(), "quiet", quiet.Name())
				quiet.Close()
			}
			time.Sleep(300 * time.Millisecond)
		}
		if n := l.Stats().Groups; n != 1 {
			t.Errorf("subscribed to %d groups, want the restless one alone", n)
		}
	})
}

func TestRelayIsForgottenWithItsLastGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &gate{Bus: membus.New()}
		l := newLayer(t, bus, &layer.Options{Linger: -1})
		for range 3 {
			for _, g := range []string{"g", "h"} {
				if err := l.GroupAdd(t.Context(), g, "work"); err != nil {
					t.Fatal(err)
				}
			}
			for _, g := range []string{"g", "h"} {
				if err := l.GroupDiscard(t.Context(), g, "work"); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		if n := l.Stats().Groups; n != 0 {
			t.Errorf("%d groups are left", n)
		}
	})
}

// A process is told to add a channel only by its owner's name.
func TestNobodyAddsSharedChannelsForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		a, b := newLayer(t, bus, nil), newLayer(t, bus, nil)
		_, err := a.Command(t.Context(), b.Process(), "add", map[string]string{"group": "g", "channel": "work"})
		if err == nil || b.Stats().Groups != 0 {
			t.Errorf("got error %v and %d groups", err, b.Stats().Groups)
		}
	})
}
