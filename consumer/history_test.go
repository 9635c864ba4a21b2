package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// story is what one client was told of a group, over all its connections: the
// number of each line, and between them how each connection began, and gaps.
type story struct {
	lines []string // "live", "resumed", "gap", or a number
}

func (s *story) add(what string) { s.lines = append(s.lines, what) }

// faults says what is wrong with a story whose group had the lines up to last:
// lines that are missing, doubled or out of order where no gap was told.
func (s *story) faults(last int) (faults []string) {
	had := 0 // the newest line; 0 when any may follow
	for i, what := range s.lines {
		switch what {
		case "live", "gap":
			had = 0
			continue
		case "resumed":
			continue
		}
		var n int
		if _, err := fmt.Sscan(what, &n); err != nil {
			return append(faults, "not understood: "+what)
		}
		switch {
		case had == 0 || n == had+1:
		case n > had+1:
			faults = append(faults, fmt.Sprintf("missing: %d to %d, at %d", had+1, n-1, i))
		case n == had:
			faults = append(faults, fmt.Sprintf("doubled: %d, at %d", n, i))
		default:
			faults = append(faults, fmt.Sprintf("back: %d after %d, at %d", n, had, i))
		}
		had = max(had, n)
	}
	if had != last {
		faults = append(faults, fmt.Sprintf("ends with %d of %d", had, last))
	}
	return faults
}

func (s *story) count(what string) (n int) {
	for _, l := range s.lines {
		if l == what {
			n++
		}
	}
	return n
}

// The checker finds what it is there for.
func TestStoryFaults(t *testing.T) {
	good := []string{"live", "3", "4", "resumed", "5", "6", "7", "gap", "9", "10"}
	for _, test := range []struct {
		name, want string
		change     func([]string) []string
	}{
		{"good", "", func(l []string) []string { return l }},
		{"a loss", "missing: 4 to 4", func(l []string) []string { return slices.Delete(l, 2, 3) }},
		{"a loss at a resume", "missing: 5 to 5", func(l []string) []string { return slices.Delete(l, 4, 5) }},
		{"a double", "doubled: 6", func(l []string) []string { return slices.Insert(l, 6, "6") }},
		{"a double at a resume", "doubled: 4", func(l []string) []string { return slices.Insert(l, 4, "4") }},
		{"a swap", "back: 5 after 6", func(l []string) []string { l[4], l[5] = l[5], l[4]; return l }},
		{"a stale resume", "back: 3 after 4", func(l []string) []string { return slices.Insert(l, 4, "3", "4") }},
		{"the last one lost", "ends with 9 of 10", func(l []string) []string { return l[:len(l)-1] }},
	} {
		s := story{test.change(slices.Clone(good))}
		got := strings.Join(s.faults(10), "; ")
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// comer joins, drops and resumes at random, and writes down what it is told,
// until it has the last line.
type comer struct {
	story
	url    string
	opts   client.Options
	random *rand.Rand
	resume client.Resume
	has    int
}

// connection reads some lines, or until it has the last one.
func (r *comer) connection(ctx context.Context, last int) error {
	o := r.opts
	o.Resume = r.resume
	c, err := client.Dial(ctx, r.url, &o)
	if err != nil {
		return err
	}
	defer c.Vanish()
	defer func() { r.resume = c.Resume() }()
	for left := r.random.IntN(200); left > 0; left-- {
		if r.has >= last {
			return nil
		}
		e, err := c.Receive(ctx)
		switch {
		case consumer.CloseStatus(err) == consumer.StatusSlowConsumer, consumer.CloseStatus(err) == consumer.StatusAbnormalClosure && ctx.Err() == nil:
			return nil // it may come back
		case err != nil:
			return fmt.Errorf("behind line %d: %w", r.has, err)
		case e.Joined != nil:
			r.add(e.Joined.Outcome)
		case e.Gap != nil:
			r.add("gap")
		case e.Err != nil:
			return e.Err
		default:
			var l line
			if err := json.Unmarshal(e.Data, &l); err != nil {
				return err
			}
			r.add(fmt.Sprint(l.N))
			r.has = max(r.has, l.N)
		}
		if r.random.IntN(100) == 0 {
			time.Sleep(time.Duration(r.random.IntN(10)) * time.Millisecond)
		}
	}
	return nil
}

// handling is a consumer that handles each line, and sends it on as it came.
var handling = consumer.Type[watcher]{
	Connect: (*watcher).connect,
	Messages: consumer.Table(consumer.Otherwise(func(_ *watcher, ctx context.Context, c *consumer.Conn, m layer.Message) error {
		return c.SendJSON(ctx, m)
	})),
}

// receiving is handling as a Func.
var receiving = consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
	if err := (&watcher{}).connect(ctx, c); err != nil {
		return err
	}
	for e, err := range c.Events(ctx) {
		if err != nil {
			return err
		}
		if e.Message != nil {
			if err := c.SendJSON(ctx, e.Message); err != nil {
				return err
			}
		}
	}
	return nil
})

