package layer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

type note struct {
	Text string `json:"text"`
}

func (note) MessageType() string { return "chat.note" }

func newLayer(t testing.TB, bus layer.Bus, opts *layer.Options) *layer.Layer {
	t.Helper()
	l, err := layer.New(bus, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestGroupReachesMembersOfEveryProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		bus := membus.New()
		a, b := newLayer(t, bus, nil), newLayer(t, bus, nil)
		ca, _ := a.NewChannel(ctx)
		cb, _ := b.NewChannel(ctx)
		for l, c := range map[*layer.Layer]*layer.Channel{a: ca, b: cb} {
			if err := l.GroupAdd(ctx, "lobby", c.Name()); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.GroupSend(ctx, "lobby", note{"hi"}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*layer.Channel{ca, cb} {
			m, err := c.Receive(ctx)
			if err != nil || m.Type != "chat.note" || m.Group != "lobby" || string(m.Data) != `{"type":"chat.note","text":"hi"}` {
				t.Fatalf("got %+v, %v", m, err)
			}
		}
		// Another process's channel can be added, too.
		if err := a.GroupAdd(ctx, "hall", cb.Name()); err != nil {
			t.Fatal(err)
		}
		a.GroupSend(ctx, "hall", note{"there"})
		if m, err := cb.Receive(ctx); err != nil || m.Group != "hall" {
			t.Fatalf("got %+v, %v", m, err)
		}
		// Shared channel as a member.
		w1, _ := a.Listen(ctx, "work")
		if err := a.GroupAdd(ctx, "lobby", "work"); err != nil {
			t.Fatal(err)
		}
		if err := b.GroupAdd(ctx, "lobby", "work"); err != nil {
			t.Fatal(err)
		}
		b.GroupSend(ctx, "lobby", note{"once"})
		if m, err := w1.Receive(ctx); err != nil || m.Type != "chat.note" {
			t.Fatalf("got %+v, %v", m, err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if m, err := w1.Receive(short); err == nil {
			t.Fatalf("a second copy: %+v", m)
		}
		ca.Close()
		cb.Close()
		time.Sleep(5 * time.Second)
		if got := a.Stats().Groups; got != 1 { // the relay's
			t.Fatalf("%d groups are left", got)
		}
	})
}
