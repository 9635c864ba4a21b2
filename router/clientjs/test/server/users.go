package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
)

// users knows everybody who has a token "name:seconds", which says itself how
// long it holds, or a ticket.
type users struct {
	mu      sync.Mutex      // guards tickets
	tickets map[string]bool // not yet used
}

func newUsers() *users { return &users{tickets: map[string]bool{}} }

// Authenticate implements router.Authenticator.
func (u *users) Authenticate(r *http.Request) (consumer.User, error) {
	if t := r.URL.Query().Get("ticket"); t != "" {
		u.mu.Lock()
		defer u.mu.Unlock()
		if !u.tickets[t] {
			return consumer.User{}, consumer.Deny(401, "the ticket was used")
		}
		delete(u.tickets, t)
		return consumer.User{ID: "guest"}, nil
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

func (u *users) ticket(w http.ResponseWriter, _ *http.Request) {
	t := rand.Text()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tickets[t] = true
	fmt.Fprint(w, t)
}
