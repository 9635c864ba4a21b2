package auth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// Authenticator finds out who opens a connection, and later whether that still
// holds. It is what router.Options.Authenticate takes. Both methods are called
// from many goroutines at a time.
type Authenticator interface {
	// Authenticate is called before the upgrade. The zero User (or any without
	// an ID) and nil let an anonymous visitor in; a *consumer.DenyError in the
	// error's chain answers with its status and reason; any other error answers
	// 500 and goes into the log.
	Authenticate(r *http.Request) (consumer.User, error)

	// Recheck is called when u.Expires has come, and on a timer. It returns the
	// user as it is now. An error, or an anonymous user where there was
	// another, ends the connection; a *consumer.CloseError in the chain says
	// with which code, where 1013 says that nobody knows at the moment.
	Recheck(ctx context.Context, u consumer.User) (consumer.User, error)
}

// ErrUnavailable is in the chain of an error that says nothing about the user:
// the place where sessions or tickets are kept did not answer. Beside it stand a
// *consumer.DenyError of 503 from Authenticate and a *consumer.CloseError of 1013
// from Recheck: a new connection is refused, and package router keeps an open one
// until its credentials expire.
var ErrUnavailable = errors.New("auth: the credentials cannot be checked now")

// Func is an Authenticator made of a function: the way for credentials that no
// package here knows. Its users are rechecked against the clock alone; write the
// two methods of [Authenticator] where one of them can be thrown out earlier.
type Func func(r *http.Request) (consumer.User, error)

var _ Authenticator = Func(nil)

// Authenticate calls f.
func (f Func) Authenticate(r *http.Request) (consumer.User, error) { return f(r) }

// Recheck returns u until u.Expires, and from then on an error with code 4101:
// renew the credentials and come back.
func (f Func) Recheck(_ context.Context, u consumer.User) (consumer.User, error) {
	return u, CheckExpiry(u)
}

// CheckExpiry returns nil before u.Expires, and from then on a
// *consumer.CloseError with code 4101. The zero time never comes.
func CheckExpiry(u consumer.User) error {
	if u.Expires.IsZero() || time.Now().Before(u.Expires) {
		return nil
	}
	return &consumer.CloseError{Code: consumer.StatusExpired, Reason: "the credentials have expired"}
}