// testStories has clients come and go while lines are published, on two
// processes of one network.
func testStories(t *testing.T, buses [2]layer.Bus, lines, clients int) {
	table := router.Table{"/forward/{group}/": watchers, "/handle/{group}/": handling, "/receive/{group}/": receiving}
	var stations [2]*router.Router
	var layers [2]*layer.Layer
	for i, bus := range buses {
		l, err := layer.New(bus, &layer.Options{Groups: []layer.Retention{{Pattern: "job.>", Messages: 100_000, Age: time.Hour}}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := router.New(l, table, &router.Options{MaxPerAddress: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if err := errors.Join(r.Shutdown(ctx), l.Close(ctx)); err != nil {
				t.Error(err)
			}
		})
		layers[i], stations[i] = l, r
	}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	readers := make([]*comer, clients)
	var all sync.WaitGroup
	for i := range readers {
		r := &comer{random: rand.New(rand.NewPCG(1, uint64(i)))}
		readers[i] = r
		kind := []string{"forward", "forward", "handle", "receive"}[i%4]
		all.Go(func() {
			// Each connection goes to another process.
			for n := 0; ; n++ {
				r.opts = client.Options{HTTPClient: consumertest.HTTPClient(t, stations[n%2])}
				r.url = "ws://localhost/" + kind + "/job.1/?start&most=100000"
				if err := r.connection(ctx, lines); err != nil {
					t.Errorf("client %d (%s): %v", i, kind, err)
					return
				}
				if r.has >= lines {
					return
				}
				time.Sleep(time.Duration(r.random.IntN(20)) * time.Millisecond)
			}
		})
	}
	for n := 1; n <= lines; n++ {
		if err := layers[n%2].GroupSend(ctx, "job.1", line{n}); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	resumed := 0
	for i, r := range readers {
		resumed += r.count("resumed")
		if faults := r.faults(lines); len(faults) > 0 || r.count("gap") > 0 {
			t.Errorf("client %d: %d gaps; %v", i, r.count("gap"), faults[:min(len(faults), 5)])
		}
		if first := slices.IndexFunc(r.lines, func(l string) bool { return l == "1" }); first < 0 {
			t.Errorf("client %d did not get the first line", i)
		}
	}
	t.Logf("%d clients resumed %d times", clients, resumed)
	if resumed < clients {
		t.Errorf("only %d resumes: the test shows nothing", resumed)
	}
}

func TestStories(t *testing.T) {
	bus := membus.New()
	testStories(t, [2]layer.Bus{bus, bus}, 1000, 8)
}

func TestStoriesOnNATS(t *testing.T) {
	ctx := t.Context()
	a, err := natsbus.New(ctx, &natsbus.Options{Embedded: &natsbus.Embedded{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(context.Background()) })
	b, err := natsbus.New(ctx, &natsbus.Options{URL: a.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	testStories(t, [2]layer.Bus{a, b}, 600, 8)
}
