package router_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

// byHeader takes the client's word for who it is.
type byHeader struct {
	authenticate func(*http.Request) error                                   // may be nil
	recheck      func(context.Context, consumer.User) (consumer.User, error) // may be nil
}

func (a *byHeader) Authenticate(r *http.Request) (consumer.User, error) {
	if a.authenticate != nil {
		if err := a.authenticate(r); err != nil {
			return consumer.User{}, err
		}
	}
	u := consumer.User{ID: r.Header.Get("X-User"), Session: r.Header.Get("X-Session")}
	if d, err := time.ParseDuration(r.Header.Get("X-Expires")); err == nil {
		u.Expires = time.Now().Add(d)
	}
	return u, nil
}

func (a *byHeader) Recheck(ctx context.Context, u consumer.User) (consumer.User, error) {
	if a.recheck == nil {
		return u, nil
	}
	return a.recheck(ctx, u)
}

// Over a limit a newcomer is refused, and nobody is thrown out. Who leaves makes
// room.
func TestLimits(t *testing.T) {
	for _, test := range []struct {
		name   string
		opts   router.Options
		client func(i int) *consumertest.Options
		room   int
		status int
		after  string
		why    string
	}{
		{"connections", router.Options{MaxConnections: 3}, func(int) *consumertest.Options { return nil }, 3, 503, "5", "Options.MaxConnections"},
		{"one address", router.Options{MaxPerAddress: 2}, func(int) *consumertest.Options { return nil }, 2, 429, "30", "Options.MaxPerAddress"},
		{"one address behind a proxy", router.Options{MaxPerAddress: 2, TrustedProxies: []string{"127.0.0.1"}},
			func(int) *consumertest.Options { return header("X-Forwarded-For", "203.0.113.9") }, 2, 429, "30", "203.0.113.9"},
		{"one network of IPv6", router.Options{MaxPerAddress: 2, TrustedProxies: []string{"127.0.0.1"}},
			func(i int) *consumertest.Options { return header("X-Forwarded-For", fmt.Sprint("2001:db8::", i+1)) }, 2, 429, "30", "2001:db8::/64"},
		{"one user", router.Options{MaxPerUser: 2, Authenticate: &byHeader{}},
			func(int) *consumertest.Options { return header("X-User", "ann") }, 2, 429, "30", "Options.MaxPerUser"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, router.Table{"/": consumer.Type[struct{}]{}}, &test.opts)
				var clients []*consumertest.Client
				for i := range test.room {
					clients = append(clients, consumertest.Dial(t, s, "/", test.client(i)))
				}
				got := consumertest.Refused(t, s, "/", test.client(test.room))
				if got.Status != test.status || got.Header.Get("Retry-After") != test.after {
					t.Errorf("got %d, Retry-After %q, want %d, %q", got.Status, got.Header.Get("Retry-After"), test.status, test.after)
				}
				s.log.expect(t, test.why)
				for _, c := range clients {
					c.ReceiveNothing(time.Second)
				}
				clients[0].Close(1000, "")
				synctest.Wait()
				consumertest.Dial(t, s, "/", test.client(0))
			})
		})
	}
}

// Negative limits are none, and users are told apart.
func TestNoLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": consumer.Type[struct{}]{}}, &router.Options{
			MaxConnections: -1, MaxPerAddress: -1, MaxPerUser: 1, Authenticate: &byHeader{},
		})
		for i := range 250 {
			consumertest.Dial(t, s, "/", header("X-User", fmt.Sprint("user", i)))
		}
		for range 10 {
			consumertest.Dial(t, s, "/", nil) // nobody in particular
		}
		if got := s.Stats().Open; got != 260 {
			t.Errorf("%d are open, want 260", got)
		}
	})
}

// SetUser books a connection under its new user.
func TestSetUserIsBooked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": consumer.Type[struct{}]{
			Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
				c.SetUser(consumer.User{ID: string(f.Data)})
				return c.Send(ctx, consumer.TextFrame("you are "+c.User().ID))
			},
		}}, &router.Options{MaxPerUser: 1, Authenticate: &byHeader{}})
		c := consumertest.Dial(t, s, "/", header("X-User", "ann"))
		become := func(who string) {
			t.Helper()
			c.SendText(who)
			if got, want := c.ReceiveText(), "you are "+who; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		refused := func(who string) {
			t.Helper()
			if got := consumertest.Refused(t, s, "/", header("X-User", who)).Status; got != 429 {
				t.Errorf("a second %s: got %d, want 429", who, got)
			}
		}
		refused("ann")
		become("bob")
		refused("bob")
		ann := consumertest.Dial(t, s, "/", header("X-User", "ann"))
		ann.Close(1000, "")
		become("") // logged out
		synctest.Wait()
		consumertest.Dial(t, s, "/", header("X-User", "bob"))
		if n, err := (router.Kick{User: "bob"}).Do(t.Context(), s.layer); n != 1 || err != nil {
			t.Errorf("kicked %d, %v, want the new bob alone", n, err)
		}
		c.ReceiveNothing(time.Second)
	})
}

// Authentication that refuses, fails, takes too long or panics gives its place
// back, and is answered.
func TestAuthenticationRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    func(*http.Request) error
		status int // 0 is no answer
		why    string
	}{
		{"a DenyError", func(*http.Request) error { return consumer.Deny(401, "log in first") }, 401, "log in first"},
		{"an error", func(*http.Request) error { return errors.New("no database") }, 500, "no database"},
		{"a timeout", func(r *http.Request) error { <-r.Context().Done(); return r.Context().Err() }, 503, "deadline exceeded"},
		{"a panic", func(*http.Request) error { panic(http.ErrAbortHandler) }, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fail := true
				s := open(t, router.Table{"/": consumer.Type[struct{}]{}}, &router.Options{
					MaxConnections: 1,
					Authenticate: &byHeader{authenticate: func(r *http.Request) error {
						if !fail {
							return nil
						}
						return test.err(r)
					}},
				})
				if test.status != 0 {
					got := consumertest.Refused(t, s, "/", &consumertest.Options{Timeout: time.Minute})
					if got.Status != test.status {
						t.Errorf("got %d, want %d", got.Status, test.status)
					}
					s.log.expect(t, test.why, "authentication refused")
				} else {
					func() {
						defer func() { recover() }()
						s.ServeHTTP(nil, handshake("/"))
					}()
				}
				fail = false
				consumertest.Dial(t, s, "/", nil)
			})
		})
	}
}

// The limits hold while authentication is under way: a flood does not reach
// whoever keeps the sessions.
func TestLimitsHoldForAuthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, release := make(chan struct{}, 10), make(chan struct{})
		s := open(t, router.Table{"/": consumer.Type[struct{}]{}}, &router.Options{
			MaxPerAddress: 1,
			Authenticate:  &byHeader{authenticate: func(*http.Request) error { asked <- struct{}{}; <-release; return nil }},
		})
		go func() {
			<-asked
			consumertest.Refused(t, s, "/", nil)
			close(release)
		}()
		consumertest.Dial(t, s, "/", nil)
		if len(asked) != 0 {
			t.Error("the second was asked for its credentials, want it refused before")
		}
	})
}
