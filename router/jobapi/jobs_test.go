package jobapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router/httpapi"
	"github.com/tideway-go/tideway/router/jobapi"
)

const key, reader = "a-key-of-some-length", "another-key-of-some-length"

func open(t *testing.T, bus layer.Bus, o *jobapi.Options) (*layer.Layer, *httptest.Server) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	queues := job.Queues()
	queues[0].AckWait = 2 * time.Second
	l, err := layer.New(bus, &layer.Options{Groups: job.Groups(), Queues: queues, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if o == nil {
		o = &jobapi.Options{}
	}
	o.Logger = log
	api, err := httpapi.New(l, &httpapi.Options{Logger: log, Keys: []httpapi.Key{
		{Name: "bot", Secret: key, Scopes: []string{"*"}},
		{Name: "reader", Secret: reader, Scopes: []string{"jobs.read:update"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := jobapi.Add(api, l, o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(api)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := jobs.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return l, s
}

// ask makes a request and checks its status. Headers are "Name: value".
func ask(t *testing.T, s *httptest.Server, method, path, body string, want int, headers ...string) map[string]any {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-API-Key", key)
	r.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	a, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	data, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != want {
		t.Fatalf("%s %s: got %d, %s, want %d", method, path, a.StatusCode, data, want)
	}
	var v map[string]any
	if len(data) > 0 && json.Unmarshal(data, &v) != nil {
		t.Fatalf("%s %s: got %s, which is no JSON object", method, path, data)
	}
	return v
}

// code returns the code of an answer that is an error.
func code(v map[string]any) string {
	e, _ := v["error"].(map[string]any)
	return fmt.Sprint(e["code"])
}

// A job from its submission to its end, with HTTP alone.
func TestJobOverHTTP(t *testing.T) {
	_, s := open(t, membus.New(), nil)
	body := `{"payload":{"version":7},"targets":["a","b"],"title":"two servers","timeout":"90s"}`
	v := ask(t, s, "POST", "/api/v1/jobs/update", body, 202, "Idempotency-Key: monday")
	id := v["job"].(string)
	if v := ask(t, s, "POST", "/api/v1/jobs/update", body, 202, "Idempotency-Key: monday"); v["job"] != id {
		t.Errorf("the same key: got the job %v, want %s", v["job"], id)
	}
	if v := ask(t, s, "GET", "/api/v1/jobs/"+id, "", 200); v["state"] != "queued" || v["by"] != "bot" || v["title"] != "two servers" {
		t.Errorf("got %v", v)
	}
	took := ask(t, s, "POST", "/api/v1/jobs/update/take?wait=5", "", 200)
	if took["job"] != id || fmt.Sprint(took["targets"]) != "[a b]" || took["attempt"] != 1.0 {
		t.Fatalf("took %v", took)
	}
	token := "Tideway-Token: " + took["token"].(string)
	for _, report := range []string{
		`{"log":"begun"}`, `{"target":"a","target_state":"running","log":"copying"}`, `{"target":"a","done":1,"total":2}`,
		`{"target":"a","target_state":"succeeded","checkpoint":{"n":1}}`, `{}`,
		`{"target":"b","target_state":"running"}`, `{"target":"b","target_state":"failed","error":"no disk"}`,
	} {
		if v := ask(t, s, "PATCH", "/api/v1/jobs/"+id, report, 200, token); v["state"] != "running" {
			t.Errorf("report %s: got %v", report, v)
		}
	}
	for report, want := range map[string]string{
		`{"target":"c","log":"x"}`: "body", `{"target":"a","done":1}`: "body", `{"state":"dead"}`: "body",
		`{"nonsense":1}`: "body", `{}{}`: "body", `[`: "body",
	} {
		if v := ask(t, s, "PATCH", "/api/v1/jobs/"+id, report, 400, token); code(v) != want {
			t.Errorf("report %s: got %v, want %s", report, v, want)
		}
	}
	if v := ask(t, s, "PATCH", "/api/v1/jobs/"+id, `{"log":"x"}`, 409, "Tideway-Token: guess"); code(v) != "stale" {
		t.Errorf("another token: got %v", v)
	}
	ask(t, s, "PATCH", "/api/v1/jobs/"+id, `{"state":"failed","error":"1 of 2","result":{"seconds":4}}`, 200, token)
	if v := ask(t, s, "PATCH", "/api/v1/jobs/"+id, `{"log":"x"}`, 409, token); code(v) != "stale" {
		t.Errorf("behind the verdict: got %v", v)
	}
	if v := ask(t, s, "GET", "/api/v1/jobs/"+id, "", 200); v["state"] != "failed" || v["error"] != "1 of 2" || v["done"] != 2.0 {
		t.Errorf("got %v", v)
	}
	if v := ask(t, s, "DELETE", "/api/v1/jobs/"+id, "", 409); code(v) != "ended" {
		t.Errorf("a cancel of a job that has ended: got %v", v)
	}
	next := ask(t, s, "POST", "/api/v1/jobs/"+id+"/retry", "", 202)["job"].(string)
	if v := ask(t, s, "GET", "/api/v1/jobs/"+next, "", 200); fmt.Sprint(v["targets"]) != "[b]" || v["retry_of"] != id {
		t.Errorf("got %v", v)
	}
	ask(t, s, "DELETE", "/api/v1/jobs/"+next, "", 202)
	if v := ask(t, s, "GET", "/api/v1/jobs?kind=update&limit=10", "", 200); len(v["jobs"].([]any)) != 2 {
		t.Errorf("got %v", v)
	}
	events := stream(t, s, id, "")
	if len(events) != 12 || !strings.Contains(events[11], `event":"retried"`) {
		t.Errorf("events: %q", events)
	}
}

// stream reads a job's events to their end, from behind a place.
func stream(t *testing.T, s *httptest.Server, id, from string) (data []string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/api/v1/jobs/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Last-Event-ID", from)
	a, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	var last string
	in := bufio.NewScanner(a.Body)
	for in.Scan() {
		if id, found := strings.CutPrefix(in.Text(), "id: "); found {
			last = id
		}
		if d, found := strings.CutPrefix(in.Text(), "data: {\""); found {
			data = append(data, d)
		}
		if in.Text() == "event: end" {
			if from == "" {
				if rest := stream(t, s, id, last); len(rest) != 0 {
					t.Errorf("behind the end: %q", rest)
				}
			}
			return data
		}
	}
	t.Fatalf("the stream ends without an end: %q, %v", data, in.Err())
	return nil
}

// A worker that falls silent loses its job, and what it says later is refused.
func TestSilentWorker(t *testing.T) {
	bus := membus.New()
	_, one := open(t, bus, &jobapi.Options{Lease: 5 * time.Second})
	_, two := open(t, bus, nil)
	id := ask(t, one, "POST", "/api/v1/jobs/update", `{}`, 202)["job"].(string)
	first := ask(t, one, "POST", "/api/v1/jobs/update/take?wait=5", "", 200)
	ask(t, two, "PATCH", "/api/v1/jobs/"+id, `{"checkpoint":7}`, 200, "Tideway-Token: "+first["token"].(string)) // by another process
	second := ask(t, two, "POST", "/api/v1/jobs/update/take?wait=50", "", 200)
	if second["job"] != id || second["attempt"] != 2.0 || second["checkpoint"] != 7.0 {
		t.Fatalf("took %v", second)
	}
	if v := ask(t, one, "PATCH", "/api/v1/jobs/"+id, `{"state":"succeeded"}`, 409, "Tideway-Token: "+first["token"].(string)); code(v) != "stale" {
		t.Errorf("the first worker: got %v", v)
	}
	ask(t, one, "PATCH", "/api/v1/jobs/"+id, `{"state":"succeeded"}`, 200, "Tideway-Token: "+second["token"].(string))
	if v := ask(t, one, "GET", "/api/v1/jobs/"+id, "", 200); v["state"] != "succeeded" {
		t.Errorf("got %v", v)
	}
	ask(t, one, "POST", "/api/v1/jobs/update/take?wait=0", "", 204)
}

// A worker learns of a cancel from the answer to its next report.
func TestCancelOfATakenJob(t *testing.T) {
	l, s := open(t, membus.New(), nil)
	id := ask(t, s, "POST", "/api/v1/jobs/update", `{}`, 202)["job"].(string)
	took := ask(t, s, "POST", "/api/v1/jobs/update/take?wait=5", "", 200)
	ask(t, s, "DELETE", "/api/v1/jobs/"+id, "", 202)
	for e, err := range job.Watch(t.Context(), l, id, layer.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		_ = e
	}
	if v := ask(t, s, "PATCH", "/api/v1/jobs/"+id, `{"state":"succeeded"}`, 409, "Tideway-Token: "+took["token"].(string)); code(v) != "stale" {
		t.Errorf("got %v", v)
	}
	if v := ask(t, s, "GET", "/api/v1/jobs/"+id, "", 200); v["state"] != "cancelled" || v["cancelled_by"] != "bot" {
		t.Errorf("got %v", v)
	}
}

func TestRefusals(t *testing.T) {
	_, s := open(t, membus.New(), nil)
	update := ask(t, s, "POST", "/api/v1/jobs/update", `{}`, 202)["job"].(string)
	other := ask(t, s, "POST", "/api/v1/jobs/other", `{}`, 202)["job"].(string)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/api/v1/jobs/update", `{"targets":["a","a"]}`, 400, "body"},
		{"POST", "/api/v1/jobs/update", `{"attempts":1000}`, 400, "body"},
		{"POST", "/api/v1/jobs/update", `{"timeout":"soon"}`, 400, "body"},
		{"POST", "/api/v1/jobs/update", `{"payload":"` + strings.Repeat("x", 300_000) + `"}`, 400, "body"},
		{"POST", "/api/v1/jobs/update", `{"payload":"` + strings.Repeat("x", 2_000_000) + `"}`, 413, "too_large"},
		{"POST", "/api/v1/jobs/a*b", `{}`, 400, "name"},
		{"POST", "/api/v1/jobs/update/take?wait=x", ``, 400, "query"},
		{"GET", "/api/v1/jobs/nosuchjob", ``, 404, "no_job"},
		{"GET", "/api/v1/jobs/nosuchjob/events", ``, 404, "no_job"},
		{"GET", "/api/v1/jobs/a*b", ``, 400, "name"},
		{"GET", "/api/v1/jobs?limit=0", ``, 400, "query"},
		{"DELETE", "/api/v1/jobs/nosuchjob", ``, 404, "no_job"},
		{"POST", "/api/v1/jobs/" + update + "/retry", ``, 409, "ended"},
		{"PATCH", "/api/v1/jobs/nosuchjob", `{}`, 404, "no_job"},
		{"PUT", "/api/v1/jobs/x", ``, 405, "method"},
	} {
		if v := ask(t, s, c.method, c.path, c.body, c.status); code(v) != c.code {
			t.Errorf("%s %s: got %v, want %s", c.method, c.path, v, c.code)
		}
	}
	as := "X-API-Key: " + reader
	ask(t, s, "GET", "/api/v1/jobs/"+update, "", 200, as)
	if v := ask(t, s, "GET", "/api/v1/jobs", "", 200, as); len(v["jobs"].([]any)) != 1 {
		t.Errorf("who may read one kind sees %v", v)
	}
	for _, c := range [][2]string{
		{"GET", "/api/v1/jobs/" + other}, {"GET", "/api/v1/jobs/" + other + "/events"}, {"GET", "/api/v1/jobs?kind=other"},
		{"DELETE", "/api/v1/jobs/" + update}, {"POST", "/api/v1/jobs/" + update + "/retry"}, {"POST", "/api/v1/jobs/update"},
		{"POST", "/api/v1/jobs/update/take"}, {"PATCH", "/api/v1/jobs/" + update},
	} {
		if v := ask(t, s, c[0], c[1], "{}", 403, as); code(v) != "forbidden" {
			t.Errorf("%s %s by a reader: got %v", c[0], c[1], v)
		}
	}
	if v := ask(t, s, "GET", "/api/v1/jobs", "", 401, "X-API-Key: "+key+"x"); code(v) != "unauthorized" {
		t.Errorf("another key: got %v", v)
	}
}
