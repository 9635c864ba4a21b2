package router_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// Resize is a message of the queue "thumbnails".
type Resize struct {
	N    int    `json:"n"`
	Fail string `json:"fail,omitempty"`
}

// MessageType implements layer.Payload.
func (Resize) MessageType() string { return "thumbnails.resize" }

// shop is a network with the queue "thumbnails" and a worker.
type shop struct {
	*testing.T
	bus   *membus.Bus
	layer *layer.Layer
	stats router.WorkStats
}

func newShop(t *testing.T) *shop {
	s := &shop{T: t, bus: membus.New()}
	s.layer = s.open()
	return s
}

// open makes one more process.
func (s *shop) open() *layer.Layer {
	s.Helper()
	l, err := layer.New(s.bus, &layer.Options{
		Queues: []layer.QueuePolicy{{Pattern: "thumbnails"}, {Pattern: "mail"}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { l.Close(context.Background()) })
	return l
}

func (s *shop) put(messages ...Resize) {
	s.Helper()
	for _, m := range messages {
		if err := s.layer.Send(s.Context(), "thumbnails", m); err != nil {
			s.Fatal(err)
		}
	}
}

// start runs a worker until the returned function is called, which returns what
// Work did.
func (s *shop) start(app consumer.App, change func(*router.WorkOptions)) (stop func() error) {
	o := &router.WorkOptions{Stats: &s.stats, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(o)
	}
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan error, 1)
	go func() { done <- router.Work(ctx, s.layer, router.Queues{"thumbnails": app}, o) }()
	return func() error { cancel(); return <-done }
}

// end stops a worker that has to end without an error.
func (s *shop) end(stop func() error) {
	s.Helper()
	if err := stop(); err != nil {
		s.Errorf("Work returned %v", err)
	}
}

// dead returns the reasons of the dead letters.
func (s *shop) dead() (all []string) {
	s.Helper()
	for d, err := range s.layer.DeadLetters(s.Context(), "thumbnails") {
		if err != nil {
			s.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d: %s", d.Attempts, d.Reason))
	}
	return all
}

// left returns how many messages are not done.
func (s *shop) left() int {
	s.Helper()
	all, err := s.layer.Queues(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for _, q := range all {
		if q.Name == "thumbnails" {
			return q.Ready + q.Working
		}
	}
	return 0
}

// drawn is the state of a consumer: one for each message.
type drawn struct{ uses int }

// on makes a consumer of a function.
func on(f func(context.Context, *consumer.Conn, Resize) error) consumer.App {
	return consumer.Type[drawn]{Messages: consumer.Table(
		consumer.On(func(d *drawn, ctx context.Context, c *consumer.Conn, m Resize) error {
			if d.uses++; d.uses > 1 {
				return errors.New("the state was used before")
			}
			return f(ctx, c, m)
		}),
	)}
}

func TestWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.put(Resize{N: 1}, Resize{N: 2}, Resize{N: 3})
		var sum atomic.Int64
		stop := s.start(on(func(_ context.Context, c *consumer.Conn, m Resize) error {
			if d := c.Delivery(); d.Attempt != 1 || d.Queue != "thumbnails" || c.ChannelName() != "thumbnails" {
				t.Errorf("attempt %d of queue %s, channel %s", d.Attempt, d.Queue, c.ChannelName())
			}
			if err := c.SendJSON(t.Context(), m); err == nil || !strings.Contains(err.Error(), "no client") {
				t.Errorf("Send: got error %v", err)
			}
			if err := c.GroupAdd(t.Context(), "g"); err == nil || !strings.Contains(err.Error(), "no channel") {
				t.Errorf("GroupAdd: got error %v", err)
			}
			if c.Request() != nil || c.User().ID != "" || c.PathValue("x") != "" || len(c.Query()) > 0 || c.Layer() != s.layer {
				t.Error("the Conn knows of a request")
			}
			c.Close(consumer.StatusNormalClosure, "") // does nothing
			sum.Add(int64(m.N))
			return c.GroupSend(t.Context(), "g", m)
		}), nil)
		synctest.Wait()
		if sum.Load() != 6 || s.left() != 0 || s.stats.Done.Load() != 3 || s.stats.Running.Load() != 0 {
			t.Errorf("the sum is %d, %d are left, %d done", sum.Load(), s.left(), s.stats.Done.Load())
		}
		s.end(stop)
	})
}

