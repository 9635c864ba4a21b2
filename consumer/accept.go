package consumer

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// Accept completes the handshake, with a subprotocol that the client offered, or
// with "" for one that nobody chose: [Protocol] if the client offers it, else
// none. A Connect that returns nil accepts by itself, and so does the first Send,
// both with the first of [Type].Subprotocols that the client offers, or as with
// ""; a second Accept does nothing. The error is [ErrNotOpen] when the connection was
// refused meanwhile, or when nobody waits for the answer any more.
func (c *Conn) Accept(subprotocol string) error {
	if subprotocol == "" && c.offers(Protocol) {
		subprotocol = Protocol
	}
	return c.accept(subprotocol)
}

// offers reports whether the client offers a subprotocol.
func (c *Conn) offers(subprotocol string) bool {
	return slices.Contains(c.setup.Subprotocols, subprotocol)
}

func (c *Conn) accept(subprotocol string) error {
	begun, err := c.beginAccept(subprotocol)
	if !begun {
		return err
	}
	// Without mu: a client that takes its answer slowly shall hold up nobody
	// who has a message for it.
	return c.endAccept(subprotocol, c.setup.Socket.Accept(subprotocol, c.header))
}

// beginAccept reports whether the handshake is to be completed now, by its caller.
func (c *Conn) beginAccept(subprotocol string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaitAccept()
	switch {
	case c.refused:
		return false, ErrNotOpen
	case c.accepted:
		if c.typ == nil {
			c.request = nil // kept until now where a login came before the consumer
		}
		return false, nil
	case subprotocol != "" && !slices.Contains(c.setup.Subprotocols, subprotocol):
		return false, fmt.Errorf("consumer: accept: the subprotocol %q was not offered; the client offered %q", subprotocol, c.setup.Subprotocols)
	case !c.waited():
		c.refused = true
		c.failed = fmt.Errorf("%w: the client left during the handshake, or it took too long", ErrNotOpen)
		return false, c.failed
	}
	c.accepting = make(chan struct{})
	return true, nil
}

// awaitAccept waits until no Accept is under way. Mu is held, and given up
// meanwhile.
func (c *Conn) awaitAccept() {
	for c.accepting != nil {
		wait := c.accepting
		c.mu.Unlock()
		<-wait
		c.mu.Lock()
	}
}

func (c *Conn) endAccept(subprotocol string, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.accepting)
	c.accepting = nil
	c.header, c.waited = nil, nil // neither is of use any more, and both are large
	if err != nil {
		c.refused = true
		c.failed = fmt.Errorf("consumer: accept: %w", err)
		return c.failed
	}
	c.accepted, c.subprotocol = true, subprotocol
	c.greet()
	if c.typ == nil && !c.first {
		c.request = nil
		c.readAlong()
	}
	if c.pending != nil {
		c.close(c.pending.Code, c.pending.Reason)
	}
	return nil
}

// prefer notes which of a consumer's subprotocols the client offered.
func (c *Conn) prefer(ours []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range ours {
		if slices.Contains(c.setup.Subprotocols, p) {
			c.preferred = p
			return
		}
	}
}

// implied is the subprotocol of an Accept that nobody spelt out.
func (c *Conn) implied() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.preferred == "" && c.offers(Protocol) {
		return Protocol
	}
	return c.preferred
}

// Close ends the connection with a code and a reason (at most 123 bytes, a
// longer one is cut), which the client is told behind what was sent before. It
// does not wait. The first Close counts; Disconnect runs with its code. What the
// client sent before is no longer handled, unless the code says that the server
// goes away (1001, 1012).
//
// Before Accept it refuses the connection: with 401 for the codes 4001 and 4101,
// 429 for 4129, 503 for 1001, 1012 and 1013, 500 for 1011, else 403. The reason
// is the response's body.
func (c *Conn) Close(code StatusCode, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.accepted:
		c.close(code, reason)
	case c.refused:
	case c.accepting != nil:
		if c.pending == nil {
			c.pending = &CloseError{code, reason}
		}
	default:
		c.refused = true
		c.failed = denial(code, reason)
	}
}

// close closes a connection that was accepted. Mu is held.
func (c *Conn) close(code StatusCode, reason string) {
	if code != StatusServiceRestart && code != StatusGoingAway {
		c.stop()
	}
	c.setup.Socket.Close(code, reason)
}

// refuse settles that the connection is not accepted, unless it is already,
// and reports which.
func (c *Conn) refuse() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaitAccept()
	if !c.accepted {
		c.refused = true
	}
	return c.refused
}

// denial is what a close code becomes before Accept.
func denial(code StatusCode, reason string) *DenyError {
	d := &DenyError{Status: http.StatusForbidden, Reason: reason}
	switch code {
	case StatusUnauthorized, StatusExpired:
		d.Status = http.StatusUnauthorized
	case StatusTooManyMessage:
		d.Status = http.StatusTooManyRequests
	case StatusInternalError:
		d.Status = http.StatusInternalServerError
	case StatusGoingAway, StatusServiceRestart, StatusTryAgainLater:
		d.Status = http.StatusServiceUnavailable
	}
	if d.Status == http.StatusTooManyRequests || d.Status == http.StatusServiceUnavailable {
		d.Header = http.Header{"Retry-After": {"5"}}
	}
	return d
}

// closing is what a handler's error becomes after Accept.
func closing(err error) *CloseError {
	if ce, ok := errors.AsType[*CloseError](err); ok {
		return ce
	}
	d, ok := errors.AsType[*DenyError](err)
	switch {
	case !ok:
		return &CloseError{StatusInternalError, "internal error"}
	case d.Status == http.StatusUnauthorized:
		return &CloseError{StatusUnauthorized, d.Reason}
	case d.Status == http.StatusTooManyRequests, d.Status == http.StatusServiceUnavailable:
		return &CloseError{StatusTryAgainLater, d.Reason}
	case d.Status >= 500:
		return &CloseError{StatusInternalError, d.Reason}
	}
	return &CloseError{StatusForbidden, d.Reason}
}

// refusal is the result of a connection that was never accepted: what Close, a
// failed Accept and Connect's error say of it.
func (c *Conn) refusal(err error) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, denied := errors.AsType[*DenyError](err)
	if ce, ok := errors.AsType[*CloseError](err); ok && !denied {
		err = errors.Join(denial(ce.Code, ce.Reason), err)
	}
	switch {
	case c.failed == nil && err == nil:
		err = &DenyError{Reason: "the consumer ended without accepting"}
	case c.failed == nil, errors.Is(err, c.failed):
	case err == nil, errors.Is(err, ErrNotOpen):
		err = c.failed
	default:
		err = errors.Join(c.failed, err)
	}
	return Result{Code: StatusAbnormalClosure, Err: err}
}
