package httpapi

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// API is an http.Handler for paths that begin with /api/v1/. Its methods may be
// called from many goroutines, but for Handle.
type API struct {
	layer    *layer.Layer
	opts     Options
	keys     *keyRing
	anybody  *Caller // not nil where the API is open
	mux      *http.ServeMux
	refusals sampler
	draining chan struct{} // closed by Shutdown
	empty    chan struct{} // closed when the last stream has ended after that

	mu      sync.Mutex                   // guards all below
	tokens  map[[sha256.Size]byte]*usage // of tokens, by their hash
	swept   time.Time                    // when tokens was last looked through
	streams int
	ending  bool
}

// HandlerFunc answers one request of a caller who showed valid credentials; what
// those allow it has to ask, see [Caller.May]. An error is the answer if it is an
// [Error] or one of package layer; any other is logged, and the client gets 500.
// When it returns an error it must not have written anything.
type HandlerFunc func(w http.ResponseWriter, r *http.Request, c *Caller) error

// New makes an API of l.
func New(l *layer.Layer, opts *Options) (*API, error) {
	if l == nil {
		return nil, fmt.Errorf("httpapi: New: the layer is nil")
	}
	o, err := opts.resolve()
	if err != nil {
		return nil, err
	}
	a := &API{layer: l, opts: o, mux: http.NewServeMux(), draining: make(chan struct{}), empty: make(chan struct{}),
		tokens: map[[sha256.Size]byte]*usage{}}
	if a.keys, err = newKeyRing(o.Keys, &o); err != nil {
		return nil, err
	}
	if o.Open {
		a.anybody = &Caller{name: "anybody", all: true, usage: newUsage(o.Rate, o.Burst, o.MaxStreamsPerKey)}
	}
	a.routes()
	return a, nil
}

// Handle adds a route, such as "POST /api/v1/jobs/{queue}": a pattern of
// http.ServeMux with a method. It panics for what is no pattern and for one that
// is there already. Call it before the first request.
func (a *API) Handle(pattern string, f HandlerFunc) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		c, err := a.identify(r)
		if err == nil {
			err = c.usage.spend()
		}
		if err == nil {
			err = f(w, r, c)
		}
		if err != nil {
			a.refuse(w, r, err)
		}
	})
}

// identify finds out who makes a request.
func (a *API) identify(r *http.Request) (*Caller, error) {
	secret, err := secretOf(r)
	switch {
	case err != nil:
		return nil, err
	case secret == "" && r.Method == http.MethodGet && r.URL.Query().Has("token"):
		return a.bearer(r.Context(), r.PathValue("group"), r.URL.Query().Get("token"))
	case secret == "" && a.anybody != nil:
		return a.anybody, nil
	case secret == "":
		return nil, Errorf(http.StatusUnauthorized, "unauthorized", "show a key, as Authorization: Bearer or as X-API-Key")
	}
	if c := a.keys.find(secret); c != nil {
		return c, nil
	}
	return nil, Errorf(http.StatusUnauthorized, "unauthorized", "this is no key of this server")
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := a.admitHost(r); err != nil {
		a.refuse(w, r, err)
		return
	}
	if a.preflight(w, r) {
		return
	}
	if err := a.admitOrigin(w, r); err != nil {
		a.refuse(w, r, err)
		return
	}
	if h, pattern := a.mux.Handler(r); pattern == "" {
		a.refuse(w, r, unmatched(w, r, h))
		return
	}
	a.mux.ServeHTTP(w, r)
}

// unmatched says why no route matches: h is what http.ServeMux would answer.
func unmatched(w http.ResponseWriter, r *http.Request, h http.Handler) error {
	probe := &headOnly{header: http.Header{}}
	h.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		w.Header().Set("Allow", allow)
		return Errorf(http.StatusMethodNotAllowed, "method", "this path takes %s", allow)
	}
	return Errorf(http.StatusNotFound, "not_found", "there is nothing at this path")
}

// headOnly takes the head of a response.
type headOnly struct {
	header http.Header
	status int
}

func (h *headOnly) Header() http.Header         { return h.header }
func (h *headOnly) Write(b []byte) (int, error) { return len(b), nil }
func (h *headOnly) WriteHeader(status int)      { h.status = status }

// Draining returns a channel that is closed when [API.Shutdown] is called.
func (a *API) Draining() <-chan struct{} { return a.draining }

// Shutdown ends the streams, whose clients are told when to come back, refuses new
// ones with 503, and waits until they are gone or ctx ends. Other requests are
// answered as before: http.Server's Shutdown, which has to come after this one
// or run beside it, waits for them. A second call waits like the first.
func (a *API) Shutdown(ctx context.Context) error {
	a.mu.Lock()
	if !a.ending {
		a.ending = true
		close(a.draining)
		if a.streams == 0 {
			close(a.empty)
		}
	}
	a.mu.Unlock()
	select {
	case <-a.empty:
		return nil
	case <-ctx.Done():
		a.mu.Lock()
		defer a.mu.Unlock()
		return fmt.Errorf("httpapi: shutdown: %d streams are left: %w", a.streams, ctx.Err())
	}
}
