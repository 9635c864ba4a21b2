package consumer_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

// note is a message that is forwarded.
type note struct {
	Text string `json:"text"`
}

func (note) MessageType() string { return "note" }

// act is a message that a handler takes.
type act struct {
	Do string `json:"do"`
}

func (act) MessageType() string { return "act" }

// actor is a consumer that does what the path, a client or a group tells it.
type actor struct{ book *actors }

// actors is what is known of all of a test's actors.
type actors struct {
	mu          sync.Mutex // guards all below
	connects    int
	received    []string
	disconnects []consumer.StatusCode
	channels    []int // that were open when Disconnect ran
	release     chan struct{}
}

func newActors() *actors { return &actors{release: make(chan struct{})} }

// consumer is a Type whose connections join the group "all".
func (b *actors) consumer() consumer.Type[actor] {
	return consumer.Type[actor]{
		New:        func() *actor { return &actor{b} },
		Connect:    (*actor).connect,
		Receive:    (*actor).receive,
		Disconnect: (*actor).disconnect,
		Messages: consumer.Table(
			consumer.Forward[actor, note](),
			consumer.On(func(a *actor, ctx context.Context, c *consumer.Conn, m act) error { return a.do(ctx, c, m.Do) }),
		),
	}
}

func (a *actor) connect(ctx context.Context, c *consumer.Conn) error {
	a.book.mu.Lock()
	a.book.connects++
	a.book.mu.Unlock()
	if err := c.GroupAdd(ctx, "all"); err != nil {
		return err
	}
	if what, early := strings.CutPrefix(c.PathValue("name"), "early-"); early {
		if err := c.Send(ctx, consumer.TextFrame("early")); err != nil {
			return err
		}
		return a.do(ctx, c, what)
	}
	return a.do(ctx, c, c.PathValue("name"))
}

func (a *actor) receive(ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
	a.book.mu.Lock()
	a.book.received = append(a.book.received, string(f.Data))
	a.book.mu.Unlock()
	return a.do(ctx, c, string(f.Data))
}

var errBroken = errors.New("broken")

func (a *actor) do(ctx context.Context, c *consumer.Conn, what string) error {
	switch what {
	case "error":
		return errBroken
	case "panic":
		panic("broken")
	case "goexit":
		runtime.Goexit()
	case "deny":
		return consumer.Deny(http.StatusTeapot, "no coffee")
	case "close":
		c.Close(4007, "because")
	case "return-close":
		return &consumer.CloseError{Code: 4008, Reason: "returned"}
	case "block":
		<-a.book.release
	case "until-cancelled":
		<-ctx.Done()
		return ctx.Err()
	case "second":
		time.Sleep(time.Second)
	}
	return nil
}

func (a *actor) disconnect(ctx context.Context, c *consumer.Conn, code consumer.StatusCode) {
	a.book.mu.Lock()
	defer a.book.mu.Unlock()
	a.book.disconnects = append(a.book.disconnects, code)
	a.book.channels = append(a.book.channels, c.Layer().Stats().Channels)
	switch c.PathValue("name") {
	case "late-panic":
		panic("broken in Disconnect")
	case "late-goexit":
		runtime.Goexit()
	}
}

// ended fails the test unless Disconnect ran once, with code, after the groups
// were left.
func (b *actors) ended(t *testing.T, code consumer.StatusCode) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.disconnects) != 1 || b.disconnects[0] != code {
		t.Errorf("Disconnect ran with %v, want once with %d", b.disconnects, code)
	}
	for _, n := range b.channels {
		if n != 0 {
			t.Errorf("%d channels were open when Disconnect ran, want 0: the groups are left before", n)
		}
	}
	if b.connects != 1 {
		t.Errorf("Connect ran %d times, want once", b.connects)
	}
}

