package natsbus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// What comes for a Take that was cancelled is given back, and then the next one
// gets it, not the message behind it. No attempt counts.
func TestCancelledTakeKeepsTheOrder(t *testing.T) {
	b := openBus(t, nil)
	l := attach(t, b, newRecorder())
	if _, err := l.Govern(t.Context(), []layer.QueuePolicy{{
		Pattern: "work.>", Capacity: 100, Attempts: 5, AckWait: time.Minute, Backoff: time.Second, BackoffMax: time.Minute, Window: time.Minute,
	}}); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		queue := fmt.Sprintf("work.%d", i)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := l.Take(ctx, queue); done <- err }()
		until(t, "the request is at the server", func() bool {
			c, err := b.store.js.Consumer(t.Context(), b.subjects.queueStream("work.>"), fmt.Sprintf("normal_work=%d", i))
			return err == nil && c.CachedInfo().NumWaiting > 0
		})
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for n := range 2 {
			if _, err := l.Enqueue(t.Context(), queue, &layer.Packet{Data: fmt.Appendf(nil, "%d", n)}, layer.Placing{}); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 2 {
			got, err := l.Take(t.Context(), queue)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Packet.Data) != fmt.Sprint(n) || got.Attempt != 1 {
				t.Fatalf("got message %s, attempt %d; want message %d, attempt 1", got.Packet.Data, got.Attempt, n)
			}
		}
	}
}
