package bench

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Bar is a progress bar: one line of a terminal, written again and again.
type Bar struct {
	w    io.Writer
	name string
	from time.Time
	stop chan struct{}
	done sync.WaitGroup

	mu   sync.Mutex // guards step and at
	step Step
	at   time.Time // when it began
}

// NewBar begins to draw. Close takes the line away.
func NewBar(w io.Writer, name string) *Bar {
	b := &Bar{w: w, name: name, from: time.Now(), stop: make(chan struct{})}
	b.done.Go(b.draw)
	return b
}

// Set shows how far a benchmark is.
func (b *Bar) Set(s Step) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.step, b.at = s, time.Now()
}

// Close erases the line. It is called once.
func (b *Bar) Close() {
	close(b.stop)
	b.done.Wait()
	fmt.Fprint(b.w, "\r\x1b[K")
}

func (b *Bar) draw() {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprint(b.w, "\r", b.line(time.Now()), "\x1b[K")
		case <-b.stop:
			return
		}
	}
}

const barWidth = 24

// line is what the bar shows: within a run it moves on as far as those before
// it took.
func (b *Bar) line(now time.Time) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.step.All == 0 {
		return b.name
	}
	done, left := float64(b.step.Done), ""
	if b.step.Done > 0 {
		each := b.at.Sub(b.from).Seconds() / done
		done += min(now.Sub(b.at).Seconds()/each, 0.95)
		rest := time.Duration((float64(b.step.All) - done) * each * float64(time.Second))
		left = fmt.Sprintf("  %v left", rest.Round(time.Second))
	}
	full := min(int(done/float64(b.step.All)*barWidth), barWidth)
	line := fmt.Sprintf("%s [%s%s] run %d of %d", b.name, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full),
		min(b.step.Done+1, b.step.All), b.step.All)
	if b.step.Doing != "" {
		line += ", " + b.step.Doing
	}
	return line + left
}