// Cases 60, 103, 104, 105 and 109, and what Channels leaves open: Disconnect runs
// exactly once, with the code, after the groups were left, whatever ended the
// connection.
func TestDisconnectAlwaysRunsOnce(t *testing.T) {
	says := func(text string) func(*site, *consumertest.Client) {
		return func(_ *site, c *consumertest.Client) { c.SendText(text) }
	}
	tells := func(what string) func(*site, *consumertest.Client) {
		return func(s *site, _ *consumertest.Client) { s.send("all", `{"type":"act","do":"`+what+`"}`) }
	}
	for _, test := range []struct {
		name   string
		do     func(*site, *consumertest.Client)
		code   consumer.StatusCode // that Disconnect gets
		sees   consumer.StatusCode // what the client is told; 0 is not looked at
		reason string
		logged string
	}{
		{"the client closes", func(_ *site, c *consumertest.Client) { c.Close(1000, "bye") }, 1000, 0, "", ""},
		{"the client closes with its own code", func(_ *site, c *consumertest.Client) { c.Close(4444, "bye") }, 4444, 0, "", ""},
		{"the client closes without a code", func(_ *site, c *consumertest.Client) { c.Close(1005, "") }, 1005, 0, "", ""},
		{"the client vanishes", func(_ *site, c *consumertest.Client) { c.Vanish() }, 1006, 0, "", ""},
		{"Receive fails", says("error"), 1011, 1011, "internal error", "broken"},
		{"Receive panics", says("panic"), 1011, 1011, "internal error", "end_test.go"},
		{"Receive ends its goroutine", says("goexit"), 1011, 1011, "internal error", "Goexit"},
		{"Receive returns a CloseError", says("return-close"), 4008, 4008, "returned", ""},
		{"Receive closes", says("close"), 4007, 4007, "because", ""}, // case 68
		{"Receive denies", says("deny"), 4003, 4003, "no coffee", ""},
		{"a message's handler fails", tells("error"), 1011, 1011, "internal error", "broken"},
		{"a message's handler panics", tells("panic"), 1011, 1011, "internal error", "end_test.go"},
		{"a message's handler ends its goroutine", tells("goexit"), 1011, 1011, "internal error", "Goexit"},
		{"a message's handler closes", tells("close"), 4007, 4007, "because", ""},
		{"a kick", func(s *site, _ *consumertest.Client) { kick(s, router.Kick{User: "ann"}) }, 4003, 4003, "closed by an operator", ""},
		{"a kick of the session from another node", func(s *site, _ *consumertest.Client) {
			n, err := router.Kick{Session: "s1", Code: 4001, Reason: "logged out"}.Do(context.Background(), attach(s.t, s.bus))
			if n != 1 || err != nil {
				s.t.Errorf("got %d kicked, %v, want 1", n, err)
			}
		}, 4001, 4001, "logged out", ""},
		{"a drain", func(s *site, _ *consumertest.Client) { s.Shutdown(context.Background()) }, 1012, 1012,
			"the server restarts; come back in a moment", ""},
		{"a client that does not read", func(s *site, _ *consumertest.Client) {
			synctest.Wait() // until it is open, a channel's capacity bounds what waits
			for range 400 {
				s.send("all", `{"type":"note","text":"`+strings.Repeat("x", 1000)+`"}`)
			}
		}, 4108, 0, "", ""},
		{"a client that sends too much", func(_ *site, c *consumertest.Client) {
			for range 101 {
				c.SendText("hello")
			}
		}, 4129, 4129, "too many messages: more than 50 a second", ""},
		{"a message that is too large", func(_ *site, c *consumertest.Client) { c.SendText(strings.Repeat("x", 65<<10)) }, 1009, 1009,
			"a message may have 65536 bytes, this one has 66560 or more", ""}, // case 97
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newActors()
				s := open(t, b.consumer(), &router.Options{Authenticate: headerAuth{}, Limits: router.Limits{QueueBytes: 8 << 10}})
				c := consumertest.Dial(t, s, "/ws/x/", as("ann", "s1"))
				test.do(s, c)
				if test.sees != 0 {
					if code, reason := c.ReceiveClose(); code != test.sees || reason != test.reason {
						t.Errorf("the client was told %d %q, want %d %q", code, reason, test.sees, test.reason)
					}
				}
				time.Sleep(time.Minute)
				b.ended(t, test.code)
				failed := int64(0)
				if test.logged != "" {
					failed = 1
				}
				if got := s.Stats().Failed; got != failed {
					t.Errorf("Stats().Failed: got %d, want %d", got, failed)
				}
				if got := s.log.count("level=ERROR"); got != int(failed) || !strings.Contains(s.log.String(), test.logged) {
					t.Errorf("want %d line with %q in the log:\n%s", failed, test.logged, s.log)
				}
			})
		})
	}
}

