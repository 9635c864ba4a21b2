package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router/httpapi"
)

const (
	asAdmin = "X-API-Key: " + adminSecret
	isJSON  = "Content-Type: application/json"
)

func TestPublish(t *testing.T) {
	a, l := newAPI(t, &httpapi.Options{Keys: testKeys, MaxBody: 2000}, jobs)
	ch, err := l.NewChannel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"chat.lobby", "job.42"} {
		if err := l.GroupAdd(t.Context(), group, ch.Name()); err != nil {
			t.Fatal(err)
		}
	}
	const hello = `{"type":"chat.message", "text":"hello"}`
	for _, c := range []struct {
		name, path, body string
		headers          []string
		status           int
		code             string
	}{
		{"ordinary", "/api/v1/groups/chat.lobby/messages", hello, []string{asAdmin, isJSON}, 202, ""},
		{"durable", "/api/v1/groups/job.42/messages", hello, []string{asAdmin, isJSON}, 200, ""},
		{"a charset", "/api/v1/groups/chat.lobby/messages", hello, []string{asAdmin, "Content-Type: application/json; charset=UTF-8"}, 202, ""},
		{"not its group", "/api/v1/groups/job.42/messages", hello, []string{"X-API-Key: " + chatSecret, isJSON}, 403, "forbidden"},
		{"a form", "/api/v1/groups/chat.lobby/messages", hello, []string{asAdmin, "Content-Type: text/plain"}, 415, "media_type"},
		{"no type of content", "/api/v1/groups/chat.lobby/messages", hello, []string{asAdmin}, 415, "media_type"},
		{"no object", "/api/v1/groups/chat.lobby/messages", `[]`, []string{asAdmin, isJSON}, 400, "message"},
		{"no type", "/api/v1/groups/chat.lobby/messages", `{"text":"hello"}`, []string{asAdmin, isJSON}, 400, "message"},
		{"nothing", "/api/v1/groups/chat.lobby/messages", ``, []string{asAdmin, isJSON}, 400, "message"},
		{"too large", "/api/v1/groups/chat.lobby/messages", `{"type":"a","b":"` + strings.Repeat("x", 2000) + `"}`, []string{asAdmin, isJSON}, 413, "too_large"},
		{"no such name", "/api/v1/groups/chat%20lobby/messages", hello, []string{asAdmin, isJSON}, 400, "name"},
		{"a slash in it", "/api/v1/groups/a%2Fb/messages", hello, []string{asAdmin, isJSON}, 400, "name"},
		{"a bad key", "/api/v1/groups/job.42/messages", hello, []string{asAdmin, isJSON, "Idempotency-Key: ~a"}, 400, "idempotency_key"},
		{"two keys", "/api/v1/groups/job.42/messages", hello, []string{asAdmin, isJSON, "Idempotency-Key: a", "Idempotency-Key: b"}, 400, "idempotency_key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := do(a, request("POST", c.path, c.body, c.headers...))
			if got := codeOf(t, w); w.Code != c.status || got != c.code {
				t.Errorf("got %d %q, want %d %q: %s", w.Code, got, c.status, c.code, w.Body)
			}
			if w.Code >= 300 {
				return
			}
			m, err := ch.Receive(t.Context())
			if err != nil || string(m.Data) != hello {
				t.Errorf("got %s (%v), want %s", m.Data, err, hello)
			}
		})
	}
}

func TestIdempotencyKey(t *testing.T) {
	a, _ := newAPI(t, &httpapi.Options{Open: true}, jobs)
	var got [3]struct {
		At        string
		Duplicate bool
	}
	for i, key := range []string{"one", `"one"`, "two"} {
		w := do(a, request("POST", "/api/v1/groups/job.42/messages", lineJSON(1), "Host: localhost", isJSON, "Idempotency-Key: "+key))
		if err := json.Unmarshal(w.Body.Bytes(), &got[i]); err != nil || w.Code != 200 {
			t.Fatalf("got %d %s (%v)", w.Code, w.Body, err)
		}
	}
	if got[0].At != got[1].At || got[0].Duplicate || !got[1].Duplicate || got[2].At == got[0].At {
		t.Errorf("got %+v; want the second to be the first, and the third another", got)
	}
}

// page is an answer of the history.
type page struct {
	Messages []struct {
		At   string
		Data line
	}
	At   string
	More bool
}

func TestHistory(t *testing.T) {
	a, l := newAPI(t, &httpapi.Options{Open: true}, jobs)
	read := func(query string) (p page) {
		t.Helper()
		w := do(a, request("GET", "/api/v1/groups/job.42/messages"+query, "", "Host: localhost"))
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 {
			t.Fatalf("%s: got %d %s (%v)", query, w.Code, w.Body, err)
		}
		return p
	}
	empty := read("")
	if len(empty.Messages) != 0 || empty.At == "" || empty.More {
		t.Errorf("an empty group: got %+v", empty)
	}
	publish(t, l, "job.42", 1, 25)
	var all []int
	for at, more := empty.At, true; more; {
		p := read("?limit=10&after=" + at)
		for _, m := range p.Messages {
			all = append(all, m.Data.N)
			at = m.At
		}
		if p.At != at || p.More != (len(all) < 25) {
			t.Errorf("after %d messages: at %q, want %q; more %v", len(all), p.At, at, p.More)
		}
		more = p.More
	}
	if len(all) != 25 || all[0] != 1 || all[24] != 25 {
		t.Errorf("got %v, want 1 to 25", all)
	}
	if p := read("?last=3"); len(p.Messages) != 3 || p.Messages[0].Data.N != 23 {
		t.Errorf("the last three: got %+v", p)
	}
	publish(t, l, "job.42", 26, 300)
	for query, want := range map[string]string{
		"?after=" + empty.At: "410 gap", "?after=x": "400 position", "?limit=0": "400 query", "?limit=1001": "400 query",
		"?last=-1": "400 query", "?last=1&after=start": "400 query",
	} {
		w := do(a, request("GET", "/api/v1/groups/job.42/messages"+query, "", "Host: localhost"))
		if got := fmt.Sprint(w.Code, " ", codeOf(t, w)); got != want {
			t.Errorf("%s: got %s, want %s: %s", query, got, want, w.Body)
		}
	}
	if w := do(a, request("GET", "/api/v1/groups/chat.lobby/messages", "", "Host: localhost")); codeOf(t, w) != "not_durable" {
		t.Errorf("an ordinary group: got %d %s", w.Code, w.Body)
	}
}