// What a handler returns decides what becomes of the message, and nothing that
// it does ends the worker.
func TestWorkOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		var tries atomic.Int64
		var again time.Time
		stop := s.start(on(func(_ context.Context, c *consumer.Conn, m Resize) error {
			tries.Add(1)
			switch m.Fail {
			case "error":
				return errors.New("no disk")
			case "panic":
				panic("boom")
			case "exit":
				runtime.Goexit()
			case "dead":
				return &consumer.DeadError{Reason: "no such picture"}
			case "later":
				if c.Delivery().Attempt == 1 {
					again = time.Now().Add(time.Hour)
					return &consumer.RetryError{After: time.Hour, Err: errors.New("the camera is off")}
				}
				if time.Now().Before(again) {
					t.Errorf("it came again %v too soon", time.Until(again))
				}
			}
			return nil
		}), nil)
		for _, c := range []struct {
			fail  string
			tries int64
			dead  string
		}{
			{"error", 5, "5: no disk"},
			{"panic", 5, "5: consumer: a handler panicked: boom"},
			{"exit", 5, "5: router: the handler ended its goroutine (runtime.Goexit)"},
			{"dead", 1, "1: no such picture"},
			{"later", 2, ""},
			{"", 1, ""},
		} {
			tries.Store(0)
			s.put(Resize{Fail: c.fail})
			time.Sleep(2 * time.Hour)
			got := ""
			if all := s.dead(); len(all) > 0 {
				got = all[len(all)-1]
			}
			if c.dead == "" {
				got = ""
			}
			if tries.Load() != c.tries || got != c.dead || s.left() != 0 {
				t.Errorf("%q: %d attempts, dead letter %q, %d left; want %d, %q", c.fail, tries.Load(), got, s.left(), c.tries, c.dead)
			}
		}
		s.end(stop)
		if len(s.dead()) != 4 || s.stats.Dead.Load() != 4 {
			t.Errorf("the dead letters are %q, counted %d", s.dead(), s.stats.Dead.Load())
		}
	})
}

func TestWorkUnknownType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		for _, text := range []string{`{"type":"thumbnails.rotate"}`, `{"type":"thumbnails.resize","n":"many"}`} {
			m, err := layer.ParseMessage([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.layer.Send(t.Context(), "thumbnails", m); err != nil {
				t.Fatal(err)
			}
		}
		stop := s.start(on(func(context.Context, *consumer.Conn, Resize) error { return nil }), nil)
		synctest.Wait()
		s.end(stop)
		all := strings.Join(s.dead(), "\n")
		if !strings.Contains(all, `1: no handler for type "thumbnails.rotate"`) || !strings.Contains(all, "1: layer: not a message: thumbnails.resize does not fit into") {
			t.Errorf("the dead letters are %s", all)
		}
	})
}

// A message stays with its worker for as long as the handler runs.
func TestWorkTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.put(Resize{N: 1})
		var runs atomic.Int64
		app := on(func(ctx context.Context, _ *consumer.Conn, _ Resize) error {
			runs.Add(1)
			time.Sleep(3 * time.Hour)
			return ctx.Err()
		})
		first, second := s.start(app, nil), s.start(app, nil)
		time.Sleep(3*time.Hour + time.Second)
		if runs.Load() != 1 || s.left() != 0 || s.stats.Done.Load() != 1 {
			t.Errorf("the handler ran %d times, %d messages are left", runs.Load(), s.left())
		}
		s.end(first)
		s.end(second)
	})
}

func TestWorkConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		for i := range 20 {
			s.put(Resize{N: i})
		}
		var running, most atomic.Int64
		stop := s.start(on(func(context.Context, *consumer.Conn, Resize) error {
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Minute)
			return nil
		}), func(o *router.WorkOptions) { o.Limits = map[string]int{"thumbnails": 4} })
		time.Sleep(30 * time.Second)
		all, err := s.layer.Queues(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range all {
			if q.Name == "thumbnails" && (q.Working != 4 || q.Ready != 16) {
				t.Errorf("%d messages are taken and %d wait, want 4 and 16", q.Working, q.Ready)
			}
		}
		time.Sleep(5 * time.Minute)
		s.end(stop)
		if most.Load() != 4 || s.left() != 0 {
			t.Errorf("at most %d ran at the same time, %d are left", most.Load(), s.left())
		}
	})
}

// A worker that stops finishes what it has, or hands it back.
func TestWorkStops(t *testing.T) {
	for _, c := range []struct {
		name   string
		app    func(ctx context.Context, c *consumer.Conn) error
		took   time.Duration // until Work returned
		left   int
		counts bool
	}{
		{"finishes", func(context.Context, *consumer.Conn) error { time.Sleep(15 * time.Second); return nil }, 14 * time.Second, 0, false},
		{"notices", func(ctx context.Context, _ *consumer.Conn) error { <-ctx.Done(); return ctx.Err() }, 20 * time.Second, 1, false},
		{"hands back", func(_ context.Context, c *consumer.Conn) error { <-c.Stopping(); return consumer.ErrHandBack }, 0, 1, false},
		{"is deaf", func(context.Context, *consumer.Conn) error { time.Sleep(time.Hour); return nil }, 21 * time.Second, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShop(t)
				s.put(Resize{N: 1})
				stop := s.start(on(func(ctx context.Context, conn *consumer.Conn, _ Resize) error { return c.app(ctx, conn) }), nil)
				time.Sleep(time.Second)
				began := time.Now()
				s.end(stop)
				if took := time.Since(began); took != c.took {
					t.Errorf("it stopped after %v, want %v", took, c.took)
				}
				if s.left() != c.left {
					t.Fatalf("%d messages are left, want %d", s.left(), c.left)
				}
				if c.left > 0 {
					d, err := s.layer.Take(t.Context(), "thumbnails")
					if err != nil || d.Attempt != 1 {
						t.Errorf("it comes again as attempt %d, %v; want 1", d.Attempt, err)
					}
				}
				time.Sleep(time.Hour) // who is deaf must end before the test
			})
		})
	}
}