func kick(s *site, k router.Kick) {
	if n, err := k.Do(context.Background(), s.layer); n != 1 || err != nil {
		s.t.Errorf("got %d kicked, %v, want 1", n, err)
	}
}

// A connection that Connect refuses, or in which it fails, ends in Disconnect, too.
func TestDisconnectAfterRefusal(t *testing.T) {
	for _, test := range []struct {
		name   string // what Connect does
		status int
		body   string
		logged string
	}{
		{"error", 500, "Internal Server Error\n", "broken"},
		{"panic", 500, "Internal Server Error\n", "end_test.go"},
		{"goexit", 500, "Internal Server Error\n", "Goexit"},
		{"deny", 418, "no coffee\n", "no coffee"},
		{"close", 403, "because\n", "because"}, // case 92
		{"return-close", 403, "returned\n", "returned"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newActors()
				s := open(t, b.consumer(), nil)
				got := consumertest.Refused(t, s, "/ws/"+test.name+"/", nil)
				if got.Status != test.status || got.Body != test.body {
					t.Errorf("got %d %q, want %d %q", got.Status, got.Body, test.status, test.body)
				}
				synctest.Wait()
				b.ended(t, 1006)
				if n := s.log.count("level="); n != 1 || s.log.count(test.logged) != 1 {
					t.Errorf("want one line, with %q, in the log:\n%s", test.logged, s.log)
				}
			})
		})
	}
}

// A Connect that accepts early, by its first Send, ends like any handler.
func TestDisconnectAfterEarlyAccept(t *testing.T) {
	for name, want := range map[string]consumer.StatusCode{
		"error": 1011, "panic": 1011, "goexit": 1011, "deny": 4003, "close": 4007, "return-close": 4008,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newActors()
				s := open(t, b.consumer(), nil)
				c := s.dial("early-" + name)
				if got := c.ReceiveText(); got != "early" {
					t.Errorf("got %q, want what Connect sent", got)
				}
				if code, _ := c.ReceiveClose(); code != want {
					t.Errorf("the client was told %d, want %d", code, want)
				}
				time.Sleep(time.Minute)
				b.ended(t, want)
			})
		})
	}
}

// A panic of Disconnect is logged, and nothing else happens.
func TestDisconnectFails(t *testing.T) {
	for name, logged := range map[string]string{"late-panic": "broken in Disconnect", "late-goexit": "Goexit"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newActors()
				s := open(t, b.consumer(), nil)
				s.dial(name).Close(1000, "")
				time.Sleep(time.Minute)
				b.ended(t, 1000)
				if s.log.count("level=ERROR") != 1 || s.log.count(logged) != 1 {
					t.Errorf("want one line with %q in the log:\n%s", logged, s.log)
				}
			})
		})
	}
}

