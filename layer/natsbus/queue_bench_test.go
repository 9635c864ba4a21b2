package natsbus_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// BenchmarkQueue puts a message into a durable queue, takes and acknowledges it.
func BenchmarkQueue(b *testing.B) {
	l, err := layer.New(open(b, &natsbus.Options{}), &layer.Options{Queues: []layer.QueuePolicy{{Pattern: "work", Capacity: 100_000}}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close(context.Background())
	m, err := layer.ParseMessage([]byte(`{"type":"bench.message","text":"` + strings.Repeat("x", 100) + `"}`))
	if err != nil {
		b.Fatal(err)
	}
	const workers = 16
	var sent, done atomic.Int64
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var running sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range workers {
		running.Go(func() {
			for {
				d, err := l.Take(ctx, "work")
				if err != nil {
					return
				}
				if err := d.Ack(ctx); err != nil {
					b.Errorf("Ack: %v", err)
				}
				if done.Add(1) == int64(b.N) {
					cancel()
				}
			}
		})
		running.Go(func() {
			for sent.Add(1) <= int64(b.N) {
				if err := l.Send(b.Context(), "work", m); err != nil {
					b.Errorf("Send: %v", err)
				}
			}
		})
	}
	running.Wait()
}
