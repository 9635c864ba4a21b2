package httpapi_test

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router/httpapi"
)

var jobs = layer.Retention{Pattern: "job.>", Messages: 200}

const jobEvents = "/api/v1/groups/job.42/events"

// inBubble runs f with an open API on a fake clock.
func inBubble(t *testing.T, opts httpapi.Options, f func(t *testing.T, c *client, a *httpapi.API, l *layer.Layer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		opts.Open = true
		if opts.Logger == nil {
			opts.Logger = quiet
		}
		l, err := layer.New(membus.New(), &layer.Options{Groups: []layer.Retention{jobs}, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		a, err := httpapi.New(l, &opts)
		if err != nil {
			t.Fatal(err)
		}
		c, end := servePipes(a)
		defer l.Close(context.Background())
		defer end()
		f(t, c, a, l)
	})
}

// What a client gets first, by what it asks for.
func TestEventsBegin(t *testing.T) {
	for _, c := range []struct {
		name, query, header string
		want                []int
	}{
		{"from now", "", "", []int{4}},
		{"from the start", "?after=start", "", []int{1, 2, 3, 4}},
		{"the newest two", "?last=2", "", []int{2, 3, 4}},
		{"more than there are", "?last=9", "", []int{1, 2, 3, 4}},
		{"after the first", "?after=FIRST", "", []int{2, 3, 4}},
		{"the header counts more", "?after=start", "SECOND", []int{3, 4}},
		{"an empty header says nothing", "?last=2", " ", []int{2, 3, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, httpapi.Options{}, func(t *testing.T, api *client, _ *httpapi.API, l *layer.Layer) {
				first := publish(t, l, "job.42", 1, 1)
				second := publish(t, l, "job.42", 2, 2)
				publish(t, l, "job.42", 3, 3)
				place := strings.NewReplacer("FIRST", first.String(), "SECOND", second.String())
				e, cut := api.open(t, jobEvents+place.Replace(c.query), "Last-Event-ID: "+place.Replace(c.header))
				defer cut()
				synctest.Wait()
				publish(t, l, "job.42", 4, 4)
				for _, n := range c.want {
					e.wants(t, lineJSON(n))
				}
				if e.last == "" || e.retry != "2000" {
					t.Errorf("got the id %q and retry %q, want a position and 2000", e.last, e.retry)
				}
			})
		})
	}
}

// The id goes out before the first message: who is cut off meanwhile loses nothing.
func TestEventsResumeWithoutAMessage(t *testing.T) {
	inBubble(t, httpapi.Options{}, func(t *testing.T, api *client, _ *httpapi.API, l *layer.Layer) {
		publish(t, l, "job.42", 1, 1)
		e, cut := api.open(t, jobEvents)
		time.Sleep(30 * time.Second)
		cut()
		if _, err := e.next(); err == nil {
			t.Fatal("an event from nowhere")
		}
		if e.beats != 1 || e.last == "" {
			t.Fatalf("got %d heartbeats and the id %q; want 1, and a position", e.beats, e.last)
		}
		publish(t, l, "job.42", 2, 3)
		e, cut = api.open(t, jobEvents, "Last-Event-ID: "+e.last)
		defer cut()
		e.wants(t, lineJSON(2), lineJSON(3))
	})
}

// A client that reads nothing for a while misses nothing: what its channel has no
// room for is read from the store.
func TestEventsOfASlowClient(t *testing.T) {
	inBubble(t, httpapi.Options{WriteTimeout: time.Minute}, func(t *testing.T, api *client, _ *httpapi.API, l *layer.Layer) {
		publish(t, l, "job.42", 1, 1)
		e, cut := api.openLazily(t, jobEvents+"?after=start")
		defer cut()
		e.wants(t, lineJSON(1))
		for n := 2; n <= 180; n++ {
			publish(t, l, "job.42", n, n)
			synctest.Wait() // the first is written, the others wait
		}
		for n := 2; n <= 180; n++ {
			e.wants(t, lineJSON(n))
		}
		if got := l.Stats().Dropped; got == 0 {
			t.Error("the channel had room for all: the test tests nothing")
		}
		publish(t, l, "job.42", 181, 182)
		e.wants(t, lineJSON(181), lineJSON(182))
	})
}

// Who takes nothing is dropped in the end, and its place in the group is free.
func TestEventsDropWhoTakesNothing(t *testing.T) {
	inBubble(t, httpapi.Options{}, func(t *testing.T, api *client, a *httpapi.API, l *layer.Layer) {
		publish(t, l, "job.42", 1, 1)
		e, cut := api.openLazily(t, jobEvents+"?after=start")
		defer cut()
		e.wants(t, lineJSON(1))
		publish(t, l, "job.42", 2, 100)
		time.Sleep(15 * time.Second)
		if err := a.Shutdown(t.Context()); err != nil { // waits for streams
			t.Error(err)
		}
	})
}

// Messages that are gone for good are told as a gap, and the next ones follow.
func TestEventsTellOfAGap(t *testing.T) {
	inBubble(t, httpapi.Options{}, func(t *testing.T, api *client, _ *httpapi.API, l *layer.Layer) {
		old := publish(t, l, "job.42", 1, 1)
		publish(t, l, "job.42", 2, 300)
		e, cut := api.open(t, jobEvents, "Last-Event-ID: "+old.String())
		defer cut()
		got, err := e.next()
		if err != nil || got.name != "gap" || got.data != `{"reason":"trimmed"}` || got.id == old.String() {
			t.Fatalf("got %+v (%v), want a gap", got, err)
		}
		publish(t, l, "job.42", 301, 301)
		e.wants(t, lineJSON(301))
	})
}

