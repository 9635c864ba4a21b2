package natsbus

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// BenchmarkResume is 200 clients that come back to one group at once, with 100
// messages missed each: a join, its position, and what is between. "alone" is
// what the same costs when each of them reads for itself.
func BenchmarkResume(b *testing.B) {
	const clients, missed = 200, 100
	for _, nodes := range []int{1, 3} {
		bus := benchBus(b, nodes)
		l, err := layer.New(bus, &layer.Options{
			Groups: []layer.Retention{{Pattern: "job.>", Messages: 1000, Age: time.Hour}}, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			b.Fatal(err)
		}
		var at []layer.Position
		for i := range 2 * missed {
			r, err := l.Publish(b.Context(), fmt.Sprint("job.", nodes), numbered(i), nil)
			if err != nil {
				b.Fatal(err)
			}
			at = append(at, r.Position)
		}
		group := fmt.Sprint("job.", nodes)
		// The places differ a little, as those of clients do.
		place := func(i int) int { return len(at) - 1 - missed - i%10 + 5 }
		run := func(name string, one func(ctx context.Context, i int) (int, error)) {
			b.Run(fmt.Sprintf("nodes=%d/%s", nodes, name), func(b *testing.B) {
				for b.Loop() {
					var coming sync.WaitGroup
					for i := range clients {
						coming.Go(func() {
							n, err := one(b.Context(), i)
							if err != nil || n < missed-10 {
								b.Errorf("got %d messages, %v", n, err)
							}
						})
					}
					coming.Wait()
				}
				b.ReportMetric(clients*float64(b.N)/b.Elapsed().Seconds(), "resumes/s")
			})
		}
		run("together", func(ctx context.Context, i int) (n int, err error) {
			c, err := l.NewChannel(ctx)
			if err != nil {
				return 0, err
			}
			defer c.Close()
			if err := l.GroupAdd(ctx, group, c.Name()); err != nil {
				return 0, err
			}
			if _, err := l.Position(ctx, group); err != nil {
				return 0, err
			}
			for _, err := range l.History(ctx, group, at[place(i)], 0) {
				if err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		})
		link := bus.attached()[0]
		sequences := sequencesOf(b, link, group)
		run("alone", func(ctx context.Context, i int) (int, error) {
			for range 2 {
				if _, err := link.Last(ctx, group); err != nil {
					return 0, err
				}
			}
			page, err := link.Read(ctx, group, sequences[place(i)], 500)
			return len(page.Messages), err
		})
	}
}

func benchBus(b *testing.B, nodes int) *Bus {
	if nodes == 1 {
		return openBus(b, nil)
	}
	return openCluster(b, Embedded{})[0]
}

func sequencesOf(b *testing.B, l *link, group string) (all []uint64) {
	page, err := l.Read(b.Context(), group, 0, 1000)
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range page.Messages {
		all = append(all, m.Stamp.Sequence)
	}
	return all
}
