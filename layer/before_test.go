package layer

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

// restless is a wire that lags behind by a few messages, each time by others, and
// whose group goes on while it is read.
type restless struct {
	shelfWire
	keep int // of the group
	busy bool
	all  []Inbound // that was ever stored
}

func (w *restless) Attach(_ context.Context, _ string, _ Receiver) (Link, error) { return w, nil }

// add stores a message behind others of other groups.
func (w *restless) add(between uint64) {
	sequence := between + 1
	if n := len(w.all); n > 0 {
		sequence += w.all[n-1].Stamp.Sequence
	}
	w.all = append(w.all, Inbound{
		Packet: Packet{Data: said.(Message).Data}, Stamp: Stamp{Epoch: w.epoch, Sequence: sequence},
	})
	w.show(0)
}

// show makes the wire's state what it was so many messages ago.
func (w *restless) show(ago int) {
	w.kept = w.all[:max(len(w.all)-ago, 0)]
	w.kept = w.kept[max(len(w.kept)-w.keep, 0):]
}

func (w *restless) move() {
	if w.busy {
		for range rand.IntN(3) {
			w.add(rand.Uint64N(5))
		}
	}
}

func (w *restless) Last(ctx context.Context, group string) (Stamp, error) {
	w.move()
	return w.shelfWire.Last(ctx, group)
}

func (w *restless) Read(ctx context.Context, group string, after uint64, limit int) (Page, error) {
	w.move()
	if w.busy {
		w.show(rand.IntN(4))
		defer w.show(0)
	}
	return w.shelfWire.Read(ctx, group, after, limit)
}

// behind counts the messages, of the first n that were ever stored, that follow a
// place.
func (w *restless) behind(p Position, n int) (count int) {
	for _, in := range w.all[:n] {
		if in.Stamp.Sequence > p.sequence {
			count++
		}
	}
	return count
}

func onRestless(t *testing.T, keep int) (*Layer, *restless) {
	t.Helper()
	w := &restless{keep: keep}
	w.direct.policies, w.epoch = []Retention{{"job.>", keep - 1, defaultAge}}, 7
	l, err := New(w, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l, w
}

// The place is before the newest messages of a moment during the call, however
// the store lags and whatever comes and goes meanwhile.
func TestBeforeWhileMessagesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 300 {
			keep := 1 + rand.IntN(400)
			l, w := onRestless(t, keep)
			for range rand.IntN(600) {
				w.add(rand.Uint64N(1 + rand.Uint64N(100)))
			}
			n := 1 + rand.IntN(1+keep/2)
			w.busy = true
			stored, kept := len(w.all), len(w.kept)
			p, err := l.Before(t.Context(), "job.1", n)
			w.busy = false
			if err != nil {
				t.Fatal(err)
			}
			atLeast, atMost := w.behind(p, stored), w.behind(p, len(w.all))
			switch {
			case p.IsZero() && kept > n:
				t.Errorf("the last %d of %d: got the zero place", n, kept)
			case !p.IsZero() && (atLeast > n || atMost < n):
				t.Errorf("the last %d: %d follow when the call begins, %d when it ends", n, atLeast, atMost)
			}
			l.Close(t.Context())
		}
	})
}

// It costs a few reads, however long the group is and wherever its messages are
// among those of others.
func TestBeforeReadsLittle(t *testing.T) {
	for name, c := range map[string]struct {
		most    int
		between func(i int) uint64
	}{
		"alone":                 {8, func(int) uint64 { return 0 }},
		"among many":            {8, func(int) uint64 { return rand.Uint64N(100) }},
		"after a silence":       {8, func(i int) uint64 { return uint64(i / 9000 * (10_000 - i) * 10) }},
		"one, silence and many": {8, func(i int) uint64 { return uint64((10_001 - i) / 10_000 * 1_000_000) }},
		// At worst it is the logarithm of the length of the stream.
		"many, silence and one": {24, func(i int) uint64 { return uint64(i / 9999 * 1_000_000) }},
		"in bursts":             {24, func(i int) uint64 { return uint64(max(i%1000-998, 0) * 100_000) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const stored = 10_000
				l, w := onRestless(t, stored)
				defer l.Close(t.Context())
				for i := range stored {
					w.add(c.between(i))
				}
				for _, n := range []int{1, 10, 100, 400, 5000, stored - 10, stored, stored + 1} {
					l.shelves.forget()
					before, _ := w.counts()
					p, err := l.Before(t.Context(), "job.1", n)
					if err != nil || w.behind(p, stored) != min(n, stored) {
						t.Errorf("the last %d: got %v, %v, which %d follow", n, p, err, w.behind(p, stored))
					}
					reads, _ := w.counts()
					t.Logf("the last %d: %d reads", n, reads-before)
					if want := c.most + 2*n/pageMessages; reads-before > want {
						t.Errorf("the last %d of %d: %d reads, want at most %d", n, stored, reads-before, want)
					}
				}
			})
		})
	}
}