func TestSendToChannel(t *testing.T) {
	l, err := layer.New(membus.New(), &layer.Options{Capacity: 2, Logger: quiet, Queues: []layer.QueuePolicy{{Pattern: "mail.>", Capacity: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	a, err := httpapi.New(l, &httpapi.Options{Keys: testKeys, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ch, err := l.NewChannel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(want string, channel string, headers ...string) {
		t.Helper()
		w := do(a, request("POST", "/api/v1/channels/"+channel, lineJSON(1), append(headers, "X-API-Key: "+shopSecret, isJSON)...))
		if got := strings.TrimSpace(fmt.Sprint(w.Code, " ", codeOf(t, w))); got != want {
			t.Errorf("%s: got %s, want %s: %s", channel, got, want, w.Body)
		}
		if w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
	}
	for _, channel := range []string{ch.Name() + "/messages", "thumbnails/messages"} {
		send("202", channel)
		send("202", channel)
		send("429 full", channel)
	}
	send("200", "mail.out/messages", "Idempotency-Key: a")
	send("200", "mail.out/messages", "Idempotency-Key: a")
	send("429 full", "mail.out/messages", "Idempotency-Key: b")
	send("200", "mail.out/messages?priority=high")
	send("200", "mail.out/messages?delay=90s")
	send("400 query", "mail.out/messages?delay=soon")
	send("400 query", "mail.out/messages?priority=urgent")
	send("400 query", "mail.out/messages?priority=high&delay=90s")
	send("409 not_durable", "thumbnails/messages?delay=90s")
	send("404 no_channel", l.Process()+"!nobody/messages")
	send("400 name", "a!b!c/messages")
}

func TestDisconnect(t *testing.T) {
	var got httpapi.Kick
	a, _ := newAPI(t, &httpapi.Options{Keys: testKeys, Disconnect: func(_ context.Context, k httpapi.Kick) (int, error) {
		got = k
		if k.User == "broken" {
			return 1, errors.New("a secret of the inside")
		}
		return 3, nil
	}})
	for _, c := range []struct {
		body, key string
		want      int
	}{
		{`{"user":"ann","reason":"bye"}`, asAdmin, 200},
		{`{"session":"s1","code":4001}`, asAdmin, 200},
		{`{"user":"ann"}`, "X-API-Key: " + chatSecret, 403},
		{`{}`, asAdmin, 400},
		{`{"user":"ann","code":1006}`, asAdmin, 400},
		{`{"user":"ann","reason":"` + strings.Repeat("x", 124) + `"}`, asAdmin, 400},
		{`[]`, asAdmin, 400},
		{`{"user":"broken"}`, asAdmin, 500},
	} {
		w := do(a, request("POST", "/api/v1/disconnect", c.body, c.key, isJSON))
		codeOf(t, w)
		if w.Code != c.want || strings.Contains(w.Body.String(), "inside") {
			t.Errorf("%s: got %d, want %d: %s", c.body, w.Code, c.want, w.Body)
		}
	}
	if got.User != "broken" {
		t.Errorf("the last kick was %+v", got)
	}
	none, _ := newAPI(t, &httpapi.Options{Keys: testKeys})
	if w := do(none, request("POST", "/api/v1/disconnect", `{"user":"ann"}`, asAdmin, isJSON)); w.Code != http.StatusNotFound {
		t.Errorf("an API that cannot: got %d, want 404", w.Code)
	}
}

func TestMembers(t *testing.T) {
	l, err := layer.New(membus.New(), &layer.Options{Presence: []layer.Presence{{Pattern: "chat.>"}}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	a, err := httpapi.New(l, &httpapi.Options{Keys: testKeys, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"ann", "bob", "bob", ""} {
		ch, err := l.NewChannel(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.Identify(user); err != nil {
			t.Fatal(err)
		}
		if err := l.GroupAdd(t.Context(), "chat.lobby", ch.Name()); err != nil {
			t.Fatal(err)
		}
	}
	type answer struct {
		Members            []layer.Member
		Users, Connections int
		More               bool
	}
	ask := func(query string) (got answer) {
		t.Helper()
		w := do(a, request("GET", "/api/v1/groups/chat.lobby/members"+query, "", "X-API-Key: "+chatSecret))
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatalf("got %d %s (%v)", w.Code, w.Body, err)
		}
		return got
	}
	first := ask("?limit=1")
	if len(first.Members) != 1 || first.Members[0].User != "ann" || first.Users != 2 || first.Connections != 3 || !first.More {
		t.Errorf("the first page: got %+v", first)
	}
	second := ask("?limit=1&after=ann")
	if len(second.Members) != 1 || second.Members[0].User != "bob" || second.Members[0].Connections != 2 || second.More {
		t.Errorf("the second page: got %+v", second)
	}
	w := do(a, request("GET", "/api/v1/groups/job.42/members", "", "X-API-Key: "+adminSecret))
	if codeOf(t, w) != "no_presence" {
		t.Errorf("a group without presence: got %d %s", w.Code, w.Body)
	}
}