// What the client sent before it left is handled, and Disconnect comes after.
func TestLastWordsAreHandled(t *testing.T) {
	for _, end := range []string{"close", "vanish", "drain"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newActors()
				s := open(t, b.consumer(), nil)
				c := s.dial("x")
				for range 5 {
					c.SendText("second") // a handler takes that long
				}
				synctest.Wait()
				switch end {
				case "close":
					c.Close(1000, "")
				case "vanish":
					c.Vanish()
				case "drain":
					go s.Shutdown(context.Background())
				}
				time.Sleep(4500 * time.Millisecond)
				b.mu.Lock()
				if len(b.received) != 5 || len(b.disconnects) != 0 {
					t.Errorf("after 4.5 s %d messages and %d Disconnects, want 5 and 0", len(b.received), len(b.disconnects))
				}
				b.mu.Unlock()
				time.Sleep(time.Second)
				b.ended(t, map[string]consumer.StatusCode{"close": 1000, "vanish": 1006, "drain": 1012}[end])
			})
		})
	}
}

// After an error of a handler nothing more of that connection is handled.
func TestNothingIsHandledAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newActors()
		s := open(t, b.consumer(), nil)
		c := s.dial("x")
		c.SendText("second")
		synctest.Wait()
		c.SendText("error")
		c.SendText("after")
		s.send("all", `{"type":"act","do":"panic"}`)
		s.send("all", `{"type":"act","do":"panic"}`)
		time.Sleep(time.Minute)
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, text := range b.received {
			if text == "after" {
				t.Errorf("got %q handled, want nothing after the failure", b.received)
			}
		}
		if got := s.Stats().Failed; got != 1 {
			t.Errorf("Stats().Failed: got %d, want 1", got)
		}
	})
}

// Case 99, and daphne's application-close-timeout: a handler that blocks is told
// 10 s after its client left, with a line in the log.
func TestBlockedHandlerIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newActors()
		s := open(t, b.consumer(), nil)
		c := s.dial("x")
		c.SendText("until-cancelled")
		c.SendText("never handled")
		synctest.Wait()
		c.Vanish()
		time.Sleep(9900 * time.Millisecond)
		b.mu.Lock()
		early := len(b.disconnects)
		b.mu.Unlock()
		if early != 0 {
			t.Error("Disconnect ran while a handler was running")
		}
		if n := s.layer.Stats().Channels; n != 0 {
			t.Errorf("%d channels, want 0: the groups are left at once", n)
		}
		time.Sleep(200 * time.Millisecond)
		b.ended(t, 1006)
		if n := s.log.count("a handler is still running"); n != 1 {
			t.Errorf("%d lines about the handler, want 1:\n%s", n, s.log)
		}
		if b.mu.Lock(); len(b.received) != 1 {
			t.Errorf("handled %q, want the first alone", b.received)
		}
		b.mu.Unlock()
	})
}

// The same with a client that had sent more than is read ahead: its end is
// noticed by its silence.
func TestBlockedHandlerWithAFullInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newActors()
		s := open(t, b.consumer(), nil)
		c := s.dial("x")
		go func() {
			for range 30 {
				if c.Try(consumer.TextFrame("until-cancelled")) != nil {
					return
				}
			}
		}()
		synctest.Wait()
		// 1 in the handler, 16 read ahead, 1 in the reader's hand.
		if got := s.Stats().Received; got != 18 {
			t.Errorf("%d messages were read, want 18", got)
		}
		c.Vanish()
		time.Sleep(time.Minute)
		b.ended(t, 1006)
	})
}

// What is over the read-ahead waits in the network, and is lost in no case.
func TestReadAheadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newActors()
		s := open(t, b.consumer(), nil)
		c := s.dial("x")
		sent := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < 50 && err == nil; i++ {
				err = c.Try(consumer.TextFrame("block"))
			}
			sent <- err
		}()
		synctest.Wait()
		if got := s.Stats().Received; got != 18 {
			t.Errorf("%d messages were read, want 18", got)
		}
		close(b.release)
		if err := wait(t, sent); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := s.Stats().Received; got != 50 || len(b.received) != 50 {
			t.Errorf("%d read and %d handled, want 50", got, len(b.received))
		}
	})
}
