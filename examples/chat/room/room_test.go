package room

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// serve returns the sockets of a site in memory.
func serve(t *testing.T) (*router.Router, *layer.Layer) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := layer.New(membus.New(), &layer.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	r, err := router.New(l, router.Table{"/ws/chat/{room}/{$}": Consumer}, &router.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Shutdown(context.Background()) })
	return r, l
}

func says(user, text string) string {
	return `{"type":"chat.message","user":"` + user + `","text":"` + text + `"}`
}

func TestEverybodyInTheRoomHears(t *testing.T) {
	r, l := serve(t)
	ann := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
	ben := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
	far := consumertest.Dial(t, r, "/ws/chat/elsewhere/", nil)

	ann.SendText(says("ann", "hello"))
	if err := l.GroupSend(t.Context(), "chat.lobby", Message{"script", "hello, too"}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*consumertest.Client{"ann": ann, "ben": ben} {
		got := []string{c.ReceiveText(), c.ReceiveText()}
		want := map[string]bool{says("ann", "hello"): true, says("script", "hello, too"): true}
		if !want[got[0]] || !want[got[1]] || got[0] == got[1] {
			t.Errorf("%s heard %q", name, got)
		}
	}
	far.ReceiveNothing(50 * time.Millisecond)
}

// What is wrong with a message is told to its sender, who stays in the room.
func TestRefusedMessages(t *testing.T) {
	r, _ := serve(t)
	ann := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
	ben := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
	for _, c := range []struct{ sent, want string }{
		{`{"type":"close"}`, `the type is "close"; this room takes "chat.message"`},
		{`{}`, `the type is ""; this room takes "chat.message"`},
		{says("", "hello"), "the message has no user"},
		{says(" ", "hello"), "the message has no user"},
		{says(strings.Repeat("ü", maxUser+1), "hello"), "the user's name is longer than 40 characters"},
		{says("ann", ""), "the message has no text"},
		{says("ann", ` \n`), "the message has no text"},
		{says("ann", strings.Repeat("界", maxText+1)), "the text is longer than 2000 characters"},
	} {
		ann.SendText(c.sent)
		var got struct {
			Type string
			Refusal
		}
		if ann.ReceiveJSON(&got); got.Type != "chat.refusal" || got.Text != c.want {
			t.Errorf("%.60s: got %+v, want the refusal %q", c.sent, got, c.want)
		}
	}
	longest := says(strings.Repeat("ü", maxUser), strings.Repeat("界", maxText))
	ann.SendText(longest)
	if got := ben.ReceiveText(); got != longest {
		t.Errorf("ben heard %.100q, want the longest message that is allowed and nothing before it", got)
	}
}

func TestNotJSON(t *testing.T) {
	r, _ := serve(t)
	ann := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
	ann.SendText("hello")
	if code, reason := ann.ReceiveClose(); code != consumer.StatusInvalidPayload {
		t.Errorf("closed with %d %q, want %d", code, reason, consumer.StatusInvalidPayload)
	}
}

func TestRoomNames(t *testing.T) {
	r, _ := serve(t)
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		{"/ws/chat/a%20b/", http.StatusBadRequest, `there can be no such room: layer: group name "chat.a b" is not valid: ' ' at byte 6`},
		{"/ws/chat/a%2Fb/", http.StatusBadRequest, `'/' at byte 6`},
		{"/ws/chat/b%C3%BCro/", http.StatusBadRequest, `'ü' at byte 6`},
		{"/ws/chat/" + strings.Repeat("a", 95) + "/", http.StatusBadRequest, "it has 100 bytes; 99 is the most"},
		{"/ws/chat/lobby/more", http.StatusNotFound, "no consumer at this path"},
		{"/ws/chat/", http.StatusNotFound, "no consumer at this path"},
	} {
		got := consumertest.Refused(t, r, c.path, nil)
		if got.Status != c.status || !strings.Contains(got.Body, c.body) {
			t.Errorf("%.40s: got %d %q, want %d with %q", c.path, got.Status, got.Body, c.status, c.body)
		}
	}
	consumertest.Dial(t, r, "/ws/chat/"+strings.Repeat("a", 94)+"/", nil)
}

func TestPage(t *testing.T) {
	page := Page(nil)
	for _, c := range []struct {
		method, path string
		status       int
		typ          string
	}{
		{"GET", "/", http.StatusOK, "text/html; charset=utf-8"},
		{"GET", "/?room=lobby&name=ann", http.StatusOK, "text/html; charset=utf-8"},
		{"GET", "/chat.css", http.StatusOK, "text/css; charset=utf-8"},
		{"GET", "/chat.js", http.StatusOK, "text/javascript; charset=utf-8"},
		{"GET", "/connection.js", http.StatusOK, "text/javascript; charset=utf-8"},
		{"GET", "/icon.svg", http.StatusOK, "image/svg+xml"},
		{"GET", "/room.go", http.StatusNotFound, ""},
		{"POST", "/", http.StatusMethodNotAllowed, ""},
	} {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		got := w.Result()
		if got.StatusCode != c.status || c.typ != "" && got.Header.Get("Content-Type") != c.typ {
			t.Errorf("%s %s: got %s %q, want %d %q", c.method, c.path, got.Status, got.Header.Get("Content-Type"), c.status, c.typ)
		}
		if c.status == http.StatusOK && !strings.Contains(got.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no policy: %v", c.path, got.Header)
		}
		body, _ := io.ReadAll(got.Body)
		if strings.Contains(string(body), "<script>") || strings.Contains(string(body), " style=") || strings.Contains(string(body), "innerHTML") {
			t.Errorf("%s has inline script or style, which the policy forbids, or writes HTML", c.path)
		}
	}
}
