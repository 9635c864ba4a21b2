package layer_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// owner is a tap that notes who asks it for what, and does it, unless it refuses.
type owner struct {
	channel *layer.Channel
	refuses error

	mu    sync.Mutex // guards what follows
	asked []string
	got   int
}

func (o *owner) Offer(b *layer.Batch) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got += len(b.Messages)
	return true
}

func (o *owner) Wake() {}

func (o *owner) Join(ctx context.Context, group string) error {
	o.note("join " + group)
	if o.refuses != nil {
		return o.refuses
	}
	return o.channel.Join(ctx, group)
}

func (o *owner) Leave(group string) error {
	o.note("leave " + group)
	return o.channel.Leave(context.Background(), group)
}

func (o *owner) note(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, what)
}

// Whoever adds a channel, its owner is asked, and only the owner itself is not.
func TestMemberTap(t *testing.T) { synctest.Test(t, testMemberTap) }

func testMemberTap(t *testing.T) {
	bus := membus.New()
	l, other := newLayer(t, bus, nil), newLayer(t, bus, nil)
	o := &owner{}
	var err error
	if o.channel, err = l.Tap(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	name := o.channel.Name()
	for i, step := range []struct {
		do    func() error
		asked []string
		got   int // messages of a GroupSend afterwards
	}{
		{func() error { return o.channel.Join(t.Context(), "g") }, nil, 1},
		{func() error { return o.channel.Leave(t.Context(), "g") }, nil, 0},
		{func() error { return l.GroupAdd(t.Context(), "g", name) }, []string{"join g"}, 1},
		{func() error { return other.GroupDiscard(t.Context(), "g", name) }, []string{"leave g"}, 0},
		{func() error { return other.GroupAdd(t.Context(), "g", name) }, []string{"join g"}, 1},
		{func() error { return l.GroupDiscard(t.Context(), "g", name) }, []string{"leave g"}, 0},
	} {
		o.asked, o.got = nil, 0
		if err := step.do(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if err := l.GroupSend(t.Context(), "g", Said{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		o.mu.Lock()
		if o.got != step.got {
			t.Errorf("step %d: it got %d messages, want %d", i, o.got, step.got)
		}
		if !slices.Equal(o.asked, step.asked) {
			t.Errorf("step %d: asked for %v, want %v", i, o.asked, step.asked)
		}
		o.mu.Unlock()
	}
	for _, refusal := range []error{layer.ErrTooManyGroups, layer.ErrNoChannel} {
		o.refuses = refusal
		for _, from := range []*layer.Layer{l, other} {
			if err := from.GroupAdd(t.Context(), "g", name); !errors.Is(err, refusal) {
				t.Errorf("refused with %v: got %v", refusal, err)
			}
		}
	}
	if err := o.channel.Join(t.Context(), "not a name"); err == nil {
		t.Error("a bad name: no error")
	}
	o.channel.Close()
	if err := other.GroupAdd(t.Context(), "g", name); !errors.Is(err, layer.ErrNoChannel) {
		t.Errorf("after Close: got %v, want ErrNoChannel", err)
	}
	if err := o.channel.Join(t.Context(), "g"); !errors.Is(err, layer.ErrClosed) {
		t.Errorf("after Close, by the owner: got %v, want ErrClosed", err)
	}
}
