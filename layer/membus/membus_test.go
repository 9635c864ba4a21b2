package membus_test

import (
	"context"
	"flag"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/layertest"
	"github.com/tideway-go/tideway/layer/membus"
)

// TestMain lets more tests run at the same time than there are processors: the
// rows of layertest wait most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func network(testing.TB) layertest.Dial {
	bus := membus.New()
	return func(testing.TB) layer.Bus { return bus }
}

func TestBus(t *testing.T) { layertest.TestBus(t, network, &layertest.Options{Bubble: true}) }

// The same in real time, where goroutines really race.
func TestBusInRealTime(t *testing.T) { layertest.TestBus(t, network, nil) }

// stuck is a process that does not get on with its messages.
type stuck struct {
	release        chan struct{}
	delivered      atomic.Int64
	dropped        atomic.Int64
	droppedOfGroup atomic.Int64
}

func (s *stuck) Deliver(in []layer.Inbound) {
	<-s.release
	s.delivered.Add(int64(len(in)))
}
func (s *stuck) DeliverTo(string, layer.Packet) error { return nil }
func (s *stuck) Call(context.Context, []byte) []byte  { return nil }
func (s *stuck) Report(e layer.LinkEvent) {
	if e.Kind == layer.Dropped {
		s.dropped.Add(int64(e.Count))
	}
	if e.Group == "g" {
		s.droppedOfGroup.Add(int64(e.Count))
	}
}

// A process that lags too far misses messages, and each of them is reported.
func TestMailboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{release: make(chan struct{})}
		bus := membus.New()
		l, err := bus.Attach(t.Context(), "twstuck", s)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Subscribe(t.Context(), layer.Subscription{Group: "g"}); err != nil {
			t.Fatal(err)
		}
		p := &layer.Packet{Data: []byte(`{"type":"t"}`)}
		publish := func(n int) {
			for range n {
				if err := l.Publish(t.Context(), "g", p); err != nil {
					t.Fatal(err)
				}
			}
		}
		publish(1)
		synctest.Wait() // it is stuck with that one
		publish(1<<16 + 10)
		close(s.release)
		synctest.Wait()
		if got, want := s.delivered.Load(), int64(1<<16+1); got != want {
			t.Errorf("got %d messages, want %d", got, want)
		}
		if a, b := s.dropped.Load(), s.droppedOfGroup.Load(); a != 10 || b != 10 {
			t.Errorf("%d losses were reported, %d of the group, want 10", a, b)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAttachTwice(t *testing.T) {
	bus := membus.New()
	l, err := bus.Attach(t.Context(), "twone", &stuck{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Attach(t.Context(), "twone", &stuck{}); err == nil {
		t.Error("a second process of the same name: got no error")
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Subscribe": l.Subscribe(t.Context(), layer.Subscription{Group: "g"}),
		"Publish":   l.Publish(t.Context(), "g", &layer.Packet{}),
		"SendTo":    l.SendTo(t.Context(), "twone!1", &layer.Packet{}),
		"Push":      l.Push(t.Context(), "work", &layer.Packet{}, layer.Limits{Capacity: 1}),
		"Close":     l.Close(t.Context()),
	} {
		if want := layer.ErrClosed; what == "Close" {
			if err != nil {
				t.Errorf("a second Close: got error %v", err)
			}
		} else if err != want {
			t.Errorf("%s of a closed link: got error %v, want %v", what, err, want)
		}
	}
}
