package layer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetentionCovers(t *testing.T) {
	for _, c := range []struct {
		pattern, group string
		want           bool
	}{
		{"job.>", "job.1", true},
		{"job.>", "job.1.log", true},
		{"job.>", "job.", true}, // its last token is empty
		{"job.>", "job", false},
		{"job.>", "jobs.1", false},
		{"job", "job", true},
		{"job", "job.1", false},
		{">", "anything", true},
	} {
		if got := (Retention{Pattern: c.pattern}).Covers(c.group); got != c.want {
			t.Errorf("%q covers %q: got %v, want %v", c.pattern, c.group, got, c.want)
		}
	}
}

func TestRetentionOverlaps(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a.>", "a.b", true},
		{"a.>", "a", false},
		{"a.>", "a.", true},
		{"a.>", "a.b.>", true},
		{"a.>", "ab.>", false},
		{">", "a", true},
		{">", "a.>", true},
	} {
		a, b := Retention{Pattern: c.a}, Retention{Pattern: c.b}
		if a.Overlaps(b) != c.want || b.Overlaps(a) != c.want {
			t.Errorf("%q and %q overlap: got %v and %v, want %v", c.a, c.b, a.Overlaps(b), b.Overlaps(a), c.want)
		}
	}
}

func TestRetentionDefaults(t *testing.T) {
	o, _, err := (&Options{Groups: []Retention{{Pattern: "job.>"}}}).resolve()
	if want := (Retention{"job.>", 1000, 24 * time.Hour}); err != nil || o.Groups[0] != want {
		t.Errorf("got %v, %v, want %v", o.Groups, err, want)
	}
}

// moody is a wire whose store answers as it is told, in turn, and the last way
// for ever.
type moody struct {
	direct
	answers []error
	keys    []string
}

func (m *moody) Attach(ctx context.Context, process string, r Receiver) (Link, error) {
	_, err := m.direct.Attach(ctx, process, r)
	return m, err
}

func (m *moody) Store(ctx context.Context, group string, p *Packet, after *Stamp) (Stamp, bool, error) {
	m.keys = append(m.keys, p.Header.ID)
	err := m.answers[0]
	if len(m.answers) > 1 {
		m.answers = m.answers[1:]
	}
	if err != nil {
		return Stamp{}, false, err
	}
	return m.direct.Store(ctx, group, p, after)
}

// A publish is tried again for 30 seconds, under one key, and its error is the
// truth.
func TestPublishTriesAgain(t *testing.T) {
	broken := errors.New("the disk is on fire")
	for _, c := range []struct {
		name    string
		answers []error
		want    error // nil: stored
		once    bool  // and not tried again
		lasts   time.Duration
	}{
		{"at once", []error{nil}, nil, true, 0},
		{"after a while", []error{ErrUnavailable, ErrUnknown, nil}, nil, false, 0},
		{"never", []error{ErrUnavailable}, ErrUnavailable, false, 29 * time.Second},
		{"not known", []error{ErrUnknown}, ErrUnknown, false, 29 * time.Second},
		{"not known at first", []error{ErrUnknown, ErrUnavailable}, ErrUnknown, false, 29 * time.Second},
		{"refused", []error{broken}, broken, true, 0},
		{"too large", []error{ErrTooLarge}, ErrTooLarge, true, 0},
		{"after a conflict", []error{ErrConflict}, ErrConflict, true, 0},
		{"not known at first, then a conflict", []error{ErrUnknown, ErrConflict}, ErrConflict, false, 0},
		{"closed after an attempt without an answer", []error{ErrUnknown, ErrClosed}, ErrUnknown, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wire := &moody{direct: direct{policies: []Retention{{"job.>", 10, time.Hour}}}, answers: c.answers}
				l, err := New(wire, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close(t.Context())
				began := time.Now()
				r, err := l.Publish(t.Context(), "job.1", said, &PublishOptions{After: new(Position)})
				if !errors.Is(err, c.want) || (err == nil) == r.Position.IsZero() {
					t.Errorf("got %+v, %v, want %v", r, err, c.want)
				}
				if took := time.Since(began); took < c.lasts || took > c.lasts+5*time.Second {
					t.Errorf("it took %v, want about %v", took, c.lasts)
				}
				if c.once != (len(wire.keys) == 1) {
					t.Errorf("%d attempts", len(wire.keys))
				}
				for _, k := range wire.keys {
					if k != wire.keys[0] || !strings.HasPrefix(k, ownKey) {
						t.Errorf("got the keys %q, want one for all", wire.keys)
						break
					}
				}
				if l.GroupSend(t.Context(), "job.1", said) == nil && wire.keys[len(wire.keys)-1] == wire.keys[0] {
					t.Error("another message has the same key")
				}
			})
		})
	}
}

// A caller that gives up is told the truth, too.
func TestPublishGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &moody{direct: direct{policies: []Retention{{"job.>", 10, time.Hour}}}, answers: []error{ErrUnavailable}}
		l, err := New(wire, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := l.Publish(ctx, "job.1", said, nil); !errors.Is(err, ErrUnavailable) || time.Since(began) > time.Second {
			t.Errorf("after %v: got %v, want %v after 1s", time.Since(began), err, ErrUnavailable)
		}
	})
}
