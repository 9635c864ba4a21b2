package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// requestsOfTake waits for a message of the queue "work" until the test ends, and
// returns what the server is asked.
func requestsOfTake(t *testing.T, b *Bus, ackWait time.Duration) <-chan *nats.Msg {
	t.Helper()
	requests := make(chan *nats.Msg, 100)
	if _, err := b.conn.ChanSubscribe("$JS.API.CONSUMER.MSG.NEXT.>", requests); err != nil {
		t.Fatal(err)
	}
	l, err := layer.New(b, &layer.Options{Queues: []layer.QueuePolicy{{Pattern: "work", AckWait: ackWait}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := l.Take(ctx, "work"); ended <- err }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return requests
}

// A request for messages is over before the leases of the process that made it:
// one that freezes does not get its own messages again, attempt after attempt,
// while others wait for them.
func TestRequestsEndBeforeLeases(t *testing.T) {
	for _, ackWait := range []time.Duration{time.Second, 15 * time.Second, time.Hour} {
		t.Run(ackWait.String(), func(t *testing.T) {
			t.Parallel()
			requests := requestsOfTake(t, openBus(t, nil), ackWait)
			for {
				m := <-requests
				var asked struct {
					NoWait bool          `json:"no_wait"`
					Expiry time.Duration `json:"expires"`
					Beat   time.Duration `json:"idle_heartbeat"`
				}
				if err := json.Unmarshal(m.Data, &asked); err != nil {
					t.Fatal(err)
				}
				if asked.NoWait {
					continue
				}
				if asked.Expiry <= 0 || asked.Expiry > ackWait/2 || asked.Expiry > pullExpiry || asked.Beat <= 0 || asked.Beat > asked.Expiry/2 {
					t.Errorf("with a lease of %v a request waits for %v, with a heartbeat every %v", ackWait, asked.Expiry, asked.Beat)
				}
				return
			}
		})
	}
}

// What lies in the inbox of a process that stood still is as old as the
// standstill, and reaches nobody.
func TestInboxOfTheFrozen(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder()).(*link)
	if _, err := l.Govern(t.Context(), []layer.QueuePolicy{{
		Pattern: "work", Capacity: 100, Attempts: 5, AckWait: time.Minute, Backoff: time.Second, BackoffMax: time.Minute, Window: time.Minute,
	}}); err != nil {
		t.Fatal(err)
	}
	w, err := l.work("work")
	if err != nil {
		t.Fatal(err)
	}
	p := &takeLoop{taker: &taker{link: l, queue: "work", tokens: "work", work: w}, looking: noLevel, seen: time.Now()}
	p.subjects[levelNormal] = b.subjects.queue("work")
	defer p.end()
	arrive := func() {
		t.Helper()
		if err := p.wait(1); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Enqueue(t.Context(), "work", &layer.Packet{Data: []byte(`{"type":"work"}`)}, layer.Placing{}); err != nil {
			t.Fatal(err)
		}
		until(t, "the message is in the inbox", func() bool { return len(p.in) == 1 })
	}
	arrive()
	if p.seen = time.Now().Add(-20 * time.Second); p.stoodStill() || len(p.in) != 1 {
		t.Errorf("a third of the lease is over, and %d messages are left", len(p.in))
	}
	if p.seen = time.Now().Add(-40 * time.Second); !p.stoodStill() || len(p.in) != 0 || p.waits != 0 {
		t.Errorf("two thirds of the lease are over, and %d messages are left; it waits for %d", len(p.in), p.waits)
	}
	arrive()
	if m := <-p.in; !strings.Contains(m.Reply, ".normal_work.1.2.") {
		t.Errorf("in the new inbox is %s, want the second message", m.Reply)
	}
}
