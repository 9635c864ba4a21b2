package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// A token lets a page read one group for some hours. An EventSource sends no
// headers, so it has to stand in the URL, where a key must not.

const (
	defaultTokenLife = 12 * time.Hour
	mostTokenLife    = 24 * time.Hour // for which signatures hold
	tokenStreams     = 8              // with one token: a few tabs of a page
	manyTokens       = 1000           // from which those that are not in use are forgotten
)

// tokenClaims is what a token says. Its signature is for the group alone.
type tokenClaims struct {
	Until int64  `json:"until"` // seconds since 1970
	Mark  string `json:"mark"`  // tells it from other tokens
}

// tokenPurpose is what tokens for a group are signed for; no group's name holds
// a "/".
func tokenPurpose(group string) string { return "events/" + group }

// Token returns a token with which whoever has it may read group, its history and
// its events, for that long: 24 hours at most, 12 if life is 0. It goes into the
// page that a server renders, as ?token= of the URL of an EventSource. Any process
// of the network takes it; where no group is durable, this one alone. It
// never waits.
func (a *API) Token(group string, life time.Duration) (token string, until time.Time, err error) {
	setDefault(&life, defaultTokenLife)
	if err := layer.CheckGroup(group); err != nil {
		return "", until, err
	}
	if life < time.Second || life > mostTokenLife {
		return "", until, fmt.Errorf("httpapi: a token for %v; want 1s to %v", life, mostTokenLife)
	}
	until = time.Now().Add(life).Truncate(time.Second)
	claims, err := json.Marshal(tokenClaims{until.Unix(), rand.Text()[:8]})
	if err != nil {
		return "", until, err
	}
	return a.layer.Sign(tokenPurpose(group), claims), until, nil
}

// issueToken answers with a token, for a caller who may read the group.
func (a *API) issueToken(w http.ResponseWriter, r *http.Request, c *Caller) error {
	group, err := groupOf(r, c, ReadGroups)
	if err != nil {
		return err
	}
	life := time.Duration(0)
	if text := r.URL.Query().Get("for"); text != "" {
		if life, err = time.ParseDuration(text); err != nil || life < time.Second || life > mostTokenLife {
			return Errorf(http.StatusBadRequest, "query", "for is %.60q; want a time such as 30m, from 1s to %v", text, mostTokenLife)
		}
	}
	token, until, err := a.Token(group, life)
	if err != nil {
		return err
	}
	WriteJSON(w, http.StatusOK, map[string]any{"token": token, "until": until.UTC()})
	return nil
}

// errNoToken is the answer to a token that cannot be read, or not any more.
var errNoToken = Errorf(http.StatusUnauthorized, "unauthorized", "this token is not one for the group, or has expired")

// bearer returns the caller who holds a token for group.
func (a *API) bearer(ctx context.Context, group, token string) (*Caller, error) {
	if len(token) > maxSecret || layer.CheckGroup(group) != nil {
		return nil, errNoToken
	}
	data, err := a.layer.Verify(ctx, tokenPurpose(group), token)
	if errors.Is(err, layer.ErrForged) {
		return nil, errNoToken
	}
	if err != nil {
		return nil, err
	}
	var claims tokenClaims
	if err := json.Unmarshal(data, &claims); err != nil {
		return nil, errNoToken
	}
	until := time.Unix(claims.Until, 0)
	if !time.Now().Before(until) {
		return nil, errNoToken
	}
	only := scope{ReadGroups, layer.Retention{Pattern: group}}
	return &Caller{name: "token", scopes: []scope{only}, until: until, usage: a.tokenUsage(token)}, nil
}

// tokenUsage returns what the holders of a token have used. Only tokens that are
// valid come here, so strangers cannot fill the table.
func (a *API) tokenUsage(token string) *usage {
	key := sha256.Sum256([]byte(token))
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.tokens[key]
	if u == nil {
		if len(a.tokens) >= manyTokens && time.Since(a.swept) > time.Second {
			a.swept = time.Now()
			for k, old := range a.tokens {
				if old.idle() {
					delete(a.tokens, k)
				}
			}
		}
		u = newUsage(a.opts.Rate, a.opts.Burst, tokenStreams)
		a.tokens[key] = u
	}
	return u
}