// Handlers that hang cost their time, and no more than that.
func TestWorkTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		release := make(chan struct{})
		var done atomic.Int64
		app := on(func(ctx context.Context, _ *consumer.Conn, m Resize) error {
			switch m.Fail {
			case "hang":
				<-release
			case "slow":
				<-ctx.Done()
				return ctx.Err()
			default:
				done.Add(1)
			}
			return nil
		})
		stop := s.start(app, func(o *router.WorkOptions) { o.Timeout, o.Concurrency = time.Minute, 6 })
		s.put(Resize{Fail: "slow"}, Resize{Fail: "hang"})
		time.Sleep(30 * time.Second)
		s.put(Resize{N: 1})
		time.Sleep(40 * time.Second)
		if done.Load() != 1 {
			t.Error("the message behind those that hang was not handled in time")
		}
		time.Sleep(10 * time.Minute)
		all := strings.Join(s.dead(), "\n")
		if strings.Count(all, "5: router: the handler took longer than WorkOptions.Timeout") != 2 || s.left() != 0 {
			t.Errorf("the dead letters are %s, %d are left", all, s.left())
		}
		s.put(Resize{Fail: "hang"})
		time.Sleep(10 * time.Minute)
		if err := stop(); err == nil || !strings.Contains(err.Error(), "start the process anew") {
			t.Errorf("with seven handlers that hang Work returned %v", err)
		}
		close(release)
	})
}

func TestWorkRefuses(t *testing.T) {
	s := newShop(t)
	fine := on(func(context.Context, *consumer.Conn, Resize) error { return nil })
	for want, c := range map[string]struct {
		queues router.Queues
		opts   router.WorkOptions
	}{
		"no queues":             {router.Queues{}, router.WorkOptions{}},
		"not a durable queue":   {router.Queues{"other": fine}, router.WorkOptions{}},
		"not valid":             {router.Queues{"a b": fine}, router.WorkOptions{}},
		"App is nil":            {router.Queues{"mail": nil}, router.WorkOptions{}},
		"no message handlers":   {router.Queues{"mail": consumer.Type[int]{}}, router.WorkOptions{}},
		"no Groups":             {router.Queues{"mail": consumer.Type[int]{Groups: []string{"g"}}}, router.WorkOptions{}},
		"Forward or Render":     {router.Queues{"mail": consumer.Type[int]{Messages: consumer.Table(consumer.Forward[int, Resize]())}}, router.WorkOptions{}},
		"no Connect":            {router.Queues{"mail": consumer.Type[int]{Connect: func(*int, context.Context, *consumer.Conn) error { return nil }}}, router.WorkOptions{}},
		"Concurrency":           {router.Queues{"mail": fine}, router.WorkOptions{Concurrency: -1}},
		"Timeout":               {router.Queues{"mail": fine}, router.WorkOptions{Timeout: -1}},
		`gives "thumbnails" a `: {router.Queues{"mail": fine}, router.WorkOptions{Limits: map[string]int{"thumbnails": 1}}},
	} {
		err := router.Work(t.Context(), s.layer, c.queues, &c.opts)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one that says %q", err, want)
		}
	}
	if err := router.Work(t.Context(), nil, router.Queues{"mail": fine}, nil); err == nil {
		t.Error("without a layer: got no error")
	}
	s.layer.Close(t.Context())
	if err := router.Work(t.Context(), s.layer, router.Queues{"mail": fine}, nil); !errors.Is(err, layer.ErrClosed) {
		t.Errorf("with a closed layer: got error %v, want %v", err, layer.ErrClosed)
	}
}

// A Func gets its message from Delivery.
func TestWorkFunc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.put(Resize{N: 7})
		got := Resize{}
		stop := s.start(consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
			if _, err := c.Receive(ctx); err == nil {
				t.Error("Receive: got no error")
			}
			return c.Delivery().Decode(&got)
		}), nil)
		synctest.Wait()
		s.end(stop)
		if got.N != 7 || s.left() != 0 {
			t.Errorf("got %+v, %d are left", got, s.left())
		}
	})
}
