package layertest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tideway-go/tideway/layer"
)

// after publishes a note behind a place.
func (t *trial) after(l *layer.Layer, group string, n int, at layer.Position) (layer.Position, error) {
	r, err := l.Publish(t.ctx, group, note{N: n}, &layer.PublishOptions{After: &at})
	return r.Position, err
}

// isConflict checks that nothing can be published behind a place, since the group
// is elsewhere.
func (t *trial) isConflict(l *layer.Layer, group string, at, now layer.Position) {
	t.Helper()
	_, err := t.after(l, group, -1, at)
	var c *layer.ConflictError
	if !errors.As(err, &c) || !errors.Is(err, layer.ErrConflict) {
		t.Fatalf("publish after %q: got error %v, want a conflict", at, err)
	}
	if c.Group != group || now.String() != "" && c.Position != now {
		t.Fatalf("publish after %q: got %+v, want group %s at %q", at, c, group, now)
	}
}

func conditional(t *trial) {
	a, b := t.pair(durable(1000))
	c := t.member(b, "job.1")
	at, err := b.Position(t.ctx, "job.1")
	t.must(err)
	const writers, turns = 8, 10
	var writing sync.WaitGroup
	var taken sync.Map // the places behind which somebody wrote
	for w := range writers {
		l := []*layer.Layer{a, b}[w%2]
		writing.Go(func() {
			at := at
			for done := 0; done < turns; {
				next, err := t.after(l, "job.1", w*turns+done, at)
				var lost *layer.ConflictError
				switch {
				case errors.As(err, &lost):
					at = lost.Position
				case err != nil:
					t.Errorf("publish: %v", err)
					return
				default:
					if _, twice := taken.LoadOrStore(at, true); twice {
						t.Errorf("two wrote after %q", at)
					}
					at = next
					done++
				}
			}
		})
	}
	writing.Wait()
	all, err := t.history(a, "job.1", at, 0)
	t.must(err)
	got := t.numbers(all)
	for i, want := range got {
		if n := t.next(c); n.N != want {
			t.Fatalf("message %d: got %d, want %d", i, n.N, want)
		}
	}
	slices.Sort(got)
	if fmt.Sprint(got) != fmt.Sprint(ints(0, writers*turns)) {
		t.Errorf("got %v, want each of %d once", got, writers*turns)
	}
}

func conflicts(t *trial) {
	a, b := t.pair(durable(5))
	empty, err := a.Position(t.ctx, "job.1")
	t.must(err)
	first, err := t.after(a, "job.1", 1, layer.Position{}) // the group holds nothing
	t.must(err)
	t.isConflict(b, "job.1", layer.Position{}, first)
	t.isConflict(b, "job.1", empty, first)
	t.publish(a, "job.2", 7) // sequences are shared, and others' do not count
	second, err := t.after(b, "job.1", 2, first)
	t.must(err)
	t.isConflict(a, "job.1", first, second)
	t.reads(a, "job.1", layer.Position{}, 1, 2)
	third := t.publish(a, "job.1", 3) // without a condition
	t.isConflict(b, "job.1", second, third)

	_, err = t.after(a, "other", 1, layer.Position{})
	t.is("a condition on an ordinary group", err, layer.ErrNotDurable)
	c := t.layerOn(t.network(t)(t), durable(5))
	t.isConflict(c, "job.1", third, layer.Position{}) // a position of another store
	t.reads(c, "job.1", layer.Position{})
}

func conditionalAgain(t *trial) {
	a, b := t.pair(durable(100))
	at := t.publish(a, "job.1", 0)
	opts := &layer.PublishOptions{ID: "key", After: &at}
	first, err := a.Publish(t.ctx, "job.1", note{N: 1}, opts)
	t.must(err)
	for i, l := range []*layer.Layer{a, b, a, b} {
		if i == 2 {
			t.publish(a, "job.1", 2)
		}
		r, err := l.Publish(t.ctx, "job.1", note{N: 1}, opts)
		t.must(err)
		if !r.Duplicate || r.Position != first.Position {
			t.Errorf("try %d: got %+v, the first was %+v", i, r, first)
		}
	}
	t.reads(b, "job.1", layer.Position{}, 0, 1, 2)
	t.isConflict(b, "job.1", at, layer.Position{}) // another message
}
