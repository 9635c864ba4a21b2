package httpapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router/httpapi"
)

// Whatever a stranger sends, the answer is one of ours: no panic, nothing internal,
// and every error in the form that is promised.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/api/v1/groups/job.42/messages", "", `{"type":"a"}`, "application/json", "key", "")
	f.Add("GET", "/api/v1/groups/job.42/messages", "after=k.1&limit=10", "", "", "", "")
	f.Add("GET", "/api/v1/groups/job.42/messages", "last=5", "", "", "", "https://evil.example")
	f.Add("POST", "/api/v1/channels/mail!x/messages", "delay=90s&priority=high", `{"type":"a","b":[[[]]]}`, "application/json; charset=utf-8", `"quoted"`, "null")
	f.Add("POST", "/api/v1/disconnect", "", `{"user":"ann","code":4001}`, "application/json", "", "")
	f.Add("GET", "/api/v1/groups/job.42/messages", "token=abc", "", "", "", "")
	f.Add("PATCH", "/api/v1/jobs/x", "", `{"log":"x"}`, "application/json", "", "")
	f.Add("OPTIONS", "/api/v1/groups/%2e%2e/messages", "", "", "", "", "http://localhost")
	l, err := layer.New(membus.New(), &layer.Options{Groups: []layer.Retention{jobs}, Logger: quiet})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close(context.Background()) })
	d, err := httpapi.New(l, &httpapi.Options{Open: true, Rate: -1, Logger: quiet,
		Disconnect: func(context.Context, httpapi.Kick) (int, error) { return 0, nil }})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, path, query, body, kind, key, origin string) {
		r := httptest.NewRequest("GET", "http://localhost/", strings.NewReader(body))
		r.Method, r.URL = method, &url.URL{Path: path, RawQuery: query}
		r.Header = http.Header{"Content-Type": {kind}, "Idempotency-Key": {key}, "Origin": {origin}, "Last-Event-Id": {key}}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r.WithContext(ctx))
		if w.Code == 500 && !strings.HasSuffix(path, "/events") || w.Code > 504 {
			t.Errorf("got %d: %s", w.Code, w.Body)
		}
		if w.Code >= 400 && ctx.Err() == nil {
			codeOf(t, w)
		}
	})
}

// A message survives its way through a stream, as JSON.
func FuzzEvent(f *testing.F) {
	f.Add([]byte("{\"type\":\"a\",\r\n\"b\":\"c\\n\"}"))
	f.Add([]byte("{\n\r\"type\":\r\"data: x\"\n\n}"))
	f.Add([]byte(`{"type":"a","id":"x","data":"\u2028"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := layer.ParseMessage(data)
		if err != nil {
			return
		}
		stream := string(httpapi.AppendMessage(nil, &m))
		if strings.Count(stream, "\n\n") != 1 || !strings.HasSuffix(stream, "\n\n") {
			t.Fatalf("not one event: %q", stream)
		}
		got, err := newEventReader(strings.NewReader(stream)).next()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := normal(t, []byte(got.data)), normal(t, data); !slices.Equal(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// normal is JSON without the spaces between tokens.
func normal(t *testing.T, data []byte) []byte {
	var b strings.Builder
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	if err := json.NewEncoder(&b).Encode(raw); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}
