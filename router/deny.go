package router

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
)

func unavailable(reason string) *consumer.DenyError {
	return &consumer.DenyError{Status: http.StatusServiceUnavailable, Reason: reason, Header: retryAfter(5)}
}

func tooMany(reason string) *consumer.DenyError {
	return &consumer.DenyError{Status: http.StatusTooManyRequests, Reason: reason, Header: retryAfter(30)}
}

func retryAfter(seconds int) http.Header {
	return http.Header{"Retry-After": {strconv.Itoa(seconds)}}
}

// deny answers a handshake that is refused, and logs why.
func (r *Router) deny(w http.ResponseWriter, req *http.Request, d *consumer.DenyError, why string, more ...slog.Attr) {
	status := d.Status
	if status < 400 || status > 599 {
		status = http.StatusForbidden
	}
	r.conns.refused.Add(1)
	attrs := append([]slog.Attr{slog.Int("status", status), slog.String("why", why), slog.String("path", brief(req.URL.Path)),
		slog.String("remote", r.set.clientAddr(req))}, more...)
	r.set.Logger.LogAttrs(req.Context(), slog.LevelWarn, "router: connection refused", attrs...)

	reason := d.Reason
	if reason == "" {
		reason = http.StatusText(status)
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	for name, values := range d.Header {
		header[http.CanonicalHeaderKey(name)] = values
	}
	w.WriteHeader(status)
	io.WriteString(w, reason+"\n")
}

// brief keeps what a stranger chose from filling the log.
func brief(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

// denyBy is deny for an error: what is inside it goes to the log alone.
func (r *Router) denyBy(w http.ResponseWriter, req *http.Request, what string, err error) {
	d, ok := errors.AsType[*consumer.DenyError](err)
	_, named := errors.AsType[*layer.NameError](err)
	switch {
	case ok:
	case named: // a group was named after what the client asked for
		d = &consumer.DenyError{Status: http.StatusBadRequest, Reason: "there can be no such name"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, layer.ErrUnavailable), errors.Is(err, layer.ErrClosed):
		d = unavailable("try again later")
	default:
		d = &consumer.DenyError{Status: http.StatusInternalServerError}
	}
	var more []slog.Attr
	if p, ok := errors.AsType[*consumer.PanicError](err); ok {
		more = append(more, slog.String("stack", string(p.Stack)))
	}
	r.deny(w, req, d, what+": "+err.Error(), more...)
}
