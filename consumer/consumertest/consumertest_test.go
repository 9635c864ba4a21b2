package consumertest_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

// record is a test that notes how it failed.
type record struct {
	testing.TB
	failure string
}

func (r *record) Helper() {}

func (r *record) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure runs f as a test of its own and returns how it failed, "" if it passed.
func failure(t *testing.T, f func(t testing.TB)) string {
	t.Helper()
	r := &record{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.failure
}

// serve makes a router with an echo at /echo/, and a consumer at /do/ that does
// what it is told.
func serve(t *testing.T) *router.Router {
	t.Helper()
	r, err := router.New(nil, router.Table{
		"/echo/": consumer.Type[struct{}]{
			Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
				return c.Send(ctx, f)
			},
		},
		"/do/": consumer.Type[struct{}]{Receive: do},
		"/deny/": consumer.Type[struct{}]{Connect: func(*struct{}, context.Context, *consumer.Conn) error {
			return &consumer.DenyError{Status: 402, Reason: "pay", Header: http.Header{"X-Price": {"5"}}}
		}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func do(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
	switch string(f.Data) {
	case "close":
		c.Close(4007, "enough")
	case "later":
		time.Sleep(2 * time.Second)
		return c.Send(ctx, consumer.TextFrame("later"))
	case "fail":
		return fmt.Errorf("broken")
	}
	return nil
}

// Case 86.
func TestEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := consumertest.Dial(t, serve(t), "/echo/", nil)
		c.SendText("hello")
		if got := c.ReceiveText(); got != "hello" {
			t.Errorf("got %q, want hello", got)
		}
		c.Send(consumer.BinaryFrame([]byte{255, 0}))
		if got := c.Receive(); got.Type != consumer.Binary || string(got.Data) != "\xff\x00" {
			t.Errorf("got %v %q, want two bytes", got.Type, got.Data)
		}
		want := map[string]int{"n": 1}
		c.SendJSON(want)
		var got map[string]int
		if c.ReceiveJSON(&got); got["n"] != 1 {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := consumertest.Refused(t, serve(t), "/deny/", nil)
		if got.Status != 402 || got.Body != "pay\n" || got.Header.Get("X-Price") != "5" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestReceiveClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t)
		c := consumertest.Dial(t, r, "/do/", nil)
		c.SendText("later")
		c.SendText("close")
		if code, reason := c.ReceiveClose(); code != 4007 || reason != "enough" {
			t.Errorf("got %d %q, want 4007", code, reason)
		}
		c = consumertest.Dial(t, r, "/do/", nil)
		c.Vanish()
		if code, _ := c.ReceiveClose(); code != 1006 {
			t.Errorf("got %d, want 1006", code)
		}
	})
}

// Cases 87, 88 and 89: what does not happen as asked fails the test, at the right
// moment, and says what happened instead.
func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name  string
		run   func(testing.TB, *router.Router)
		want  string        // in the failure; "" is none
		after time.Duration // that it comes
	}{
		{"refused", func(t testing.TB, r *router.Router) { consumertest.Dial(t, r, "/deny/", nil) }, "/deny/ was refused with 402: pay", 0},
		{"accepted", func(t testing.TB, r *router.Router) { consumertest.Refused(t, r, "/echo/", nil) }, "/echo/ was accepted", 0},
		{"closed instead of a message", func(t testing.TB, r *router.Router) {
			c := consumertest.Dial(t, r, "/do/", nil)
			c.SendText("close")
			c.Receive()
		}, `expected a message, but the server closed with 4007 "enough"`, 0},
		{"lost instead of a message", func(t testing.TB, r *router.Router) {
			c := consumertest.Dial(t, r, "/do/", nil)
			c.Vanish()
			c.Receive()
		}, "expected a message, but the connection was lost", 0},
		{"no message", func(t testing.TB, r *router.Router) {
			consumertest.Dial(t, r, "/do/", nil).Receive()
		}, "no message came within 5s", 5 * time.Second},
		{"no message in one's own time", func(t testing.TB, r *router.Router) {
			consumertest.Dial(t, r, "/do/", &consumertest.Options{Timeout: time.Second}).Receive()
		}, "no message came within 1s", time.Second},
		{"nothing, as asked", func(t testing.TB, r *router.Router) {
			c := consumertest.Dial(t, r, "/do/", nil)
			c.SendText("later")
			c.ReceiveNothing(1900 * time.Millisecond)
			c.Receive()
		}, "", 2 * time.Second},
		{"something", func(t testing.TB, r *router.Router) {
			c := consumertest.Dial(t, r, "/do/", nil)
			c.SendText("later")
			c.ReceiveNothing(time.Minute)
		}, `expected silence, but this came: "later"`, 2 * time.Second},
		{"closed instead of silence", func(t testing.TB, r *router.Router) {
			c := consumertest.Dial(t, r, "/do/", nil)
			c.SendText("fail")
			c.ReceiveNothing(time.Minute)
		}, `expected silence, but the server closed with 1011 "internal error"`, 0},
		{"bytes instead of text", func(t testing.TB, r *router.Router) {
			c := consumertest.Dial(t, r, "/echo/", nil)
			c.Send(consumer.BinaryFrame([]byte("hello")))
			c.ReceiveText()
		}, "expected text, but a binary frame of 5 bytes came", 0},
		{"not the JSON that is expected", func(t testing.TB, r *router.Router) {
			c := consumertest.Dial(t, r, "/echo/", nil)
			c.SendText("[1]")
			var v struct{ N int }
			c.ReceiveJSON(&v)
		}, `"[1]" does not fit`, 0},
		{"no JSON to send", func(t testing.TB, r *router.Router) {
			consumertest.Dial(t, r, "/echo/", nil).SendJSON(func() {})
		}, "send: json", 0},
		{"sent after the end", func(t testing.TB, r *router.Router) {
			c := consumertest.Dial(t, r, "/do/", nil)
			c.SendText("close")
			c.ReceiveClose()
			c.SendText("hello?")
		}, "consumertest: send:", 0},
		{"no close", func(t testing.TB, r *router.Router) {
			consumertest.Dial(t, r, "/echo/", nil).ReceiveClose()
		}, "the server did not close within 5s", 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := serve(t)
				began := time.Now()
				got := failure(t, func(t testing.TB) { test.run(t, r) })
				if test.want == "" && got != "" || !strings.Contains(got, test.want) {
					t.Errorf("failed with %q, want %q", got, test.want)
				}
				if d := time.Since(began); d != test.after {
					t.Errorf("failed after %v, want %v", d, test.after)
				}
			})
		})
	}
}
