package job_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// Workers that are killed and frozen are processes of their own: this test's
// binary, which becomes one when the environment says so. TIDEWAY_JOBS,
// TIDEWAY_FREEZES and TIDEWAY_POISON make the tests longer, TIDEWAY_ACKWAIT is
// killWait in seconds.
const (
	workerEnv = "TIDEWAY_TEST_WORKER" // the server's address
	stepsEnv  = "TIDEWAY_TEST_STEPS"  // where the steps are noted
	kindsEnv  = "TIDEWAY_TEST_KINDS"  // the kinds of jobs, "" for all
)

func TestMain(m *testing.M) {
	if url := os.Getenv(workerEnv); url != "" {
		if err := helper(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func fromEnv(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// killWait is how long a worker may be silent.
var killWait = time.Duration(fromEnv("TIDEWAY_ACKWAIT", 2)) * time.Second

func dialJobs(ctx context.Context, opts *natsbus.Options) (*natsbus.Bus, *layer.Layer, error) {
	opts.Logger = quiet()
	bus, err := natsbus.New(ctx, opts)
	if err != nil {
		return nil, nil, err
	}
	queues := job.Queues()
	queues[0].AckWait = killWait
	l, err := layer.New(bus, &layer.Options{Groups: job.Groups(), Queues: queues, Logger: quiet()})
	return bus, l, err
}

// site is a NATS server with a layer on it, as a web process has one.
func site(t testing.TB) (*layer.Layer, string) {
	t.Helper()
	bus, l, err := dialJobs(t.Context(), &natsbus.Options{Embedded: &natsbus.Embedded{Listen: "127.0.0.1:0", StoreDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := errors.Join(l.Close(ctx), bus.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return l, bus.ClientURL()
}

// helper is the process of a worker.
func helper(url string) error {
	ctx := context.Background()
	steps, err := os.OpenFile(os.Getenv(stepsEnv), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, l, err := dialJobs(ctx, &natsbus.Options{URL: url})
	if err != nil {
		return err
	}
	handlers := map[string]job.Handler{
		"steps": func(ctx context.Context, r *job.Run) error { return steady(ctx, r, steps) },
		"talk":  talk,
		"nap":   nap,
		"panic": func(context.Context, *job.Run) error { panic("poison") },
		"exit":  func(context.Context, *job.Run) error { os.Exit(3); return nil },
		"hang":  func(context.Context, *job.Run) error { select {} },
		"hog":   hog,
	}
	if kinds := os.Getenv(kindsEnv); kinds != "" {
		maps.DeleteFunc(handlers, func(kind string, _ job.Handler) bool { return !strings.Contains(kinds, kind) })
	}
	fmt.Println("ready")
	return job.Work(ctx, l, handlers, &job.WorkOptions{Concurrency: 4, Backoff: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
}

const stepsOfJob = 12

// steady does steps, each of which it notes in a file before it stores the
// checkpoint.
func steady(ctx context.Context, r *job.Run, notes *os.File) error {
	next := 0
	if _, err := r.Restore(&next); err != nil {
		return err
	}
	for ; next < stepsOfJob; next++ {
		time.Sleep(time.Duration(5+rand.IntN(20)) * time.Millisecond)
		if _, err := fmt.Fprintf(notes, "%s %d\n", r.ID(), next); err != nil {
			return err
		}
		if err := r.Checkpoint(ctx, next+1); err != nil {
			return err
		}
		if err := r.Progress(ctx, int64(next+1), stepsOfJob); err != nil {
			return err
		}
	}
	return nil
}

// talk writes for as long as it may. The second attempt ends soon.
func talk(ctx context.Context, r *job.Run) error {
	for i := 0; r.Attempt() == 1 || i < 20; i++ {
		if err := r.Log(context.WithoutCancel(ctx), strconv.Itoa(i)); err != nil {
			fmt.Println("refused", errors.Is(err, job.ErrStale))
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// nap takes time and nothing else.
func nap(ctx context.Context, r *job.Run) error {
	select {
	case <-time.After(300 * time.Millisecond):
		return r.Log(ctx, "rested")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// spawned is a worker's process.
type spawned struct {
	cmd   *exec.Cmd
	lines chan string // of its output, closed at its end
}

func spawn(t testing.TB, url, notes, kinds string) *spawned {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+url, stepsEnv+"="+notes, kindsEnv+"="+kinds)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &spawned{cmd, make(chan string, 100)}
	go func() {
		defer close(s.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			s.lines <- in.Text()
		}
	}()
	t.Cleanup(s.kill)
	if line := <-s.lines; line != "ready" {
		t.Fatalf("a worker says %q", line)
	}
	return s
}

// kill ends the process at once, and waits for its end.
func (s *spawned) kill() {
	_ = s.cmd.Process.Kill() // it may be gone already
	for range s.lines {
	}
	_ = s.cmd.Wait()
}

// crew keeps workers alive, as a supervisor does.
type crew struct {
	t          testing.TB
	url, notes string
	kinds      string
	stop       func() // ends the tending; it may be called again

	mu      sync.Mutex // guards workers
	workers []*spawned
	deaths  atomic.Int64
}

// newCrew starts three workers, which are tended until stop is called.
func newCrew(t testing.TB, url string) *crew {
	c := &crew{t: t, url: url, notes: filepath.Join(t.TempDir(), "steps"), workers: make([]*spawned, 3)}
	ctx, cancel := context.WithCancel(context.Background())
	var tending sync.WaitGroup
	tending.Go(func() { c.tend(ctx) })
	c.stop = func() {
		cancel()
		tending.Wait()
	}
	return c
}

// tend replaces those that died, until ctx ends.
func (c *crew) tend(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		for i, w := range c.workers {
			if w == nil || syscall.Kill(w.cmd.Process.Pid, 0) != nil || zombie(w.cmd.Process.Pid) {
				if w != nil {
					c.deaths.Add(1)
					w.kill()
				}
				c.workers[i] = spawn(c.t, c.url, c.notes, c.kinds)
			}
		}
		c.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// oneVerdict checks a job's log from outside the fold.
func oneVerdict(t testing.TB, l *layer.Layer, id string, want job.State) job.Status {
	t.Helper()
	verdicts, newest := 0, 0
	for m, err := range l.History(t.Context(), job.Group(id), layer.Position{}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := job.ParseEvent(m)
		if err != nil {
			t.Fatal(err)
		}
		if e.Event == job.Started {
			newest = e.Attempt
		}
		if e.Attempt != 0 && e.Attempt != newest {
			t.Errorf("job %s: %s of attempt %d was stored behind the start of attempt %d", id, e.Event, e.Attempt, newest)
		}
		if verdicts > 0 {
			t.Errorf("job %s: %s was stored behind the verdict", id, e.Event)
		}
		if e.Event == job.Ended {
			verdicts++
		}
	}
	s, err := job.Get(t.Context(), l, id)
	if err != nil {
		t.Fatal(err)
	}
	if verdicts != 1 || s.State != want {
		t.Errorf("job %s: %d verdicts, %s (%s), want %s once", id, verdicts, s.State, s.Error, want)
	}
	return s
}

// ends waits until all jobs have ended.
func ends(t testing.TB, l *layer.Layer, ids []string, most time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	for _, id := range ids {
		for _, err := range job.Watch(ctx, l, id, layer.Position{}) {
			if err != nil {
				s, _ := job.Get(context.WithoutCancel(ctx), l, id)
				t.Fatalf("job %s: %v; it is %+v", id, err, s)
			}
		}
	}
}

// started waits until an attempt has said something.
func started(t testing.TB, l *layer.Layer, id string, attempt int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for e, err := range job.Watch(ctx, l, id, layer.Position{}) {
		if err != nil {
			t.Fatalf("attempt %d of %s does not begin: %v", attempt, id, err)
		}
		if e.Attempt == attempt {
			return
		}
	}
}
