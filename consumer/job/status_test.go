package job

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// check folds events and holds what is true of every log, whoever wrote it.
func check(t *testing.T, events []Event) {
	t.Helper()
	var s Status
	var verdict State
	verdicts := 0
	for i, e := range events {
		before := s.clone()
		valid := s.apply(e)
		switch {
		case !valid:
			before.Position, before.Events = s.Position, s.Events
			if after := s.clone(); !reflect.DeepEqual(before, after) {
				t.Fatalf("event %d, %+v, is against the rules and has an effect:\n%+v\n%+v", i, e, before, after)
			}
		case s.State.Terminal() && verdict == "":
			verdict = s.State
			verdicts++
		}
		if verdict != "" && s.State != verdict {
			t.Fatalf("event %d, %+v: the verdict %s became %s", i, e, verdict, s.State)
		}
		if s.Attempt < before.Attempt || s.Attempt > before.Attempt+1 {
			t.Fatalf("event %d, %+v: attempt %d after %d", i, e, s.Attempt, before.Attempt)
		}
		if valid && e.Attempt != 0 && e.Attempt != s.Attempt {
			t.Fatalf("event %d, %+v: heard, though the newest attempt is %d", i, e, s.Attempt)
		}
		if before.State == StateCancelling && s.State != StateCancelling && s.State != StateCancelled {
			t.Fatalf("event %d, %+v: a job that was being cancelled is %s", i, e, s.State)
		}
		if s.tries < 0 || s.tries > s.Attempt {
			t.Fatalf("event %d: %d tries in %d attempts", i, s.tries, s.Attempt)
		}
	}
	if verdicts > 1 {
		t.Fatalf("%d verdicts", verdicts)
	}
}

var (
	names = []EventName{Queued, Started, Logged, Progressed, Checkpoint, Targeted, Alive, Retrying, Released, Requeued, Cancelling, Ended, Retried, "other", ""}
	heads = []State{StateSucceeded, StateFailed, StateCancelled, StateDead, StateRunning, StateQueued, StateSkipped, ""}
)

// strange makes an event of two numbers, likely and unlikely ones.
func strange(what, how byte) Event {
	e := Event{
		Event: names[int(what)%len(names)], Attempt: int(how) % 4, State: heads[int(how>>2)%len(heads)],
		Target: []string{"", "a", "b", "nobody"}[how%4], Ticket: int(how) % 3, Next: "x"[:how%2], At: time.Unix(int64(what), 0),
	}
	if e.Event == Queued && how%5 != 0 {
		e.Job, e.Attempt = &Submission{ID: "j", Kind: "k", Targets: []string{"a", "b", "a"}, Attempts: 2}, 0
	}
	if how%3 == 0 && e.Event != Started {
		e.Attempt = 0
	}
	return e
}

func TestFoldOfAnything(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		events := []Event{strange(0, 1)}
		for range 60 {
			events = append(events, strange(byte(rng.Uint32()), byte(rng.Uint32())))
		}
		check(t, events)
	}
}

func FuzzFold(f *testing.F) {
	f.Add([]byte{0, 1, 1, 1, 2, 1, 11, 1})
	f.Add([]byte{0, 1, 1, 1, 10, 0, 11, 9, 11, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var events []Event
		for i := 0; i+1 < len(data) && i < 400; i += 2 {
			events = append(events, strange(data[i], data[i+1]))
		}
		check(t, events)
	})
}

// What a stranger writes into a job's group may be anything.
func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"event":"queued","job":{"id":"j","targets":["a"]}}`), []byte(`{"event":"started","attempt":1}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var events []Event
		for _, data := range [][]byte{first, second, first, second} {
			var e Event
			if json.Unmarshal(data, &e) == nil {
				events = append(events, e)
			}
		}
		check(t, events)
	})
}

func TestFold(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0).UTC() }
	s := Fold([]Event{
		{Event: Queued, At: at(1), Job: &Submission{ID: "j", Kind: "k", Targets: []string{"a", "b", "c"}, Attempts: 5}},
		{Event: Started, At: at(2), Attempt: 1},
		{Event: Targeted, At: at(3), Attempt: 1, Target: "a", State: StateRunning},
		{Event: Targeted, At: at(4), Attempt: 1, Target: "a", State: StateSucceeded},
		{Event: Targeted, At: at(5), Attempt: 1, Target: "b", State: StateRunning},
		{Event: Started, At: at(6), Attempt: 2}, // the first worker is gone, or frozen
		{Event: Targeted, At: at(7), Attempt: 1, Target: "b", State: StateSucceeded},
		{Event: Ended, At: at(7), Attempt: 1, State: StateSucceeded},
		{Event: Targeted, At: at(8), Attempt: 2, Target: "b", State: StateRunning},
		{Event: Progressed, At: at(9), Attempt: 2, Target: "b", Done: 1, Total: 4},
		{Event: Targeted, At: at(9), Attempt: 2, Target: "b", State: StateFailed, Error: "no disk"},
		{Event: Ended, At: at(10), Attempt: 2, State: StateFailed, Error: "1 of 3"},
		{Event: Ended, At: at(11), Attempt: 2, State: StateSucceeded},
	})
	want := []TargetStatus{
		{Name: "a", State: StateSucceeded, Tries: 1, Started: at(3), Ended: at(4)},
		{Name: "b", State: StateFailed, Tries: 2, Done: 1, Total: 4, Error: "no disk", Started: at(5), Ended: at(9)},
		{Name: "c", State: StateSkipped},
	}
	if s.State != StateFailed || s.Done != 2 || s.Total != 3 || s.Ended != at(10) || s.Error != "1 of 3" || !reflect.DeepEqual(s.Progress, want) {
		t.Errorf("got %+v", s)
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"short", "short"}, {"\xff", "\uFFFD"}, {"0123456789abc", "0123456…"}, {"012345äöü", "012345…"},
	} {
		if got := clip(c.in, 10); got != c.want || len(got) > 10 {
			t.Errorf("clip(%q): got %q, want %q", c.in, got, c.want)
		}
	}
}
