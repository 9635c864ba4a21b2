package consumer

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pollSocket is a fakeSocket that can be polled.
type pollSocket struct {
	*fakeSocket

	mu    sync.Mutex // guards all below
	queue []Frame
	ready func()
	polls int
}

func (s *pollSocket) Read() (Frame, error) { return Frame{}, errors.New("a polled socket is not read") }

func (s *pollSocket) Poll(ready func()) (Frame, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls++
	if len(s.queue) > 0 {
		f := s.queue[0]
		s.queue = s.queue[1:]
		return f, true, nil
	}
	if err := s.Err(); err != nil {
		return Frame{}, false, err
	}
	if s.ready != nil {
		panic("two readers")
	}
	s.ready = ready
	return Frame{}, false, nil
}

func (s *pollSocket) wake(frames ...Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, frames...)
	if ready := s.ready; ready != nil {
		s.ready = nil
		go ready()
	}
}

func (s *pollSocket) Close(code StatusCode, reason string) {
	s.fakeSocket.Close(code, reason)
	s.wake()
}

// A Type on a Poller has no goroutine while nothing happens, gets its messages
// in order, and its Disconnect once.
func TestPoller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		s := &pollSocket{fakeSocket: newFakeSocket()}
		typ := Type[struct{}]{
			Receive: func(_ *struct{}, ctx context.Context, c *Conn, f Frame) error {
				got = append(got, string(f.Data))
				time.Sleep(time.Second) // the reader runs ahead, and waits for room
				return nil
			},
			Disconnect: func(_ *struct{}, _ context.Context, _ *Conn, code StatusCode) {
				got = append(got, "end")
				if code != 4000 {
					t.Errorf("Disconnect got %d, want 4000", code)
				}
			},
		}
		results := make(chan Result, 2)
		stats := new(Stats)
		Run(context.Background(), typ, Setup{
			Socket: s, Request: httptest.NewRequest("GET", "/", nil), Header: http.Header{},
			Logger: slog.New(slog.DiscardHandler), Stats: stats,
		}, func(r Result) { results <- r })
		synctest.Wait()
		if s.ready == nil {
			t.Fatal("the socket is not parked after Connect")
		}
		var want []string
		for range 2 {
			var burst []Frame
			for i := range 2*maxInbox + 3 {
				name := string(rune('A' + i))
				want = append(want, name)
				burst = append(burst, TextFrame(name))
			}
			s.wake(burst...)
			time.Sleep(time.Minute)
			synctest.Wait()
			if s.ready == nil {
				t.Fatal("the socket is not parked after its messages")
			}
		}
		s.Close(4000, "")
		res := <-results
		if !res.Accepted || res.Code != 4000 || res.Err != nil {
			t.Errorf("result %+v, want accepted and 4000", res)
		}
		if want = append(want, "end"); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if n := stats.Received.Load(); int(n) != len(want)-1 {
			t.Errorf("%d messages counted, want %d", n, len(want)-1)
		}
		synctest.Wait()
		if len(results) != 0 {
			t.Error("done was called twice")
		}
	})
}

// A connection that ends before it is first polled ends all the same, and so
// does one that a handler's error ends.
func TestPollerEnds(t *testing.T) {
	for name, typ := range map[string]Type[struct{}]{
		"in Connect": {Connect: func(_ *struct{}, _ context.Context, c *Conn) error {
			if err := c.Accept(""); err != nil {
				return err
			}
			c.Close(4000, "")
			return nil
		}},
		"by Connect's error": {Connect: func(_ *struct{}, _ context.Context, c *Conn) error {
			if err := c.Accept(""); err != nil {
				return err
			}
			return &CloseError{Code: 4000}
		}},
		"by Receive's error": {Receive: func(*struct{}, context.Context, *Conn, Frame) error { return &CloseError{Code: 4000} }},
	} {
		t.Run(name, func(t *testing.T) {
			s := &pollSocket{fakeSocket: newFakeSocket()}
			ends := 0
			typ.Disconnect = func(*struct{}, context.Context, *Conn, StatusCode) { ends++ }
			results := make(chan Result, 1)
			if typ.Receive != nil {
				s.queue = []Frame{TextFrame("x")}
			}
			Run(context.Background(), typ, Setup{
				Socket: &readable{s}, Request: httptest.NewRequest("GET", "/", nil), Header: http.Header{}, Logger: slog.New(slog.DiscardHandler),
			}, func(r Result) { results <- r })
			if res := <-results; res.Code != 4000 {
				t.Errorf("result %+v, want 4000", res)
			}
			if ends != 1 {
				t.Errorf("Disconnect ran %d times, want once", ends)
			}
		})
	}
}

// readable is a pollSocket that may be read once it has ended.
type readable struct{ *pollSocket }

func (s *readable) Read() (Frame, error) { return s.fakeSocket.Read() }

// A Func that waits for its next event has its own goroutine on a Poller, and no
// other; it gets what comes, and learns of the end.
func TestPollerUnderAFunc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &pollSocket{fakeSocket: newFakeSocket()}
		got := make(chan string, 10)
		f := Func(func(ctx context.Context, c *Conn) error {
			for e, err := range c.Events(ctx) {
				if err != nil {
					return err
				}
				got <- string(e.Frame.Data)
			}
			return nil
		})
		results := make(chan Result, 2)
		before := runtime.NumGoroutine()
		go Run(context.Background(), f, Setup{
			Socket: s, Request: httptest.NewRequest("GET", "/", nil), Header: http.Header{}, Logger: slog.New(slog.DiscardHandler),
		}, func(r Result) { results <- r })
		for range 3 {
			synctest.Wait()
			if n := runtime.NumGoroutine() - before; n != 1 || s.ready == nil {
				t.Fatalf("a silent connection of a Func has %d goroutines, parked %v; want its own alone", n, s.ready != nil)
			}
			s.wake(TextFrame("one"), TextFrame("two"))
			if a, b := <-got, <-got; a != "one" || b != "two" {
				t.Errorf("got %q, %q, want one, two", a, b)
			}
		}
		s.Close(4000, "")
		if r := <-results; !r.Accepted || r.Code != 4000 || r.Err != nil {
			t.Errorf("result %+v, want accepted and 4000", r)
		}
	})
}
