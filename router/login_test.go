package router_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
)

// byToken demands a login: by header, or by a token that is the user's name.
type byToken struct{ byHeader }

func (a *byToken) Authenticate(r *http.Request) (consumer.User, error) {
	u, err := a.byHeader.Authenticate(r)
	switch {
	case r.Header.Get("X-Bad") != "":
		return u, consumer.Deny(http.StatusUnauthorized, "bad credentials")
	case err == nil && u.Anonymous():
		return u, errors.Join(consumer.Deny(http.StatusUnauthorized, "log in first"), consumer.ErrNoCredentials)
	}
	return u, err
}

func (a *byToken) AuthenticateToken(ctx context.Context, token string) (consumer.User, error) {
	switch token {
	case "bad":
		return consumer.User{}, consumer.Deny(http.StatusUnauthorized, "the token is not valid")
	case "nobody":
		return consumer.User{}, nil
	case "down":
		return consumer.User{}, errors.New("no database")
	case "panic":
		panic("broken")
	case "slow":
		<-ctx.Done()
		return consumer.User{}, ctx.Err()
	}
	return consumer.User{ID: token}, nil
}

// greeters are consumers of each kind, which say whose connection they serve and
// repeat what they get. Bob is refused.
func greeters() router.Table {
	greet := func(ctx context.Context, c *consumer.Conn) error {
		if c.Request() == nil || c.Request().Header.Get("Upgrade") == "" {
			return errors.New("the request is gone before Connect")
		}
		if c.User().ID == "bob" {
			return consumer.Deny(http.StatusForbidden, "not bob")
		}
		return c.SendJSON(ctx, "hello "+c.User().ID)
	}
	typ := consumer.Type[struct{}]{
		Groups:  []string{"all"},
		Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error { return greet(ctx, c) },
		Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
			return c.Send(ctx, f)
		},
	}
	return router.Table{"/type/": typ, "/app/": through{typ}, "/func/": consumer.Func(func(ctx context.Context, c *consumer.Conn) error {
		if err := c.GroupAdd(ctx, "all"); err != nil {
			return err
		}
		if err := greet(ctx, c); err != nil {
			return err
		}
		for e, err := range c.Events(ctx) {
			if err != nil {
				return err
			}
			if err := c.Send(ctx, *e.Frame); err != nil {
				return err
			}
		}
		return nil
	})}
}

// through is an App around another.
type through struct{ inner consumer.App }

func (t through) Serve(ctx context.Context, c *consumer.Conn) error { return t.inner.Serve(ctx, c) }

func v1(h http.Header) *consumertest.Options {
	return &consumertest.Options{Header: h, Subprotocols: []string{consumer.Protocol}, Timeout: time.Hour}
}

func expect(t *testing.T, c *consumertest.Client, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := c.ReceiveText(); !strings.HasPrefix(got, w) {
			t.Fatalf("got %s, want %s", got, w)
		}
	}
}

// A client logs in by its first frame, and its consumer begins behind that.
func TestFirstToken(t *testing.T) {
	for _, path := range []string{"/type/", "/app/", "/func/"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, greeters(), &router.Options{Authenticate: &byToken{}, FirstToken: 10 * time.Second, MaxPerUser: 1})
				c := consumertest.Dial(t, s, path, v1(nil))
				expect(t, c, `{"hello":`)
				c.ReceiveNothing(9 * time.Second)
				if n := s.layer.Stats().Channels; n != 0 {
					t.Errorf("%d channels before the login, want 0", n)
				}
				c.SendText(`{"auth":"ann","id":1}`)
				expect(t, c, `{"reply":1,"data":null}`, `{"joined":"all"`, `{"data":"hello ann"}`)
				c.SendText(`{"data":7}`)
				expect(t, c, `{"data":7}`)
				c.ReceiveNothing(time.Minute)

				second := consumertest.Dial(t, s, path, v1(nil)) // over MaxPerUser
				second.SendText(`{"auth":"ann"}`)
				expect(t, second, `{"hello":`, `{"error":{"code":"unavailable","message":"too many`)
				if code, _ := second.ReceiveClose(); code != consumer.StatusTryAgainLater {
					t.Errorf("over MaxPerUser: closed with %d, want 1013", code)
				}

				bob := consumertest.Dial(t, s, path, v1(nil))
				bob.SendText(`{"auth":"bob"}`)
				expect(t, bob, `{"hello":`, `{"joined":`)
				if code, _ := bob.ReceiveClose(); code != consumer.StatusForbidden {
					t.Errorf("one whom Connect denies: closed with %d, want 4003", code)
				}

				if n := closeUser(t, s, "ann"); n != 1 {
					t.Errorf("kicked %d connections of ann, want 1", n)
				}
				c.ReceiveClose()
			})
		})
	}
}

