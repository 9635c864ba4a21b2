package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/examples/internal/freeport"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// The story that the library was made for. An operator presses "update" on a
// page, behind an nginx that cuts what is idle for 2 s; forty game servers are
// updated in rather more than that; and in the middle of it something dies.
// Somebody else looks in late, at another web process. In the end each of them has
// every line once, in order, and the verdict.
//
// Each variant runs once, or as often as STORY says, and tells how long it takes
// from the moment at which a page is opened until its verdict is on the screen:
// `STORY=20 go test -v -count=1 -timeout 1h -run TestStory .`
func TestStory(t *testing.T) {
	s := newStory(t)
	for _, v := range []struct {
		name  string
		ping  string // silence after which the web process pings
		fault func(*story)
		cuts  bool // the operator's page loses its connection
	}{
		{"browser closed", "500ms", (*story).closeBrowser, false},
		{"socket idle", "20s", (*story).idle, true},
		{"nginx reload", "500ms", (*story).reload, true},
		{"web SIGTERM", "500ms", (*story).terminateWeb, true},
		{"web SIGKILL", "500ms", (*story).killWeb, true},
		{"worker SIGKILL", "500ms", (*story).killWorker, false},
	} {
		t.Run(v.name, func(t *testing.T) {
			s.t = t
			s.ping = v.ping
			s.startWeb()
			for run := range storyRuns(t) {
				s.run(run, v.fault, v.cuts)
			}
			s.web.stop()
			t.Log(s.sum)
			s.all.add(s.sum)
			s.sum = storySum{}
		})
	}
	t.Log(s.all)
}

// storyRuns is how often each variant is to be run.
func storyRuns(t *testing.T) int {
	text := os.Getenv("STORY")
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("STORY: %v", err)
	}
	return n
}

// story is all that takes part.
type story struct {
	t       *testing.T
	whole   *testing.T // outlives the variants
	broker  string     // NATS
	addr    string     // of the web process behind nginx
	other   string     // of the other web process
	servers *process
	web     *process
	worker  *process
	nginx   *nginx
	browser context.Context
	ann     *window
	layer   *layer.Layer
	args    []string // of the processes that have them in common
	ping    string

	sum, all storySum
}

func newStory(t *testing.T) *story {
	t.Helper()
	s := &story{t: t, whole: t, broker: freeport.Addr(t), addr: freeport.Addr(t), other: freeport.Addr(t)}
	startNATS(t, s.broker, t.TempDir())
	games := freeport.Addr(t)
	s.servers = start(t, "", nil, rollout, "-role", "servers", "-addr", games, "-pace", "250ms")
	waitForPort(t, s.servers, games)
	s.args = []string{"-nats", "nats://" + s.broker, "-servers", "http://" + games, "-users", rolloutUsers, "-ack-wait", "2s"}
	other := s.start("-role", "web", "-addr", s.other, "-ping", "500ms")
	waitForPort(t, other, s.other)
	s.startWorker()
	s.nginx = startNGINX(t, s.addr, "2s", "worker_shutdown_timeout 200ms;") // so that a reload ends connections
	s.browser = startBrowser(t, chromedp.Flag("ignore-certificate-errors", true))

	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	bus, err := natsbus.New(t.Context(), &natsbus.Options{URL: "nats://" + s.broker, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close(context.Background()) })
	if s.layer, err = layer.New(bus, &layer.Options{Logger: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.layer.Close(context.Background()) })
	return s
}

func (s *story) start(args ...string) *process {
	s.t.Helper()
	return start(s.whole, "", nil, rollout, append(args, s.args...)...)
}

func (s *story) startWeb() {
	s.t.Helper()
	s.web = s.start("-role", "web", "-addr", s.addr, "-ping", s.ping)
	waitForPort(s.t, s.web, s.addr)
}

func (s *story) startWorker() {
	s.t.Helper()
	s.worker = s.start("-role", "worker")
}

// reload makes nginx read its configuration, and waits until its processes are
// new.
func (s *story) reload() {
	s.t.Helper()
	const gone = "exited with code 0"
	before := strings.Count(s.nginx.output.String(), gone)
	s.nginx.cmd.Process.Signal(syscall.SIGHUP)
	eventually(s.t, 30*time.Second, "nginx reloads", func() bool {
		return strings.Count(s.nginx.output.String(), gone) >= before+2
	})
}

