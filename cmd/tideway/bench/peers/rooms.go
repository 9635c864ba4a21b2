package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/tideway-go/tideway/cmd/tideway/bench"
	"github.com/tideway-go/tideway/layer"
)

// rooms are the members of rooms, for libraries that have none.
type rooms[M comparable] struct {
	open atomic.Int64

	mu      sync.RWMutex // guards members
	members map[int][]M  // copied on write
}

func (r *rooms[M]) join(room int, m M) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members == nil {
		r.members = map[int][]M{}
	}
	r.members[room] = append(r.members[room], m) // beyond what of sees
	r.open.Add(1)
}

func (r *rooms[M]) leave(room int, m M) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.members[room], m); i >= 0 {
		r.members[room] = slices.Concat(r.members[room][:i], r.members[room][i+1:])
		r.open.Add(-1)
	}
}

// of returns a room's members, which are not to be modified.
func (r *rooms[M]) of(room int) []M {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.members[room]
}

func (r *rooms[M]) Connections() int { return int(r.open.Load()) }

// roomOf returns the room that a request is for.
func roomOf(r *http.Request) (int, error) { return strconv.Atoi(r.URL.Query().Get("room")) }

// path is where clients find a room.
const path = "/ws?room=%d"

// message is what our own server sends for a text.
func message(text []byte) ([]byte, error) { return layer.Encode(bench.Tick{Text: string(text)}) }

// site is an HTTP server on a port of its own.
type site struct {
	server http.Server
	served sync.WaitGroup
}

func (s *site) listen(h http.Handler) (addr string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.server.Handler = h
	s.served.Go(func() { s.server.Serve(ln) }) // until Close
	return ln.Addr().String(), nil
}

// Close ends the server; connections end with the process.
func (s *site) Close() {
	s.server.Close()
	s.served.Wait()
}

// handled is a server without a broker.
type handled interface {
	http.Handler
	Publish(room int, text []byte) error
	Connections() int
}

type local struct {
	handled
	site
}

// inProcess starts a server whose publisher is in its process.
func inProcess(make func(deflate bool) handled) func(context.Context, bench.Site) (bench.Served, bench.Opened, error) {
	return func(_ context.Context, s bench.Site) (bench.Served, bench.Opened, error) {
		if s.Shared || !s.Serve {
			return nil, bench.Opened{}, errors.New("it has no broker: use --publisher inside")
		}
		l := &local{handled: make(s.Deflate)}
		addr, err := l.listen(l.handled)
		return l, bench.Opened{Addr: addr, Path: path}, err
	}
}
