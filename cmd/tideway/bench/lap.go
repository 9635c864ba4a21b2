package bench

import (
	"context"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// lap is one way at work, in several stretches.
type lap struct {
	window     int
	perMessage int
	send       func(ctx context.Context, i int64) error
	got        *atomic.Int64

	sent, arrived int64
	elapsed, cpu  time.Duration
	allocs        uint64
}

// run sends for a time, no more under way than the window, and waits until all
// has arrived.
func (l *lap) run(ctx context.Context, d time.Duration) error {
	var memBefore, memAfter runtime.MemStats
	runtime.ReadMemStats(&memBefore)
	before := l.got.Load()
	cpu, _ := processTime(os.Getpid())
	got, start, sent := before, time.Now(), int64(0)
	window := int64(l.window * l.perMessage)
	for ; sent&31 != 0 || time.Since(start) < d && ctx.Err() == nil; sent++ {
		if err := l.send(ctx, sent); err != nil {
			return err
		}
		for stuck := time.Now(); sent*int64(l.perMessage)-(l.got.Load()-got) >= window; {
			time.Sleep(50 * time.Microsecond)
			if time.Since(stuck) > quiet {
				got -= sent*int64(l.perMessage) - (l.got.Load() - got) // lost, which the count shows
			}
		}
	}
	deadline := time.Now().Add(quiet)
	for l.got.Load()-got < sent*int64(l.perMessage) && time.Now().Before(deadline) {
		time.Sleep(50 * time.Microsecond)
	}
	now, _ := processTime(os.Getpid())
	runtime.ReadMemStats(&memAfter)
	l.cpu += now - cpu
	l.elapsed += time.Since(start)
	l.sent += sent
	l.arrived += l.got.Load() - before
	l.allocs += memAfter.Mallocs - memBefore.Mallocs
	return ctx.Err()
}
