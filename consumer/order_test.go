package consumer_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

// generous are limits that a flood of a test does not reach.
var generous = &router.Options{Limits: router.Limits{MessageRate: -1, FrameRate: -1, ByteRate: -1}}

// The handlers of one connection never overlap, whatever comes from wherever.
func TestHandlersNeverOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 300
		var inside, handled atomic.Int32
		enter := func() {
			if inside.Add(1) != 1 {
				t.Error("two handlers run at the same time")
			}
			time.Sleep(time.Millisecond)
			inside.Add(-1)
			handled.Add(1)
		}
		s := open(t, consumer.Type[struct{}]{
			Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
				enter()
				return nil
			},
			Receive:    func(*struct{}, context.Context, *consumer.Conn, consumer.Frame) error { enter(); return nil },
			Disconnect: func(*struct{}, context.Context, *consumer.Conn, consumer.StatusCode) { enter() },
			Messages: consumer.Table(consumer.On(func(*struct{}, context.Context, *consumer.Conn, act) error {
				enter()
				return nil
			})),
			Groups: []string{"a", "b"},
		}, generous)
		c := s.dial("x")
		for _, group := range []string{"a", "b"} {
			go func() {
				for range each {
					s.send(group, `{"type":"act"}`)
					time.Sleep(5 * time.Millisecond)
				}
			}()
		}
		for range each {
			c.SendText("hello")
			time.Sleep(3 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		c.Vanish()
		time.Sleep(time.Second)
		if got, want := handled.Load(), int32(3*each+2); got != want {
			t.Errorf("%d handlers ran, want %d", got, want)
		}
	})
}

// Messages of the client and of the layer take turns: a busy client does not
// keep a consumer from its groups, nor the other way round.
func TestClientAndLayerTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		say := func(s string) { order = append(order, s); time.Sleep(time.Second) }
		s := open(t, consumer.Type[struct{}]{
			Receive: func(_ *struct{}, _ context.Context, _ *consumer.Conn, f consumer.Frame) error {
				say("client")
				return nil
			},
			Messages: consumer.Table(consumer.On(func(*struct{}, context.Context, *consumer.Conn, act) error {
				say("layer")
				return nil
			})),
			Groups: []string{"g"},
		}, nil)
		c := s.dial("x")
		for range 3 {
			c.SendText("hello")
			synctest.Wait()
			s.send("g", `{"type":"act"}`)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got, want := fmt.Sprint(order), "[client layer client layer client layer]"; got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// Case 110: a handler that takes long holds up neither another connection, nor
// what others push to its own client.
func TestSlowReceiveDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newActors()
		s := open(t, b.consumer(), nil)
		slow, other := s.dial("slow"), s.dial("other")
		slow.SendText("block")
		synctest.Wait()
		began := time.Now()
		other.SendText("hello")
		s.send("all", `{"type":"note","text":"hi"}`)
		for _, c := range []*consumertest.Client{other, slow} {
			if got, want := c.ReceiveText(), `{"type":"note","text":"hi"}`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("the message took %v, want no time", d)
		}
		synctest.Wait()
		if got := s.Stats().Received; got != 2 {
			t.Errorf("%d messages received, want 2", got)
		}
		close(b.release)
	})
}

// A message that is forwarded does not overtake one that a handler has yet to
// handle, of whatever group.
func TestForwardKeepsItsPlaceBehindAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := open(t, consumer.Type[struct{}]{
			Messages: consumer.Table(
				consumer.Forward[struct{}, note](),
				consumer.On(func(_ *struct{}, ctx context.Context, c *consumer.Conn, m act) error {
					<-release
					return c.SendJSON(ctx, note{m.Do})
				})),
			Groups: []string{"g"},
		}, nil)
		c := s.dial("x")
		s.send("g", `{"type":"note","text":"1"}`)
		s.send("g", `{"type":"act","do":"2"}`)
		s.send("g", `{"type":"note","text":"3"}`)
		s.send("g", `{"type":"act","do":"4"}`)
		s.send("g", `{"type":"note","text":"5"}`)
		receiveNotes(t, c, 1, 1)
		c.ReceiveNothing(time.Second)
		close(release)
		receiveNotes(t, c, 2, 5)
		s.send("g", `{"type":"note","text":"6"}`)
		receiveNotes(t, c, 6, 6)
	})
}

