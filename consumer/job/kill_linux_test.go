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
	"syscall"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// Workers that are killed and frozen are processes of their own: this test's
// binary, which becomes one when the environment says so. TIDEWAY_JOBS and
// TIDEWAY_FREEZES make the tests longer.
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

const killWait = 2 * time.Second // a worker may be silent for so long

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
func site(t *testing.T) (*layer.Layer, string) {
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

// hog takes a gigabyte, of which its process may have less.
func hog(context.Context, *job.Run) error {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	pages, _, _ := strings.Cut(string(statm), " ")
	n, err := strconv.ParseUint(pages, 10, 64)
	if err != nil {
		return err
	}
	most := n*uint64(os.Getpagesize()) + 300<<20
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
		return err
	}
	var all [][]byte
	for range 1 << 10 {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		all = append(all, b)
	}
	return fmt.Errorf("got %d MB", len(all))
}

// spawned is a worker's process.
type spawned struct {
	cmd   *exec.Cmd
	lines chan string // of its output, closed at its end
}

func spawn(t *testing.T, url, notes, kinds string) *spawned {
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
	t          *testing.T
	url, notes string
	kinds      string

	mu      sync.Mutex // guards workers
	workers []*spawned
}

// tend replaces those that died, until ctx ends.
func (c *crew) tend(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		for i, w := range c.workers {
			if w == nil || syscall.Kill(w.cmd.Process.Pid, 0) != nil || zombie(w.cmd.Process.Pid) {
				if w != nil {
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
func oneVerdict(t *testing.T, l *layer.Layer, id string, want job.State) job.Status {
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
func ends(t *testing.T, l *layer.Layer, ids []string, most time.Duration) {
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

// Workers are killed all the time. Each job has one verdict, and each step is
// done once, and once more at most for each attempt that was cut off.
func TestWorkersAreKilled(t *testing.T) {
	t.Parallel()
	l, url := site(t)
	c := &crew{t: t, url: url, notes: filepath.Join(t.TempDir(), "steps"), workers: make([]*spawned, 3)}
	ctx, cancel := context.WithCancel(t.Context())
	var tending sync.WaitGroup
	defer tending.Wait()
	defer cancel()
	tending.Go(func() { c.tend(ctx) })
	var ids []string
	for range fromEnv("TIDEWAY_JOBS", 40) {
		ids = append(ids, submit(t, l, "steps", nil))
	}
	kills := 0
	done := make(chan struct{})
	tending.Go(func() {
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
	cancel()
	tending.Wait()

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

// started waits until an attempt has said something.
func started(t *testing.T, l *layer.Layer, id string, attempt int) {
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

// Jobs that end their worker, or never end, are dead after their attempts; others
// in the same processes succeed.
func TestPoison(t *testing.T) {
	t.Parallel()
	l, url := site(t)
	c := &crew{t: t, url: url, notes: filepath.Join(t.TempDir(), "steps"), workers: make([]*spawned, 3)}
	ctx, cancel := context.WithCancel(t.Context())
	var tending sync.WaitGroup
	defer tending.Wait()
	defer cancel()
	tending.Go(func() { c.tend(ctx) })
	poison := map[string]string{}
	for _, kind := range []string{"panic", "exit", "hang", "hog"} {
		poison[kind] = submit(t, l, kind, &job.SubmitOptions{Attempts: 2, Timeout: time.Second})
	}
	var healthy []string
	for range fromEnv("TIDEWAY_JOBS", 40) {
		healthy = append(healthy, submit(t, l, "steps", nil))
	}
	began := time.Now()
	ends(t, l, healthy, 4*time.Minute)
	t.Logf("%d healthy jobs beside the poison took %v", len(healthy), time.Since(began))
	for kind, id := range poison {
		ends(t, l, []string{id}, 4*time.Minute)
		s := oneVerdict(t, l, id, job.StateDead)
		t.Logf("%s: %s", kind, s.Error)
		dead := 0
		deadline := time.Now().Add(time.Minute)
		for dead == 0 && time.Now().Before(deadline) {
			for _, err := range l.DeadLetters(t.Context(), "job."+kind) {
				if err != nil {
					t.Fatal(err)
				}
				dead++
			}
		}
		if dead != 1 {
			t.Errorf("%s: %d dead letters, want 1", kind, dead)
		}
	}
	for _, id := range healthy {
		oneVerdict(t, l, id, job.StateSucceeded)
	}
}

// Poison whose workers are processes of their own costs the healthy jobs nothing
// but its share of the machine. The rates are logged, not judged.
func TestPoisonApart(t *testing.T) {
	t.Parallel()
	l, url := site(t)
	ctx, cancel := context.WithCancel(t.Context())
	var tending sync.WaitGroup
	defer tending.Wait()
	defer cancel()
	notes := filepath.Join(t.TempDir(), "steps")
	for _, c := range []*crew{
		{t: t, url: url, notes: notes, kinds: "steps", workers: make([]*spawned, 2)},
		{t: t, url: url, notes: notes, kinds: "panic exit hang hog", workers: make([]*spawned, 1)},
	} {
		tending.Go(func() { c.tend(ctx) })
	}
	started(t, l, submit(t, l, "steps", nil), 1)
	batch := func() float64 {
		var ids []string
		began := time.Now()
		for range fromEnv("TIDEWAY_JOBS", 20) {
			ids = append(ids, submit(t, l, "steps", nil))
		}
		ends(t, l, ids, 4*time.Minute)
		rate := float64(len(ids)) / time.Since(began).Seconds()
		for _, id := range ids {
			oneVerdict(t, l, id, job.StateSucceeded)
		}
		return rate
	}
	alone := batch()
	var poison []string
	for _, kind := range []string{"panic", "exit", "hang", "hog"} {
		poison = append(poison, submit(t, l, kind, &job.SubmitOptions{Timeout: time.Second}))
	}
	beside := batch()
	t.Logf("healthy jobs: %.1f a second alone, %.1f beside poison", alone, beside)
	ends(t, l, poison, 4*time.Minute)
	for _, id := range poison {
		oneVerdict(t, l, id, job.StateDead)
	}
}
