//go:build unix

package natsbus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// cpu returns what the process has used so far, its servers included.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDurableCost compares a durable publish with the bare call of nats.go,
// which neither has a key nor tries again, by the CPU time of both. They take
// turns, an iteration being one turn of each.
func BenchmarkDurableCost(b *testing.B) {
	for nodes, open := range map[int]func(*testing.B) *Bus{
		1: func(b *testing.B) *Bus { return openBus(b, nil) },
		3: func(b *testing.B) *Bus { return openCluster(b, Embedded{})[1] },
	} {
		for _, publishers := range []int{1, 64} {
			b.Run(fmt.Sprintf("nodes=%d/publishers=%d", nodes, publishers), func(b *testing.B) {
				bus := open(b)
				l, m := durableLayer(b, bus), numbered(1)
				ways := []func(context.Context) error{
					func(ctx context.Context) error { return l.GroupSend(ctx, "job.1", m) },
					func(ctx context.Context) error {
						_, err := bus.store.js.Publish(ctx, "channels.grp.job.2", m.Data)
						return err
					},
					func(ctx context.Context) error {
						_, err := bus.store.js.Publish(ctx, "channels.grp.job.2", m.Data, jetstream.WithMsgID(l.Process()+time.Now().String()))
						return err
					},
				}
				costs := make([][]time.Duration, len(ways))
				var ratios, keyed []float64
				for b.Loop() {
					var turn []time.Duration
					for i, publish := range ways {
						turn = append(turn, cost(b, publishers, publish))
						costs[i] = append(costs[i], turn[i])
					}
					ratios = append(ratios, float64(turn[0])/float64(turn[1]))
					keyed = append(keyed, float64(turn[0])/float64(turn[2]))
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(median(ratios), "of-bare")
				b.ReportMetric(slices.Min(ratios), "least")
				b.ReportMetric(slices.Max(ratios), "most")
				b.ReportMetric(median(keyed), "of-bare-with-key")
				b.ReportMetric(float64(median(costs[0]).Nanoseconds())/perTurn, "cpu-ns/publish")
				b.ReportMetric(float64(median(costs[1]).Nanoseconds())/perTurn, "cpu-ns/bare")
			})
		}
	}
}

// perTurn is how many messages are published in a turn.
const perTurn = 3200

// cost returns the CPU time of a turn.
func cost(b *testing.B, publishers int, publish func(context.Context) error) time.Duration {
	began := cpu(b)
	var publishing sync.WaitGroup
	for range publishers {
		publishing.Go(func() {
			for range perTurn / publishers {
				if err := publish(b.Context()); err != nil {
					b.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	return cpu(b) - began
}

func median[T float64 | time.Duration](all []T) T {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}