func receiveNotes(t *testing.T, c *consumertest.Client, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		if got, want := c.ReceiveText(), fmt.Sprintf(`{"type":"note","text":"%d"}`, i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// What arrives while Connect runs waits until it has returned, and comes in
// order before what is sent later.
func TestMessagesWaitForConnect(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("accepted early: %v", early), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				joined, release := make(chan struct{}), make(chan struct{})
				s := open(t, consumer.Type[struct{}]{
					Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
						if err := c.GroupAdd(ctx, "g"); err != nil {
							return err
						}
						if early {
							if err := c.Accept(""); err != nil {
								return err
							}
						}
						close(joined)
						<-release
						return c.SendJSON(ctx, note{"1"})
					},
					Messages: consumer.Table(consumer.Forward[struct{}, note]()),
				}, nil)
				go func() {
					<-joined
					for i := 2; i <= 5; i++ {
						s.send("g", fmt.Sprintf(`{"type":"note","text":"%d"}`, i))
					}
					time.Sleep(time.Second)
					close(release)
				}()
				c := s.dial("x")
				if early {
					c.ReceiveNothing(500 * time.Millisecond)
				}
				receiveNotes(t, c, 1, 5)
				s.send("g", `{"type":"note","text":"6"}`)
				receiveNotes(t, c, 6, 6)
			})
		})
	}
}

// A handler may send, join, leave and close from its own goroutines, too.
func TestConnFromManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, consumer.Type[struct{}]{
			Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
				errs := make(chan error)
				for i := range 20 {
					go func() {
						group := fmt.Sprintf("g%d", i%5)
						err := c.GroupAdd(ctx, group)
						if err == nil && i%2 == 0 {
							err = c.Send(ctx, consumer.TextFrame("hello")) // all of them accept
						}
						if err == nil && i%3 == 0 {
							err = c.GroupDiscard(ctx, group)
						}
						errs <- err
					}()
				}
				for range 20 {
					if err := <-errs; err != nil {
						return err
					}
				}
				return nil
			},
		}, nil)
		c := s.dial("x")
		for range 10 {
			if got := c.ReceiveText(); got != "hello" {
				t.Errorf("got %q, want hello", got)
			}
		}
		c.ReceiveNothing(time.Second)
	})
}

// A client that takes its answer slowly, or not at all, holds up only itself: not
// who sends to a group that its Connect joined.
func TestSlowHandshakeHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, consumer.Type[struct{}]{
			Groups:   []string{"g"},
			Messages: consumer.Table(consumer.Forward[struct{}, note]()),
		}, nil)
		c := s.dial("quick")
		stuck := &stuckWriter{header: http.Header{}, release: make(chan struct{})}
		served := make(chan struct{})
		go func() {
			defer close(served)
			s.ServeHTTP(stuck, handshakeRequest("/ws/stuck/"))
		}()
		synctest.Wait() // Accept is under way, and does not get on
		if stuck.writes.Load() == 0 {
			t.Fatal("nothing was written: the test tests nothing")
		}
		for i := range 3 {
			s.send("g", fmt.Sprintf(`{"type":"note","text":"%d"}`, i))
			receiveNotes(t, c, i, i)
		}
		if n, err := (router.Kick{User: "nobody"}).Do(context.Background(), s.layer); n != 0 || err != nil {
			t.Errorf("kick: got %d, %v", n, err)
		}
		close(stuck.release)
		<-served
	})
}
