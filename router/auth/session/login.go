package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/tideway-go/tideway/consumer"
)

var (
	// ErrNoSession is returned by Login on a connection without a session: the
	// visitor brought no valid cookie, and Connect did not call Start.
	ErrNoSession = errors.New("session: the connection has no session: call Start in Connect, or let the page's handler make one")

	// ErrNotRenewed is returned by Login when the session's token came in with
	// the handshake, so that somebody else may know it.
	ErrNotRenewed = errors.New("session: the session's token is not new: call Start in Connect, or set Options.KeepToken and read there what it means")

	// ErrEnded is returned by Login and Start when the session ended meanwhile: it
	// expired, or was logged out or renewed through another connection. Close
	// with 4101, so that the client returns with the cookie that it has now.
	ErrEnded = errors.New("session: the session has ended: let the client connect again")

	// ErrAccepted is returned by Start once the connection is accepted: no cookie
	// can be set any more.
	ErrAccepted = errors.New("session: Start was called after Accept or after Connect: only the handshake can set a cookie")
)

// Conn is what Start, Login and Logout need of a *consumer.Conn.
type Conn interface {
	User() consumer.User
	SetUser(consumer.User)
	Request() *http.Request
	Header() http.Header
}

var _ Conn = (*consumer.Conn)(nil)

// Start gives the visitor a session under a token that nobody else has seen: an
// anonymous session goes on with all its data, a visitor without one gets an
// empty one, and the cookie goes out with the 101. It is for Connect, before
// Accept, of consumers over whose socket somebody may log in. A connection that
// has a user already is left as it is.
//
// Another tab that is open with the old token has lost its session then: a Login
// there returns ErrEnded.
func (s *Sessions) Start(ctx context.Context, c Conn) error {
	u := c.User()
	if !u.Anonymous() {
		return nil
	}
	// What is set after Accept is not there the next time.
	r := c.Request()
	c.Header().Set("Vary", "Cookie")
	if r == nil || c.Header().Get("Vary") == "" {
		return ErrAccepted
	}
	token := ""
	if old, ok := s.session(u); ok {
		token = old.token
	}
	// Inside LoadAndSave the session of the request is the one to renew, or the
	// middleware would write the old one back with the 101.
	ctx, err := s.manager.Load(withValues{ctx, r.Context()}, token)
	if err != nil {
		return fmt.Errorf("session: reading the session: %w", err)
	}
	if err := s.manager.RenewToken(ctx); err != nil {
		return fmt.Errorf("session: renewing the token: %w", err)
	}
	token, expiry, err := s.manager.Commit(ctx)
	if err != nil {
		return fmt.Errorf("session: writing the session: %w", err)
	}
	s.manager.WriteSessionCookie(ctx, headerWriter(c.Header()), token, expiry)
	c.SetUser(s.with(consumer.User{Via: u.Via}, &Session{token: token, renewed: true}))
	return nil
}

// Login makes id the user of the connection's session, in the store at once, and
// of the connection. An anonymous session keeps its data; another user's data is
// dropped first, as in Channels (channels/auth.py). The browser's next page
// request is logged in too, since its cookie names the same session.
//
// It needs the token of Start, or Options.KeepToken. Check the password before:
// Login does not ask. When Options.User does not know id, nothing is changed and
// the error says so.
func (s *Sessions) Login(ctx context.Context, c Conn, id string) error {
	value, err := s.value(id)
	if err != nil {
		return err
	}
	old := c.User()
	session, ok := s.session(old)
	switch {
	case !ok:
		return ErrNoSession
	case !session.renewed && !s.opts.KeepToken:
		return ErrNotRenewed
	}
	ctx, err = s.load(ctx, session.token)
	if err != nil {
		return err
	}
	if previous := s.id(ctx); previous != "" && previous != id {
		if err := s.manager.Clear(ctx); err != nil {
			return fmt.Errorf("session: dropping the data of %q: %w", previous, err)
		}
	}
	s.manager.Put(ctx, s.opts.Key, value)
	u, err := s.user(ctx)
	if err != nil {
		return err
	}
	if u.Anonymous() {
		return fmt.Errorf("session: Login: Options.User knows no user %q", id)
	}
	if _, _, err := s.manager.Commit(ctx); err != nil {
		return fmt.Errorf("session: writing the session: %w", err)
	}
	u.Via = old.Via
	c.SetUser(s.with(u, &Session{token: session.token, renewed: session.renewed}))
	return nil
}

// Logout ends the connection's session with all its data, in the store at once,
// and makes the connection anonymous. The cookie stays in the browser and names
// nothing. On an anonymous connection it does nothing.
//
// Other connections of the session go at their next recheck; kick them by
// User.Session to be rid of them now. To log in again, connect again.
func (s *Sessions) Logout(ctx context.Context, c Conn) error {
	u := c.User()
	if u.Anonymous() {
		return nil
	}
	session, ok := s.session(u)
	if !ok {
		return ErrNoSession
	}
	ctx, err := s.load(ctx, session.token)
	if err != nil && !errors.Is(err, ErrEnded) {
		return err
	}
	if err == nil {
		if err := s.manager.Destroy(ctx); err != nil {
			return fmt.Errorf("session: deleting the session: %w", err)
		}
	}
	c.SetUser(consumer.User{})
	return nil
}

// value is id as the session keeps it.
func (s *Sessions) value(id string) (any, error) {
	if id == "" {
		return nil, errors.New("session: Login: the user's id is empty: use Logout to make a connection anonymous")
	}
	if !s.opts.IntIDs {
		return id, nil
	}
	n, err := strconv.Atoi(id)
	if err != nil || strconv.Itoa(n) != id {
		return nil, fmt.Errorf("session: Login: the user's id %q is no number, as Options.IntIDs wants", id)
	}
	return n, nil
}

// load reads the session of token from the store, whatever session ctx carries.
func (s *Sessions) load(ctx context.Context, token string) (context.Context, error) {
	ctx, err := s.manager.Load(noValues{ctx}, token)
	if err != nil {
		return nil, fmt.Errorf("session: reading the session: %w", err)
	}
	if s.manager.Token(ctx) == "" {
		return nil, ErrEnded
	}
	return ctx, nil
}

// noValues hides the values of a context. A handler's context may descend from a
// request inside LoadAndSave, whose session is a copy made at the handshake.
type noValues struct{ context.Context }

func (noValues) Value(any) any { return nil }

// withValues ends as one context does and has the values of another.
type withValues struct {
	context.Context
	values context.Context
}

func (w withValues) Value(key any) any { return w.values.Value(key) }

// headerWriter is the part of a ResponseWriter that setting a cookie needs.
type headerWriter http.Header

func (h headerWriter) Header() http.Header     { return http.Header(h) }
func (headerWriter) Write([]byte) (int, error) { return 0, http.ErrBodyNotAllowed }
func (headerWriter) WriteHeader(int)           {}
