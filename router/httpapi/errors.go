package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Error is an answer that says no. On the wire it is
//
//	{"error":{"code":"forbidden","message":"this key may not send to group chat.lobby"}}
type Error struct {
	// Status is the HTTP status.
	Status int `json:"-"`

	// Code is for programs: a word that stays the same when Message changes.
	Code string `json:"code"`

	// Message is for people. It repeats no credentials and tells nothing of the
	// server's inside.
	Message string `json:"message"`

	// Reason says more to programs, where a code has several causes.
	Reason string `json:"reason,omitempty"`

	// ID is in the server's log, too: for errors whose cause the client is not
	// told.
	ID string `json:"id,omitempty"`

	// RetryAfter is the Retry-After header, in whole seconds, rounded up. 0 is
	// none.
	RetryAfter time.Duration `json:"-"`
}

// Error returns the message.
func (e *Error) Error() string { return "httpapi: " + e.Message }

// Errorf makes an [Error].
func Errorf(status int, code, format string, a ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, a...)}
}

// retry is Errorf for what may go well a little later.
func retry(after time.Duration, status int, code, format string, a ...any) *Error {
	e := Errorf(status, code, format, a...)
	e.RetryAfter = after
	return e
}

// explain makes an answer of what the layer returned. It returns nil for what
// only this program can be the reason of.
func explain(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*layer.NameError](err); ok {
		return Errorf(http.StatusBadRequest, "name", "%s", bare(e))
	}
	if e, ok := errors.AsType[*layer.MessageError](err); ok {
		return Errorf(http.StatusBadRequest, "message", "%s", bare(e))
	}
	if e, ok := errors.AsType[*layer.GapError](err); ok {
		answer := Errorf(http.StatusGone, "gap", "%s", bare(e))
		answer.Reason = string(e.Reason)
		return answer
	}
	for _, known := range layerErrors {
		if errors.Is(err, known.is) {
			answer := known.answer
			return &answer
		}
	}
	return nil
}

// bare is an error without the name of its package, which helps readers of Go.
func bare(err error) string {
	const pkg = "layer: "
	text := err.Error()
	if len(text) > len(pkg) && text[:len(pkg)] == pkg {
		return text[len(pkg):]
	}
	return text
}

// layerErrors are the layer's sentinels as a client gets them. An earlier one
// counts before a later one in the same chain.
var layerErrors = []struct {
	is     error
	answer Error
}{
	{layer.ErrUnknown, Error{Status: http.StatusGatewayTimeout, Code: "unknown", RetryAfter: time.Second,
		Message: "nobody knows whether the message is stored; send it again with the same Idempotency-Key, and it is stored once"}},
	{layer.ErrConflict, Error{Status: http.StatusConflict, Code: "conflict", Message: "somebody else wrote first"}},
	{layer.ErrChannelFull, Error{Status: http.StatusTooManyRequests, Code: "full", RetryAfter: time.Second,
		Message: "the channel holds as many messages as it may; this one was not sent"}},
	{layer.ErrTooLarge, Error{Status: http.StatusRequestEntityTooLarge, Code: "too_large",
		Message: "the message is larger than the channel layer carries"}},
	{layer.ErrNoChannel, Error{Status: http.StatusNotFound, Code: "no_channel",
		Message: "there is no such channel, or it is gone with its process"}},
	{layer.ErrNotDurable, Error{Status: http.StatusConflict, Code: "not_durable",
		Message: "the group is not durable: its messages are not kept"}},
	{layer.ErrNoPresence, Error{Status: http.StatusConflict, Code: "no_presence",
		Message: "nobody keeps who is in this group"}},
	{layer.ErrNotQueue, Error{Status: http.StatusNotFound, Code: "no_queue", Message: "there is no such queue"}},
	{layer.ErrUnavailable, Error{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 2 * time.Second,
		Message: "the network behind this server is out of reach; nothing was sent"}},
	{layer.ErrClosed, Error{Status: http.StatusServiceUnavailable, Code: "shutting_down", RetryAfter: 2 * time.Second,
		Message: "this server is shutting down; another one may be up"}},
	{context.DeadlineExceeded, Error{Status: http.StatusGatewayTimeout, Code: "timeout", RetryAfter: time.Second,
		Message: "the network behind this server did not answer in time; what was asked for may have happened"}},
}

// refuse answers with an error. What is nobody's fault but ours goes into the
// log, and the client gets its number there.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return // the client is gone
	}
	e := explain(err)
	if e == nil {
		e = Errorf(http.StatusInternalServerError, "internal", "something went wrong here; the server's log has it under this id")
		e.ID = rand.Text()[:12]
	}
	switch {
	case e.ID != "":
		a.opts.Logger.Error("httpapi: a request failed", "id", e.ID, "method", r.Method, "path", r.URL.Path, "err", err)
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden || e.Status == http.StatusMisdirectedRequest:
		a.refusals.tell(a.opts.Logger, "httpapi: a request was refused", "method", r.Method, "path", shorten(r.URL.Path), "remote", r.RemoteAddr, "why", e.Message)
	}
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	if e.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="tideway"`)
	}
	WriteJSON(w, e.Status, map[string]*Error{"error": e})
}

// WriteJSON answers with a JSON value that no cache keeps.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // a value of ours that is not JSON
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}

// shorten keeps what a stranger sent short.
func shorten(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
