package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer/membus"
)

// A button is pressed, twice by a nervous hand, and a page that opens later sees
// everything.
func TestUpdate(t *testing.T) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	synctest.Test(t, func(t *testing.T) {
		l, err := open(membus.New())
		if err != nil {
			t.Fatal(err)
		}
		r, err := site(l)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		working := make(chan error, 1)
		go func() { working <- work(ctx, l) }()
		t.Cleanup(func() {
			stop()
			if err := <-working; err != nil {
				t.Error(err)
			}
			r.Shutdown(context.Background())
			l.Close(context.Background())
		})
		var pages []string
		for range 2 {
			w := httptest.NewRecorder()
			form := url.Values{"version": {"2.1"}, "who": {"ann"}, "key": {"k"}}.Encode()
			req := httptest.NewRequest("POST", "/updates", strings.NewReader(form))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.ServeHTTP(w, req)
			if w.Code != http.StatusSeeOther {
				t.Fatalf("got %d, %s", w.Code, w.Body)
			}
			pages = append(pages, w.Header().Get("Location"))
		}
		if pages[0] != pages[1] {
			t.Errorf("two jobs: %q", pages)
		}
		id := strings.TrimPrefix(pages[0], "/?job=")
		time.Sleep(5 * time.Second)
		late := consumertest.Dial(t, r, "/ws/jobs/"+id+"/?who=bob", &consumertest.Options{Timeout: time.Hour})
		lines := 0
		for {
			var e job.Event
			late.ReceiveJSON(&e)
			if e.Event == job.Logged {
				lines++
			}
			if e.Event == job.Ended {
				if e.State != job.StateSucceeded || lines != 2*len(servers) {
					t.Errorf("%s (%s) after %d lines", e.State, e.Error, lines)
				}
				return
			}
		}
	})
}

func TestPage(t *testing.T) {
	w := httptest.NewRecorder()
	page(w, nil)
	if !strings.Contains(w.Body.String(), "new WebSocket") {
		t.Errorf("the page opens no socket:\n%s", w.Body)
	}
}
