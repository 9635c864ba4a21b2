package natsbus

import (
	"fmt"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// fill fills a stream: each message of the group job.1 behind so many of others.
func fill(t testing.TB, b *Bus, messages int, others func(i int) int) {
	t.Helper()
	under := 0
	put := func(group string, i int) {
		if under++; under%500 == 0 {
			<-b.store.js.PublishAsyncComplete()
		}
		if _, err := b.store.js.PublishAsync(b.subjects.group(group), numbered(i).Data); err != nil {
			t.Fatal(err)
		}
	}
	for i := range messages {
		for j := range others(i) {
			put(fmt.Sprintf("job.other.%d", j%10), i)
		}
		put("job.1", i)
	}
	<-b.store.js.PublishAsyncComplete()
}

// However long a group is, the place before its newest messages costs a few
// questions to the server.
func TestBeforeAsksLittle(t *testing.T) {
	b := openBus(t, nil)
	l := keepingLayer(t, b, layer.Retention{Pattern: "job.>", Messages: 20_000, Age: time.Hour})
	const stored = 10_000
	fill(t, b, stored, func(i int) int { return i / 2500 * 2 })
	for _, n := range []int{1, 10, 100, 5000} {
		was := b.conn.Stats()
		p, err := l.Before(t.Context(), "job.1", n)
		if err != nil {
			t.Fatal(err)
		}
		is := b.conn.Stats()
		asked, got := is.OutMsgs-was.OutMsgs, is.InMsgs-was.InMsgs
		t.Logf("the last %d: %d questions, %d answers", n, asked, got)
		if asked > 20+uint64(n)/100 || got > 60+3*uint64(n) {
			t.Errorf("the last %d of %d: %d questions and %d answers are too many", n, stored, asked, got)
		}
		first := stored - n
		for m, err := range l.History(t.Context(), "job.1", p, 1) {
			if want := string(numbered(first).Data); err != nil || string(m.Data) != want {
				t.Errorf("the last %d: got %s, %v, want %s", n, m.Data, err, want)
			}
		}
	}
}

// What it costs to find the newest ten messages, by how many there are.
func BenchmarkBefore(b *testing.B) {
	for _, stored := range []int{100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(stored), func(b *testing.B) {
			bus := openBus(b, nil)
			l := keepingLayer(b, bus, layer.Retention{Pattern: "job.>", Messages: 200_000, Age: time.Hour})
			fill(b, bus, stored, func(int) int { return 1 })
			was, calls := bus.conn.Stats(), 0
			for b.Loop() {
				if p, err := l.Before(b.Context(), "job.1", 10); err != nil || p == (layer.Position{}) {
					b.Fatal(p, err)
				}
				calls++
			}
			is := bus.conn.Stats()
			b.ReportMetric(float64(is.OutMsgs-was.OutMsgs)/float64(calls), "questions/op")
			b.ReportMetric(float64(is.InMsgs-was.InMsgs)/float64(calls), "answers/op")
		})
	}
}
