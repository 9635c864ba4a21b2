package layer

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Many that come back at once to one group cost a handful of questions, and each
// gets all that it missed, also what is stored meanwhile.
func TestReadersShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := shelved(t, 5000)
		defer l.Close(t.Context())
		const stored, readers = 1000, 200
		at := make([]Position, stored)
		for i := range at {
			r, err := l.Publish(t.Context(), "job.1", said, nil)
			if err != nil {
				t.Fatal(err)
			}
			at[i] = r.Position
		}
		w.delay = time.Millisecond
		var reading sync.WaitGroup
		for range readers {
			reading.Go(func() {
				from := stored - 100 - rand.IntN(100)
				end, err := l.Position(t.Context(), "job.1")
				if err != nil {
					t.Error(err)
				}
				last := at[from].sequence
				for m, err := range l.History(t.Context(), "job.1", at[from], 0) {
					if err != nil || m.Position.sequence != last+2 {
						t.Errorf("behind %d: got %v, %v", last, m.Position, err)
						return
					}
					last = m.Position.sequence
				}
				if last < end.sequence {
					t.Errorf("the history ends at %d, want at least %d", last, end.sequence)
				}
			})
			if rand.IntN(10) == 0 {
				say(t, l, "job.1", 1)
			}
			if rand.IntN(40) == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		reading.Wait()
		reads, lasts := w.counts()
		t.Logf("%d readers cost %d reads and %d questions for the tail", readers, reads, lasts)
		if reads > 25 || lasts > 40 {
			t.Error("too many")
		}
		time.Sleep(3 * shelfLife)
		l.shelves.mu.Lock()
		defer l.shelves.mu.Unlock()
		if n := len(l.shelves.all) + len(l.shelves.tails); n != 0 {
			t.Errorf("%d shelves are left", n)
		}
	})
}

// An answer about the tail is never older than its question.
func TestTailIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := shelved(t, 5000)
		defer l.Close(t.Context())
		w.delay = 10 * time.Millisecond
		var asking sync.WaitGroup
		for range 100 {
			asking.Go(func() {
				r, err := l.Publish(t.Context(), "job.1", said, nil)
				if err != nil {
					t.Error(err)
				}
				p, err := l.Position(t.Context(), "job.1")
				if err != nil || p.sequence < r.Position.sequence {
					t.Errorf("after %v was stored: got %v, %v", r.Position, p, err)
				}
			})
			time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
		}
		asking.Wait()
		if _, lasts := w.counts(); lasts > 60 {
			t.Errorf("100 callers asked %d times", lasts)
		}
	})
}

// A shelf gives out what follows a place, whatever was put on it.
func TestShelfHasNoHoles(t *testing.T) {
	var all []*Message
	sequence := uint64(0)
	for range 300 {
		sequence += 1 + rand.Uint64N(3)
		all = append(all, &Message{Position: Position{epoch: 1, sequence: sequence}})
	}
	place := func(i int) uint64 { // of what comes before message i
		if i == 0 {
			return 0
		}
		return all[i-1].Position.sequence
	}
	hits := 0
	h := &shelf{}
	for range 5000 {
		i := rand.IntN(len(all))
		n := min(1+rand.IntN(40), len(all)-i)
		h.put(place(i), found{epoch: 1, run: all[i : i+n : i+n], anchored: true}, time.Now())
		for range 5 {
			i, most := 1+rand.IntN(len(all)-1), 1+rand.IntN(50)
			f, ok := h.find(1, place(i), most)
			if !ok {
				continue
			}
			hits++
			if len(f.run) == 0 || len(f.run) > most {
				t.Fatalf("got %d messages, want 1 to %d", len(f.run), most)
			}
			for j, m := range f.run {
				if m != all[i+j] {
					t.Fatalf("behind %d, message %d: got %v, want %v", place(i), j, m.Position, all[i+j].Position)
				}
			}
		}
	}
	if hits < 1000 {
		t.Errorf("%d hits are too few to prove anything", hits)
	}
	if _, ok := h.find(2, h.after, 1); ok {
		t.Error("it serves readers of another epoch")
	}
}

// What was read before the store was in doubt serves nobody after.
func TestShelfInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := shelved(t, 100)
		defer l.Close(t.Context())
		first, err := l.Publish(t.Context(), "job.1", said, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			say(t, l, "job.1", i)
		}
		read := func() (n int) {
			for _, err := range l.History(t.Context(), "job.1", first.Position, 0) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			return n
		}
		if n := read(); n != 5 {
			t.Fatalf("got %d messages, want 5", n)
		}
		open := w.shut()
		done := make(chan int)
		say(t, l, "job.1", 6)
		go func() { done <- read() }() // it reads the old store
		synctest.Wait()
		w.to.Report(LinkEvent{Kind: Doubtful})
		open()
		<-done
		before, _ := w.counts()
		n := read()
		if after, _ := w.counts(); n != 6 || after == before {
			t.Errorf("got %d messages by %d more reads", n, after-before)
		}
	})
}

// Who waits is told when the network fails, and a closed layer ends it all.
func TestReadersOfAClosedLayer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := shelved(t, 100)
		say(t, l, "job.1", 1)
		open := w.shut()
		failed := make(chan error, 1)
		go func() {
			for _, err := range l.History(t.Context(), "job.1", Position{}, 0) {
				failed <- err
			}
		}()
		synctest.Wait()
		go open()
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; err != nil {
			t.Errorf("what was under way: got %v", err)
		}
		w.mu.Lock()
		w.mute = true
		w.mu.Unlock()
		if _, err := l.Position(t.Context(), "job.1"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}
