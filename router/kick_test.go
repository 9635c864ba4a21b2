package router_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

// A kick reaches a user's or session's connections on every node, and nobody else's.
func TestKick(t *testing.T) {
	for _, test := range []struct {
		kick   router.Kick
		kicked []string // of the clients below
		code   consumer.StatusCode
		reason string
	}{
		{router.Kick{User: "ann"}, []string{"ann 1 on node 1", "ann 2 on node 1", "ann 1 on node 2"}, 4003, "closed by an operator"},
		{router.Kick{User: "ann", Session: "1"}, []string{"ann 1 on node 1", "ann 1 on node 2"}, 4003, "closed by an operator"},
		{router.Kick{Session: "3", Code: 4101, Reason: "log in again"}, []string{"bob 3 on node 2", " 3 on node 1"}, 4101, "log in again"},
		{router.Kick{User: "eve"}, nil, 0, ""},
		{router.Kick{Group: "of.2"}, []string{"ann 2 on node 1"}, 4003, "closed by an operator"},
		{router.Kick{User: "bob", Group: "of.3"}, []string{"bob 3 on node 2"}, 4003, "closed by an operator"},
		{router.Kick{Group: "of.nobody"}, nil, 0, ""},
	} {
		t.Run(fmt.Sprintf("%+v", test.kick), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := router.Table{"/": consumer.Type[struct{}]{Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
					return c.GroupAdd(ctx, "of."+c.User().Session)
				}}}
				opts := &router.Options{Authenticate: &byHeader{}}
				one := open(t, table, opts)
				two := join(t, one.bus, table, opts)
				clients := map[string]*consumertest.Client{}
				for _, c := range []struct {
					site          *site
					user, session string
					node          int
				}{{one, "ann", "1", 1}, {one, "ann", "2", 1}, {two, "ann", "1", 2}, {two, "bob", "3", 2}, {one, "", "3", 1}, {one, "bob", "", 1}} {
					name := fmt.Sprintf("%s %s on node %d", c.user, c.session, c.node)
					clients[name] = consumertest.Dial(t, c.site, "/", header("X-User", c.user, "X-Session", c.session))
				}
				n, err := test.kick.Do(t.Context(), two.layer)
				if n != len(test.kicked) || err != nil {
					t.Errorf("got %d, %v, want %d", n, err, len(test.kicked))
				}
				for _, name := range test.kicked {
					if code, reason := clients[name].ReceiveClose(); code != test.code || reason != test.reason {
						t.Errorf("%s: got %d %q, want %d %q", name, code, reason, test.code, test.reason)
					}
					delete(clients, name)
				}
				for _, c := range clients {
					c.ReceiveNothing(time.Second)
				}
			})
		})
	}
}

// A kick of nobody in particular is an error, here and where it comes from the
// network.
func TestKickOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": consumer.Type[struct{}]{}}, nil)
		if _, err := (router.Kick{Reason: "all of you"}).Do(t.Context(), s.layer); err == nil {
			t.Error("got no error")
		}
		for _, args := range []any{struct{}{}, "ann", map[string]int{"user": 5}} {
			if _, err := s.layer.Command(t.Context(), "", "kick", args); err == nil {
				t.Errorf("%v: got no error", args)
			}
		}
	})
}

// A kick during Connect refuses; one before it began keeps it from beginning.
func TestKickDuringTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, release := make(chan struct{}), make(chan struct{})
		s := open(t, router.Table{"/": asks(func(context.Context, *consumer.Conn) error {
			close(began)
			<-release
			return nil
		})}, &router.Options{Authenticate: &byHeader{}})
		go func() {
			<-began
			if n, err := (router.Kick{User: "ann"}).Do(context.Background(), s.layer); n != 1 || err != nil {
				t.Errorf("got %d, %v, want 1", n, err)
			}
			close(release)
		}()
		got := consumertest.Refused(t, s, "/", header("X-User", "ann"))
		if got.Status != 403 || got.Body != "closed by an operator\n" {
			t.Errorf("got %d %q, want 403", got.Status, got.Body)
		}
		s.log.expect(t, "closed by an operator")
	})
}
