package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/tideway-go/tideway/consumer"
)

// First asks several authenticators in order. The first that knows the visitor
// decides, and so does the first error: bad credentials are never passed over
// for the sake of others. If nobody knows the visitor, the first anonymous user
// with a session is returned, so that a login over the socket finds it.
//
// User.Via says which one it was, and Recheck goes back to that one. A user
// whose Via is empty (one that a consumer made up and set) holds until it
// expires.
//
// First panics when one of them is nil.
func First(authenticators ...Authenticator) Authenticator {
	for i, a := range authenticators {
		if a == nil {
			panic(fmt.Sprintf("auth: First: authenticator %d of %d is nil", i+1, len(authenticators)))
		}
	}
	return first(authenticators)
}

type first []Authenticator

func (f first) Authenticate(r *http.Request) (consumer.User, error) {
	var visitor consumer.User
	for i, a := range f {
		u, err := a.Authenticate(r)
		if err != nil {
			return consumer.User{}, err
		}
		u.Via = join(i, u.Via)
		if !u.Anonymous() {
			return u, nil
		}
		if visitor.Session == "" && u.Session != "" {
			visitor = u
		}
	}
	return visitor, nil
}

func (f first) Recheck(ctx context.Context, u consumer.User) (consumer.User, error) {
	if u.Via == "" {
		return u, CheckExpiry(u)
	}
	index, rest, _ := strings.Cut(u.Via, "/")
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || i >= len(f) {
		return consumer.User{}, fmt.Errorf("auth: User.Via %q names none of the %d authenticators of First: leave that field alone", u.Via, len(f))
	}
	u.Via = rest
	u, err = f[i].Recheck(ctx, u)
	u.Via = join(i, u.Via)
	return u, err
}

// AuthenticateToken asks the first that takes tokens over an open connection.
func (f first) AuthenticateToken(ctx context.Context, token string) (consumer.User, error) {
	for i, a := range f {
		u, err := authenticateToken(ctx, a, token)
		if !errors.Is(err, consumer.ErrNoTokens) {
			u.Via = join(i, u.Via)
			return u, err
		}
	}
	return consumer.User{}, consumer.ErrNoTokens
}

// authenticateToken asks a, if it takes tokens over an open connection.
func authenticateToken(ctx context.Context, a Authenticator, token string) (consumer.User, error) {
	if t, ok := a.(interface {
		AuthenticateToken(ctx context.Context, token string) (consumer.User, error)
	}); ok {
		return t.AuthenticateToken(ctx, token)
	}
	return consumer.User{}, consumer.ErrNoTokens
}

func join(i int, via string) string {
	if via == "" {
		return strconv.Itoa(i)
	}
	return strconv.Itoa(i) + "/" + via
}

// Required lets nobody in whom a does not know: the handshake is answered with
// 401, unless router.Options.FirstToken waits for a token from who brings no
// credentials. It panics when a is nil.
//
// It is for tables whose every consumer needs a user. Where some do not, leave
// it out and return [consumer.Deny](403, ...) from Connect.
func Required(a Authenticator) Authenticator {
	if a == nil {
		panic("auth: Required: the authenticator is nil")
	}
	return required{a}
}

type required struct{ inner Authenticator }

func (q required) Authenticate(r *http.Request) (consumer.User, error) {
	u, err := q.inner.Authenticate(r)
	if err == nil && u.Anonymous() {
		return consumer.User{}, &noCredentials{consumer.DenyError{Status: http.StatusUnauthorized, Reason: "log in first"}}
	}
	return u, err
}

// noCredentials refuses a visitor who brought none.
type noCredentials struct{ consumer.DenyError }

func (e *noCredentials) Unwrap() []error {
	return []error{&e.DenyError, consumer.ErrNoCredentials}
}

func (q required) AuthenticateToken(ctx context.Context, token string) (consumer.User, error) {
	return authenticateToken(ctx, q.inner, token)
}

func (q required) Recheck(ctx context.Context, u consumer.User) (consumer.User, error) {
	u, err := q.inner.Recheck(ctx, u)
	if err == nil && u.Anonymous() {
		return consumer.User{}, &consumer.CloseError{Code: consumer.StatusUnauthorized, Reason: "logged out"}
	}
	return u, err
}
