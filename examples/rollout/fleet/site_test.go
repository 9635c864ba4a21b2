package fleet_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/examples/rollout/fleet"
	"github.com/tideway-go/tideway/examples/rollout/gameserver"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// stage is a network with game servers and a site, and perhaps a worker.
type stage struct {
	t       *testing.T
	layer   *layer.Layer
	servers string
	log     *slog.Logger
}

// newStage starts game servers that take about pace for a step.
func newStage(t *testing.T, pace time.Duration) *stage {
	t.Helper()
	s := &stage{t: t, log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	var err error
	s.layer, err = layer.New(membus.New(), &layer.Options{Groups: fleet.Groups(), Queues: fleet.Queues(0), Logger: s.log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.layer.Close(context.Background()) })
	games := httptest.NewServer(gameserver.New(pace))
	t.Cleanup(games.Close)
	s.servers = games.URL
	return s
}

// work starts a worker, which ends with the test.
func (s *stage) work(timeout time.Duration) {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- fleet.Work(ctx, s.layer, &fleet.WorkOptions{Servers: s.servers, Timeout: timeout, Grace: time.Millisecond, Logger: s.log})
	}()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Errorf("the worker: %v", err)
		}
	})
}

// web starts a web process.
func (s *stage) web() *httptest.Server {
	s.t.Helper()
	site, err := fleet.New(s.layer, &fleet.Options{
		Servers: s.servers,
		Users:   []fleet.User{{Name: "ann", Role: fleet.Operator, Password: "word-of-ann"}, {Name: "bob", Role: fleet.Viewer, Password: "word-of-bob"}},
		Router:  &router.Options{Logger: s.log},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(site.Handler())
	s.t.Cleanup(func() {
		site.Router().Shutdown(context.Background())
		server.Close()
	})
	return server
}

// browser is somebody's browser.
type browser struct {
	*http.Client
	t    *testing.T
	site *httptest.Server
}

// browse opens a browser, and logs in unless user is "".
func browse(t *testing.T, site *httptest.Server, user string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{&http.Client{Jar: jar}, t, site}
	if user != "" {
		if status, body := b.post("login", url.Values{"user": {user}, "password": {"word-of-" + user}}); status != http.StatusOK || !strings.Contains(body, "Log out") {
			t.Fatalf("login of %s: %d %s", user, status, body)
		}
	}
	return b
}

func (b *browser) post(path string, form url.Values) (status int, body string) {
	b.t.Helper()
	r, err := b.PostForm(b.site.URL+fleet.Path+path, form)
	return b.read(r, err)
}

func (b *browser) get(path string) (status int, body string) {
	b.t.Helper()
	r, err := b.Get(b.site.URL + fleet.Path + path)
	return b.read(r, err)
}

func (b *browser) read(r *http.Response, err error) (status int, body string) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// socket returns what a handshake of this browser carries.
func (b *browser) socket() *consumertest.Options {
	b.t.Helper()
	u, err := url.Parse(b.site.URL + fleet.Path)
	if err != nil {
		b.t.Fatal(err)
	}
	r := http.Request{Header: http.Header{"Origin": {b.site.URL}}}
	for _, c := range b.Jar.Cookies(u) {
		r.AddCookie(c)
	}
	return &consumertest.Options{Header: r.Header}
}

var idOnPage = regexp.MustCompile(`id="rollout" data-id="([a-z2-7]+)"`)

// start starts an update and returns its id.
func (b *browser) start(form url.Values) string {
	b.t.Helper()
	status, body := b.post("start", form)
	found := idOnPage.FindStringSubmatch(body)
	if status != http.StatusOK || found == nil {
		b.t.Fatalf("start: %d %s", status, body)
	}
	return found[1]
}

func update(version string, servers ...string) url.Values {
	return url.Values{"version": {version}, "server": servers, "at_once": {"4"}, "stop_after": {"0"}, "key": {fmt.Sprint(version, servers)}}
}

// ends waits for a rollout's verdict.
func (s *stage) ends(id string, want job.State) job.Status {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for _, err := range job.Watch(ctx, s.layer, id, layer.Position{}) {
		if err != nil {
			s.t.Fatal(err)
		}
	}
	status, err := job.Get(ctx, s.layer, id)
	if err != nil || status.State != want {
		s.t.Fatalf("got %s (%s), %v; want %s", status.State, status.Error, err, want)
	}
	return status
}

// An update goes wrong on a server, and a retry brings it there.
func TestUpdateAndRetry(t *testing.T) {
	s := newStage(t, time.Millisecond)
	s.work(20 * time.Second)
	site := s.web()
	ann := browse(t, site, "ann")
	id := ann.start(update("2.2.0-rc1", "fra-01", "jnb-02", "gru-03"))
	if again := ann.start(update("2.2.0-rc1", "fra-01", "jnb-02", "gru-03")); again != id {
		t.Errorf("the button pressed twice: got %s and %s", id, again)
	}
	status := s.ends(id, job.StateFailed)
	if want := "1 of 3 targets failed: jnb-02"; status.Error != want || status.By != "ann" || status.Title != "2.2.0-rc1" {
		t.Errorf("got %q, %q, %q; want %q, ann, 2.2.0-rc1", status.Error, status.By, status.Title, want)
	}

	_, body := ann.post("r/"+id+"/retry", nil)
	next := idOnPage.FindStringSubmatch(body)
	if next == nil || next[1] == id {
		t.Fatalf("retry: %s", body)
	}
	if status := s.ends(next[1], job.StateSucceeded); len(status.Targets) != 1 || status.RetryOf != id {
		t.Errorf("got %+v", status.Submission)
	}
	if _, body := ann.get(""); !strings.Contains(body, next[1]) || !strings.Contains(body, "2.2.0-rc1</span>") {
		t.Errorf("the page of the site has no history, or old versions: %s", body)
	}
}

// Whoever comes late gets all lines from the first, on another web process, too;
// secrets and checkpoints are not for pages.
func TestWatching(t *testing.T) {
	s := newStage(t, time.Millisecond)
	s.work(20 * time.Second)
	id := browse(t, s.web(), "ann").start(update("2.1.0", "fra-01", "fra-02"))
	s.ends(id, job.StateSucceeded)
	other := s.web()
	c := consumertest.Dial(t, other.Config.Handler, fleet.Path+"ws/"+id+"/", browse(t, other, "bob").socket())
	var got []string
	for m, err := range s.layer.History(t.Context(), job.Group(id), layer.Position{}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := job.ParseEvent(m)
		if err != nil {
			t.Fatal(err)
		}
		text := c.ReceiveText()
		got = append(got, text)
		if !strings.Contains(text, `"event":"`+string(e.Event)+`"`) || !strings.Contains(text, e.At.Format("05.999")) {
			t.Fatalf("got %s, want %+v", text, e)
		}
	}
	all := strings.Join(got, "\n")
	if strings.Contains(all, `"value"`) || !strings.Contains(all, "health: answers") || !strings.Contains(all, `"event":"ended"`) {
		t.Errorf("got %s", all)
	}
	if text := c.ReceiveText(); !strings.Contains(text, `"type":"job.index"`) {
		t.Errorf("behind the rollout: got %s, want the list of rollouts", text)
	}
}

func TestCancel(t *testing.T) {
	s := newStage(t, time.Hour)
	s.work(time.Hour)
	ann := browse(t, s.web(), "ann")
	id := ann.start(update("2.1.0", "fra-01"))
	for e, err := range job.Watch(t.Context(), s.layer, id, layer.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Event == job.Targeted {
			break
		}
	}
	if status, body := ann.post("r/"+id+"/cancel", nil); status != http.StatusOK {
		t.Fatalf("cancel: %d %s", status, body)
	}
	if status := s.ends(id, job.StateCancelled); status.CancelledBy != "ann" {
		t.Errorf("cancelled by %q", status.CancelledBy)
	}
	if status, _ := ann.post("r/"+id+"/cancel", nil); status != http.StatusOK {
		t.Errorf("a second cancel: %d", status)
	}
}

// A viewer watches, and nobody else does anything.
func TestRoles(t *testing.T) {
	s := newStage(t, time.Millisecond)
	site := s.web()
	ann, bob, eve := browse(t, site, "ann"), browse(t, site, "bob"), browse(t, site, "")
	id := ann.start(update("2.1.0", "fra-01"))
	for _, path := range []string{"start", "r/" + id + "/cancel", "r/" + id + "/retry"} {
		if status, _ := bob.post(path, update("2.1.0", "fra-01")); status != http.StatusForbidden {
			t.Errorf("bob: %s: got %d, want 403", path, status)
		}
		if status, _ := eve.post(path, update("2.1.0", "fra-01")); status != http.StatusUnauthorized {
			t.Errorf("eve: %s: got %d, want 401", path, status)
		}
	}
	for _, path := range []string{"", "r/" + id + "/"} {
		if _, body := bob.get(path); strings.Contains(body, "<button class=\"danger\"") || strings.Contains(body, `action="/rollout/start"`) || !strings.Contains(body, "History") {
			t.Errorf("bob: %q: got %s", path, body)
		}
		if _, body := eve.get(path); strings.Contains(body, "History") || !strings.Contains(body, `action="/rollout/login"`) {
			t.Errorf("eve: %q: got %s", path, body)
		}
	}
	if r := consumertest.Refused(t, site.Config.Handler, fleet.Path+"ws/", eve.socket()); r.Status != http.StatusUnauthorized {
		t.Errorf("eve's socket: got %d, want 401", r.Status)
	}

	// What is no rollout is nobody's to see, though it is a job.
	other, err := job.Submit(t.Context(), s.layer, "payroll", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{other, "nothing", "a b", strings.Repeat("a", 61)} {
		if status, _ := ann.get("r/" + url.PathEscape(id) + "/"); status != http.StatusNotFound {
			t.Errorf("the page of %q: got %d, want 404", id, status)
		}
		if r := consumertest.Refused(t, site.Config.Handler, fleet.Path+"ws/"+url.PathEscape(id)+"/", ann.socket()); r.Status != http.StatusNotFound {
			t.Errorf("the socket of %q: got %d, want 404", id, r.Status)
		}
	}
}

// A session is known to all web processes; a logout ends its sockets, wherever
// they are.
func TestSessions(t *testing.T) {
	s := newStage(t, time.Millisecond)
	one, two := s.web(), s.web()
	ann := browse(t, one, "ann")
	away := consumertest.Dial(t, two.Config.Handler, fleet.Path+"ws/", ann.socket())
	if _, body := ann.post("logout", nil); !strings.Contains(body, "Log in") {
		t.Errorf("after the logout: %s", body)
	}
	if code, _ := away.ReceiveClose(); code != consumer.StatusUnauthorized {
		t.Errorf("the socket closed with %d, want 4001", code)
	}
	for _, form := range []url.Values{{}, {"user": {"ann"}, "password": {"word-of-bob"}}, {"user": {"eve"}}, {"user": {""}, "password": {""}}} {
		if status, body := ann.post("login", form); status != http.StatusForbidden || !strings.Contains(body, "no such user") {
			t.Errorf("%v: got %d %s, want 403", form, status, body)
		}
	}
	for next, want := range map[string]string{"": "", "https://evil.example/": "", "//evil.example/": "", "/rollout/r/a/b/": "", "/rollout/r/abc": "r/abc/"} {
		ann.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		r, err := ann.PostForm(one.URL+fleet.Path+"login", url.Values{"user": {"ann"}, "password": {"word-of-ann"}, "next": {next}})
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if got := r.Header.Get("Location"); got != fleet.Path+want {
			t.Errorf("after the login with next %q: to %q, want %q", next, got, fleet.Path+want)
		}
	}
}

func TestRefusedUpdates(t *testing.T) {
	s := newStage(t, time.Millisecond)
	site := s.web()
	ann := browse(t, site, "ann")
	for name, change := range map[string]func(url.Values){
		"no server":        func(v url.Values) { v.Del("server") },
		"another server":   func(v url.Values) { v.Add("server", "example.com") },
		"a server twice":   func(v url.Values) { v.Add("server", "fra-01") },
		"another version":  func(v url.Values) { v.Set("version", "9") },
		"too many at once": func(v url.Values) { v.Set("at_once", "1000") },
		"no number":        func(v url.Values) { v.Set("stop_after", "x") },
	} {
		form := update("2.1.0", "fra-01")
		change(form)
		if status, body := ann.post("start", form); status != http.StatusBadRequest || !strings.Contains(body, `role="alert"`) {
			t.Errorf("%s: got %d %s, want 400 and the form", name, status, body)
		}
	}
	if all, err := job.List(t.Context(), s.layer, nil); err != nil || len(all) != 0 {
		t.Errorf("got %v, %v, want no job", all, err)
	}

	// A page of another site has no say.
	for _, path := range []string{"start", "login", "logout"} {
		r, err := http.NewRequest("POST", site.URL+fleet.Path+path, strings.NewReader(update("2.1.0", "fra-01").Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://evil.example")
		if status, _ := ann.read(ann.Do(r)); status != http.StatusForbidden {
			t.Errorf("%s from another site: got %d, want 403", path, status)
		}
	}
}

func TestParseUsers(t *testing.T) {
	users, err := fleet.ParseUsers("ann:operator:word:of:ann,bob:viewer:12345678")
	if want := []fleet.User{{"ann", fleet.Operator, "word:of:ann"}, {"bob", fleet.Viewer, "12345678"}}; err != nil || fmt.Sprint(users) != fmt.Sprint(want) {
		t.Errorf("got %v, %v, want %v", users, err, want)
	}
	for _, text := range []string{"", "ann", "ann:operator", "ann:king:word-of-ann", "ann:viewer:short", "a b:viewer:12345678", "ann:viewer:12345678,"} {
		if users, err := fleet.ParseUsers(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, users)
		}
	}
	if demo := fleet.DemoUsers(); demo[0].Password == demo[1].Password || len(demo[0].Password) < 12 {
		t.Errorf("got %v", demo)
	}
}
