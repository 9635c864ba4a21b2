package router_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

type line struct {
	User string `json:"user"`
	Text string `json:"text"`
}

func (line) MessageType() string { return "chat.message" }

type room struct{ name string }

var chat = consumer.Type[room]{
	Connect: func(r *room, ctx context.Context, c *consumer.Conn) error {
		r.name = "chat." + c.PathValue("room")
		return c.GroupAdd(ctx, r.name)
	},
	Receive: consumer.JSON(func(r *room, ctx context.Context, c *consumer.Conn, l line) error {
		return c.GroupSend(ctx, r.name, l)
	}),
	Messages: consumer.Table(consumer.Forward[room, line]()),
}

// says is an App that accepts, and tells its client the values of its path.
func says(names ...string) consumer.App {
	return consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
		var values []string
		for _, n := range names {
			values = append(values, n+"="+c.PathValue(n))
		}
		if err := c.Send(ctx, consumer.TextFrame(strings.Join(values, " "))); err != nil {
			return err
		}
		for range c.Events(ctx) {
		}
		return nil
	})
}

// site is a router with a layer of its own, and what it logs.
type site struct {
	*router.Router
	bus   *membus.Bus
	layer *layer.Layer
	log   *logbook
}

// open makes a site that ends with the test, which must leave nothing behind.
func open(t *testing.T, table router.Table, opts *router.Options) *site {
	t.Helper()
	return join(t, membus.New(), table, opts)
}

// join makes a site that is one more process of a network.
func join(t *testing.T, bus *membus.Bus, table router.Table, opts *router.Options) *site {
	t.Helper()
	s := &site{bus: bus, log: new(logbook)}
	o := router.Options{}
	if opts != nil {
		o = *opts
	}
	o.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	var err error
	if s.layer, err = layer.New(bus, &layer.Options{Logger: o.Logger}); err != nil {
		t.Fatal(err)
	}
	if s.Router, err = router.New(s.layer, table, &o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if n := s.Stats().Open; n != 0 {
			t.Errorf("%d connections are left in the router, want 0", n)
		}
		if n := s.layer.Stats().Channels; n != 0 {
			t.Errorf("%d channels are left in the layer, want 0", n)
		}
		if err := s.layer.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
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

// reset forgets what was logged.
func (b *logbook) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Reset()
}

// expect fails the test unless exactly one line was logged since the last time,
// which contains all of want.
func (b *logbook) expect(t *testing.T, want ...string) {
	t.Helper()
	got := b.String()
	b.reset()
	if n := strings.Count(got, "\n"); n != 1 {
		t.Errorf("%d lines were logged, want 1:\n%s", n, got)
	}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("the log does not say %q:\n%s", w, got)
		}
	}
}

func TestTwoClientsInOneRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/ws/chat/{room}/": chat}, nil)
		ann := consumertest.Dial(t, s, "/ws/chat/lobby/", nil)
		bob := consumertest.Dial(t, s, "/ws/chat/lobby/", nil)
		eve := consumertest.Dial(t, s, "/ws/chat/hall/", nil)
		ann.SendText(`{"type":"chat.message","user":"ann","text":"hi"}`)
		for _, c := range []*consumertest.Client{ann, bob} {
			if got, want := c.ReceiveText(), `{"type":"chat.message","user":"ann","text":"hi"}`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		eve.ReceiveNothing(time.Second)
		ann.Close(1000, "bye")
		bob.ReceiveNothing(time.Minute) // pings are answered meanwhile
		if got, want := s.Stats(), (router.Stats{Open: 2, Received: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// Two routers on one network are two nodes: a group has members on both.
func TestTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := router.Table{"/ws/chat/{room}/": chat}
		one := open(t, table, nil)
		two := join(t, one.bus, table, nil)
		ann := consumertest.Dial(t, one, "/ws/chat/lobby/", nil)
		bob := consumertest.Dial(t, two, "/ws/chat/lobby/", nil)
		ann.SendText(`{"type":"chat.message","text":"hi"}`)
		var got line
		if bob.ReceiveJSON(&got); got.Text != "hi" {
			t.Errorf("got %+v, want hi", got)
		}
	})
}
