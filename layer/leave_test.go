package layer_test

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// Thousands leave at once, from full pages and from pages that become empty,
// while others come. A channel whose Close has returned is gone, and who stays
// misses nothing.
func TestManyLeaveAtOnce(t *testing.T) {
	l, err := layer.New(membus.New(), &layer.Options{Logger: slog.New(slog.DiscardHandler), Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	open := func(i int) *layer.Channel {
		c, err := l.NewChannel(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range []string{"all", fmt.Sprint("of.", i%3)} {
			if err := l.GroupAdd(t.Context(), g, c.Name()); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	var leaving, staying []*layer.Channel
	for i := range 3000 {
		if c := open(i); i%100 == 0 {
			staying = append(staying, c)
		} else {
			leaving = append(leaving, c)
		}
	}
	var all sync.WaitGroup
	for _, c := range leaving {
		all.Go(func() {
			c.Close()
			if err := l.Send(t.Context(), c.Name(), layer.Message{Data: []byte(`{"type":"late"}`)}); !errors.Is(err, layer.ErrNoChannel) {
				t.Errorf("a channel that was closed got a message: %v", err)
			}
		})
	}
	for i := range 300 {
		staying = append(staying, open(i))
	}
	all.Wait()
	if got, want := l.Stats(), 330; got.Channels != want {
		t.Errorf("there are %d channels, want %d", got.Channels, want)
	}
	if err := l.GroupSend(t.Context(), "all", layer.Message{Data: []byte(`{"type":"on"}`)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range staying {
		if m, err := c.Receive(t.Context()); err != nil || m.Group != "all" {
			t.Fatalf("who stays got %v, %v", m, err)
		}
		c.Close()
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
