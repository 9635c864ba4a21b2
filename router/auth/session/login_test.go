package session

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// case 84: a login persists, for the connection, the next one and the pages, and
// an anonymous session keeps its data.
func TestLogin(t *testing.T) {
	both(t, func(t *testing.T, middleware bool) {
		s := newSite(t, newManager(), middleware, nil)
		s.get("/visit")
		s.connect = s.start
		c := s.open()
		if err := s.sessions.Login(t.Context(), c, "ada"); err != nil {
			t.Fatal(err)
		}
		if c.user.ID != "ada" || c.user.Expires.IsZero() {
			t.Errorf("the connection's user is %+v, want ada", c.user)
		}
		s.whoami("ada with one book")
		if got := s.open().user; got.ID != "ada" || got.Session != c.user.Session {
			t.Errorf("the next connection's user is %+v, want ada in session %s", got, c.user.Session)
		}
		if _, err := s.sessions.Recheck(t.Context(), c.user); err != nil {
			t.Errorf("recheck: %v", err)
		}
	})
}

// case 84: login as another user replaces the session data.
func TestLoginAsAnother(t *testing.T) {
	s := newSite(t, newManager(), false, nil)
	s.get("/visit")
	s.connect = s.start
	c := s.open()
	for _, id := range []string{"ada", "ada"} {
		if err := s.sessions.Login(t.Context(), c, id); err != nil {
			t.Fatal(err)
		}
		s.whoami("ada with one book")
	}
	if err := s.sessions.Login(t.Context(), c, "bob"); err != nil {
		t.Fatal(err)
	}
	s.whoami("bob with ")
}

