package ticket

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
)

// Handler answers a POST of anybody whom a knows with a fresh ticket, as
// {"ticket":"…","expires_in":30}. An anonymous visitor gets 401, another method
// 405, and a script on a foreign page 403 (http.CrossOriginProtection), so that
// cookies can do as credentials. Errors are {"error":{"code":"…","message":"…"}}.
//
// A page on another origin needs TrustedOrigins, and a CORS middleware before the
// handler for the browser to let it read the answer. failed is told about errors
// that the client is not; nil drops them.
func (t *Tickets) Handler(a auth.Authenticator, failed func(r *http.Request, err error)) http.Handler {
	if a == nil {
		panic("ticket: Handler: the authenticator is nil")
	}
	if failed == nil {
		failed = func(*http.Request, error) {}
	}
	h := &handler{tickets: t, users: a, failed: failed}
	return h
}

type handler struct {
	tickets *Tickets
	users   auth.Authenticator
	failed  func(*http.Request, error)
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answerError(w, http.StatusMethodNotAllowed, "method", "POST asks for a ticket")
		return
	}
	if err := h.tickets.origin.Check(r); err != nil {
		h.failed(r, err)
		answerError(w, http.StatusForbidden, "origin", "this page may not ask for a ticket")
		return
	}
	u, err := h.users.Authenticate(r)
	if err == nil && u.Anonymous() {
		err = consumer.Deny(http.StatusUnauthorized, "log in first")
	}
	ticket := ""
	if err == nil {
		ticket, err = h.tickets.Issue(r.Context(), u)
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"ticket": ticket, "expires_in": int(h.tickets.opts.TTL.Seconds())})
}

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	h.failed(r, err)
	var deny *consumer.DenyError
	switch {
	case errors.As(err, &deny):
		for name, values := range deny.Header {
			w.Header()[name] = values
		}
		status := deny.Status
		if status == 0 {
			status = http.StatusForbidden
		}
		answerError(w, status, "refused", deny.Reason)
	case errors.Is(err, auth.ErrUnavailable):
		w.Header().Set("Retry-After", "5")
		answerError(w, http.StatusServiceUnavailable, "unavailable", "no tickets now, try again later")
	default:
		answerError(w, http.StatusInternalServerError, "internal", "no ticket could be issued")
	}
}

func answerError(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"error": map[string]string{"code": code, "message": message}})
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
