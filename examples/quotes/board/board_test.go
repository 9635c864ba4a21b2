package board

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// site is a board with its sockets, in memory.
type site struct {
	http.Handler
	*Board
	sockets *router.Router
}

func open(t *testing.T) *site {
	t.Helper()
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := New(l, nil)
	r, err := router.New(l, b.Routes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Shutdown(context.Background())
		b.Close()
		l.Close(context.Background())
	})
	return &site{SlowLinks(r), b, r}
}

// watch reads for a while, on a fake clock, and returns how many prices came, how
// many were skipped and how old one was at most.
func watch(t *testing.T, c *consumertest.Client, d time.Duration) (came, skipped int64, oldest time.Duration) {
	t.Helper()
	last := map[string]int64{}
	for end := time.Now().Add(d); time.Now().Before(end); {
		var q Quote
		c.ReceiveJSON(&q)
		came++
		if n, ok := last[q.Symbol]; ok {
			if q.N <= n {
				t.Fatalf("%s: price %d came after %d", q.Symbol, q.N, n)
			}
			skipped += q.N - n - 1
		}
		last[q.Symbol] = q.N
		oldest = max(oldest, time.Since(time.UnixMilli(q.At)))
	}
	if len(last) != len(Symbols) {
		t.Errorf("prices of %d symbols came, want %d", len(last), len(Symbols))
	}
	return came, skipped, oldest
}

func TestQuotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		came, skipped, oldest := watch(t, consumertest.Dial(t, s, "/ws/quotes/", nil), 5*time.Second)
		if skipped != 0 || came < 4900 || oldest > interval {
			t.Errorf("%d prices came, %d were skipped, one was %v old; want all 1,000 a second at once", came, skipped, oldest)
		}
	})
}

// Over a slow link prices come less often, and are current all the same.
func TestSlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		came, skipped, oldest := watch(t, consumertest.Dial(t, s, "/ws/quotes/slow/", nil), 20*time.Second)
		t.Logf("%d came, %d were skipped, the oldest was %v old", came, skipped, oldest)
		if came > 5000 || skipped < 10_000 || oldest > time.Second {
			t.Errorf("%d prices came, %d were skipped, one was %v old", came, skipped, oldest)
		}
		if n := s.sockets.Stats().Replaced; n < skipped {
			t.Errorf("%d prices were replaced, and %d skipped", n, skipped)
		}
	})
}

// Nobody trades while nobody watches.
func TestMarketHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		first, second := consumertest.Dial(t, s, "/ws/quotes/", nil), consumertest.Dial(t, s, "/ws/quotes/", nil)
		first.ReceiveText()
		first.Vanish()
		second.ReceiveText()
		second.Vanish()
		time.Sleep(time.Minute)
		before := s.prices[0].N
		time.Sleep(time.Minute)
		if n := s.prices[0].N; n != before {
			t.Errorf("%d prices were made while nobody watched", n-before)
		}
	})
}

func TestPage(t *testing.T) {
	for path, want := range map[string]string{
		"/": "quotes.js", "/quotes.css": "color-scheme", "/quotes.js": "./tideway/index.js", "/tideway/index.js": "export",
	} {
		w := httptest.NewRecorder()
		Page().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) || !strings.Contains(w.Header().Get("Content-Security-Policy"), "form-action 'none'") {
			t.Errorf("%s: got %d %.100q, want it to contain %q, with the policy", path, w.Code, w.Body, want)
		}
	}
}
