package natsbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

var testLimits = layer.Limits{Capacity: 100, Ceiling: 100, Expiry: time.Minute}

func push(t testing.TB, l layer.Link, channel string, n int, limits layer.Limits) error {
	t.Helper()
	return l.Push(t.Context(), channel, &layer.Packet{Data: fmt.Appendf(nil, `{"n":%d}`, n)}, limits)
}

func pull(t testing.TB, l layer.Link, channel string, limits layer.Limits) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	p, err := l.Pull(ctx, channel, limits)
	if err != nil {
		t.Fatal(err)
	}
	return string(p.Data)
}

// isEmpty reports whether the channel holds nothing.
func isEmpty(t testing.TB, b *Bus, channel string) bool {
	t.Helper()
	st, err := b.openStream(t.Context(), testLimits)
	if err != nil {
		t.Fatal(err)
	}
	n, err := st.count(t.Context(), b.subjects.channel(channel))
	if err != nil {
		t.Fatal(err)
	}
	return n == 0
}

func TestSharedOrder(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	for i := range 20 {
		if err := push(t, l, "jobs.a..b", i, testLimits); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		if got, want := pull(t, l, "jobs.a..b", testLimits), fmt.Sprintf(`{"n":%d}`, i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	if !isEmpty(t, b, "jobs.a..b") {
		t.Error("messages are left after all were pulled")
	}
}

// case 3: a puller that already waits.
func TestPullWaits(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	got := make(chan string, 1)
	go func() { got <- pull(t, l, "c", testLimits) }()
	if err := push(t, l, "c", 1, testLimits); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m != `{"n":1}` {
		t.Errorf("got %s", m)
	}
}

// cases 4, 5: the capacity of the stream, and a lower one.
func TestCapacity(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	for _, capacity := range []int{3, 1, 100} {
		limits := layer.Limits{Capacity: capacity, Ceiling: 100, Expiry: time.Minute, Stated: true}
		channel := fmt.Sprintf("c%d", capacity)
		for i := range capacity {
			if err := push(t, l, channel, i, limits); err != nil {
				t.Fatalf("capacity %d, message %d: %v", capacity, i, err)
			}
		}
		if err := push(t, l, channel, capacity, limits); !errors.Is(err, layer.ErrChannelFull) {
			t.Errorf("capacity %d: got %v for one more, want ErrChannelFull", capacity, err)
		}
		pull(t, l, channel, limits)
		if err := push(t, l, channel, capacity, limits); err != nil {
			t.Errorf("capacity %d: after a pull: %v", capacity, err)
		}
		if err := push(t, l, channel, capacity, limits); !errors.Is(err, layer.ErrChannelFull) {
			t.Errorf("capacity %d: after a pull and a push: got %v, want ErrChannelFull", capacity, err)
		}
	}
}

// A capacity that NATS does not check is exact among senders that race.
func TestCapacityRace(t *testing.T) {
	b := openBus(t, nil)
	limits := layer.Limits{Capacity: 5, Ceiling: 100, Expiry: time.Minute, Stated: true}
	var mu sync.Mutex // guards stored
	stored := 0
	var senders sync.WaitGroup
	for range 4 {
		l := attach(t, b, newRecorder())
		senders.Go(func() {
			for i := range 5 {
				err := push(t, l, "c", i, limits)
				if err == nil {
					mu.Lock()
					stored++
					mu.Unlock()
				} else if !errors.Is(err, layer.ErrChannelFull) {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
	if stored != 5 {
		t.Errorf("got %d messages stored, want 5", stored)
	}
}

// cases 22, 26, 28, 57
func TestExpiry(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	limits := layer.Limits{Capacity: 2, Ceiling: 2, Expiry: 3 * time.Second, Stated: true}
	for i := range 2 {
		if err := push(t, l, "c", i, limits); err != nil {
			t.Fatal(err)
		}
	}
	if err := push(t, l, "c", 2, limits); !errors.Is(err, layer.ErrChannelFull) {
		t.Fatalf("got %v, want ErrChannelFull", err)
	}
	time.Sleep(limits.Expiry + 10*time.Millisecond) // the time that the messages have
	if err := push(t, l, "c", 3, limits); err != nil {
		t.Errorf("expired messages hold capacity: %v", err)
	}
	if got := pull(t, l, "c", limits); got != `{"n":3}` {
		t.Errorf("got %s, want the one that has not expired", got)
	}
}

func TestLimitsOfOthers(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	first := layer.Limits{Capacity: 3, Ceiling: 3, Expiry: time.Minute, Stated: true}
	if err := push(t, l, "c", 0, first); err != nil {
		t.Fatal(err)
	}
	// Defaults give way to what is there.
	for i := range 2 {
		if err := push(t, l, "c", i, testLimits); err != nil {
			t.Fatal(err)
		}
	}
	if err := push(t, l, "c", 3, testLimits); !errors.Is(err, layer.ErrChannelFull) {
		t.Errorf("got %v, want ErrChannelFull at the stream's capacity", err)
	}
	other := layer.Limits{Capacity: 7, Ceiling: 7, Expiry: 2 * time.Minute, Stated: true}
	err := push(t, l, "c", 3, other)
	for _, word := range []string{"CHANNELS_channels", "3", "1m0s", "7", "2m0s"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want an error that says %q", err, word)
		}
	}
	if _, err := l.Pull(t.Context(), "c", other); err == nil {
		t.Error("Pull with other limits: got no error")
	}
}

// case 19: a Pull that is cancelled takes nothing.
func TestCancelledPulls(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	var got []string
	for i := range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			p, err := l.Pull(ctx, "c", testLimits)
			if err == nil {
				got = append(got, string(p.Data))
			} else if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}()
		if i%2 == 0 {
			time.Sleep(time.Duration(i) * 10 * time.Microsecond) // another moment each time
		}
		if err := push(t, l, "c", i, testLimits); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			time.Sleep(time.Duration(i) * 5 * time.Microsecond)
		}
		cancel()
		<-done
	}
	start := time.Now()
	for len(got) < 100 {
		got = append(got, pull(t, l, "c", testLimits))
	}
	if d := time.Since(start); d > ackWait/2 {
		t.Errorf("the rest took %v: it was left to the acknowledgement's deadline", d)
	}
	slices.Sort(got)
	if n := len(slices.Compact(got)); n != 100 {
		t.Errorf("got %d different messages of 100", n)
	}
}

// A message that was cancelled in one process is there for another.
func TestCancelledPullElsewhere(t *testing.T) {
	b := openBus(t, nil)
	l1, l2 := attach(t, b, newRecorder()), attach(t, b, newRecorder())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := l1.Pull(ctx, "c", testLimits); done <- err }()
	until(t, "the request is at the server", func() bool { return l1.(*link).isAsking("c") })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := push(t, l1, "c", 1, testLimits); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if got := pull(t, l2, "c", testLimits); got != `{"n":1}` {
		t.Errorf("got %s", got)
	}
	if d := time.Since(start); d > ackWait/2 {
		t.Errorf("it took %v", d)
	}
}

// What comes for a Pull that was cancelled is given back, and the next one gets
// it, not the message behind it: nothing is asked for before the server has it.
func TestCancelledPullKeepsTheOrder(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder()).(*link)
	p := &puller{queue: &queue{link: l, channel: "c", wake: make(chan struct{}, 1)}, in: make(chan *nats.Msg, 256)}
	defer p.end()
	arrives := func() {
		t.Helper()
		select {
		case m := <-p.in:
			p.receive(m)
		case <-time.After(15 * time.Second):
			t.Fatal("the server says nothing")
		}
	}
	cancelled, next := &waiter{got: make(chan pulled, 1)}, &waiter{got: make(chan pulled, 1)}
	if !p.join(cancelled, testLimits) || !p.step() || p.asked != 1 || !p.withdraw(cancelled) {
		t.Fatalf("got %d requests, want 1, for a Pull that is cancelled then", p.asked)
	}
	for n := range 2 {
		if err := push(t, l, "c", n, testLimits); err != nil {
			t.Fatal(err)
		}
	}
	arrives()
	if !p.join(next, testLimits) || !p.step() || p.asked != 0 {
		t.Errorf("got %d requests, want none while the server may not have back what it sent", p.asked)
	}
	arrives()
	if !p.step() || p.asked != 1 {
		t.Fatalf("got %d requests, want 1 when the server has it", p.asked)
	}
	arrives()
	if got := <-next.got; string(got.msg.Data) != `{"n":0}` {
		t.Errorf("got %s, want the first message", got.msg.Data)
	}
}

func (l *link) isAsking(channel string) bool {
	st := l.bus.store.get()
	if st == nil {
		return false
	}
	c, err := st.Consumer(context.Background(), consumerName(channel))
	return err == nil && c.CachedInfo().NumWaiting > 0
}

// case 44
func TestWorkers(t *testing.T) {
	b := openBus(t, nil)
	const n = 300
	limits := layer.Limits{Capacity: n, Ceiling: n, Expiry: time.Minute}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string, 2*n)
	var workers sync.WaitGroup
	for range 3 {
		l := attach(t, b, newRecorder())
		for range 2 {
			workers.Go(func() {
				for {
					p, err := l.Pull(ctx, "c", limits)
					if err != nil {
						return
					}
					got <- string(p.Data)
				}
			})
		}
	}
	l := attach(t, b, newRecorder())
	for i := range n {
		if err := push(t, l, "c", i, limits); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for len(seen) < n {
		m := <-got
		if seen[m] {
			t.Errorf("%s arrived twice", m)
		}
		seen[m] = true
	}
	cancel()
	workers.Wait()
	if len(got) > 0 {
		t.Errorf("%s arrived twice", <-got)
	}
}

// What another family publishes lands in the queue too, and what is no message
// does not stop it.
func TestForeignPush(t *testing.T) {
	b := openBus(t, nil)
	r := newRecorder()
	l := attach(t, b, r)
	if err := push(t, l, "other", 1, testLimits); err != nil { // makes the stream
		t.Fatal(err)
	}
	for _, data := range []string{"nonsense", "\x82\xa4type\xa1a\xa1b\xc4\x02hi", `{"type":"b"}`} {
		if err := b.Conn().Publish("channels.ch.c", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{`{"type":"a","b":"aGk="}`, `{"type":"b"}`} {
		if got := pull(t, l, "c", testLimits); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	r.awaitEvent(t, layer.Malformed)
}

func TestPushOnce(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	p := &layer.Packet{Data: []byte(`{}`), Header: layer.Header{ID: "one", Sender: "me"}}
	for range 2 {
		if err := l.Push(t.Context(), "c", p, testLimits); err != nil {
			t.Fatal(err)
		}
	}
	got, err := l.Pull(t.Context(), "c", testLimits)
	if err != nil || got.Header != p.Header {
		t.Errorf("got %+v, %v", got, err)
	}
	if !isEmpty(t, b, "c") {
		t.Error("a message with the same ID was stored twice")
	}
}

// A waiting Pull survives that its consumer, or the stream, is deleted.
func TestDeletedAssets(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	for name, remove := range map[string]func(context.Context, jetstream.JetStream) error{
		"consumer": func(ctx context.Context, js jetstream.JetStream) error {
			return js.DeleteConsumer(ctx, "CHANNELS_channels", "ch_c")
		},
		"stream": func(ctx context.Context, js jetstream.JetStream) error {
			return js.DeleteStream(ctx, "CHANNELS_channels")
		},
	} {
		got := make(chan string, 1)
		go func() { got <- pull(t, l, "c", testLimits) }()
		until(t, "the request is at the server", func() bool { return l.(*link).isAsking("c") })
		if err := remove(t.Context(), b.store.js); err != nil {
			t.Fatal(err)
		}
		if err := push(t, l, "c", 1, testLimits); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		select {
		case <-got:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the message did not arrive", name)
		}
	}
}

func TestNoJetStream(t *testing.T) {
	b := openBus(t, &Options{Embedded: &Embedded{NoJetStream: true}})
	l := attach(t, b, newRecorder())
	_, pullErr := l.Pull(t.Context(), "c", testLimits)
	for what, err := range map[string]error{"Push": push(t, l, "c", 1, testLimits), "Pull": pullErr} {
		if !errors.Is(err, layer.ErrUnavailable) || !strings.Contains(err.Error(), "JetStream") {
			t.Errorf("%s: got %v, want ErrUnavailable that names JetStream", what, err)
		}
	}
}

func TestForeignStream(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	if _, err := b.store.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "CHANNELS_channels", Subjects: []string{"x.>"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := push(t, l, "c", 1, testLimits); err == nil || !strings.Contains(err.Error(), "is not ours") {
		t.Errorf("got %v", err)
	}
}
