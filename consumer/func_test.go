package consumer_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// Case 60 in the form of a function, and 69 and 108: text and bytes come back as
// what they were, empty ones, too.
func TestFuncEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := open(t, consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
			for {
				e, err := c.Receive(ctx)
				if err != nil {
					ended <- err
					return err
				}
				if err := c.Send(ctx, *e.Frame); err != nil {
					return err
				}
			}
		}), nil)
		c := s.dial("x")
		for _, f := range []consumer.Frame{
			consumer.TextFrame("hello"), consumer.BinaryFrame([]byte{0, 255, 254}), consumer.TextFrame(""), consumer.BinaryFrame(nil),
			consumer.TextFrame("grüß 💧"),
		} {
			c.Send(f)
			if got := c.Receive(); got.Type != f.Type || string(got.Data) != string(f.Data) {
				t.Errorf("got %v %q, want %v %q", got.Type, got.Data, f.Type, f.Data)
			}
		}
		c.Close(4321, "enough")
		var over *consumer.CloseError
		if err := wait(t, ended); !errors.As(err, &over) || over.Code != 4321 || over.Reason != "enough" {
			t.Errorf("Receive ended with %v, want 4321", err)
		}
	})
}

func TestFuncEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after := make(chan error, 1)
		s := open(t, consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
			if err := c.GroupAdd(ctx, "g"); err != nil {
				return err
			}
			for e, err := range c.Events(ctx) {
				if err != nil {
					return err
				}
				f := consumer.TextFrame("a message")
				if e.Message != nil {
					f = consumer.TextFrame("the layer's " + e.Message.Type)
				} else if err := c.GroupSendOthers(ctx, "g", note{"not for me"}); err != nil {
					return err
				}
				if err := c.Send(ctx, f); err != nil {
					return err
				}
			}
			after <- c.GroupAdd(ctx, "g")
			return nil
		}), nil)
		c := s.dial("x")
		s.send("g", `{"type":"note","text":"1"}`)
		if got, want := c.ReceiveText(), "the layer's note"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		c.SendText("hello")
		if got, want := c.ReceiveText(), "a message"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		c.ReceiveNothing(time.Second) // what it sent to the others
		c.Close(1000, "")
		if err := wait(t, after); !errors.Is(err, consumer.ErrNotOpen) {
			t.Errorf("GroupAdd after the end: got %v, want ErrNotOpen", err)
		}
	})
}

// A Func that is told by the end of its own context, not the connection's, gets
// that error.
func TestFuncEventsUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan error, 1)
		s := open(t, consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			for _, err := range c.Events(ctx) {
				got <- err
			}
			return nil
		}), nil)
		c := s.dial("x")
		if err := wait(t, got); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		if code, _ := c.ReceiveClose(); code != 1000 {
			t.Errorf("closed with %d, want 1000", code)
		}
	})
}

// How a Func ends is how its connection ends.
func TestFuncReturns(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    func() error
		code   consumer.StatusCode
		reason string
		status int // before Accept
	}{
		{"nil", func() error { return nil }, 1000, "", 403},
		{"an error", func() error { return errBroken }, 1011, "internal error", 500},
		{"a CloseError", func() error { return &consumer.CloseError{Code: 4009, Reason: "replaced"} }, 4009, "replaced", 403},
		{"a CloseError of 1013", func() error { return &consumer.CloseError{Code: 1013} }, 1013, "", 503},
		{"a CloseError of 4001", func() error { return &consumer.CloseError{Code: 4001} }, 4001, "", 401},
		{"a DenyError", func() error { return consumer.Deny(429, "slower") }, 1013, "slower", 429},
		{"a panic", func() error { panic("broken") }, 1011, "internal error", 500},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, consumer.Func(func(_ context.Context, c *consumer.Conn) error {
					if c.PathValue("name") == "accept" {
						if err := c.Accept(""); err != nil {
							return err
						}
					}
					return test.err()
				}), nil)
				if code, reason := s.dial("accept").ReceiveClose(); code != test.code || reason != test.reason {
					t.Errorf("closed with %d %q, want %d %q", code, reason, test.code, test.reason)
				}
				if got := refuse(t, s, "refuse"); got != test.status {
					t.Errorf("refused with %d, want %d", got, test.status)
				}
			})
		})
	}
}

// A Func that never receives is kept alive by the client's pongs, and learns of
// its client's end by its context.
func TestFuncThatNeverReceives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Time, 1)
		s := open(t, consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
			if err := c.Accept(""); err != nil {
				return err
			}
			<-ctx.Done()
			ended <- time.Now()
			return ctx.Err()
		}), nil)
		c := s.dial("x")
		c.SendText("nobody reads this")
		c.ReceiveNothing(10 * time.Minute)
		left := time.Now()
		c.Close(1000, "")
		if got, want := wait(t, ended).Sub(left), 10*time.Second; got != want {
			t.Errorf("the context ended %v after the client, want %v", got, want)
		}
		synctest.Wait()
		if got := s.Stats().Failed; got != 0 {
			t.Errorf("Stats().Failed: got %d, want 0: to end with its context is no failure", got)
		}
	})
}

// One that sends learns it by Send.
func TestFuncThatSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := open(t, consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
			for {
				if err := c.SendJSON(ctx, note{"tick"}); err != nil {
					ended <- err
					return err
				}
				time.Sleep(time.Second)
			}
		}), nil)
		c := s.dial("x")
		for range 3 {
			if got, want := c.ReceiveText(), `{"type":"note","text":"tick"}`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		c.Vanish()
		if err := wait(t, ended); consumer.CloseStatus(err) != 1006 {
			t.Errorf("Send after the end: got %v, want 1006", err)
		}
	})
}

// A Type's events arrive by themselves: Receive in it is a mistake that is said.
func TestReceiveInAType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan error, 1)
		s := open(t, consumer.Type[struct{}]{
			Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, _ consumer.Frame) error {
				_, err := c.Receive(ctx)
				got <- err
				return nil
			},
		}, nil)
		s.dial("x").SendText("hello")
		if err := wait(t, got); err == nil {
			t.Error("Receive succeeded, want an error")
		}
	})
}

// An App around a Type is middleware: it may join, send and accept before.
func TestAppAroundAType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newActors()
		s := open(t, consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
			if err := c.GroupAdd(ctx, "outer"); err != nil {
				return err
			}
			if err := c.Send(ctx, consumer.TextFrame("welcome")); err != nil {
				return err
			}
			time.Sleep(time.Second) // what comes now waits for the Type
			return b.consumer().Serve(ctx, c)
		}), nil)
		c := s.dial("x")
		c.SendText("hello")
		s.send("outer", `{"type":"note","text":"1"}`)
		if got, want := c.ReceiveText(), "welcome"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		receiveNotes(t, c, 1, 1)
		c.Close(1000, "")
		time.Sleep(time.Second)
		b.ended(t, 1000)
		synctest.Wait()
		if len(b.received) != 1 || b.received[0] != "hello" {
			t.Errorf("the Type received %q, want hello", b.received)
		}
	})
}

func TestTwoTypesCannotServeOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var second error
		s := open(t, consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
			err := consumer.Type[struct{}]{}.Serve(ctx, c)
			second = consumer.Type[struct{}]{}.Serve(ctx, c)
			return err
		}), nil)
		s.dial("x").Close(1000, "")
		synctest.Wait()
		if second == nil {
			t.Error("the second Type served, want an error")
		}
	})
}
