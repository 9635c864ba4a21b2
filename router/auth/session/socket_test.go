package session_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/auth/session"
)

// account is a consumer that logs in, logs out, and says who it is.
type account struct{}

type command struct{ Do, Name string }

func accounts(users *session.Sessions) consumer.App {
	return consumer.Type[account]{
		New:     func() *account { return new(account) },
		Connect: func(_ *account, ctx context.Context, c *consumer.Conn) error { return users.Start(ctx, c) },
		Receive: consumer.JSON(func(_ *account, ctx context.Context, c *consumer.Conn, m command) error {
			var err error
			switch m.Do {
			case "login":
				err = users.Login(ctx, c, m.Name)
			case "logout":
				err = users.Logout(ctx, c)
			}
			text := c.User().ID
			if err != nil {
				text = err.Error()
			}
			return c.Send(ctx, consumer.TextFrame(text))
		}),
	}
}

// case 84, through the whole stack: two tabs, a login and a logout over the
// socket, and the recheck that ends what a logout leaves behind.
func TestOverTheSocket(t *testing.T) {
	for _, middleware := range []bool{false, true} {
		manager := scs.New() // outside the bubble: it starts a goroutine for good
		manager.Store = memstore.NewWithCleanupInterval(0)
		synctest.Test(t, func(t *testing.T) { overTheSocket(t, manager, middleware) })
	}
}

func overTheSocket(t *testing.T, manager *scs.SessionManager, middleware bool) {
	users, err := session.New(manager, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := serve(t, users)
	if middleware {
		h = manager.LoadAndSave(h)
	}

	first := consumertest.Dial(t, h, "/ws/", nil)
	cookie, _, _ := strings.Cut(first.Header().Get("Set-Cookie"), ";")
	if !strings.HasPrefix(cookie, "session=") {
		t.Fatalf("the 101 has the headers %v, want a session cookie", first.Header())
	}
	ask(t, first, command{Do: "who"}, "")
	ask(t, first, command{Do: "login", Name: "ada"}, "ada")

	second := consumertest.Dial(t, h, "/ws/", &consumertest.Options{Header: http.Header{"Cookie": {cookie}, "Origin": {"http://localhost"}}})
	ask(t, second, command{Do: "who"}, "ada")
	ask(t, second, command{Do: "login", Name: "bob"}, session.ErrNotRenewed.Error())
	first.ReceiveNothing(3 * time.Minute) // rechecked, and found in order
	ask(t, second, command{Do: "logout"}, "")
	ask(t, second, command{Do: "login", Name: "ada"}, session.ErrNoSession.Error())
	if code, reason := first.ReceiveClose(); code != consumer.StatusUnauthorized || reason != "logged out" {
		t.Errorf("the other tab was closed with %d %q, want 4001", code, reason)
	}
}

func serve(t *testing.T, users *session.Sessions) (http.Handler, *layer.Layer) {
	t.Helper()
	l, err := layer.New(membus.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := router.New(l, router.Table{"/ws/": accounts(users)}, &router.Options{Authenticate: users, RecheckEvery: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r, l
}

func ask(t *testing.T, c *consumertest.Client, m command, want string) {
	t.Helper()
	c.SendJSON(m)
	if got := c.ReceiveText(); got != want {
		t.Errorf("%s: got %q, want %q", m.Do, got, want)
	}
}
