package layertest

import (
	"fmt"
	"sync"

	"github.com/tideway-go/tideway/layer"
)

// seen has members come while two processes publish, and compares what each gets
// with what is stored behind the place that its process had got to.
func seen(t *trial) {
	a, b := t.pair(durable(1000))
	if at, ok := b.Seen("job.1"); ok {
		t.Errorf("before anybody joined, the process has seen %v", at)
	}
	t.publish(a, "job.1", 0)
	const comers, each = 20, 10
	type comer struct {
		*layer.Channel
		at layer.Position
	}
	var all []comer
	var sending sync.WaitGroup
	for w, l := range []*layer.Layer{a, b} {
		sending.Go(func() {
			for i := range comers * each / 2 {
				if _, err := l.Publish(t.ctx, "job.1", note{From: fmt.Sprint(w), N: i}, nil); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
		})
	}
	for range comers {
		c := t.member(b, "job.1")
		var at layer.Position
		t.until("the process knows where the group stands", func() (ok bool) { at, ok = b.Seen("job.1"); return ok })
		t.publish(a, "job.1", -1)
		all = append(all, comer{c, at})
	}
	sending.Wait()
	for i, c := range all {
		stored, err := t.history(b, "job.1", c.at, 0)
		t.must(err)
		for n, want := range stored {
			m, err := c.Receive(t.ctx)
			for err == nil && c.at.Reaches(m.Position) { // on its way when the member came
				m, err = c.Receive(t.ctx)
			}
			t.must(err)
			if m.Position != want.Position {
				t.Fatalf("member %d, message %d of %d behind %v: got %v, want %v", i, n, len(stored), c.at, m.Position, want.Position)
			}
		}
		t.nothing(c.Channel)
	}
	if at, ok := b.Seen("other"); ok {
		t.Errorf("an ordinary group: the process has seen %v", at)
	}
}
