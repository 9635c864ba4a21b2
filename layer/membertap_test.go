package layer_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

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
	_, err := o.channel.Join(ctx, group)
	return err
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
func TestMemberTap(t *testing.T) {
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
		{func() error { _, err := o.channel.Join(t.Context(), "g"); return err }, nil, 1},
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
		o.mu.Lock()
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
	if _, err := o.channel.Join(t.Context(), "not a name"); err == nil {
		t.Error("a bad name: no error")
	}
	o.channel.Close()
	if err := other.GroupAdd(t.Context(), "g", name); !errors.Is(err, layer.ErrNoChannel) {
		t.Errorf("after Close: got %v, want ErrNoChannel", err)
	}
	if _, err := o.channel.Join(t.Context(), "g"); !errors.Is(err, layer.ErrClosed) {
		t.Errorf("after Close, by the owner: got %v, want ErrClosed", err)
	}
}

// The place that Join returns is behind all that was stored before, and before all
// that is stored afterwards, for the first member and for later ones.
func TestJoinReturnsItsPlace(t *testing.T) {
	l := newLayer(t, membus.New(), &layer.Options{Groups: []layer.Retention{{Pattern: "job.>", Messages: 100, Age: time.Hour}}})
	for sent, i := 0, 0; i < 4; i++ {
		c := newChannel(t, l)
		from, err := c.Join(t.Context(), "job.1")
		if err != nil || from.IsZero() {
			t.Fatalf("join %d: got %q, %v", i, from, err)
		}
		if again, err := c.Join(t.Context(), "job.1"); err != nil || !again.IsZero() {
			t.Errorf("join %d, once more: got %q, %v; want the zero Position", i, again, err)
		}
		for range 5 {
			if err := l.GroupSend(t.Context(), "job.1", Said{}); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for m, err := range l.History(t.Context(), "job.1", from, 0) {
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Receive(t.Context())
			if err != nil || got.Position != m.Position {
				t.Fatalf("join %d: the channel got %q, %v; want what follows its place: %q", i, got.Position, err, m.Position)
			}
			n++
		}
		if sent += 5; n != 5 {
			t.Errorf("join %d: %d of %d messages follow the place, want the 5 that were sent since", i, n, sent)
		}
	}
	if from, err := newChannel(t, l).Join(t.Context(), "room"); err != nil || !from.IsZero() {
		t.Errorf("in an ordinary group: got %q, %v; want the zero Position", from, err)
	}
}
