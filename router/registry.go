package router

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// registry is who is connected: for limits, kicks, rechecks and the drain.
type registry struct {
	set     *settings
	refused atomic.Int64

	mu      sync.Mutex // guards all below
	drained bool
	empty   chan struct{} // closed when nothing is left of any connection after drained
	left    int           // connections of which something is left
	all     map[*connection]struct{}
	users   map[string]ofUser
	from    map[string]int // connections by address
}

// ofUser is the connections of one user: a list through connection.next, since a
// map for each of many users with one connection would be larger than all else
// that is known of it.
type ofUser struct {
	first *connection
	n     int
}

func (g *registry) init(set *settings) {
	g.set = set
	g.empty = make(chan struct{})
	g.all = map[*connection]struct{}{}
	g.users = map[string]ofUser{}
	g.from = map[string]int{}
}

// open returns how many connections there are, and how many of which something
// is left: those say goodbye.
func (g *registry) open() (open, left int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.all), g.left
}

func (g *registry) draining() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.drained
}

// enter counts a connection in, or says why there is no room for it.
func (g *registry) enter(c *connection) (*consumer.DenyError, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	site := siteOf(c.address)
	switch {
	case g.drained:
		return unavailable("the server restarts"), "the router is shutting down"
	case over(len(g.all), g.set.MaxConnections):
		return unavailable("the server is full"), fmt.Sprintf("%d connections are open (Options.MaxConnections)", len(g.all))
	case site != "" && over(g.from[site], g.set.MaxPerAddress):
		return tooMany("too many connections from this address"),
			fmt.Sprintf("%d connections from %s are open (Options.MaxPerAddress); behind a proxy, set Options.TrustedProxies", g.from[site], site)
	}
	g.left++
	g.all[c] = struct{}{}
	g.from[site]++
	return nil, ""
}

// identify books a connection under its user, or says why there is no room.
func (g *registry) identify(c *connection, u consumer.User) (*consumer.DenyError, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.users[u.ID].n; !u.Anonymous() && over(n, g.set.MaxPerUser) {
		return tooMany("too many connections of this user"), fmt.Sprintf("%d connections of the user %q are open (Options.MaxPerUser)", n, u.ID)
	}
	c.first = &u
	g.count(c, u)
	return nil, ""
}

func over(n, limit int) bool { return limit >= 0 && n >= limit }

// siteOf is by what connections are counted: an IPv4 address, or the /64 of an
// IPv6 address, out of which a client may choose as it likes. A Unix socket has
// none.
func siteOf(address string) string {
	a, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return ""
	case a.Is4():
		return address
	}
	p, _ := a.WithZone("").Prefix(64)
	return p.String()
}

// count books a connection under its user. Mu is held.
func (g *registry) count(c *connection, u consumer.User) {
	if c.user != "" {
		g.unlink(c)
	}
	c.user, c.recheck = u.ID, 0
	if !u.Anonymous() {
		g.link(c)
		c.recheck = g.nextRecheck(u)
	}
}

// link puts c into its user's list. Mu is held.
func (g *registry) link(c *connection) {
	list := g.users[c.user]
	if c.next = list.first; c.next != nil {
		c.next.prev = c
	}
	g.users[c.user] = ofUser{c, list.n + 1}
}

// unlink takes c out of its user's list. Mu is held.
func (g *registry) unlink(c *connection) {
	list := g.users[c.user]
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		list.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	if list.n--; list.n == 0 {
		delete(g.users, c.user)
	} else {
		g.users[c.user] = list
	}
}

// nextRecheck is when a user is to be looked at again, as connection.recheck has
// it.
func (g *registry) nextRecheck(u consumer.User) int64 {
	next := u.Expires
	if g.set.RecheckEvery > 0 {
		if t := time.Now().Add(g.set.RecheckEvery); next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if next.IsZero() {
		return 0
	}
	return next.Add(time.Millisecond - 1).UnixMilli() // not before it
}

// move books a connection anew after its user changed.
func (g *registry) move(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.all[c]; ok {
		c.first = nil
		g.count(c, c.who())
	}
}

// leave counts a connection out; it may still be saying goodbye.
func (g *registry) leave(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count(c, consumer.User{})
	delete(g.all, c)
	site := siteOf(c.address)
	if g.from[site]--; g.from[site] == 0 {
		delete(g.from, site)
	}
}

// gone says that nothing of a connection is left.
func (g *registry) gone() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left--; g.left == 0 && g.drained {
		close(g.empty)
	}
}

// close ends all connections of a user, or with "" of everybody, that match, and
// returns how many there were: also those whose Connect has yet to begin.
func (g *registry) close(user string, match func(*connection) bool, e *consumer.CloseError) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.of(user) {
		if match(c) {
			c.close(e)
			n++
		}
	}
	return n
}

const (
	// Clients that are sent away come back after a random wait from
	// soonestReturn on: within latestReturn, or as long as it takes for no more
	// than returnRate of them to come in a second.
	soonestReturn = 500 * time.Millisecond
	latestReturn  = 8 * time.Second
	returnRate    = 1000
)

// of yields the connections of a user, or with "" all. Mu is held.
func (g *registry) of(user string) iter.Seq[*connection] {
	if user == "" {
		return maps.Keys(g.all)
	}
	return func(yield func(*connection) bool) {
		for c := g.users[user].first; c != nil && yield(c); c = c.next {
		}
	}
}

// close ends a connection, which does not wait. Registry.mu is held.
func (c *connection) close(e *consumer.CloseError) {
	c.recheck = 0
	if c.conn != nil {
		if e.Code == consumer.StatusServiceRestart {
			latest := soonestReturn + time.Duration(len(c.router.conns.all))*time.Second/returnRate
			c.conn.Bye(e.Code, soonestReturn, max(latest, latestReturn))
		}
		c.conn.Close(e.Code, e.Reason)
	} else if c.closing == nil {
		c.closing = e
	}
}

// drain lets nobody in any more.
func (g *registry) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.drained {
		return
	}
	g.drained = true
	if g.left == 0 {
		close(g.empty)
	}
}
