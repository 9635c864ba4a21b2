package router_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

// comers dial at the same time, and note when each was let in or sent away.
type comers struct {
	mu    sync.Mutex // guards all below
	in    []time.Duration
	away  []int // statuses
	after []int // seconds
}

// come has n clients dial at once. Each is tried for a minute.
func come(t *testing.T, s *site, n int) (*comers, *sync.WaitGroup) {
	t.Helper()
	var all sync.WaitGroup
	got, start := &comers{}, time.Now()
	for range n {
		all.Go(func() {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, handshake("/"))
			got.mu.Lock()
			defer got.mu.Unlock()
			if w.Code == 418 { // the consumer's word that its turn has come
				got.in = append(got.in, time.Since(start))
				return
			}
			got.away = append(got.away, w.Code)
			after, _ := strconv.Atoi(w.Header().Get("Retry-After"))
			got.after = append(got.after, after)
		})
	}
	return got, &all
}

// teapot decides at once, by a refusal that says that the turn has come.
var teapot = asks(func(context.Context, *consumer.Conn) error { return consumer.Deny(418, "your turn") })

// A burst begins at once; the others wait for their turns, in which nobody is
// lost; and whose turn would come too late hears at once when to try again.
func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": teapot}, &router.Options{
			MaxPerAddress: -1, Admission: &router.Admission{Rate: 100, Burst: 10, Wait: 2 * time.Second},
		})
		got, all := come(t, s, 300)
		synctest.Wait()
		if in, away := len(got.in), len(got.away); in != 10 || away != 90 {
			t.Errorf("at once %d begin and %d are sent away, want 10 and 90", in, away)
		}
		if st := s.Stats(); st.Waiting != 200 || st.Waited != 200 || st.Open != 200 {
			t.Errorf("%d wait, %d have, %d are open, want 200", st.Waiting, st.Waited, st.Open)
		}
		for i, status := range got.away {
			if after := got.after[i]; status != 503 || after < 3 || after > 5 {
				t.Fatalf("sent away with %d and Retry-After %d, want 503 and 3 to 5", status, after)
			}
		}
		if line := "200 handshakes wait, which is 2.01s at 100 a second (Options.Admission)"; !strings.Contains(s.log.String(), line) {
			t.Errorf("%q was not logged", line)
		}
		all.Wait()
		if n, last := len(got.in), got.in[len(got.in)-1]; n != 210 || last < 2*time.Second || last > 2*time.Second+10*time.Millisecond {
			t.Errorf("%d began, the last after %v, want 210, 2s", n, last)
		}
		for i, at := range got.in {
			if want := time.Duration(max(i-9, 0)) * 10 * time.Millisecond; at < want-time.Millisecond || at > want+5*time.Millisecond {
				t.Fatalf("number %d began after %v, want %v", i+1, at, want)
			}
		}
		if st := s.Stats(); st.Waiting != 0 || st.Open != 0 {
			t.Errorf("%d wait, %d are open in the end", st.Waiting, st.Open)
		}
	})
}

// By default a storm is paced and nobody is sent away who need not be; a
// negative rate is none.
func TestAdmissionDefaults(t *testing.T) {
	for _, test := range []struct {
		name string
		opts *router.Admission
		past time.Duration // that the last waits
	}{
		{"default", nil, time.Millisecond},
		{"none", &router.Admission{Rate: -1}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, router.Table{"/": teapot}, &router.Options{MaxConnections: -1, MaxPerAddress: -1, Admission: test.opts})
				got, all := come(t, s, 3000)
				all.Wait()
				if last := got.in[len(got.in)-1]; len(got.away) > 0 || last < test.past || last > 5*time.Second {
					t.Errorf("%d were sent away, the last began after %v", len(got.away), last)
				}
				if waited := s.Stats().Waited > 0; waited != (test.past > 0) {
					t.Errorf("somebody waited: %v", waited)
				}
			})
		})
	}
}

// Who leaves the line makes room in it, and takes no turn.
func TestAdmissionLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": teapot}, &router.Options{Admission: &router.Admission{Rate: 1, Burst: 1, Wait: 5 * time.Second}})
		come(t, s, 1)
		synctest.Wait()
		ctx, leave := context.WithCancel(t.Context())
		for range 4 {
			go s.ServeHTTP(httptest.NewRecorder(), handshake("/").WithContext(ctx))
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		if st := s.Stats(); st.Waiting != 0 || st.Open != 0 || st.Refused != 1 {
			t.Errorf("%d wait, %d are open, %d were refused, want 0, 0, and the one before", st.Waiting, st.Open, st.Refused)
		}
		if n := strings.Count(s.log.String(), "the client left before its turn"); n != 4 {
			t.Errorf("%d were logged as having left, want 4", n)
		}
		got, all := come(t, s, 2)
		all.Wait()
		if len(got.in) != 2 || got.in[1] > 2*time.Second+10*time.Millisecond {
			t.Errorf("began after %v, want 1s and 2s", got.in)
		}
	})
}

// A shutdown waits for nobody's turn.
func TestAdmissionShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": teapot}, &router.Options{Admission: &router.Admission{Rate: 1, Burst: 1, Wait: time.Minute}})
		got, all := come(t, s, 20)
		synctest.Wait()
		start := time.Now()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		all.Wait()
		if took := time.Since(start); len(got.in) != 1 || len(got.away) != 19 || got.away[0] != 503 || took > time.Second {
			t.Errorf("%d began and %d were sent away with %v after %v, want 1 and 19 with 503, at once", len(got.in), len(got.away), got.away[:1], took)
		}
	})
}

// One address cannot fill the line: those who wait count for its limit.
func TestAdmissionByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": consumer.Type[struct{}]{}}, &router.Options{
			MaxPerAddress: 20, TrustedProxies: []string{"127.0.0.1"},
			Admission: &router.Admission{Rate: 10, Burst: 1, Wait: 4 * time.Second},
		})
		for range 100 {
			req := handshake("/")
			req.Header.Set("X-Forwarded-For", "203.0.113.9")
			req.RemoteAddr = "127.0.0.1:9"
			go s.ServeHTTP(httptest.NewRecorder(), req)
		}
		synctest.Wait()
		if got := s.Stats().Waiting; got > 20 {
			t.Errorf("%d of one address wait, want 20 at most", got)
		}
		start := time.Now()
		consumertest.Dial(t, s, "/", header("X-Forwarded-For", "203.0.113.10"))
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("somebody else waited for %v", took)
		}
	})
}

func TestAdmissionOptions(t *testing.T) {
	_, err := router.New(nil, nil, &router.Options{Admission: &router.Admission{Burst: -1}})
	if got, want := fmt.Sprint(err), "router: Options.Admission.Burst is -1; without a limit, Rate is negative"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
