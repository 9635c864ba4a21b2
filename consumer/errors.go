package consumer

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/tideway-go/tideway/layer"
)

// StatusCode is a close code (RFC 6455, section 7.4).
type StatusCode int

// The close codes that Tideway uses. 4000 to 4099 tell a client to stay away,
// 4100 to 4199 to come back.
const (
	StatusNormalClosure   StatusCode = 1000 // done
	StatusGoingAway       StatusCode = 1001 // the page was left, or the server goes
	StatusProtocolError   StatusCode = 1002
	StatusUnsupportedData StatusCode = 1003 // binary where text was expected, or the other way
	StatusNoStatusRcvd    StatusCode = 1005 // never sent: the peer's close frame held no code
	StatusAbnormalClosure StatusCode = 1006 // never sent: the connection was lost, or never opened
	StatusInvalidPayload  StatusCode = 1007 // text that is not UTF-8, JSON that is not JSON
	StatusPolicyViolation StatusCode = 1008
	StatusMessageTooBig   StatusCode = 1009
	StatusInternalError   StatusCode = 1011 // a handler failed
	StatusServiceRestart  StatusCode = 1012 // the server drains: come back
	StatusTryAgainLater   StatusCode = 1013 // overloaded: come back later

	StatusUnauthorized   StatusCode = 4001 // credentials refused or expired for good
	StatusForbidden      StatusCode = 4003
	StatusReplaced       StatusCode = 4009 // another connection took this one's place
	StatusExpired        StatusCode = 4101 // credentials expired: renew them and return
	StatusSlowConsumer   StatusCode = 4108 // the client did not read what was sent to it
	StatusTooManyMessage StatusCode = 4129 // the client sent more than its rate allows
)

// CloseError says that a connection is closed, or, returned by a handler, that
// it shall be.
type CloseError struct {
	Code   StatusCode
	Reason string // at most 123 bytes of UTF-8; a longer one is cut
}

// Error returns the code and the reason.
func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("consumer: closed with %d", e.Code)
	}
	return fmt.Sprintf("consumer: closed with %d: %s", e.Code, e.Reason)
}

// CloseStatus returns the code of the [CloseError] in err's chain, or -1.
func CloseStatus(err error) StatusCode {
	var ce *CloseError
	if errors.As(err, &ce) {
		return ce.Code
	}
	return -1
}

// DenyError refuses a connection before it is accepted: the handshake is
// answered with an HTTP status instead. Connect returns one. It is what
// Channels' DenyConnection is, with a status of one's choice.
type DenyError struct {
	Status int         // 400 to 599; 0 is 403
	Reason string      // goes to the client as the body, and into the log
	Header http.Header // added to the response, e.g. Retry-After; may be nil
}

// Error returns the status and the reason.
func (e *DenyError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("consumer: denied with %d", e.Status)
	}
	return fmt.Sprintf("consumer: denied with %d: %s", e.Status, e.Reason)
}

// Deny is a shorthand for a [DenyError].
func Deny(status int, reason string) error { return &DenyError{Status: status, Reason: reason} }

var (
	// ErrNotOpen is returned by what needs a connection that is open, on one that
	// was refused or has ended.
	ErrNotOpen = errors.New("consumer: the connection is not open")

	// ErrTooManyGroups is returned by [Conn.GroupAdd] over the limit of groups
	// that one connection may be in (router.Limits.Groups). It wraps
	// [layer.ErrTooManyGroups], which whoever else adds its channel gets.
	ErrTooManyGroups = fmt.Errorf("consumer: the connection is in too many groups (%w)", layer.ErrTooManyGroups)
)
