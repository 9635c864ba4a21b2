package router_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

// Credentials are looked at on the timer and at their expiry, and what comes of it.
func TestRecheck(t *testing.T) {
	type answer func(context.Context, consumer.User) (consumer.User, error)
	nobody := func(context.Context, consumer.User) (consumer.User, error) { return consumer.User{}, nil }
	fail := func(err error) answer {
		return func(context.Context, consumer.User) (consumer.User, error) { return consumer.User{}, err }
	}
	unknown := fail(&consumer.CloseError{Code: consumer.StatusTryAgainLater, Reason: "no database"})
	for _, test := range []struct {
		name    string
		every   time.Duration
		expires string
		answer  answer
		after   time.Duration // when it ends, to within 2 s; 0 is never
		code    consumer.StatusCode
	}{
		{"nothing changed", 0, "", nil, 0, 0},
		{"anonymous", 0, "", nobody, time.Minute, 4001},
		{"on a timer of one's own", 10 * time.Second, "", nobody, 10 * time.Second, 4001},
		{"at expiry", 0, "20s", nobody, 20 * time.Second, 4001},
		{"at expiry alone", -1, "90s", nobody, 90 * time.Second, 4001},
		{"never", -1, "", nobody, 0, 0},
		{"an error", 0, "", fail(errors.New("bad token")), time.Minute, 4001},
		{"a CloseError", 0, "", fail(&consumer.CloseError{Code: 4101}), time.Minute, 4101},
		{"nobody knows", 0, "", unknown, 0, 0},
		{"nobody knows, and expired", 0, "90s", unknown, 2 * time.Minute, 1013},
		{"a panic", 0, "", func(context.Context, consumer.User) (consumer.User, error) { panic("broken") }, 0, 0},
		{"too slow", 0, "", func(ctx context.Context, u consumer.User) (consumer.User, error) {
			<-ctx.Done()
			return consumer.User{}, ctx.Err()
		}, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, router.Table{"/": consumer.Type[struct{}]{}}, &router.Options{
					RecheckEvery: test.every, Authenticate: &byHeader{recheck: test.answer},
				})
				c := consumertest.Dial(t, s, "/", &consumertest.Options{
					Header: header("X-User", "ann", "X-Expires", test.expires).Header, Timeout: time.Hour,
				})
				if test.after == 0 {
					c.ReceiveNothing(10 * time.Minute)
					return
				}
				began := time.Now()
				code, _ := c.ReceiveClose()
				if d := time.Since(began) - test.after; code != test.code || d < 0 && test.code != 1013 || d > 2*time.Second {
					t.Errorf("closed with %d after %v, want %d after %v", code, time.Since(began), test.code, test.after)
				}
			})
		})
	}
}

// What Recheck returns is the user from then on.
func TestRecheckStoresTheUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": consumer.Type[struct{}]{
			Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, _ consumer.Frame) error {
				return c.SendJSON(ctx, c.User().Data)
			},
		}}, &router.Options{Authenticate: &byHeader{recheck: func(_ context.Context, u consumer.User) (consumer.User, error) {
			u.Data = "roles"
			return u, nil
		}}})
		c := consumertest.Dial(t, s, "/", header("X-User", "ann"))
		for _, want := range []string{"null", `"roles"`} {
			c.SendText("who am I?")
			if got := c.ReceiveText(); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			c.ReceiveNothing(61 * time.Second)
		}
	})
}

// A logout while a recheck is under way stays a logout, whatever comes of that.
func TestRecheckDoesNotUndoALogout(t *testing.T) {
	for name, outcome := range map[string]error{"she is fine": nil, "she is gone": errors.New("which concerns ann alone")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				s := open(t, router.Table{"/": consumer.Type[struct{}]{
					Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
						if string(f.Data) == "log out" {
							c.SetUser(consumer.User{})
						}
						return c.Send(ctx, consumer.TextFrame("you are "+c.User().ID))
					},
				}}, &router.Options{MaxPerUser: 1, Authenticate: &byHeader{recheck: func(_ context.Context, u consumer.User) (consumer.User, error) {
					asked.Add(1)
					time.Sleep(5 * time.Second)
					return u, outcome
				}}})
				c := consumertest.Dial(t, s, "/", header("X-User", "ann"))
				c.ReceiveNothing(62 * time.Second) // the recheck is under way
				for _, say := range []string{"log out", "who am I?"} {
					c.SendText(say)
					if got := c.ReceiveText(); got != "you are " {
						t.Errorf("got %q, want nobody", got)
					}
					c.ReceiveNothing(5 * time.Minute)
				}
				if n := asked.Load(); n != 1 {
					t.Errorf("asked %d times, want once: nobody asks about anonymous visitors", n)
				}
				consumertest.Dial(t, s, "/", header("X-User", "ann"))
			})
		})
	}
}

// One that does not answer does not keep many others from being looked at.
func TestRechecksOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": consumer.Type[struct{}]{}}, &router.Options{Authenticate: &byHeader{
			recheck: func(ctx context.Context, u consumer.User) (consumer.User, error) {
				if u.ID == "slow" {
					<-ctx.Done()
					return u, ctx.Err()
				}
				return consumer.User{}, nil
			},
		}})
		consumertest.Dial(t, s, "/", header("X-User", "slow"))
		var clients []*consumertest.Client
		for range 20 {
			clients = append(clients, consumertest.Dial(t, s, "/", header("X-User", "quick")))
		}
		time.Sleep(62 * time.Second)
		for _, c := range clients {
			if code, _ := c.ReceiveClose(); code != 4001 {
				t.Errorf("got %d, want 4001", code)
			}
		}
		if d := s.Stats().Open; d != 1 {
			t.Errorf("%d are open, want the slow one alone", d)
		}
	})
}
