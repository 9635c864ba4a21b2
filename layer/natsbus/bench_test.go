package natsbus

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// Publishing without a header allocates nothing of ours.
func TestPublishAllocations(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	p := &layer.Packet{Data: []byte(`{"type":"t"}`)}
	ctx := t.Context()
	publish := func() {
		if err := l.Publish(ctx, "nobody", p); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	// The embedded server's goroutines may allocate meanwhile, hence the slack.
	if n := testing.AllocsPerRun(2000, publish); n >= 1 {
		t.Errorf("%v allocations for a message, want 0", n)
	}
}

// Taking a batch apart allocates nothing.
func TestCollectAllocations(t *testing.T) {
	s := newShard(64)
	sub := &nats.Subscription{Subject: "channels.grp.g"}
	s.add(groupKey{"channels.grp.g", ""}, layer.Subscription{Group: "g"}, nil)
	m := &nats.Msg{Subject: "channels.grp.g", Data: []byte(`{"type":"t"}`), Sub: sub}
	var c collector
	collect := func() {
		for range 10 {
			s.in <- m
		}
		c.collect(s, <-s.in)
		if len(c.batch) != 10 {
			t.Fatalf("got a batch of %d, want 10", len(c.batch))
		}
		c.reset()
	}
	collect()
	if n := testing.AllocsPerRun(100, collect); n != 0 {
		t.Errorf("%v allocations for ten messages, want 0", n)
	}
}

// BenchmarkPublishDeliver compares a message's way through a Link with the same
// by nats.go alone. At most half of what the channels hold is under way.
func BenchmarkPublishDeliver(b *testing.B) {
	for _, size := range []int{128, 1024} {
		data := append([]byte(`{"type":"t","x":"`), make([]byte, size)...)
		b.Run(fmt.Sprintf("bus/%d", size), func(b *testing.B) {
			bus := openBus(b, nil)
			var received atomic.Int64
			r := newRecorder()
			r.onDeliver = func(batch []layer.Inbound) { received.Add(int64(len(batch))) }
			l := attach(b, bus, r)
			subscribe(b, l, "g")
			p, ctx := &layer.Packet{Data: data}, b.Context()
			benchmark(b, &received, func() error { return l.Publish(ctx, "g", p) })
		})
		b.Run(fmt.Sprintf("nats/%d", size), func(b *testing.B) {
			bus := openBus(b, nil)
			var received atomic.Int64
			in, quit := make(chan *nats.Msg, bus.opts.Pending), make(chan struct{})
			defer close(quit)
			go func() {
				for {
					select {
					case <-in:
						received.Add(1)
					case <-quit:
						return
					}
				}
			}()
			sub, err := bus.conn.ChanSubscribe("x.g", in)
			if err != nil {
				b.Fatal(err)
			}
			defer sub.Unsubscribe()
			benchmark(b, &received, func() error { return bus.conn.Publish("x.g", data) })
		})
	}
}

func benchmark(b *testing.B, received *atomic.Int64, send func() error) {
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		if err := send(); err != nil {
			b.Fatal(err)
		}
		n++
		for n-received.Load() > 1<<15 {
			runtime.Gosched()
		}
	}
	for received.Load() < n {
		runtime.Gosched()
	}
}