func TestEventsOfAnOrdinaryGroup(t *testing.T) {
	inBubble(t, httpapi.Options{}, func(t *testing.T, api *client, _ *httpapi.API, l *layer.Layer) {
		e, cut := api.openLazily(t, "/api/v1/groups/chat.lobby/events")
		defer cut()
		go func() {
			time.Sleep(time.Second) // until the client is a member
			publish(t, l, "chat.lobby", 1, 2)
		}()
		e.wants(t, lineJSON(1), lineJSON(2))
		if e.last != "" {
			t.Errorf("got the id %q, want none", e.last)
		}
		publish(t, l, "chat.lobby", 1, 1)
		synctest.Wait() // it is being written, and the others wait
		publish(t, l, "chat.lobby", 1, 200)
		synctest.Wait()
		for {
			got, err := e.next()
			if err != nil {
				t.Fatal(err)
			}
			if got.name == "gap" {
				if got.data != `{"reason":"slow"}` {
					t.Errorf("got %+v", got)
				}
				break
			}
		}
		if res := api.get(t, "/api/v1/groups/chat.lobby/events?last=1"); res.StatusCode != http.StatusConflict {
			t.Errorf("last of an ordinary group: got %s, want 409", res.Status)
		}
		e, cut = api.open(t, "/api/v1/groups/chat.lobby/events", "Last-Event-ID: k.1")
		defer cut()
		e.wants(t, `{"reason":"reset"}`)
	})
}

// JSON may have line ends between its tokens.
func TestEventsKeepLinesTogether(t *testing.T) {
	inBubble(t, httpapi.Options{}, func(t *testing.T, api *client, _ *httpapi.API, l *layer.Layer) {
		e, cut := api.open(t, jobEvents)
		defer cut()
		synctest.Wait()
		m, err := layer.ParseMessage([]byte("{\r\n \"type\":\"x\",\n\"text\":\r\"a\\nb\"\n}"))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.GroupSend(t.Context(), "job.42", m); err != nil {
			t.Fatal(err)
		}
		e.wants(t, "{\n \"type\":\"x\",\n\"text\":\n\"a\\nb\"\n}")
	})
}

// Shutdown ends streams, and says when to come back.
func TestEventsEndWithTheServer(t *testing.T) {
	inBubble(t, httpapi.Options{}, func(t *testing.T, api *client, a *httpapi.API, l *layer.Layer) {
		e, cut := api.open(t, jobEvents)
		defer cut()
		go a.Shutdown(context.Background())
		if got, err := e.next(); err != io.EOF {
			t.Errorf("got %+v, %v; want the end", got, err)
		}
		if ms, err := strconv.Atoi(e.retry); err != nil || ms < 500 || ms > 8000 || ms == 2000 {
			t.Errorf("retry is %q; want 500 to 8000", e.retry)
		}
		res := api.get(t, jobEvents)
		if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
			t.Errorf("a new stream: got %s, %v", res.Status, res.Header)
		}
		if err := a.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	inBubble(t, httpapi.Options{MaxStreamsPerKey: 2, MaxStreams: 3, Keys: testKeys}, func(t *testing.T, api *client, _ *httpapi.API, _ *layer.Layer) {
		_, first := api.open(t, jobEvents)
		_, second := api.open(t, jobEvents)
		if res := api.get(t, jobEvents); res.StatusCode != 429 {
			t.Errorf("a third of the same caller: got %s, want 429", res.Status)
		}
		_, third := api.open(t, jobEvents, "X-API-Key: "+adminSecret)
		if res := api.get(t, jobEvents, "X-API-Key: "+adminSecret); res.StatusCode != 503 {
			t.Errorf("a fourth in all: got %s, want 503", res.Status)
		}
		first()
		synctest.Wait()
		_, again := api.open(t, jobEvents)
		for _, cut := range []func(){second, third, again} {
			cut()
		}
	})
}

func TestTokens(t *testing.T) {
	inBubble(t, httpapi.Options{Keys: testKeys}, func(t *testing.T, api *client, a *httpapi.API, l *layer.Layer) {
		token, _, err := a.Token("job.42", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		e, cut := api.open(t, jobEvents+"?token="+token)
		defer cut()
		synctest.Wait()
		publish(t, l, "job.42", 1, 1)
		e.wants(t, lineJSON(1))
		for path, want := range map[string]int{
			"/api/v1/groups/job.42/messages?token=" + token:       200,
			"/api/v1/groups/job.43/messages?token=" + token:       401,
			"/api/v1/groups/job.42/messages?token=" + token + "x": 401,
			"/api/v1/groups/job.42/messages?token=":               401,
		} {
			if res := api.get(t, path); res.StatusCode != want {
				t.Errorf("%s: got %s, want %d", path, res.Status, want)
			}
		}
		if _, err := e.next(); err != io.EOF { // the heartbeats pass in no time
			t.Errorf("got %v; want the stream to end with its token", err)
		}
		if res := api.get(t, jobEvents+"?token="+token); res.StatusCode != 401 {
			t.Errorf("an hour later: got %s, want 401", res.Status)
		}
	})
}
