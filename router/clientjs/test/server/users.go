package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
	"github.com/tideway-go/tideway/router/auth/ticket"
)

// users knows everybody who has a token "name:seconds", which says itself how
// long it holds, or a ticket, which is a guest's.
type users struct{ tickets *ticket.Tickets }

// Authenticate implements router.Authenticator.
func (u *users) Authenticate(r *http.Request) (consumer.User, error) {
	if guest, err := u.tickets.Authenticate(r); err != nil || !guest.Anonymous() {
		return guest, err
	}
	token, err := auth.BearerToken(r)
	if err != nil || token == "" {
		return consumer.User{}, err
	}
	return parse(token)
}

// AuthenticateToken implements router.TokenAuthenticator.
func (u *users) AuthenticateToken(_ context.Context, token string) (consumer.User, error) {
	return parse(token)
}

func parse(token string) (consumer.User, error) {
	if token == "later" {
		return consumer.User{}, consumer.Deny(503, "ask again later")
	}
	name, seconds, _ := strings.Cut(token, ":")
	n, err := strconv.ParseFloat(seconds, 64)
	if err != nil || name == "" {
		return consumer.User{}, consumer.Deny(401, "what token is this?")
	}
	return consumer.User{ID: name, Expires: time.Now().Add(time.Duration(n * float64(time.Second)))}, nil
}

// Recheck implements router.Authenticator.
func (u *users) Recheck(_ context.Context, user consumer.User) (consumer.User, error) {
	if !user.Expires.IsZero() && !time.Now().Before(user.Expires) {
		return consumer.User{}, &consumer.CloseError{Code: consumer.StatusExpired, Reason: "expired"}
	}
	return user, nil
}

func (u *users) ticket(w http.ResponseWriter, r *http.Request) {
	t, err := u.tickets.Issue(r.Context(), consumer.User{ID: "guest"})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprint(w, t)
}
