package consumer

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// ErrNoCredentials is in the chain of an authenticator's error that refuses a
// visitor who brought no credentials at all. Where the router is set to wait for
// a token it does so then; credentials that do not hold are refused in any case.
var ErrNoCredentials = errors.New("consumer: no credentials")

// maxLogin is the largest first frame, in bytes, of a client that has yet to say
// who it is: a token of 16 KiB and a little more.
const maxLogin = 17 << 10

// Login makes a connection begin with its client's token: it is accepted, as one
// that speaks tideway.v1, and the consumer begins when the first frame was an auth
// frame whose token is good. Until then nothing else is handled.
type Login struct {
	Within time.Duration // how long the first frame may take

	// Check returns whose token it is. Errors are as those of
	// Terms.AuthenticateToken; a *DenyError of 429 or 503 tells the client to
	// come back later.
	Check func(ctx context.Context, token string) (User, error)
}

var (
	errNoLogin   = &CloseError{StatusUnauthorized, "no token came in time"}
	errFirst     = &CloseError{StatusUnauthorized, "log in first: the first frame is auth"}
	errBigLogin  = &CloseError{StatusMessageTooBig, "too large for a token"}
	errLoginBusy = &CloseError{StatusTryAgainLater, "try again later"}
)

// login waits for the client's token, and takes it. Its error ends the connection,
// of which the consumer never hears.
func (c *Conn) login(l *Login) error {
	if err := c.accept(Protocol); err != nil {
		return err
	}
	late := time.AfterFunc(l.Within, func() { c.Close(errNoLogin.Code, errNoLogin.Reason) })
	f, err := c.setup.Socket.Read()
	late.Stop()
	if err == nil {
		c.fail(c.loginBy(f, l))
		if err = c.setup.Socket.Err(); err == nil {
			return nil
		}
	}
	c.end(err)
	return err
}

// loginBy takes the first frame. The client is told why it is refused before its
// connection is closed.
func (c *Conn) loginBy(f Frame, l *Login) error {
	c.setup.Stats.Received.Add(1)
	if len(f.Data) > maxLogin {
		return errBigLogin
	}
	in, err := parseClient(f.Data, c.mostGroups())
	if f.Type != Text || err != nil || in.token == "" {
		c.tell(errorFrame(codeAuth, errFirst.Reason))
		return errFirst
	}
	var u User
	err = guard(func() (err error) {
		ctx, cancel := context.WithTimeout(&c.life, authTimeout)
		defer cancel()
		if u, err = l.Check(ctx, in.token); err == nil && u.Anonymous() {
			err = Deny(http.StatusUnauthorized, "the token is nobody's")
		}
		return err
	})
	if err == nil {
		c.SetUser(u)
	}
	c.answerToken(err, in.id)
	return c.loginRefused(err)
}

// loginRefused is how a login that failed ends the connection.
func (c *Conn) loginRefused(err error) error {
	switch refused, ok := tokenRefusal(err); {
	case !ok:
		return nil
	case refused.Code == codeUnavailable:
		return errLoginBusy
	default:
		return &CloseError{StatusUnauthorized, refused.Message}
	}
}

// loggedIn readies a connection for its consumer.
func (c *Conn) loggedIn(served App) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flow.opened = time.Now() // cursors are awaited from now on
	c.first = false
	if _, ok := served.(lifecycle); !ok {
		c.readAlong()
	}
}
