package layer

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// shelfWire is a wire that stores, and loses what it is told to lose.
type shelfWire struct {
	direct
	lose bool // do not deliver what is stored

	mu    sync.Mutex // guards what follows
	epoch uint64
	kept  []Inbound
	gate  chan struct{} // while not nil, reads wait for its end
	delay time.Duration // of each answer
	mute  bool          // Last fails
	reads int
	lasts int
}

func (w *shelfWire) Attach(ctx context.Context, process string, r Receiver) (Link, error) {
	_, err := w.direct.Attach(ctx, process, r)
	return w, err
}

func (w *shelfWire) Store(_ context.Context, group string, p *Packet, _ *Stamp) (Stamp, bool, error) {
	w.mu.Lock()
	s := Stamp{Epoch: w.epoch, Sequence: 1}
	if n := len(w.kept); n > 0 {
		s.Previous = w.kept[n-1].Stamp.Sequence
		s.Sequence = s.Previous + 2 // sequences need not be contiguous
	}
	in := Inbound{Subscription{Group: group}, *p, s}
	w.kept = append(w.kept, in)
	w.mu.Unlock()
	if !w.lose {
		w.to.Deliver([]Inbound{in})
	}
	return s, false, nil
}

func (w *shelfWire) Last(context.Context, string) (Stamp, error) {
	time.Sleep(w.delay)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lasts++
	if w.mute {
		return Stamp{}, ErrUnavailable
	}
	s := Stamp{Epoch: w.epoch}
	if n := len(w.kept); n > 0 {
		s.Sequence = w.kept[n-1].Stamp.Sequence
	}
	return s, nil
}

func (w *shelfWire) Read(_ context.Context, _ string, after uint64, limit int) (Page, error) {
	w.mu.Lock()
	gate := w.gate
	w.mu.Unlock()
	if gate != nil {
		<-gate
	}
	time.Sleep(w.delay)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	p := Page{Epoch: w.epoch}
	for _, in := range w.kept {
		switch s := in.Stamp.Sequence; {
		case s == after:
			p.Anchored = true
		case s < after:
		case len(p.Messages) == limit:
			p.Left++
		default:
			p.Messages = append(p.Messages, in)
		}
	}
	return p, nil
}

// counts returns how often it was read, and asked for a tail.
func (w *shelfWire) counts() (reads, lasts int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads, w.lasts
}

// shut holds up reads until open is called.
func (w *shelfWire) shut() (open func()) {
	gate := make(chan struct{})
	set := func(g chan struct{}) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.gate = g
	}
	set(gate)
	return func() {
		set(nil)
		close(gate)
	}
}

// trim forgets all but the newest n.
func (w *shelfWire) trim(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = w.kept[len(w.kept)-n:]
}

func shelved(t *testing.T, messages int) (*Layer, *shelfWire) {
	t.Helper()
	w := &shelfWire{direct: direct{policies: []Retention{{"job.>", messages, time.Hour}}}, epoch: 7}
	l, err := New(w, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l, w
}

func enter(t *testing.T, l *Layer, group string) *listener {
	t.Helper()
	x := &listener{}
	var err error
	if x.channel, err = l.Tap(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	if err := l.GroupAdd(t.Context(), group, x.channel.Name()); err != nil {
		t.Fatal(err)
	}
	return x
}

// Who joins while a hole is read gets nothing that was known before the join,
// and all that comes after it.
func TestJoinDuringRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := shelved(t, 3)
		defer l.Close(t.Context())
		a := enter(t, l, "job.1")
		say(t, l, "job.1", 0)
		w.lose = true
		say(t, l, "job.1", 1)
		w.lose = false
		open := w.shut()
		say(t, l, "job.1", 2) // shows that 1 is missing
		b := enter(t, l, "job.1")
		if at, ok := l.Seen("job.1"); !ok || at.sequence != w.kept[2].Stamp.Sequence {
			t.Errorf("members of now get all behind %v, %t; want behind the one that b does not get", at, ok)
		}
		say(t, l, "job.1", 3)
		c := enter(t, l, "job.1")
		open()
		synctest.Wait()
		say(t, l, "job.1", 4)
		a.wants(t, "job.1 0}", "job.1 1}", "job.1 2}", "job.1 3}", "job.1 4}")
		b.wants(t, "job.1 3}", "job.1 4}")
		c.wants(t, "job.1 4}")
		if s := l.Stats(); s.Gaps != 0 || s.Repaired != 3 {
			t.Errorf("got %d gaps and %d repaired, want 0 and 3", s.Gaps, s.Repaired)
		}
	})
}

// A hole that cannot be filled is told between what comes before and after it.
func TestGapOfARepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := shelved(t, 3)
		defer l.Close(t.Context())
		a, b := enter(t, l, "job.1"), enter(t, l, "job.1")
		b.busy = true
		say(t, l, "job.1", 0)
		w.lose = true
		for i := range 5 {
			say(t, l, "job.1", 1+i)
		}
		w.trim(3)
		w.lose = false
		say(t, l, "job.1", 6)
		synctest.Wait()
		say(t, l, "job.1", 7)
		b.empty()
		for _, x := range []*listener{a, b} {
			x.wants(t, "job.1 0}", "gap job.1 trimmed ", "job.1 3}", "job.1 4}", "job.1 5}", "job.1 6}", "job.1 7}")
		}

		w.mu.Lock()
		w.epoch, w.kept = 8, nil
		w.mu.Unlock()
		say(t, l, "job.1", 8)
		synctest.Wait()
		a.wants(t, "gap job.1 reset ", "job.1 8}")

		w.lose = true
		say(t, l, "job.1", 9)
		l.probe(0)
		synctest.Wait()
		w.mu.Lock()
		w.kept = w.kept[:1] // its end is lost
		w.mu.Unlock()
		l.probe(0)
		synctest.Wait()
		a.wants(t, "job.1 9}", "gap job.1 reset "+Position{epoch: 8, sequence: 1}.String())
	})
}

// If the newest message is not known at a join, the members are told of a gap
// before they get anything.
func TestJoinWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := shelved(t, 3)
		defer l.Close(t.Context())
		w.mute = true
		a := enter(t, l, "job.1")
		w.lose = true
		say(t, l, "job.1", 0)
		w.lose = false
		say(t, l, "job.1", 1)
		w.mu.Lock()
		w.mute = false
		w.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		say(t, l, "job.1", 2)
		a.wants(t, "gap job.1 link "+Position{epoch: 7, sequence: 3}.String(), "job.1 2}")

		// Nobody answers for long: the next message asks again.
		w.mute = true
		b := enter(t, l, "job.2")
		time.Sleep(2*repairPatience + repairRetry/2) // between two questions of a probe that is under way
		w.mu.Lock()
		w.mute = false
		w.mu.Unlock()
		say(t, l, "job.2", 3)
		synctest.Wait()
		b.wants(t, fmt.Sprint("gap job.2 link ", Position{epoch: 7, sequence: 7}))
	})
}
