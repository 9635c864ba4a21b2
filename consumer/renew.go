package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// authTimeout is how long a token may take to be checked.
const authTimeout = 10 * time.Second

// renew takes a token that a client sent over the open connection: new
// credentials of the same user, or of a user where there was none. A frame with
// an id gets its reply; else only a refusal is told.
func (c *Conn) renew(token, id string) {
	c.answerToken(guard(func() error { return c.authenticate(token) }), id)
}

// answerToken tells a client, and the log, what became of its token.
func (c *Conn) answerToken(err error, id string) {
	refused, ok := tokenRefusal(err)
	if ok {
		c.Logger().Info("consumer: a token was not taken", "err", err)
	}
	switch {
	case ok && id != "":
		c.tell(replyErrorFrame(id, refused))
	case ok:
		c.tell(errorFrame(refused.Code, refused.Message))
	case id != "":
		c.tell(replyFrame(id, []byte("null")))
	}
}

// ErrNoTokens is what [Terms].AuthenticateToken returns where no authenticator takes
// tokens over an open connection.
var ErrNoTokens = errors.New("consumer: tokens are not taken over an open connection here")

var errOtherUser = errors.New("consumer: the token is another user's; open another connection for it")

// authenticate makes the token's user the connection's.
func (c *Conn) authenticate(token string) error {
	check := c.setup.Terms.AuthenticateToken
	if check == nil {
		return ErrNoTokens
	}
	ctx, cancel := context.WithTimeout(&c.life, authTimeout)
	defer cancel()
	old := c.User()
	u, err := check(ctx, token)
	switch {
	case err != nil:
		return fmt.Errorf("consumer: a token over the open connection: %w", err)
	case u.Anonymous():
		return Deny(401, "the token is nobody's")
	case !old.Anonymous() && old.ID != u.ID:
		return errOtherUser
	case !c.RenewUser(old, u):
		return errOtherUser // somebody logged in or out meanwhile
	}
	return nil
}

// tokenRefusal is what a client is told of a token that was not taken.
func tokenRefusal(err error) (refusedFrame, bool) {
	if err == nil {
		return refusedFrame{}, false
	}
	d, denied := errors.AsType[*DenyError](err)
	switch {
	case errors.Is(err, ErrNoTokens):
		return refusedFrame{Code: codeUnsupported, Message: "tokens are not taken over an open connection here"}, true
	case errors.Is(err, errOtherUser):
		return refusedFrame{Code: codeAuth, Message: "the token is another user's"}, true
	case denied && d.Status == http.StatusTooManyRequests:
		return refusedFrame{Code: codeUnavailable, Message: d.Reason}, true
	case denied && d.Status < 500:
		return refusedFrame{Code: codeAuth, Message: d.Reason}, true
	}
	return refusedFrame{Code: codeUnavailable, Message: "the token cannot be checked now"}, true
}
