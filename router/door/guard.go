package door

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Options are the settings of [Guard].
type Options struct {
	// Keys are the keys that let in, and who has each: the name is what audit
	// trails say. A key has 16 to 512 bytes; a name is not empty. Required.
	Keys map[string]string

	// MaxBody is the largest body of a request in bytes. Default 1 MiB.
	MaxBody int64

	// Rate is how many requests a second each key may make, and Burst how many at
	// once after a rest. Over it the answer is 429 with Retry-After. Defaults 100
	// and 200.
	Rate  float64
	Burst int
}

const (
	leastKey = 16
	mostKey  = 512
)

// Guard lets in requests that bring a key, as "Authorization: Bearer KEY" or
// "X-API-Key: KEY", and bounds them. The handler learns from [Caller] whose key
// it was. A request without a key, or with one that is not known, is answered
// with 401.
func Guard(h http.Handler, opts *Options) (http.Handler, error) {
	if opts == nil || len(opts.Keys) == 0 {
		return nil, errors.New("door: Options.Keys is empty; nobody could get in")
	}
	g := &guard{next: h, maxBody: cmp.Or(opts.MaxBody, 1<<20), rate: cmp.Or(opts.Rate, 100), burst: float64(cmp.Or(opts.Burst, 200))}
	if g.maxBody < 0 || g.rate < 0 || g.burst < 1 {
		return nil, errors.New("door: Options has a MaxBody, Rate or Burst below 0")
	}
	for key, name := range opts.Keys {
		if len(key) < leastKey || len(key) > mostKey {
			return nil, fmt.Errorf("door: the key of %q has %d bytes; want %d to %d", name, len(key), leastKey, mostKey)
		}
		if name == "" {
			return nil, errors.New("door: Options.Keys has a key without a name")
		}
		g.keys = append(g.keys, &entry{hash: sha256.Sum256([]byte(key)), name: name, left: g.burst, at: time.Now()})
	}
	return g, nil
}

type guard struct {
	next        http.Handler
	keys        []*entry
	maxBody     int64
	rate, burst float64
}

// entry is a key and what its holder may still ask for.
type entry struct {
	hash [sha256.Size]byte
	name string

	mu   sync.Mutex // guards what follows
	left float64
	at   time.Time
}

type callerKey struct{}

// Caller returns the name of the key with which a request got past [Guard], and
// "" for one that did not pass any.
func Caller(r *http.Request) string {
	name, _ := r.Context().Value(callerKey{}).(string)
	return name
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := g.find(given(r))
	if e == nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="tideway"`)
		Fail(w, http.StatusUnauthorized, "unauthorized", `bring a key: "Authorization: Bearer KEY" or "X-API-Key: KEY"`)
		return
	}
	if !e.spend(g.rate, g.burst, time.Now()) {
		w.Header().Set("Retry-After", "1")
		Fail(w, http.StatusTooManyRequests, "rate_limited", fmt.Sprintf("more than %v requests a second with this key", g.rate))
		return
	}
	if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, g.maxBody)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	g.next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, e.name)))
}

// given returns the key that a request brings.
func given(r *http.Request) string {
	scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " ")
	if found && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(token)
	}
	return r.Header.Get("X-API-Key")
}

// find compares with every key, and takes as long whichever it is.
func (g *guard) find(key string) *entry {
	if len(key) < leastKey || len(key) > mostKey {
		return nil
	}
	hash := sha256.Sum256([]byte(key))
	var found *entry
	for _, e := range g.keys {
		if subtle.ConstantTimeCompare(hash[:], e.hash[:]) == 1 {
			found = e
		}
	}
	return found
}

// spend takes a token out of the key's bucket, if there is one.
func (e *entry) spend(rate, burst float64, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left = min(burst, e.left+rate*now.Sub(e.at).Seconds())
	e.at = now
	if e.left < 1 {
		return false
	}
	e.left--
	return true
}
