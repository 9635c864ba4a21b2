package consumer_test

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// site is a whole server: a network, a layer, a router with one consumer, and
// what they log.
type site struct {
	*router.Router
	t     *testing.T
	bus   *membus.Bus
	layer *layer.Layer
	log   *logbook
}

// open serves app at /ws/{name}/. When the test ends, it checks that nothing of
// any connection is left.
func open(t *testing.T, app consumer.App, opts *router.Options) *site {
	t.Helper()
	s := &site{t: t, bus: membus.New(), log: new(logbook)}
	s.layer = attach(t, s.bus)
	o := router.Options{}
	if opts != nil {
		o = *opts
	}
	o.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	var err error
	if s.Router, err = router.New(s.layer, router.Table{"/ws/{name}/": app}, &o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if n := s.Stats().Open; n != 0 {
			t.Errorf("%d connections are left in the router, want 0", n)
		}
		if n := s.layer.Stats().Channels; n != 0 {
			t.Errorf("%d channels are left in the layer, want 0", n)
		}
	})
	return s
}

// attach makes one more process of a network.
func attach(t *testing.T, bus *membus.Bus) *layer.Layer {
	t.Helper()
	l, err := layer.New(bus, &layer.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (s *site) dial(name string) *consumertest.Client {
	s.t.Helper()
	return consumertest.Dial(s.t, s, "/ws/"+name+"/", nil)
}

// send sends a message, written out as JSON, to a group.
func (s *site) send(group, data string) {
	s.t.Helper()
	m, err := layer.ParseMessage([]byte(data))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.layer.GroupSend(context.Background(), group, m); err != nil {
		s.t.Fatal(err)
	}
}

// logbook is a log that a test reads.
type logbook struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (b *logbook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logbook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// count returns how many lines contain s.
func (b *logbook) count(s string) (n int) {
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, s) {
			n++
		}
	}
	return n
}

// headerAuth takes the client's word for who it is.
type headerAuth struct{}

func (headerAuth) Authenticate(r *http.Request) (consumer.User, error) {
	return consumer.User{ID: r.Header.Get("X-User"), Session: r.Header.Get("X-Session")}, nil
}

func (headerAuth) Recheck(_ context.Context, u consumer.User) (consumer.User, error) { return u, nil }

// as are the options of a client that says who it is.
func as(user, session string) *consumertest.Options {
	return &consumertest.Options{Header: http.Header{"X-User": {user}, "X-Session": {session}}}
}

// wait returns what comes out of ch, and fails the test when nothing does.
func wait[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing happened for a minute")
		panic("unreachable")
	}
}

// refuse expects a connection to be refused and returns the status.
func refuse(t *testing.T, s *site, name string) int {
	t.Helper()
	return consumertest.Refused(t, s, "/ws/"+name+"/", nil).Status
}

func handshakeRequest(target string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	r.Host = "localhost"
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		r.Header.Set(k, v)
	}
	return r
}

// stuckWriter is the connection of a client that does not take its answer.
type stuckWriter struct {
	header  http.Header
	writes  atomic.Int32
	release chan struct{}
}

func (w *stuckWriter) Header() http.Header { return w.header }

func (w *stuckWriter) Write(p []byte) (int, error) { return len(p), nil }

func (w *stuckWriter) WriteHeader(int) {
	w.writes.Add(1)
	<-w.release
}

func (w *stuckWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("the connection is lost")
}
