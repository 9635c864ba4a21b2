package session

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/alexedwards/scs/v2"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
)

// Options of [New]. The zero value and nil are the defaults.
type Options struct {
	// Key is where the session keeps the user's id: the one your login handler
	// writes. Default "user_id". The value may be a string, an int or an int64.
	Key string

	// IntIDs makes Login write an int in place of a string, for programs that
	// read it with GetInt. Login then takes decimal numbers only.
	IntIDs bool

	// User makes a user of an id: with a name, with roles, whatever belongs into
	// User.Data. It runs at the handshake and at each recheck. ctx carries the
	// session, so manager.GetString(ctx, "...") reads more of it. An anonymous
	// user says that the id is not valid (any more: deleted, or the password
	// was changed). ID, Session and Via of what it returns are set by the caller,
	// and the earlier of the two Expires holds. Default: the id alone.
	User func(ctx context.Context, id string) (consumer.User, error)

	// KeepToken lets Login use a session whose token came in with the handshake,
	// without the new token of Start. That is open to session fixation unless
	// nobody else can plant the cookie, as with a name that begins with __Host-;
	// the package text has the whole story. Default false.
	KeepToken bool
}

// Sessions is an [auth.Authenticator] on the sessions of an
// scs.SessionManager. Its methods may be called from many goroutines.
type Sessions struct {
	manager *scs.SessionManager
	opts    Options
}

var _ auth.Authenticator = (*Sessions)(nil)

// New returns the authenticator for manager's sessions: the manager that the
// HTTP handlers use, or one with the same store, cookie name and codec.
func New(manager *scs.SessionManager, opts *Options) (*Sessions, error) {
	if manager == nil || manager.Store == nil || manager.Codec == nil || manager.Cookie.Name == "" {
		return nil, errors.New("session: the manager is nil or lacks a store, a codec or a cookie name: make it with scs.New")
	}
	s := &Sessions{manager: manager}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Key == "" {
		s.opts.Key = "user_id"
	}
	return s, nil
}

// Session is the Data of every user that comes from this package, an anonymous
// visitor with a session included.
type Session struct {
	// Data is what Options.User put into User.Data, or nil.
	Data any

	owner   *Sessions
	token   string // the cookie's value: never shown
	renewed bool   // the token was made by Start, for this connection alone
}

// String returns a text without the token, whatever the verb.
func (s *Session) String() string { return fmt.Sprintf("session %s", publicID(s.token)) }

// GoString is String.
func (s *Session) GoString() string { return s.String() }

// MarshalJSON returns Data alone.
func (s *Session) MarshalJSON() ([]byte, error) { return json.Marshal(s.Data) }

// Authenticate returns the user of the session that the request's cookie names.
// Without a cookie, or with one that names no session (any more), it returns the
// zero User; for a session without a user an anonymous one whose Session is set.
// It works inside the manager's LoadAndSave and without it.
func (s *Sessions) Authenticate(r *http.Request) (consumer.User, error) {
	token := ""
	if cookie, err := r.Cookie(s.manager.Cookie.Name); err == nil {
		token = cookie.Value
	}
	ctx, err := s.manager.Load(r.Context(), token)
	if err != nil {
		return consumer.User{}, s.unavailable(err, consumer.Deny(http.StatusServiceUnavailable, "sessions cannot be read now"))
	}
	token = s.manager.Token(ctx)
	if token == "" {
		return consumer.User{}, nil
	}
	u, err := s.user(ctx)
	if err != nil {
		return consumer.User{}, err
	}
	return s.with(u, &Session{token: token}), nil
}

// Recheck reads the session again. A session that ended, or no longer has a
// user, is an error with code 4001; one that belongs to somebody else by now, or
// whose user is to expire, one with code 4101. It is no activity: an
// IdleTimeout goes on running while a socket is open.
func (s *Sessions) Recheck(ctx context.Context, u consumer.User) (consumer.User, error) {
	if u.Anonymous() {
		return u, nil
	}
	old, ok := s.session(u)
	if !ok {
		return u, auth.CheckExpiry(u)
	}
	ctx, err := s.load(ctx, old.token)
	if errors.Is(err, ErrEnded) {
		return consumer.User{}, &consumer.CloseError{Code: consumer.StatusUnauthorized, Reason: "logged out"}
	}
	if err != nil {
		return consumer.User{}, s.unavailable(err, &consumer.CloseError{Code: consumer.StatusTryAgainLater, Reason: "sessions cannot be read now"})
	}
	now, err := s.user(ctx)
	switch {
	case err != nil:
		return consumer.User{}, err
	case now.Anonymous():
		return consumer.User{}, &consumer.CloseError{Code: consumer.StatusUnauthorized, Reason: "logged out"}
	case now.ID != u.ID:
		return consumer.User{}, &consumer.CloseError{Code: consumer.StatusExpired, Reason: "somebody else has logged in"}
	}
	now.Via = u.Via
	now = s.with(now, &Session{token: old.token, renewed: old.renewed})
	return now, auth.CheckExpiry(now)
}

// user makes the user of the session in ctx; an anonymous one if it has none.
func (s *Sessions) user(ctx context.Context) (consumer.User, error) {
	id := s.id(ctx)
	if id == "" {
		return consumer.User{}, nil
	}
	u := consumer.User{ID: id}
	if s.opts.User != nil {
		var err error
		u, err = s.opts.User(ctx, id)
		if err != nil {
			return consumer.User{}, fmt.Errorf("session: Options.User: %w", err)
		}
		if u.Anonymous() {
			return consumer.User{}, nil
		}
		u.ID, u.Via = id, ""
	}
	if end := s.manager.Deadline(ctx); u.Expires.IsZero() || end.Before(u.Expires) {
		u.Expires = end
	}
	return u, nil
}

// with gives u its session.
func (s *Sessions) with(u consumer.User, session *Session) consumer.User {
	session.Data, session.owner = u.Data, s
	u.Session, u.Data = publicID(session.token), session
	return u
}

// id reads the user's id, "" if there is none.
func (s *Sessions) id(ctx context.Context) string {
	switch id := s.manager.Get(ctx, s.opts.Key).(type) {
	case string:
		return id
	case int:
		return strconv.Itoa(id)
	case int64:
		return strconv.FormatInt(id, 10)
	}
	return ""
}

// session returns what this authenticator gave to u.
func (s *Sessions) session(u consumer.User) (*Session, bool) {
	session, ok := u.Data.(*Session)
	return session, ok && session != nil && session.owner == s
}

func (s *Sessions) unavailable(err, answer error) error {
	return fmt.Errorf("session: the store: %w: %w: %w", err, auth.ErrUnavailable, answer)
}

// publicID names a session without giving it away. It is no plain hash, because
// that is what a manager with HashTokenInStore finds the session by.
func publicID(token string) string {
	sum := sha256.Sum256([]byte("tideway session id\x00" + token))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
