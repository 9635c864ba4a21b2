package consumer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
)

// ReplyError, returned by Receive, refuses what the client sent, and nothing
// else happens: a client that speaks tideway.v1 gets it as the reply to its
// request, or as an error frame when it asked for no reply. A client that speaks
// plain frames has no way to hear of it; its connection is closed with 1008.
type ReplyError struct {
	Code    string // for programs: "out_of_stock"
	Message string // for people
}

// Error returns the code and the message.
func (e *ReplyError) Error() string { return "consumer: refused as " + e.Code + ": " + e.Message }

// ErrReplied is returned by [Conn.Reply] for a request that has its reply.
var ErrReplied = errors.New("consumer: the request has its reply already")

// Reply answers the request whose Receive is running, with v as JSON; a
// [layer.Payload] goes with its type. A request without a Reply is answered with
// null when Receive returns nil, so that each gets exactly one answer; see
// [ReplyError] for the others. In a [Func] it is the request that Receive
// returned last. What asked for no reply, or came from a client that speaks plain
// frames, is answered as by [Conn.SendJSON].
func (c *Conn) Reply(ctx context.Context, v any) error {
	data, err := marshal(v)
	if err != nil {
		return err
	}
	id, replied := c.takeRequest()
	switch {
	case replied:
		return ErrReplied
	case id == "":
		return c.sendData(ctx, data)
	}
	return c.setup.Socket.Send(ctx, prepareText(replyFrame(id, data)))
}

// Answer makes a Receive of a function that takes a message decoded, as [JSON]
// does, and whose result is the reply; see [Conn.Reply].
func Answer[C, M, R any](f func(*C, context.Context, *Conn, M) (R, error)) func(*C, context.Context, *Conn, Frame) error {
	return JSON(func(state *C, ctx context.Context, c *Conn, m M) error {
		v, err := f(state, ctx, c, m)
		if err != nil {
			return err
		}
		return c.Reply(ctx, v)
	})
}

// takeRequest returns the id of the request that is being handled, "" when no
// reply is wanted, and reports whether it has been replied to.
func (c *Conn) takeRequest() (id string, replied bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flow == nil {
		return "", false
	}
	r := &c.flow.current
	id, replied = r.id, r.replied
	r.replied = r.id != ""
	return id, replied
}

// request is what a client asks a reply to.
type request struct {
	id      string // "" is none
	replied bool
}

// handled sees to it that a request whose handling ended with err has its reply,
// and returns the error that is left to end the connection.
func (c *Conn) handled(err error) error {
	c.mu.Lock()
	speaks, r := c.flow.speaks(), request{}
	if speaks {
		r, c.flow.current = c.flow.current, request{}
	}
	c.mu.Unlock()
	refused, isRefused := errors.AsType[*ReplyError](err)
	switch {
	case !speaks && isRefused:
		return &CloseError{StatusPolicyViolation, refused.Message}
	case !speaks:
		return err
	case r.id == "" && isRefused:
		c.tell(errorFrame(refused.Code, refused.Message))
		return nil
	case r.id == "":
		return err
	case r.replied:
		return c.failedLate(err)
	case err == nil:
		c.tell(replyFrame(r.id, []byte("null")))
		return nil
	}
	body, rest := c.refusalOf(err)
	c.tell(replyErrorFrame(r.id, body))
	return rest
}

// refusalOf is what a client is told of an error that its request met, and what
// is left of the error to end the connection.
func (c *Conn) refusalOf(err error) (refusedFrame, error) {
	if r, ok := errors.AsType[*ReplyError](err); ok {
		return refusedFrame{Code: r.Code, Message: r.Message}, nil
	}
	if ce, ok := errors.AsType[*CloseError](err); ok {
		return refusedFrame{Code: codeClosed, Message: ce.Reason}, err
	}
	if d, ok := errors.AsType[*DenyError](err); ok {
		if d.Status == http.StatusUnauthorized {
			return refusedFrame{Code: codeAuth, Message: d.Reason}, err
		}
		return refusedFrame{Code: codeClosed, Message: d.Reason}, err
	}
	id := rand.Text()[:10]
	c.Logger().Error("consumer: a request failed", "id", id, "err", err)
	body := refusedFrame{Code: codeInternal, Message: "the request failed; the server's log names it " + id, ID: id}
	if fatal(err) {
		return body, err
	}
	return body, nil
}

// failedLate is an error of a handler that had replied already: it harms nobody
// but who reads the log, unless it ends the connection.
func (c *Conn) failedLate(err error) error {
	_, closes := errors.AsType[*CloseError](err)
	_, denies := errors.AsType[*DenyError](err)
	if err == nil || closes || denies || fatal(err) {
		return err
	}
	c.Logger().Error("consumer: a request failed after its reply", "err", err)
	return nil
}

// fatal reports whether after err nothing is known of the consumer's state.
func fatal(err error) bool {
	_, panicked := errors.AsType[*PanicError](err)
	return panicked || errors.Is(err, errGoexit)
}

// sendData sends JSON to the client, as it understands it.
func (c *Conn) sendData(ctx context.Context, data []byte) error {
	if err := c.accept(c.implied()); err != nil {
		return err
	}
	if c.speaks() {
		data = dataFrame(data)
	}
	return c.setup.Socket.Send(ctx, prepareText(data))
}

// wrapped returns a frame as the client understands it: one that speaks
// tideway.v1 gets text that is JSON as it is, other text as a JSON string, and
// binary frames as everybody does.
func wrapped(f Frame) Frame {
	if f.Type != Text {
		return f
	}
	if json.Valid(f.Data) {
		return Frame{Text, dataFrame(f.Data)}
	}
	return Frame{Text, dataFrame(appendJSON(nil, string(f.Data)))}
}