// case 84: logout clears; when anonymous it does nothing.
func TestLogout(t *testing.T) {
	both(t, func(t *testing.T, middleware bool) {
		s := newSite(t, newManager(), middleware, nil)
		s.get("/visit")
		visitor := s.open()
		before := visitor.user
		if err := s.sessions.Logout(t.Context(), visitor); err != nil || visitor.user != before {
			t.Errorf("logout of a visitor: %v, user %+v, want no change", err, visitor.user)
		}
		s.whoami(" with one book")

		s.get("/login")
		c, other := s.open(), s.open()
		if err := s.sessions.Logout(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if c.user != (consumer.User{}) {
			t.Errorf("after the logout the user is %+v", c.user)
		}
		s.whoami(" with ")
		if _, err := s.sessions.Recheck(t.Context(), other.user); consumer.CloseStatus(err) != consumer.StatusUnauthorized {
			t.Errorf("the other connection: %v, want 4001", err)
		}
		if err := s.sessions.Logout(t.Context(), other); err != nil || !other.user.Anonymous() {
			t.Errorf("logout of a session that has ended: %v, user %+v", err, other.user)
		}
		if err := s.sessions.Login(t.Context(), c, "ada"); !errors.Is(err, ErrNoSession) {
			t.Errorf("login after logout: %v, want ErrNoSession", err)
		}
	})
}

// case 84: login without a session, or without a user, fails.
func TestLoginErrors(t *testing.T) {
	s := newSite(t, newManager(), false, &Options{User: func(_ context.Context, id string) (consumer.User, error) {
		if id == "broken" {
			return consumer.User{}, errors.New("no table users")
		}
		if id == "ghost" {
			return consumer.User{}, nil
		}
		return consumer.User{ID: id}, nil
	}})
	bare := s.open()
	if err := s.sessions.Login(t.Context(), bare, "ada"); !errors.Is(err, ErrNoSession) {
		t.Errorf("without a session: %v, want ErrNoSession", err)
	}
	if err := s.sessions.Logout(t.Context(), &conn{user: consumer.User{ID: "by token"}}); !errors.Is(err, ErrNoSession) {
		t.Errorf("logout of another authenticator's user: %v, want ErrNoSession", err)
	}
	s.connect = s.start
	c := s.open()
	for id, want := range map[string]string{"": "empty", "ghost": `no user "ghost"`, "broken": "no table users"} {
		if err := s.sessions.Login(t.Context(), c, id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("login of %q: %v, want %q", id, err, want)
		}
	}
	if !c.user.Anonymous() {
		t.Errorf("after failed logins the user is %+v", c.user)
	}
	s.whoami(" with ")
}

// A token that came with the handshake may be somebody else's too.
func TestSessionFixation(t *testing.T) {
	both(t, func(t *testing.T, middleware bool) {
		s := newSite(t, newManager(), middleware, nil)
		s.get("/visit")
		planted := s.open()
		if err := s.sessions.Login(t.Context(), planted, "ada"); !errors.Is(err, ErrNotRenewed) {
			t.Errorf("login under the cookie's token: %v, want ErrNotRenewed", err)
		}
		s.connect = s.start
		c := s.open()
		if c.user.Session == planted.user.Session {
			t.Error("Start kept the token")
		}
		if err := s.sessions.Login(t.Context(), c, "ada"); err != nil {
			t.Fatal(err)
		}
		if _, found, _ := s.manager.Store.Find(planted.user.Data.(*Session).token); found {
			t.Error("the old token still names a session")
		}
		if err := s.sessions.Start(t.Context(), c); err != nil {
			t.Errorf("Start with a user: %v, want nothing", err)
		}
	})
}

// With an idle timeout LoadAndSave writes every session back with the response:
// that must be the renewed one.
func TestStartWithIdleTimeout(t *testing.T) {
	both(t, func(t *testing.T, middleware bool) {
		manager := newManager()
		manager.IdleTimeout = time.Hour
		s := newSite(t, manager, middleware, nil)
		s.get("/visit")
		old := s.open().user.Data.(*Session).token
		s.connect = s.start
		c := s.open()
		if _, found, _ := manager.Store.Find(old); found {
			t.Error("the old token still names a session")
		}
		if err := s.sessions.Login(t.Context(), c, "ada"); err != nil {
			t.Fatal(err)
		}
		s.whoami("ada with one book")
	})
}

func TestKeepToken(t *testing.T) {
	s := newSite(t, newManager(), false, &Options{KeepToken: true})
	s.get("/visit")
	c := s.open()
	if err := s.sessions.Login(t.Context(), c, "ada"); err != nil {
		t.Fatal(err)
	}
	s.whoami("ada with one book")
}

// A second tab renews the token under the first.
func TestStartInAnotherTab(t *testing.T) {
	s := newSite(t, newManager(), false, nil)
	s.connect = s.start
	first := s.open()
	second := s.open()
	if err := s.sessions.Login(t.Context(), first, "ada"); !errors.Is(err, ErrEnded) {
		t.Errorf("login in the first tab: %v, want ErrEnded", err)
	}
	if err := s.sessions.Login(t.Context(), second, "ada"); err != nil {
		t.Errorf("login in the second tab: %v", err)
	}
	if err := s.sessions.Start(t.Context(), first); !errors.Is(err, ErrAccepted) {
		t.Errorf("Start after Connect: %v, want ErrAccepted", err)
	}
}

// accepted is a connection whose headers are out: what is set goes nowhere.
type accepted struct{ *conn }

func (accepted) Header() http.Header { return http.Header{} }

func TestStartAfterAccept(t *testing.T) {
	s := newSite(t, newManager(), false, nil)
	s.get("/visit")
	s.connect = func(c *conn) error { return s.sessions.Start(c.request.Context(), accepted{c}) }
	s.get("/ws/")
	if !errors.Is(s.err, ErrAccepted) {
		t.Errorf("got %v, want ErrAccepted", s.err)
	}
	s.whoami(" with one book")
}

// case 85: the cookie is the manager's: its name and attributes.
func TestStartCookie(t *testing.T) {
	manager := newManager()
	manager.Cookie.Name, manager.Cookie.Secure = "__Host-tide", true
	s := newSite(t, manager, false, nil)
	var header string
	s.connect = func(c *conn) error {
		err := s.start(c)
		header = strings.Join(c.header.Values("Set-Cookie"), "\n")
		return err
	}
	s.open()
	for _, want := range []string{"__Host-tide=", "Path=/", "Max-Age=86400", "Expires=", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(header, want) {
			t.Errorf("Set-Cookie is %q, want %s in it", header, want)
		}
	}
	if strings.Count(header, "__Host-tide=") != 1 {
		t.Errorf("Set-Cookie is %q, want one cookie", header)
	}
}
