package layer

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// case 58: a flood of losses is a line at once, one every ten seconds, and a
// last one with the total.
func TestLossLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		x := &lossLog{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})), losses: map[string]*loss{}}
		x.report(slog.LevelInfo, "g", 4, "lost")
		time.Sleep(50 * time.Millisecond)
		for range 250 { // 25 seconds
			x.report(slog.LevelInfo, "g", 4, "lost")
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		want := []string{
			"level=INFO msg=lost messages=4",
			"level=INFO msg=lost messages=400 total=404",
			"level=INFO msg=lost messages=400 total=804",
			"level=INFO msg=lost messages=200 total=1004",
		}
		synctest.Wait()
		if got := strings.Split(strings.TrimSpace(out.String()), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if n := len(x.losses); n != 0 {
			t.Errorf("%d losses are remembered", n)
		}
		out.Reset()
		x.report(slog.LevelInfo, "g", 1, "lost")
		x.report(slog.LevelInfo, "g", 2, "lost")
		x.close()
		if got := strings.Count(out.String(), "\n"); got != 2 || !strings.Contains(out.String(), "messages=2 total=3") {
			t.Errorf("closing: got %s", out.String())
		}
	})
}

// What a batch's members shared does not reach the next batch.
func TestBatchesShareNothing(t *testing.T) {
	l, _ := audience(t, 0)
	seen := &seer{}
	c, err := l.Tap(t.Context(), seen)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.GroupAdd(t.Context(), "g", c.Name()); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := l.GroupSend(t.Context(), "g", said); err != nil {
			t.Fatal(err)
		}
	}
	if seen.built != 100 {
		t.Errorf("the shared form was built %d times for 100 batches", seen.built)
	}
}

type seer struct{ built int }

func (s *seer) Offer(b *Batch) bool {
	for range 3 {
		b.Once(s, func(*Batch) any { s.built++; return s.built })
	}
	return true
}
func (s *seer) Wake() {}
