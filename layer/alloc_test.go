package layer

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// direct is a wire on which GroupSend delivers before it returns: what a Layer
// costs by itself.
type direct struct {
	Link  // what is not below is not called
	to    Receiver
	batch [1]Inbound

	policies []Retention
	stored   uint64
	state    []byte
}

func (d *direct) Attach(_ context.Context, _ string, r Receiver) (Link, error) {
	d.to = r
	return d, nil
}
func (d *direct) Subscribe(context.Context, Subscription) error                { return nil }
func (d *direct) Unsubscribe(Subscription) error                               { return nil }
func (d *direct) Retain(context.Context, []Retention) ([]Retention, error)     { return d.policies, nil }
func (d *direct) Govern(context.Context, []QueuePolicy) ([]QueuePolicy, error) { return nil, nil }
func (d *direct) Close(context.Context) error                                  { return nil }
func (d *direct) Publish(_ context.Context, group string, p *Packet) error {
	d.batch[0] = Inbound{Subscription: Subscription{Group: group}, Packet: *p}
	d.to.Deliver(d.batch[:])
	return nil
}

func (d *direct) State(context.Context, string) ([]byte, uint64, error) {
	return d.state, uint64(min(len(d.state), 1)), nil
}

func (d *direct) SetState(_ context.Context, _ string, value []byte, _ uint64, _ time.Duration) (bool, error) {
	d.state = value
	return true, nil
}

func (d *direct) Last(context.Context, string) (Stamp, error) {
	return Stamp{Epoch: 1, Sequence: d.stored}, nil
}
func (d *direct) Store(_ context.Context, group string, p *Packet, _ *Stamp) (Stamp, bool, error) {
	s := Stamp{1, d.stored + 1, d.stored}
	d.stored++
	d.batch[0] = Inbound{Subscription{Group: group}, *p, s}
	d.to.Deliver(d.batch[:])
	return s, false, nil
}

// sink is a tap that forwards: it takes all and asks for the shared form.
type sink struct{ got atomic.Int64 }

func (s *sink) Offer(b *Batch) bool {
	b.Once("frame", frame)
	s.got.Add(int64(len(b.Messages)))
	return true
}
func (s *sink) Wake() {}

func frame(b *Batch) any { return b.Messages[0] }

// audience makes a layer with members of the group "g".
func audience(tb testing.TB, members int, policies ...Retention) (*Layer, *sink) {
	l, err := New(&direct{policies: policies}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close(context.Background()) })
	s := &sink{}
	for range members {
		c, err := l.Tap(tb.Context(), s)
		if err == nil {
			err = l.GroupAdd(tb.Context(), "g", c.Name())
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	return l, s
}

var said Payload = Message{Type: "chat.message", Data: []byte(`{"type":"chat.message","user":"ann","text":"hello, everybody"}`)}

// A message costs a few allocations, a member none.
func TestGroupSendAllocations(t *testing.T) {
	per := map[int]float64{}
	for _, n := range []int{1, 1000} {
		l, s := audience(t, n)
		per[n] = testing.AllocsPerRun(100, func() {
			if err := l.GroupSend(t.Context(), "g", said); err != nil {
				t.Fatal(err)
			}
		})
		if got := s.got.Load(); got != int64(101*n) {
			t.Errorf("%d members: %d deliveries, want %d", n, got, 101*n)
		}
	}
	// The message, and what its members share.
	if per[1] > 2+poolSlack {
		t.Errorf("a message costs %v allocations, want at most 2", per[1])
	}
	if per[1000] > per[1]+poolSlack {
		t.Errorf("with 1000 members a message costs %v allocations, with one %v", per[1000], per[1])
	}
}

// A durable group's message costs its members nothing either, nor does an
// ordinary group pay for the policies of others.
func TestDurableAllocations(t *testing.T) {
	for _, c := range []struct {
		what   string
		policy Retention
		most   float64
	}{
		{"stored", Retention{"g", 10, time.Hour}, 4}, // the message's key, and room for it
		{"ordinary", Retention{"job.>", 10, time.Hour}, 2},
	} {
		per := map[int]float64{}
		for _, n := range []int{1, 1000} {
			l, s := audience(t, n, c.policy)
			per[n] = testing.AllocsPerRun(100, func() {
				if err := l.GroupSend(t.Context(), "g", said); err != nil {
					t.Fatal(err)
				}
			})
			if got := s.got.Load(); got != int64(101*n) {
				t.Errorf("%s, %d members: %d deliveries, want %d", c.what, n, got, 101*n)
			}
		}
		if per[1] > c.most+poolSlack || per[1000] > per[1]+poolSlack {
			t.Errorf("%s: a message costs %v allocations, and %v with 1000 members; want at most %v", c.what, per[1], per[1000], c.most)
		}
	}
}

// What arrives together for one group shares its allocations.
func TestBatchAllocations(t *testing.T) {
	const n = 64
	l, s := audience(t, 3)
	batch := make([]Inbound, n)
	for i := range batch {
		batch[i] = Inbound{Subscription: Subscription{Group: "g"}, Packet: Packet{Data: said.(Message).Data}}
	}
	per := testing.AllocsPerRun(100, func() { (*receiver)(l).Deliver(batch) })
	if got := s.got.Load(); got != 101*3*n {
		t.Errorf("%d deliveries, want %d", got, 101*3*n)
	}
	if want := float64(n/maxTogether + 1); per > want+poolSlack { // and what the members share
		t.Errorf("%d messages cost %v allocations, want at most %v", n, per, want)
	}
}

// A join of a large group does not copy the others who are in it.
func TestJoinAllocations(t *testing.T) {
	var r roster
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range pageSize {
		r.add(new(Channel))
	}
	runtime.ReadMemStats(&after)
	per := (after.TotalAlloc - before.TotalAlloc) / pageSize
	if most := uint64(unsafe.Sizeof(Channel{})) + 200; per > most {
		t.Errorf("a join costs %d bytes, want at most %d", per, most)
	}
}

func TestScanAllocations(t *testing.T) {
	data := []byte(`{"type":"chat.message","list":[1,2.5e3,{"a":null}],"text":"\u00e4 \"x\""}`)
	if n := testing.AllocsPerRun(100, func() { scanMessage(data) }); n > 0 {
		t.Errorf("a scan costs %v allocations, want none", n)
	}
}

func BenchmarkGroupSend(b *testing.B) {
	for _, n := range []int{1, 10, 1000, 100_000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			l, _ := audience(b, n)
			b.ReportAllocs()
			for b.Loop() {
				l.GroupSend(b.Context(), "g", said)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/member")
		})
	}
}

func BenchmarkGroupAdd(b *testing.B) {
	for _, n := range []int{0, 1000, 100_000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			l, s := audience(b, n+1)
			c, err := l.Tap(b.Context(), s)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				l.GroupAdd(b.Context(), "g", c.Name())
				l.GroupDiscard(b.Context(), "g", c.Name())
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	data := said.(Message).Data
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		scanMessage(data)
	}
}
