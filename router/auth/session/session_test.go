package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
)

// conn is a connection as far as this package sees one.
type conn struct {
	user    consumer.User
	request *http.Request
	header  http.Header
}

func (c *conn) User() consumer.User     { return c.user }
func (c *conn) SetUser(u consumer.User) { c.user = u }
func (c *conn) Request() *http.Request  { return c.request }
func (c *conn) Header() http.Header     { return c.header }

// site is a web site with sessions: pages that log in and out, and a handshake.
type site struct {
	t        *testing.T
	manager  *scs.SessionManager
	sessions *Sessions
	server   *httptest.Server
	browser  *http.Client
	connect  func(c *conn) error // what Connect does
	last     *conn
	err      error // of the last handshake
}

func newManager() *scs.SessionManager {
	m := scs.New()
	m.Store = memstore.NewWithCleanupInterval(0)
	return m
}

func newSite(t *testing.T, manager *scs.SessionManager, middleware bool, opts *Options) *site {
	t.Helper()
	sessions, err := New(manager, opts)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, manager: manager, sessions: sessions}
	page := func(do func(ctx context.Context)) http.Handler {
		return manager.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { do(r.Context()) }))
	}
	mux := http.NewServeMux()
	mux.Handle("/visit", page(func(ctx context.Context) { manager.Put(ctx, "cart", "one book") }))
	mux.Handle("/login", page(func(ctx context.Context) {
		_ = manager.RenewToken(ctx)
		manager.Put(ctx, "user_id", "ada")
	}))
	mux.Handle("/logout", page(func(ctx context.Context) { _ = manager.Destroy(ctx) }))
	mux.Handle("/whoami", manager.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s with %s", manager.GetString(r.Context(), "user_id"), manager.GetString(r.Context(), "cart"))
	})))
	var ws http.Handler = http.HandlerFunc(s.handshake)
	if middleware {
		ws = manager.LoadAndSave(ws)
	}
	mux.Handle("/ws/", ws)
	s.server = httptest.NewServer(mux)
	t.Cleanup(s.server.Close)
	s.browser = newBrowser(t)
	return s
}

func newBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

func (s *site) handshake(w http.ResponseWriter, r *http.Request) {
	u, err := s.sessions.Authenticate(r)
	s.last, s.err = &conn{user: u, request: r, header: w.Header()}, err
	if err == nil && s.connect != nil {
		s.err = s.connect(s.last)
	}
	w.WriteHeader(http.StatusOK)
	s.last.request = nil
}

