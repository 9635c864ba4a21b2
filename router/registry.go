package router

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// connection is one connection in the router's books, from before Connect to
// its end.
type connection struct {
	router  *Router
	address string

	// Guarded by registry.mu.
	conn    *consumer.Conn // nil until Run has begun
	user    string         // by whom it is counted
	closing *consumer.CloseError
	recheck time.Time // when the credentials are to be looked at; zero is never
}

// start notes the Conn. One that was to be closed before it began is closed now.
func (c *connection) start(conn *consumer.Conn) {
	c.router.conns.mu.Lock()
	c.conn = conn
	closing := c.closing
	c.router.conns.mu.Unlock()
	c.router.conns.move(c)
	if closing != nil {
		conn.Close(closing.Code, closing.Reason)
	}
}

// registry is who is connected: for limits, kicks, rechecks and the drain.
type registry struct {
	set     *settings
	refused atomic.Int64
	left    sync.WaitGroup // the connections; Add only while not drained

	mu      sync.Mutex // guards all below
	drained bool
	all     map[*connection]struct{}
	users   map[string]map[*connection]struct{}
	from    map[string]int // connections by address
}

func (g *registry) init(set *settings) {
	g.set = set
	g.all = map[*connection]struct{}{}
	g.users = map[string]map[*connection]struct{}{}
	g.from = map[string]int{}
}

func (g *registry) open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.all)
}

func (g *registry) draining() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.drained
}

// enter counts a connection in, or says why there is no room for it.
func (g *registry) enter(c *connection, u consumer.User) (*consumer.DenyError, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.drained:
		return unavailable("the server restarts"), "the router is shutting down"
	case over(len(g.all), g.set.MaxConnections):
		return unavailable("the server is full"), fmt.Sprintf("%d connections are open (Options.MaxConnections)", len(g.all))
	case over(g.from[c.address], g.set.MaxPerAddress):
		return tooMany("too many connections from this address"),
			fmt.Sprintf("%d connections from this address are open (Options.MaxPerAddress); behind a proxy, set Options.TrustedProxies", g.from[c.address])
	case !u.Anonymous() && over(len(g.users[u.ID]), g.set.MaxPerUser):
		return tooMany("too many connections of this user"), fmt.Sprintf("%d connections of this user are open (Options.MaxPerUser)", len(g.users[u.ID]))
	}
	g.left.Add(1)
	g.all[c] = struct{}{}
	g.from[c.address]++
	g.count(c, u)
	return nil, ""
}

func over(n, limit int) bool { return limit >= 0 && n >= limit }

func tooMany(reason string) *consumer.DenyError {
	return &consumer.DenyError{Status: http.StatusTooManyRequests, Reason: reason, Header: retryAfter(30)}
}

// count books a connection under its user. Mu is held.
func (g *registry) count(c *connection, u consumer.User) {
	if old := g.users[c.user]; old != nil {
		if delete(old, c); len(old) == 0 {
			delete(g.users, c.user)
		}
	}
	c.user = u.ID
	if u.Anonymous() {
		c.recheck = time.Time{}
		return
	}
	if g.users[u.ID] == nil {
		g.users[u.ID] = map[*connection]struct{}{}
	}
	g.users[u.ID][c] = struct{}{}
	c.recheck = g.nextRecheck(u)
}

// nextRecheck is when a user is to be looked at again.
func (g *registry) nextRecheck(u consumer.User) time.Time {
	next := u.Expires
	if g.set.RecheckEvery > 0 {
		if t := time.Now().Add(g.set.RecheckEvery); next.IsZero() || t.Before(next) {
			next = t
		}
	}
	return next
}

// move books a connection anew after its user changed.
func (g *registry) move(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.all[c]; ok && c.conn != nil {
		g.count(c, c.conn.User())
	}
}

// leave counts a connection out; it may still be saying goodbye.
func (g *registry) leave(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.all[c]; !ok {
		return
	}
	g.count(c, consumer.User{})
	delete(g.all, c)
	if g.from[c.address]--; g.from[c.address] == 0 {
		delete(g.from, c.address)
	}
}

// gone says that nothing of a connection is left.
func (g *registry) gone(*connection) { g.left.Done() }

// list returns the connections of a user, or all with "".
func (g *registry) list(user string) []*connection {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := g.all
	if user != "" {
		from = g.users[user]
	}
	out := make([]*connection, 0, len(from))
	for c := range from {
		out = append(out, c)
	}
	return out
}

// close ends a connection, also one whose Connect has yet to begin.
func (g *registry) close(c *connection, e *consumer.CloseError) {
	g.mu.Lock()
	conn := c.conn
	if conn == nil && c.closing == nil {
		c.closing = e
	}
	g.mu.Unlock()
	if conn != nil {
		conn.Close(e.Code, e.Reason)
	}
}

// drain lets nobody in any more.
func (g *registry) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drained = true
}
