package inbox

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// serve returns a site in memory, and the same one on a real address.
func serve(t *testing.T) (http.Handler, *httptest.Server) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := layer.New(membus.New(), &layer.Options{Groups: Groups(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	s, err := New(l, &Options{Router: &router.Options{Logger: log}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.sockets.Shutdown(context.Background()) })
	h := s.Handler()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return h, server
}

// browser is somebody's browser.
type browser struct {
	*http.Client
	t    *testing.T
	site string
}

func newBrowser(t *testing.T, site string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{&http.Client{Jar: jar}, t, site}
}

// post fills in a form, and returns the answer's status and body.
func (b *browser) post(path string, form url.Values) (int, string) {
	b.t.Helper()
	return b.answer(b.PostForm(b.site+path, form))
}

// read gets a page.
func (b *browser) read(path string) (int, string) {
	b.t.Helper()
	return b.answer(b.Get(b.site + path))
}

func (b *browser) answer(response *http.Response, err error) (int, string) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// socket returns what a handshake of this browser carries.
func (b *browser) socket() *consumertest.Options {
	b.t.Helper()
	u, err := url.Parse(b.site + Path)
	if err != nil {
		b.t.Fatal(err)
	}
	r := http.Request{Header: http.Header{"Origin": {b.site}}}
	for _, c := range b.Jar.Cookies(u) {
		r.AddCookie(c)
	}
	return &consumertest.Options{Header: r.Header}
}

func text(s string) url.Values { return url.Values{"text": {s}} }

func TestNotify(t *testing.T) {
	h, server := serve(t)
	windows := map[string][]*consumertest.Client{}
	for _, user := range []string{"ann", "ann", "ben"} {
		b := newBrowser(t, server.URL)
		if status, body := b.post(Path+"login", url.Values{"user": {user}}); status != http.StatusOK || !strings.Contains(body, Path+"notify/"+user) {
			t.Fatalf("login of %s: %d %s", user, status, body)
		}
		windows[user] = append(windows[user], consumertest.Dial(t, h, Path+"ws/", b.socket()))
	}

	program := &browser{server.Client(), t, server.URL}
	if status, body := program.post(Path+"notify/ann", text("Your <order> is on its way")); status != http.StatusAccepted || body != "sent\n" {
		t.Errorf("notify: got %d %q, want 202", status, body)
	}
	for _, w := range windows["ann"] {
		var got Notification
		if w.ReceiveJSON(&got); got.Text != "Your <order> is on its way" || time.Since(got.Sent).Abs() > time.Minute {
			t.Errorf("ann got %+v", got)
		}
	}
	windows["ben"][0].ReceiveNothing(50 * time.Millisecond)
}

func TestNotLoggedIn(t *testing.T) {
	h, server := serve(t)
	stranger := newBrowser(t, server.URL)
	if got := consumertest.Refused(t, h, Path+"ws/", stranger.socket()); got.Status != http.StatusUnauthorized {
		t.Errorf("got %d %q, want 401", got.Status, got.Body)
	}
	for _, user := range []string{"", "a b", "a/b", "<b>", strings.Repeat("a", 93)} {
		status, body := stranger.post(Path+"login", url.Values{"user": {user}})
		if status != http.StatusBadRequest || !strings.Contains(body, "A name is made of letters") {
			t.Errorf("login of %q: got %d %s, want 400 and the form", user, status, body)
		}
	}
}

// A logout ends the sockets of its session, and no other's.
func TestLogout(t *testing.T) {
	h, server := serve(t)
	leaving, staying := newBrowser(t, server.URL), newBrowser(t, server.URL)
	leaving.post(Path+"login", url.Values{"user": {"ann"}})
	staying.post(Path+"login", url.Values{"user": {"ann"}})
	gone, stays := consumertest.Dial(t, h, Path+"ws/", leaving.socket()), consumertest.Dial(t, h, Path+"ws/", staying.socket())

	if _, body := leaving.post(Path+"logout", nil); !strings.Contains(body, "Who are you?") {
		t.Errorf("after the logout: %s, want the login form", body)
	}
	if code, reason := gone.ReceiveClose(); code != consumer.StatusUnauthorized || reason != "logged out" {
		t.Errorf("the socket closed with %d %q, want 4001", code, reason)
	}
	leaving.post(Path+"notify/ann", text("still here"))
	if got := stays.ReceiveText(); !strings.Contains(got, "still here") {
		t.Errorf("the other browser got %s", got)
	}
	consumertest.Refused(t, h, Path+"ws/", leaving.socket())
}

func TestRefusedNotifications(t *testing.T) {
	_, server := serve(t)
	program := &browser{server.Client(), t, server.URL}
	for _, c := range []struct {
		path, text string
		status     int
	}{
		{Path + "notify/ann", "", http.StatusBadRequest},
		{Path + "notify/ann", " ", http.StatusBadRequest},
		{Path + "notify/ann", strings.Repeat("x", 70_000), http.StatusBadRequest},
		{Path + "notify/a%20b", "hello", http.StatusBadRequest},
		{Path + "notify/a%2Fb", "hello", http.StatusBadRequest},
		{Path + "notify/", "hello", http.StatusNotFound},
	} {
		if status, body := program.post(c.path, text(c.text)); status != c.status {
			t.Errorf("%s with %.10q: got %d %q, want %d", c.path, c.text, status, body, c.status)
		}
	}

	// A page of another site can neither notify nor log in.
	for _, path := range []string{Path + "notify/ann", Path + "login", Path + "logout"} {
		r, err := http.NewRequest("POST", server.URL+path, strings.NewReader("text=hello&user=ann"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://evil.example")
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s from another site: got %s, want 403", path, response.Status)
		}
	}
}

func TestPages(t *testing.T) {
	_, server := serve(t)
	b := newBrowser(t, server.URL)
	for path, want := range map[string]string{
		Path:                      "Who are you?",
		Path + "whoami":           "",
		Path + "page/inbox.css":   "color-scheme",
		Path + "page/inbox.js":    "/inbox/tideway/index.js",
		Path + "page/icon.svg":    "<svg",
		Path + "tideway/index.js": "tideway.v1",
	} {
		if status, body := b.read(path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %.200q; want it to contain %q", path, status, body, want)
		}
	}
}