func (s *site) get(path string) string {
	s.t.Helper()
	response, err := s.browser.Get(s.server.URL + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body := new(strings.Builder)
	if err := response.Write(body); err != nil {
		s.t.Fatal(err)
	}
	_, text, _ := strings.Cut(body.String(), "\r\n\r\n")
	return text
}

// open does a handshake and returns its connection.
func (s *site) open() *conn {
	s.t.Helper()
	s.get("/ws/")
	if s.err != nil {
		s.t.Fatal(s.err)
	}
	return s.last
}

func (s *site) start(c *conn) error { return s.sessions.Start(c.request.Context(), c) }

func (s *site) whoami(want string) {
	s.t.Helper()
	if got := s.get("/whoami"); got != want {
		s.t.Errorf("the page sees %q, want %q", got, want)
	}
}

func both(t *testing.T, test func(t *testing.T, middleware bool)) {
	for _, middleware := range []bool{false, true} {
		t.Run(fmt.Sprintf("middleware=%v", middleware), func(t *testing.T) { test(t, middleware) })
	}
}

// case 84: anonymous on a fresh session; the user once logged in; anonymous
// after the logout.
func TestAuthenticate(t *testing.T) {
	both(t, func(t *testing.T, middleware bool) {
		s := newSite(t, newManager(), middleware, nil)
		if got := s.open().user; got != (consumer.User{}) {
			t.Errorf("without a cookie: %+v, want the zero User", got)
		}
		s.get("/visit")
		visitor := s.open().user
		if !visitor.Anonymous() || visitor.Session == "" {
			t.Errorf("with a fresh session: %+v, want an anonymous user with a session", visitor)
		}
		s.get("/login")
		user := s.open().user
		if user.ID != "ada" || user.Session == "" || user.Session == visitor.Session {
			t.Errorf("logged in: %+v, want ada in another session than %s", user, visitor.Session)
		}
		if d := time.Until(user.Expires); d < 23*time.Hour || d > 24*time.Hour {
			t.Errorf("expires in %v, want the session's 24h", d)
		}
		if again := s.open().user; again.Session != user.Session {
			t.Errorf("the session is called %s and then %s", user.Session, again.Session)
		}
		s.get("/logout")
		if got := s.open().user; got != (consumer.User{}) {
			t.Errorf("logged out: %+v, want the zero User", got)
		}
	})
}

// case 84 and 85: two browsers keep their own session.
func TestSessionsAreSeparate(t *testing.T) {
	s := newSite(t, newManager(), false, nil)
	s.get("/login")
	a := s.open().user
	s.browser = newBrowser(t)
	s.get("/login")
	b := s.open().user
	if a.ID != b.ID || a.Session == b.Session {
		t.Errorf("two browsers of one user: %+v and %+v, want two sessions", a, b)
	}
}

func TestForgedCookie(t *testing.T) {
	s := newSite(t, newManager(), false, nil)
	for _, value := range []string{"", "x", strings.Repeat("A", 43), "%00", strings.Repeat("y", 5000)} {
		r := httptest.NewRequest("GET", "/ws/", nil)
		r.Header.Set("Cookie", "session="+value)
		if u, err := s.sessions.Authenticate(r); err != nil || u != (consumer.User{}) {
			t.Errorf("cookie %.20q: %+v, %v; want the zero User", value, u, err)
		}
	}
}

func TestUserOption(t *testing.T) {
	manager := newManager()
	soon := time.Now().Add(time.Minute)
	known := true
	s := newSite(t, manager, false, &Options{User: func(ctx context.Context, id string) (consumer.User, error) {
		if !known {
			return consumer.User{}, nil
		}
		return consumer.User{ID: "ignored", Session: "ignored", Expires: soon, Data: "cart: " + manager.GetString(ctx, "cart")}, nil
	}})
	s.get("/visit")
	s.get("/login")
	u := s.open().user
	if u.ID != "ada" || u.Session == "ignored" || !u.Expires.Equal(soon) {
		t.Errorf("got %+v, want ada, expiring at %v", u, soon)
	}
	if data := u.Data.(*Session).Data; data != "cart: one book" {
		t.Errorf("Data is %v", data)
	}
	known = false
	if got := s.open().user; !got.Anonymous() {
		t.Errorf("an unknown id gave %+v", got)
	}
	if _, err := s.sessions.Recheck(t.Context(), u); consumer.CloseStatus(err) != consumer.StatusUnauthorized {
		t.Errorf("recheck of a deleted user: %v, want 4001", err)
	}
}

func TestIntegerIDs(t *testing.T) {
	manager := newManager()
	s := newSite(t, manager, false, &Options{Key: "uid", IntIDs: true})
	s.connect = s.start
	c := s.open()
	for _, id := range []string{"ada", "007", "1.5", " 1"} {
		if err := s.sessions.Login(t.Context(), c, id); err == nil {
			t.Errorf("Login with id %q: no error", id)
		}
	}
	if err := s.sessions.Login(t.Context(), c, "7"); err != nil {
		t.Fatal(err)
	}
	ctx, err := s.sessions.load(t.Context(), c.user.Data.(*Session).token)
	if err != nil {
		t.Fatal(err)
	}
	if got := manager.GetInt(ctx, "uid"); got != 7 {
		t.Errorf("the store holds %v, want the int 7", manager.Get(ctx, "uid"))
	}
	if got := s.open().user.ID; got != "7" {
		t.Errorf("the next connection's user is %q", got)
	}
}

func TestRecheck(t *testing.T) {
	s := newSite(t, newManager(), false, nil)
	s.get("/login")
	u := s.open().user
	u.Via = "1"
	now, err := s.sessions.Recheck(t.Context(), u)
	if err != nil || now.ID != u.ID || now.Session != u.Session || now.Via != "1" {
		t.Errorf("recheck: %+v, %v; want the same user as %+v", now, err, u)
	}
	s.get("/logout")
	if _, err := s.sessions.Recheck(t.Context(), u); consumer.CloseStatus(err) != consumer.StatusUnauthorized {
		t.Errorf("after the logout: %v, want 4001", err)
	}
}

func TestRecheckOfOthers(t *testing.T) {
	s := newSite(t, newManager(), false, nil)
	if u, err := s.sessions.Recheck(t.Context(), consumer.User{ID: "made up"}); err != nil || u.ID != "made up" {
		t.Errorf("a user of another authenticator: %+v, %v", u, err)
	}
	if u, err := s.sessions.Recheck(t.Context(), consumer.User{}); err != nil || !u.Anonymous() {
		t.Errorf("an anonymous user: %+v, %v", u, err)
	}
}

func TestRecheckSwitchedUser(t *testing.T) {
	s := newSite(t, newManager(), false, &Options{KeepToken: true})
	s.get("/login")
	first, second := s.open(), s.open()
	if err := s.sessions.Login(t.Context(), second, "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.sessions.Recheck(t.Context(), first.user); consumer.CloseStatus(err) != consumer.StatusExpired {
		t.Errorf("ada's connection after bob logged in: %v, want 4101", err)
	}
}

func TestExpiry(t *testing.T) {
	manager := newManager() // outside: scs.New starts a goroutine for good
	synctest.Test(t, func(t *testing.T) {
		manager.Lifetime = time.Hour
		sessions, err := New(manager, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, err := manager.Load(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		manager.Put(ctx, "user_id", "ada")
		token, _, err := manager.Commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/ws/", nil)
		r.AddCookie(&http.Cookie{Name: "session", Value: token})
		u, err := sessions.Authenticate(r)
		if err != nil || time.Until(u.Expires) != time.Hour {
			t.Fatalf("got %+v, %v; want it to expire in an hour", u, err)
		}
		time.Sleep(time.Hour)
		if _, err := sessions.Recheck(t.Context(), u); consumer.CloseStatus(err) != consumer.StatusExpired {
			t.Errorf("at the expiry: %v, want 4101", err)
		}
		time.Sleep(time.Second)
		if _, err := sessions.Recheck(t.Context(), u); consumer.CloseStatus(err) != consumer.StatusUnauthorized {
			t.Errorf("after the expiry: %v, want 4001", err)
		}
	})
}

// brokenStore is a store whose server is gone.
type brokenStore struct{ scs.Store }

func (brokenStore) Find(string) ([]byte, bool, error) { return nil, false, errors.New("dial db:5432") }

func TestStoreUnavailable(t *testing.T) {
	s := newSite(t, newManager(), false, nil)
	s.get("/login")
	u := s.open().user
	s.manager.Store = brokenStore{s.manager.Store}
	r := httptest.NewRequest("GET", "/ws/", nil)
	r.AddCookie(&http.Cookie{Name: "session", Value: "x"})
	_, err := s.sessions.Authenticate(r)
	var deny *consumer.DenyError
	if !errors.As(err, &deny) || deny.Status != http.StatusServiceUnavailable || strings.Contains(deny.Reason, "db") {
		t.Errorf("Authenticate: %v, want 503 without internals", err)
	}
	if !errors.Is(err, auth.ErrUnavailable) || !strings.Contains(err.Error(), "db:5432") {
		t.Errorf("Authenticate: %v, want ErrUnavailable and the cause for the log", err)
	}
	_, err = s.sessions.Recheck(t.Context(), u)
	if !errors.Is(err, auth.ErrUnavailable) || consumer.CloseStatus(err) != consumer.StatusTryAgainLater {
		t.Errorf("Recheck: %v, want ErrUnavailable and 1013", err)
	}
}

func TestTokenIsNeverShown(t *testing.T) {
	s := newSite(t, newManager(), false, nil)
	s.get("/login")
	u := s.open().user
	token := u.Data.(*Session).token
	encoded, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(u), fmt.Sprintf("%+v %#v", u, u), fmt.Sprintf("%+v %#v %s", u.Data, u.Data, u.Data), string(encoded)} {
		if strings.Contains(text, token) {
			t.Errorf("the token is in %s", text)
		}
	}
}

func TestNewErrors(t *testing.T) {
	for name, manager := range map[string]*scs.SessionManager{"nil": nil, "zero": {}} {
		if _, err := New(manager, nil); err == nil || !strings.HasPrefix(err.Error(), "session: ") {
			t.Errorf("%s manager: got error %v", name, err)
		}
	}
}
