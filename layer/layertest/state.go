package layertest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// stateRows are about what processes keep together: the keys that sign positions,
// for one.
var stateRows = []row{
	{"one of those who change a state succeeds", "SetState puts value under key if the revision there is still that one, 0 meaning that there is nothing yet, and reports whether it did.", compareAndSet},
	{"a state is what was set last", "State returns what the network keeps under key, a name with periods, and its revision: nil when there is nothing, and 0 when there was nothing lately. It never lags.", stateIsFresh},
	{"a state ends with its time", "The value outlives all processes, as durable groups do, for the given age, which is in whole seconds and may be exceeded by one; 0 is for ever.", stateEnds},
	{"one of those who take a state away succeeds", "A value of nil takes away what is there.", takenAwayOnce},
}

// idle is a process that expects nothing.
type idle struct{}

func (idle) Deliver([]layer.Inbound)              {}
func (idle) DeliverTo(string, layer.Packet) error { return layer.ErrNoChannel }
func (idle) Call(context.Context, []byte) []byte  { return nil }
func (idle) Report(layer.LinkEvent)               {}

// link makes a process without a layer.
func (t *trial) link(process string) layer.Link {
	t.Helper()
	l, err := t.dial(t).Attach(t.ctx, process, idle{})
	t.must(err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), t.opts.wait())
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	_, err = l.Retain(t.ctx, []layer.Retention{{Pattern: "job.>", Messages: 10, Age: time.Hour}})
	t.must(err)
	return l
}

func compareAndSet(t *trial) {
	links := []layer.Link{t.link("twone"), t.link("twtwo")}
	const key, writers = "test.turn", 6
	for turn := 0; turn < 10; {
		var revisions [writers]uint64
		for w := range writers {
			_, revision, err := links[w%2].State(t.ctx, key)
			t.must(err)
			revisions[w] = revision
		}
		var writing sync.WaitGroup
		var set [writers]bool
		var errs [writers]error
		for w := range writers {
			writing.Go(func() { set[w], errs[w] = links[w%2].SetState(t.ctx, key, []byte{'0' + byte(w)}, revisions[w], 0) })
		}
		writing.Wait()
		t.must(errors.Join(errs[:]...))
		value, revision, err := links[turn%2].State(t.ctx, key)
		t.must(err)
		switch winner := slices.Index(set[:], true); {
		case winner < 0 && revision == revisions[0]: // a bus may refuse, if it says so
		case winner < 0 || slices.Contains(set[winner+1:], true) || string(value) != strconv.Itoa(winner):
			t.Fatalf("turn %d: %v set it, and it is %q; want one, and its own", turn, set, value)
		default:
			turn++
		}
	}
}

func stateIsFresh(t *trial) {
	a, b := t.link("twone"), t.link("twtwo")
	t.state(a, "test.a", nil, 0)
	if set, err := a.SetState(t.ctx, "test.a", []byte("early"), 7, 0); set || err != nil {
		t.Fatalf("set where there is nothing, with a revision: got %t, %v, want false", set, err)
	}
	last := uint64(0)
	for i := range 20 {
		writer, reader := a, b
		if i%2 == 1 {
			writer, reader = b, a
		}
		value := []byte("same") // revisions differ, also where values do not
		if i > 10 {
			value = strconv.AppendInt(nil, int64(i), 10)
		}
		t.until("the state is set", func() bool {
			set, err := writer.SetState(t.ctx, "test.a", value, last, 0)
			t.must(err)
			return set
		})
		set, err := reader.SetState(t.ctx, "test.a", []byte("stale"), last, 0)
		if t.must(err); set {
			t.Fatalf("set %d with the revision %d, which is over: got true", i, last)
		}
		last = t.state(reader, "test.a", value, last)
	}
	t.state(b, "test.b", nil, 0)
	t.state(t.link("twthree"), "test.a", []byte("19"), last-1)
}

// state checks what is kept under a key, and that its revision is above one, or 0
// for nothing.
func (t *trial) state(l layer.Link, key string, want []byte, above uint64) (revision uint64) {
	t.Helper()
	value, revision, err := l.State(t.ctx, key)
	t.must(err)
	if !bytes.Equal(value, want) || want == nil && revision != 0 || want != nil && revision <= above {
		t.Fatalf("state of %s: got %q, revision %d; want %q, above %d", key, value, revision, want, above)
	}
	return revision
}

// stateEnds shows that a value is there for its age, and then is not, and that
// another may follow; one without an age stays.
func stateEnds(t *trial) {
	l := t.link("twone")
	set := func(key string, revision uint64, age time.Duration) {
		t.Helper()
		t.until("the state is set", func() bool {
			set, err := l.SetState(t.ctx, key, []byte("here"), revision, age)
			t.must(err)
			return set
		})
	}
	set("test.stays", 0, 0)
	for range 2 {
		_, revision, err := l.State(t.ctx, "test.ends")
		t.must(err)
		set("test.ends", revision, 3*time.Second)
		if value, _, err := l.State(t.ctx, "test.ends"); err != nil || string(value) != "here" {
			t.Fatalf("before its time: got %q, %v", value, err)
		}
		t.until("the state ends", func() bool {
			value, _, err := l.State(t.ctx, "test.ends")
			t.must(err)
			return value == nil
		})
	}
	t.state(l, "test.stays", []byte("here"), 0)
}

func takenAwayOnce(t *trial) {
	links := []layer.Link{t.link("twone"), t.link("twtwo")}
	for turn := range 10 {
		key := "test.once." + strconv.Itoa(turn)
		t.until("the state is set", func() bool {
			set, err := links[0].SetState(t.ctx, key, []byte("ticket"), 0, time.Minute)
			t.must(err)
			return set
		})
		_, revision, err := links[1].State(t.ctx, key)
		t.must(err)
		var taken [8]bool
		var errs [8]error
		var all sync.WaitGroup
		for i := range taken {
			all.Go(func() { taken[i], errs[i] = links[i%2].SetState(t.ctx, key, nil, revision, 0) })
		}
		all.Wait()
		t.must(errors.Join(errs[:]...))
		first := slices.Index(taken[:], true)
		if first < 0 || slices.Contains(taken[first+1:], true) {
			t.Fatalf("taken away: %v; want one", taken)
		}
		for _, l := range links {
			if value, _, err := l.State(t.ctx, key); err != nil || value != nil {
				t.Fatalf("afterwards: got %q, %v, want nothing", value, err)
			}
		}
	}
}