// run is the story once.
func (s *story) run(number int, fault func(*story), cuts bool) {
	s.t.Helper()
	s.ann = s.open("https://"+s.nginx.addr+"/rollout/", "ann", passwordOfAnn)
	s.ann.do(chromedp.SetValue(chromedp.CSS("[name=at_once]"), "20"), chromedp.Click(chromedp.ID("go")), chromedp.WaitVisible(chromedp.ID("rollout")))
	id := eval[string](s.ann, `document.getElementById("rollout").dataset.id`)
	s.ann.do(chromedp.Evaluate[chromedp.Void](countCuts))
	s.through(10)
	fault(s)
	s.through(15)
	bob := s.open("http://"+s.other+"/rollout/r/"+id+"/", "bob", passwordOfBob)

	for name, w := range map[string]*window{"ann": s.ann, "bob": bob} {
		w.verdict("succeeded")
		s.compare(fmt.Sprintf("run %d: %s", number, name), id, w)
	}
	if cuts {
		n := eval[int](s.ann, "cuts")
		if n == 0 {
			s.t.Errorf("run %d: the operator's page did not lose its connection", number)
		}
		s.sum.cuts += n
	}
	s.again(bob, id)
	s.sum.runs++
	s.t.Logf("run %d: the verdict is on the screen after %.0f ms", number, s.sum.opened[len(s.sum.opened)-1].Verdict)
	for _, w := range []*window{s.ann, bob} {
		w.quietBut("WebSocket connection to", "Failed to load resource") // what died was away for a moment
		w.close()
	}
}

// open opens a window and logs in.
func (s *story) open(url, user, password string) *window {
	s.t.Helper()
	w := open(s.t, s.browser, url)
	w.enter(user, password)
	return w
}

// through waits until so many servers are through on ann's page, or its rollout
// is over.
func (s *story) through(n int) {
	s.t.Helper()
	eventually(s.t, time.Minute, fmt.Sprintf("%d servers are through", n), func() bool {
		return eval[float64](s.ann, `document.getElementById("total").value`) >= float64(n)
	})
}

// countCuts counts how often the page loses its connection.
const countCuts = `{
	window.cuts = 0;
	const state = document.getElementById("state");
	new MutationObserver(() => { if (state.dataset.state === "reconnecting") cuts++; }).observe(state, { attributes: true });
}`

// linesOf is what a page has, in order.
const linesOf = `[...document.querySelectorAll("#log li")].map(({ dataset: d, lastChild }) =>
	[d.event, d.target ?? "", d.state ?? "", d.event === "log" ? lastChild.textContent : ""].join("|"))`

// compare fails the test unless the page has every line of the rollout's log
// once, in order.
func (s *story) compare(who, id string, w *window) {
	s.t.Helper()
	w.whole()
	var want []string
	for m, err := range s.layer.History(s.t.Context(), job.Group(id), layer.Position{}, 0) {
		if err != nil {
			s.t.Fatal(err)
		}
		e, err := job.ParseEvent(m)
		if err != nil {
			s.t.Fatal(err)
		}
		switch e.Event {
		case job.Queued, job.Progressed, job.Checkpoint, job.Alive:
		default:
			want = append(want, strings.Join([]string{string(e.Event), e.Target, string(e.State), e.Text}, "|"))
		}
	}
	got := eval[[]string](w, linesOf)
	if len(want) < 40*7 {
		s.t.Errorf("%s: the log has %d lines, and 40 servers have 7 at least", who, len(want))
	}
	if slices.Equal(got, want) {
		s.sum.pages++
		s.sum.lines += len(got)
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	s.t.Errorf("%s: got %d lines, want %d; from line %d on\ngot  %q\nwant %q", who, len(got), len(want), i,
		got[i:min(i+5, len(got))], want[i:min(i+5, len(want))])
}

// again opens the page once more, and takes the time to the verdict by the page's
// own clock: what the test does with the browser does not count.
func (s *story) again(w *window, id string) {
	s.t.Helper()
	w.do(inEachDocument(noteVerdict), chromedp.Navigate("http://"+s.other+"/rollout/r/"+id+"/"))
	w.verdict("succeeded")
	s.compare("opened again", id, w)
	o, err := chromedp.Run(w.ctx, chromedp.Evaluate[opening]("verdictAt", chromedp.EvalAwaitPromise))
	if err != nil {
		s.t.Fatal(err)
	}
	s.sum.opened = append(s.sum.opened, o)
}

// closeBrowser closes the operator's window, and opens another one later.
func (s *story) closeBrowser() {
	s.t.Helper()
	page := eval[string](s.ann, "location.href")
	s.ann.close()
	s.ann = s.open(page, "ann", passwordOfAnn)
}

// idle holds the game servers, so that nothing is to be told, until nginx has cut
// the socket.
func (s *story) idle() {
	s.t.Helper()
	s.servers.cmd.Process.Signal(syscall.SIGSTOP)
	defer s.servers.cmd.Process.Signal(syscall.SIGCONT)
	s.ann.do(chromedp.WaitVisible(chromedp.CSS(`#state:not([data-state="connected"])`)))
}

func (s *story) terminateWeb() {
	s.t.Helper()
	s.web.stop()
	s.startWeb()
}

func (s *story) killWeb() {
	s.t.Helper()
	s.web.kill()
	s.startWeb()
}

func (s *story) killWorker() {
	s.t.Helper()
	s.worker.kill()
	s.startWorker()
}