func closeUser(t *testing.T, s *site, user string) int {
	t.Helper()
	n, err := router.Kick{User: user}.Do(t.Context(), s.layer)
	if err != nil {
		t.Error(err)
	}
	return n
}

// Nothing but a good token in time lets a client in.
func TestFirstTokenRefused(t *testing.T) {
	for name, test := range map[string]struct {
		send  string
		tells string
		code  consumer.StatusCode
		after time.Duration
	}{
		"nothing":     {"", "", 4001, 10 * time.Second},
		"resume":      {`{"resume":{}}`, `{"error":{"code":"unauthorized"`, 4001, 0},
		"data":        {`{"data":1}`, `{"error":{"code":"unauthorized"`, 4001, 0},
		"a ping":      {`{"ping":1}`, `{"error":{"code":"unauthorized"`, 4001, 0},
		"no frame":    {`hello?`, `{"error":{"code":"unauthorized"`, 4001, 0},
		"bad token":   {`{"auth":"bad"}`, `{"error":{"code":"unauthorized","message":"the token is not valid"`, 4001, 0},
		"a request":   {`{"auth":"bad","id":3}`, `{"reply":3,"error":{"code":"unauthorized"`, 4001, 0},
		"nobody's":    {`{"auth":"nobody"}`, `{"error":{"code":"unauthorized"`, 4001, 0},
		"unavailable": {`{"auth":"down"}`, `{"error":{"code":"unavailable"`, 1013, 0},
		"a panic":     {`{"auth":"panic"}`, `{"error":{"code":"unavailable"`, 1013, 0},
		"slow":        {`{"auth":"slow"}`, `{"error":{"code":"unavailable"`, 1013, 10 * time.Second},
		"too large":   {fmt.Sprintf(`{"auth":"%s"}`, strings.Repeat("a", 20<<10)), "", 1009, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, greeters(), &router.Options{Authenticate: &byToken{}, FirstToken: 10 * time.Second})
				c := consumertest.Dial(t, s, "/type/", v1(nil))
				expect(t, c, `{"hello":`)
				began := time.Now()
				if test.send != "" {
					c.SendText(test.send)
				}
				if test.tells != "" {
					expect(t, c, test.tells)
				}
				if code, _ := c.ReceiveClose(); code != test.code || time.Since(began) != test.after {
					t.Errorf("closed with %d after %v, want %d after %v", code, time.Since(began), test.code, test.after)
				}
				if n := s.Stats().Failed; n != 0 {
					t.Errorf("%d consumers failed, want 0", n)
				}
			})
		})
	}
}

// Who waits for its turn to log in takes a place, and can be sent away.
func TestFirstTokenLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, greeters(), &router.Options{Authenticate: &byToken{}, FirstToken: 10 * time.Second, MaxPerAddress: 1})
		for name, o := range map[string]*consumertest.Options{"plain": nil, "bad credentials": v1(http.Header{"X-Bad": {"1"}})} {
			if r := consumertest.Refused(t, s, "/type/", o); r.Status != http.StatusUnauthorized {
				t.Errorf("%s: status %d, want 401", name, r.Status)
			}
		}
		c := consumertest.Dial(t, s, "/type/", v1(nil))
		if r := consumertest.Refused(t, s, "/type/", v1(nil)); r.Status != http.StatusTooManyRequests {
			t.Errorf("over MaxPerAddress: status %d, want 429", r.Status)
		}
		c.Vanish()
		synctest.Wait()
		c = consumertest.Dial(t, s, "/type/", v1(nil))
		expect(t, c, `{"hello":`)
		go func() {
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		expect(t, c, `{"bye":`)
		if code, _ := c.ReceiveClose(); code != consumer.StatusServiceRestart {
			t.Errorf("closed with %d, want 1012", code)
		}
	})
}

// Without the option all is as for plain clients, and the option needs somebody
// who takes tokens.
func TestFirstTokenIsAnOption(t *testing.T) {
	s := open(t, greeters(), &router.Options{Authenticate: &byToken{}})
	if r := consumertest.Refused(t, s, "/type/", v1(nil)); r.Status != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", r.Status)
	}
	for _, o := range []router.Options{{FirstToken: time.Second}, {FirstToken: time.Second, Authenticate: &byHeader{}}, {FirstToken: -1, Authenticate: &byToken{}}} {
		if _, err := router.New((*layer.Layer)(nil), greeters(), &o); err == nil || !strings.Contains(err.Error(), "FirstToken") {
			t.Errorf("%v: got %v, want an error", o.FirstToken, err)
		}
	}
}
