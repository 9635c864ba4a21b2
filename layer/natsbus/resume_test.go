package natsbus

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// resumes is how often TestResumeAfterAck resumes: 150 times, or what RESUMES
// says: `RESUMES=12000 go test -run ResumeAfterAck`.
func resumes(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("RESUMES"))
	if os.Getenv("RESUMES") == "" {
		return 150
	}
	if err != nil {
		t.Fatalf("RESUMES: %v", err)
	}
	return n
}

// resumed is what one client got that came back: all that follows from, up to
// and with to.
type resumed struct {
	from, to layer.Position
	got      []layer.Position
}

// problem says what is wrong with it, given all that is stored.
func (r resumed) problem(all []layer.Position) string {
	i, j := slices.Index(all, r.from), slices.Index(all, r.to)
	if want := all[i+1 : j+1]; !slices.Equal(r.got, want) {
		return fmt.Sprintf("from %v to %v: got %v, want %v", r.from, r.to, r.got, want)
	}
	return ""
}

func sequence(t *testing.T, p layer.Position) uint64 {
	_, text, _ := strings.Cut(p.String(), ".")
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Errorf("position %v: %v", p, err)
	}
	return n
}

// A client that comes back to any node, right after a message was acknowledged
// elsewhere, gets everything behind that message once and in order, while others
// publish.
func TestResumeAfterAck(t *testing.T) {
	t.Parallel()
	var layers []*layer.Layer
	for _, b := range openCluster(t, Embedded{}) {
		l, err := layer.New(b, &layer.Options{
			Groups:   []layer.Retention{{Pattern: "job.>", Messages: 1_000_000, Age: time.Hour}},
			Capacity: 100_000, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close(context.Background())
		layers = append(layers, l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writing sync.WaitGroup
	for _, l := range layers {
		writing.Go(func() {
			for ctx.Err() == nil {
				if _, err := l.Publish(ctx, "job.1", numbered(0), nil); err != nil && ctx.Err() == nil {
					t.Errorf("publish: %v", err)
				}
				sleep(ctx, 2*time.Millisecond)
			}
		})
	}
	const clients = 6
	total := resumes(t)
	var next atomic.Int64
	results := make([]resumed, total)
	var resuming sync.WaitGroup
	began := time.Now()
	for range clients {
		resuming.Go(func() {
			for !t.Failed() {
				i := int(next.Add(1)) - 1
				if i >= total {
					return
				}
				r, err := resumeOnce(t, layers[i%3], layers[(i+1+i/3%2)%3])
				if err != nil {
					t.Errorf("resume %d: %v", i, err)
					return
				}
				results[i] = r
			}
		})
	}
	resuming.Wait()
	took := time.Since(began)
	cancel()
	writing.Wait()
	if t.Failed() {
		return
	}
	var all []layer.Position
	for m, err := range layers[0].History(t.Context(), "job.1", layer.Position{}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.Position)
	}
	bad, live := 0, 0
	for _, r := range results {
		live += len(r.got)
		if problem := r.problem(all); problem != "" {
			if bad++; bad < 5 {
				t.Error(problem)
			}
		}
	}
	t.Logf("%d resumes in %v, %d of them wrong; %d messages stored, %d delivered", total, took.Round(time.Millisecond), bad, len(all), live)
	// The check finds what it is there for.
	for i, doctored := range [][]layer.Position{all[2:9], slices.Concat(all[1:9], all[8:9]), slices.Concat(all[1:7], all[8:9], all[7:8])} {
		if (resumed{all[0], all[8], doctored}).problem(all) == "" {
			t.Errorf("fault %d is not found", i)
		}
	}
	if p := (resumed{all[0], all[8], all[1:9]}).problem(all); p != "" {
		t.Error(p)
	}
}

// resumeOnce publishes at one node and comes back at another: join, then the
// place that the leader names, then the history up to there, then what is live.
func resumeOnce(t *testing.T, here, there *layer.Layer) (r resumed, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	receipt, err := there.Publish(ctx, "job.1", numbered(1), nil)
	if err != nil {
		return r, err
	}
	r.from = receipt.Position
	c, err := here.NewChannel(ctx)
	if err != nil {
		return r, err
	}
	defer c.Close()
	if err := here.GroupAdd(ctx, "job.1", c.Name()); err != nil {
		return r, err
	}
	last := sequence(t, r.from)
	take := func(p layer.Position) {
		if n := sequence(t, p); n > last {
			last = n
			r.got = append(r.got, p)
		}
	}
	for m, err := range here.History(ctx, "job.1", r.from, 0) {
		if err != nil {
			return r, err
		}
		take(m.Position)
	}
	// It comes live, and so does all that is stored between the history and it.
	if receipt, err = there.Publish(ctx, "job.1", numbered(2), nil); err != nil {
		return r, err
	}
	r.to = receipt.Position
	end := sequence(t, r.to)
	for last < end {
		m, err := c.Receive(ctx)
		if err != nil {
			return r, fmt.Errorf("after %d of %d messages, the last at %d of %d: %w", len(r.got), end, last, end, err)
		}
		take(m.Position)
	}
	return r, nil
}
