package job_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
)

// Workers are killed all the time. Each job has one verdict, and each step is
// done once, and once more at most for each attempt that was cut off.
func TestWorkersAreKilled(t *testing.T) {
	t.Parallel()
	l, url := site(t)
	c := newCrew(t, url)
	defer c.stop()
	var ids []string
	for range fromEnv("TIDEWAY_JOBS", 40) {
		ids = append(ids, submit(t, l, "steps", &job.SubmitOptions{Attempts: 100})) // the kills do not end before the jobs do
	}
	kills := 0
	done := make(chan struct{})
	var killing sync.WaitGroup
	killing.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(100+rand.IntN(500)) * time.Millisecond):
			}
			c.mu.Lock()
			if w := c.workers[rand.IntN(len(c.workers))]; w != nil {
				_ = w.cmd.Process.Kill()
				kills++
			}
			c.mu.Unlock()
		}
	})
	ends(t, l, ids, 4*time.Minute)
	close(done)
	killing.Wait()
	c.stop()

	steps := map[string][]int{}
	data, err := os.ReadFile(c.notes)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var id string
		var n int
		if _, err := fmt.Sscan(line, &id, &n); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if steps[id] == nil {
			steps[id] = make([]int, stepsOfJob)
		}
		steps[id][n]++
	}
	repeated, attempts := 0, 0
	for _, id := range ids {
		s := oneVerdict(t, l, id, job.StateSucceeded)
		attempts += s.Attempt
		again := 0
		for n, times := range steps[id] {
			if times == 0 {
				t.Errorf("job %s: step %d was not done", id, n)
			}
			again += times - 1
		}
		if again > s.Attempt-1 {
			t.Errorf("job %s: %d steps were repeated in %d attempts", id, again, s.Attempt)
		}
		repeated += again
	}
	t.Logf("%d jobs of %d steps, %d kills: %d attempts, %d steps repeated", len(ids), stepsOfJob, kills, attempts, repeated)
}

// A worker that stood still, and woke when another had taken over, writes nothing
// any more.
func TestFrozenWorkersAreRefused(t *testing.T) {
	t.Parallel()
	l, url := site(t)
	notes := filepath.Join(t.TempDir(), "steps")
	for range fromEnv("TIDEWAY_FREEZES", 2) {
		frozen := spawn(t, url, notes, "")
		id := submit(t, l, "talk", nil)
		started(t, l, id, 1)
		if err := frozen.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		other := spawn(t, url, notes, "")
		started(t, l, id, 2)
		if err := frozen.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		ends(t, l, []string{id}, time.Minute)
		select {
		case line := <-frozen.lines:
			if line != "refused true" {
				t.Errorf("the worker that woke says %q", line)
			}
		case <-time.After(time.Minute):
			t.Fatal("the worker that woke says nothing")
		}
		if s := oneVerdict(t, l, id, job.StateSucceeded); s.Attempt < 2 {
			t.Errorf("%d attempts, want another one", s.Attempt)
		}
		frozen.kill()
		other.kill()
	}
}
