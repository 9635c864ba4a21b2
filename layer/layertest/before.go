package layertest

import (
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// last checks that from the place before the newest n messages these follow.
func (t *trial) last(l *layer.Layer, group string, n int, want ...int) {
	t.Helper()
	p, err := l.Before(t.ctx, group, n)
	t.must(err)
	t.reads(l, group, p, want...)
}

func beforeTheNewest(t *trial) {
	a, b := t.pair(durable(300))
	t.last(b, "job.1", 3)
	const n = 40
	for i := range n {
		for range i * i % 7 { // sequences are shared, and not evenly
			t.publish(a, "job.2", i)
		}
		t.publish(a, "job.1", i)
		t.last(b, "job.1", 1, i) // however far what answers lags behind
	}
	for i := range n {
		t.publish(a, "job.2", i)
	}
	for _, m := range []int{0, 1, 2, 17, n - 1, n, n + 1, 1000} {
		t.last(b, "job.1", m, ints(max(n-m, 0), n)...)
	}
	empty, err := b.Before(t.ctx, "job.none", 5)
	if err != nil || !empty.IsZero() {
		t.Errorf("a group that holds nothing: got %v, %v", empty, err)
	}
	_, err = b.Before(t.ctx, "other", 5)
	t.is("an ordinary group", err, layer.ErrNotDurable)
}

func beforeWhilePublished(t *trial) {
	a, b := t.pair(durable(30))
	var begun, stored atomic.Int64
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			default:
			}
			begun.Add(1)
			if _, err := a.Publish(t.ctx, "job.1", note{N: i}, nil); err != nil {
				t.Errorf("publish %d: %v", i, err)
				return
			}
			stored.Add(1)
			time.Sleep(100 * time.Microsecond) // in a bubble, the others' turn
			if _, err := a.Publish(t.ctx, "job.2", note{N: i}, nil); err != nil {
				t.Errorf("publish beside %d: %v", i, err)
				return
			}
		}
	}()
	defer func() { close(quit); <-ended }()
	t.until("more is stored than is kept", func() bool { return stored.Load() > 50 })
	for n := 1; n <= 20; n++ {
		least := int(stored.Load())
		p, err := b.Before(t.ctx, "job.1", n)
		most := int(begun.Load())
		t.must(err)
		for m, err := range b.History(t.ctx, "job.1", p, 1) {
			t.must(err)
			first, err := noteOf(m)
			t.must(err)
			if first.N < least-n || first.N > most-n {
				t.Fatalf("the newest %d begin with %d, when %d to %d were stored", n, first.N, least, most)
			}
		}
	}
}
