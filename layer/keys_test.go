package layer

import (
	"context"
	"errors"
	"testing"
	"time"
)

// quietWire keeps what is set, or loses it, and does not say so.
type quietWire struct {
	direct
	keeps bool
	quiet int // answers that are left out
	asked int
}

func (w *quietWire) Attach(ctx context.Context, process string, r Receiver) (Link, error) {
	_, err := w.direct.Attach(ctx, process, r)
	return w, err
}

func (w *quietWire) SetState(ctx context.Context, key string, value []byte, revision uint64, age time.Duration) (bool, error) {
	w.asked++
	quiet := w.asked <= w.quiet
	if !quiet || w.keeps {
		w.direct.SetState(ctx, key, value, revision, age)
	}
	if quiet {
		return false, errors.New("no answer")
	}
	return true, nil
}

// A process starts though the network does not say whether it took the keys; it
// signs with those that the network has.
func TestKeysWithoutAnAnswer(t *testing.T) {
	for _, c := range []struct {
		keeps        bool
		quiet, asked int
	}{{true, 1, 1}, {false, 1, 2}, {false, 2, 3}, {false, 3, 3}} {
		w := &quietWire{direct: direct{policies: []Retention{{"job.>", 1, time.Hour}}}, keeps: c.keeps, quiet: c.quiet}
		l, err := New(w, nil)
		if failed := err != nil; failed != (c.quiet == keyTries) || w.asked != c.asked {
			t.Errorf("%+v: got %v after %d questions", c, err, w.asked)
		}
		if err != nil {
			continue
		}
		if err := l.loadKeys(t.Context()); err != nil || w.asked != c.asked {
			t.Errorf("%+v: %v; the network lacks the keys", c, err)
		}
		l.Close(t.Context())
	}
}
