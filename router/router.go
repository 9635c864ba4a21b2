package router

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router/internal/socket"
)

// Table maps paths to consumers. Its keys are the patterns of [http.ServeMux]:
// "/ws/chat/{room}/{$}" is that path alone, "/ws/chat/{room}/" everything below
// it, too. A path that matches two patterns goes to the more specific one.
type Table map[string]consumer.App

// Router serves the consumers of a [Table]. It is an http.Handler: mount it in
// any mux or framework, behind any middleware whose ResponseWriter can be
// unwrapped. It must be shut down, see [Router.Shutdown].
type Router struct {
	set    *settings
	layer  *layer.Layer
	table  Table
	mux    *http.ServeMux
	engine *socket.Engine
	conns  registry
	turns  *turnstile
	stats  consumer.Stats
	terms  *consumer.Terms
	stop   []func() // what to undo on Shutdown

	base   context.Context // what all connections' contexts descend from
	cancel context.CancelFunc

	// A context knows its children under a lock, for which thousands that end
	// at once would wait. So there are some between the connections and base.
	scopes [64]context.Context
	scope  atomic.Uint32 // of the newest connection
}

// New makes a router. The layer may be nil if no consumer of the table uses
// groups or channels. Options that make no sense are an error. Patterns that
// clash, or are none, are mistakes of the program: New panics and says why, as
// ServeMux does.
func New(l *layer.Layer, t Table, opts *Options) (*Router, error) {
	set, err := opts.resolve()
	if err != nil {
		return nil, err
	}
	engine, err := socket.NewEngine(set.engine())
	if err != nil {
		return nil, fmt.Errorf("router: Options.Limits: %w", err)
	}
	r := &Router{set: set, layer: l, table: maps.Clone(t), mux: http.NewServeMux(), engine: engine, terms: set.terms(), turns: newTurnstile(set.Admission)}
	r.base, r.cancel = context.WithCancel(context.Background())
	for i := range r.scopes {
		var cancel context.CancelFunc
		r.scopes[i], cancel = context.WithCancel(r.base)
		r.stop = append(r.stop, cancel)
	}
	r.conns.init(set)
	for pattern, app := range r.Routes() {
		if app == nil {
			panic(fmt.Sprintf("router: the route %q has no consumer", pattern))
		}
		full := prefixed(set.Prefix, pattern)
		r.mux.Handle(full, &route{router: r, pattern: full, app: app, names: wildcards(full)})
	}
	if l != nil {
		r.stop = append(r.stop, l.OnCommand("kick", r.answerKick))
	}
	if set.Authenticate != nil {
		r.stop = append(r.stop, r.startRechecks())
	}
	return r, nil
}

// prefixed puts prefix in front of a pattern's path, behind its method and host.
func prefixed(prefix, pattern string) string {
	i := strings.IndexByte(pattern, '/')
	if i < 0 {
		return pattern // ServeMux will say what is wrong with it
	}
	return pattern[:i] + prefix + pattern[i:]
}

var wildcard = regexp.MustCompile(`\{([^{}.$]+)(?:\.\.\.)?\}`)

// wildcards returns the names of a pattern's wildcards.
func wildcards(pattern string) (names []string) {
	for _, m := range wildcard.FindAllStringSubmatch(pattern, -1) {
		names = append(names, m[1])
	}
	return names
}

// Routes yields the table, sorted by pattern, without [Options].Prefix.
func (r *Router) Routes() iter.Seq2[string, consumer.App] {
	return func(yield func(string, consumer.App) bool) {
		for _, p := range slices.Sorted(maps.Keys(r.table)) {
			if !yield(p, r.table[p]) {
				return
			}
		}
	}
}

// Stats are a router's counts.
type Stats struct {
	Open     int   // connections that are open now, handshakes included
	Received int64 // messages from clients
	Unknown  int64 // layer messages whose type no handler took, one per connection
	Failed   int64 // accepted connections of which a handler failed or panicked
	Refused  int64 // handshakes that were refused
	Dropped  int64 // messages that the queue of a slow client had no room for, see consumer.Overflow
	Replaced int64 // values that a newer one replaced before a slow client was sent them, see consumer.Latest
	Waiting  int   // handshakes that wait for their turn now, see Admission
	Waited   int64 // handshakes that had to
}

// Stats returns the router's counts since it was made.
func (r *Router) Stats() Stats {
	open, _ := r.conns.open()
	waiting, waited := r.turns.counts()
	return Stats{
		Open:     open,
		Received: r.stats.Received.Load(),
		Unknown:  r.stats.Unknown.Load(),
		Failed:   r.stats.Failed.Load(),
		Refused:  r.conns.refused.Load(),
		Dropped:  r.stats.Dropped.Load(),
		Replaced: r.stats.Replaced.Load(),
		Waiting:  waiting,
		Waited:   waited,
	}
}

// outerKey is where a request carries the path values of the mux around us.
type outerKey struct{}

// ServeHTTP answers a handshake: it finds the route, and refuses before the
// upgrade what must be refused, with a line in the log that says why. See the
// package documentation for the order of the checks.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if h, pattern := r.mux.Handler(req); !isRoute(h) {
		r.notFound(w, req, pattern)
		return
	}
	if names := wildcards(req.Pattern); len(names) > 0 {
		// Our mux forgets what the mux around us matched.
		req = req.WithContext(context.WithValue(req.Context(), outerKey{}, paramsOf(req, names, nil)))
	}
	r.mux.ServeHTTP(w, req)
}

func isRoute(h http.Handler) bool {
	_, ok := h.(*route)
	return ok
}

// notFound answers a path that no route matches. A pattern is given where
// ServeMux would redirect to it, which a browser's WebSocket does not follow.
func (r *Router) notFound(w http.ResponseWriter, req *http.Request, pattern string) {
	if r.set.NotFound != nil {
		r.set.NotFound.ServeHTTP(w, req)
		return
	}
	why := "no route matches the path"
	if pattern != "" {
		why = fmt.Sprintf("no route matches the path as it is written; %q would match it with a slash at its end, and without double slashes and dots", pattern)
	}
	r.deny(w, req, &consumer.DenyError{Status: http.StatusNotFound, Reason: "no consumer at this path"}, why)
}

// paramsOf reads path values. What is in outer stays where an inner pattern
// does not name it again.
func paramsOf(req *http.Request, names []string, outer []consumer.Param) []consumer.Param {
	params := make([]consumer.Param, 0, len(names)+len(outer))
	for _, n := range names {
		params = append(params, consumer.Param{Name: n, Value: req.PathValue(n)})
	}
	for _, p := range outer {
		if !slices.Contains(names, p.Name) {
			params = append(params, p)
		}
	}
	return params
}
