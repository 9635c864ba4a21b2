package job_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
)

// poisonKinds are the kinds of jobs that harm their workers.
var poisonKinds = map[string]bool{"panic": true, "exit": true, "hang": true, "hog": true}

// confine leaves this process 300 MB beyond what it has, once: a limit that was
// lowered cannot be raised.
var confine = sync.OnceValue(func() error {
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
	return syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most})
})

// hog takes a gigabyte, of which its process may have less.
func hog(context.Context, *job.Run) error {
	if err := confine(); err != nil {
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

// Jobs that end their worker, or never end, are dead after their attempts; others
// in the same processes succeed.
func TestPoison(t *testing.T) {
	t.Parallel()
	l, url := site(t)
	c := newCrew(t, url)
	defer c.stop()
	poison := map[string]string{}
	for kind := range poisonKinds {
		attempts := 2
		if kind == "hang" {
			attempts = 1 // each is left behind ten seconds after its end
		}
		poison[kind] = submit(t, l, kind, &job.SubmitOptions{Attempts: attempts, Timeout: time.Second})
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

// What healthy jobs lose while poison of every kind is there all the time, in the
// same processes: their rate beside it and without it, in turns. The healthy jobs
// wait and compute nothing, so that the machine is not what limits them, and there
// are always enough of them; who dies is replaced at once. TIDEWAY_POISON is how
// many seconds each turn lasts.
func BenchmarkPoison(b *testing.B) {
	l, url := site(b)
	c := newCrew(b, url)
	defer c.stop()
	f := newFlow(b, l)
	for range 4 * 3 * 3 { // three times the places of the workers
		f.submit("nap")
	}
	turn := time.Duration(fromEnv("TIDEWAY_POISON", 1)) * time.Second
	f.during(max(turn/4, time.Second))
	var alone, beside float64
	for b.Loop() {
		alone += f.during(turn)
		f.poison = true
		for kind := range poisonKinds {
			f.submit(kind)
		}
		beside += f.during(turn)
		f.poison = false
		f.drain()
	}
	n, d := float64(b.N), turn.Seconds()
	b.ReportMetric(alone/n/d, "alone/s")
	b.ReportMetric(beside/n/d, "beside/s")
	b.ReportMetric(100*beside/alone, "%")
	b.ReportMetric(float64(f.dead)/n, "dead/op")
	b.ReportMetric(float64(c.deaths.Load())/n, "deaths/op")
	b.ReportMetric(0, "ns/op")
}

// flow keeps jobs coming, and counts what ends.
type flow struct {
	testing.TB
	l      *layer.Layer
	tells  *layer.Channel // of the index
	poison bool           // poison that is dead is submitted anew
	inside int            // poison
	dead   int
}

func newFlow(t testing.TB, l *layer.Layer) *flow {
	t.Helper()
	c, err := l.NewChannel(t.Context())
	if err == nil {
		err = l.GroupAdd(t.Context(), job.IndexGroup, c.Name())
	}
	if err != nil {
		t.Fatal(err)
	}
	return &flow{TB: t, l: l, tells: c}
}

func (f *flow) submit(kind string) {
	f.Helper()
	var o *job.SubmitOptions
	if poisonKinds[kind] {
		f.inside++
		o = &job.SubmitOptions{Timeout: time.Second}
	}
	submit(f, f.l, kind, o)
}

// next waits for a job's end, and has another one follow. It reports whether it
// was a healthy one, and false when ctx has ended.
func (f *flow) next(ctx context.Context) bool {
	f.Helper()
	for {
		m, err := f.tells.Receive(ctx)
		if ctx.Err() != nil {
			return false
		}
		var s job.Summary
		if err == nil {
			err = m.Decode(&s)
		}
		switch {
		case err != nil:
			f.Fatal(err)
		case !s.State.Terminal():
		case !poisonKinds[s.Kind]:
			if s.State != job.StateSucceeded {
				f.Errorf("a healthy job is %s: %s", s.State, s.Error)
			}
			f.submit(s.Kind)
			return true
		default:
			if s.State != job.StateDead {
				f.Errorf("%s is %s", s.Kind, s.State)
			}
			f.inside--
			f.dead++
			if f.poison {
				f.submit(s.Kind)
			}
			return false
		}
	}
}

// during counts the healthy jobs that end in a time.
func (f *flow) during(d time.Duration) (n float64) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), d)
	defer cancel()
	for ctx.Err() == nil {
		if f.next(ctx) {
			n++
		}
	}
	return n
}

// drain waits until all poison is dead, and the workers that it killed are back.
func (f *flow) drain() {
	f.Helper()
	for f.inside > 0 {
		f.next(f.Context())
	}
	f.during(time.Second)
}
