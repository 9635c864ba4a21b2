package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/examples/internal/freeport"
	"github.com/tideway-go/tideway/layer"
)

// follower is a client of the inbox that comes back whenever it is cut off, and
// checks that it is told every number, in order and once.
type follower struct {
	user   string
	sites  func(turn int) string // where it connects for the nth time
	header http.Header
	client *http.Client
	drops  *rand.Rand // nil: it goes only when it has to

	resume  client.Resume
	resumed int // connections that went on
	faults  []string

	first, last atomic.Int64 // the numbers that it was told; 0 before
}

// hear takes the next number.
func (f *follower) hear(n int64) {
	last := f.last.Load()
	switch {
	case last == 0:
		f.first.Store(n)
	case n > last+1:
		f.faults = append(f.faults, fmt.Sprintf("missing: %d to %d", last+1, n-1))
	case n == last:
		f.faults = append(f.faults, fmt.Sprintf("doubled: %d", n))
	case n < last:
		f.faults = append(f.faults, fmt.Sprintf("back: %d after %d", n, last))
	}
	f.last.Store(max(n, last))
}

// follow connects and reads until ctx ends.
func (f *follower) follow(ctx context.Context) {
	for turn := 0; ctx.Err() == nil; turn++ {
		if err := f.connection(ctx, f.sites(turn)); err != nil && ctx.Err() == nil {
			f.faults = append(f.faults, err.Error())
			return
		}
		select {
		case <-time.After(time.Duration(rand.IntN(500)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// connection is one connection, until it ends for a reason after which clients
// come back.
func (f *follower) connection(ctx context.Context, site string) error {
	c, err := client.Dial(ctx, site+"/inbox/ws/", &client.Options{Header: f.header, HTTPClient: f.client, Resume: f.resume})
	if refused, ok := errors.AsType[*client.RefusedError](err); ok && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
		return err
	}
	if err != nil {
		return nil // the site is away
	}
	defer c.Vanish()
	defer func() { f.resume = c.Resume() }()
	for f.drops == nil || f.drops.IntN(20) > 0 {
		e, err := c.Receive(ctx)
		switch {
		case err != nil && consumer.CloseStatus(err) == consumer.StatusUnauthorized:
			return err
		case err != nil:
			return nil
		}
		if err := f.take(e); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) take(e client.Event) error {
	switch {
	case e.Joined != nil && e.Joined.Outcome == "resumed":
		f.resumed++
	case e.Joined != nil && (e.Joined.Outcome == "gap" || f.last.Load() > 0):
		return fmt.Errorf("behind %d it is told %+v", f.last.Load(), *e.Joined)
	case e.Gap != nil:
		return fmt.Errorf("behind %d it is told of the gap %+v", f.last.Load(), *e.Gap)
	case e.Data != nil:
		var m struct{ Text string }
		if err := json.Unmarshal(e.Data, &m); err != nil {
			return err
		}
		var n int64
		if _, err := fmt.Sscanf(m.Text, "number %d", &n); err != nil {
			return fmt.Errorf("%s: %w", e.Data, err)
		}
		f.hear(n)
	}
	return nil
}

// The follower finds what it is there for.
func TestFollowerFindsFaults(t *testing.T) {
	for _, c := range []struct {
		heard []int64
		want  string
	}{
		{[]int64{3, 4, 5}, ""},
		{[]int64{3, 5}, "missing: 4 to 4"},
		{[]int64{3, 4, 4, 5}, "doubled: 4"},
		{[]int64{3, 5, 4}, "missing: 4 to 4; back: 4 after 5"},
		{[]int64{3, 4, 5, 3, 4, 5}, "back: 3 after 5; back: 4 after 5; doubled: 5"},
	} {
		var f follower
		for _, n := range c.heard {
			f.hear(n)
		}
		if got := strings.Join(f.faults, "; "); got != c.want {
			t.Errorf("%v: got %q, want %q", c.heard, got, c.want)
		}
	}
	f := follower{}
	f.hear(1)
	for _, outcome := range []string{"live", "gap"} {
		if f.take(client.Event{Joined: &client.Joined{Outcome: outcome}}) == nil {
			t.Errorf("behind a number, %q is no fault", outcome)
		}
	}
}

// scale is how much goes on: a little, or with CROWD=1m a lot, for so long.
type scale struct {
	users, each int // followers of each user
	rate        int // messages a second, over all users
	lasts       time.Duration
}

func (c scale) or(long scale) scale {
	d, err := time.ParseDuration(os.Getenv("CROWD"))
	if err != nil {
		return c
	}
	long.lasts = d
	return long
}

// gather makes the followers, each user logged in at a site.
func (c scale) gather(t *testing.T, at string, sites func(turn int) string) []*follower {
	t.Helper()
	var all []*follower
	for u := range c.users {
		user := fmt.Sprint("user", u)
		header := logIn(t, at, user)
		for i := range c.each {
			// Limits go by address, so the followers have several.
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+(u*c.each+i)%16))}}
			transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
			all = append(all, &follower{user: user, sites: sites, header: header, client: &http.Client{Transport: transport}})
		}
	}
	return all
}

// logIn returns what a user's handshakes carry.
func logIn(t *testing.T, site, user string) http.Header {
	t.Helper()
	stay := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := stay.PostForm(site+"/inbox/login", url.Values{"user": {user}})
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if len(r.Cookies()) != 1 {
		t.Fatalf("login of %s: %s with the cookies %v", user, r.Status, r.Cookies())
	}
	return http.Header{"Cookie": {r.Cookies()[0].Name + "=" + r.Cookies()[0].Value}, "Origin": {site}}
}

// publishing tells all users numbers until stop is called, which returns the last
// number of each.
func (c scale) publishing(t *testing.T, l *layer.Layer) (stop func() map[string]int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	last := make([]int64, c.users)
	for u := range c.users {
		all.Go(func() {
			tick := time.NewTicker(time.Second * time.Duration(c.users) / time.Duration(c.rate))
			defer tick.Stop()
			for ctx.Err() == nil {
				if err := l.GroupSend(context.WithoutCancel(ctx), fmt.Sprint("notify.user", u), told(fmt.Sprint("number ", last[u]+1))); err != nil {
					t.Errorf("user%d, number %d: %v", u, last[u]+1, err)
					return
				}
				last[u]++
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(cancel)
	return func() map[string]int64 {
		cancel()
		all.Wait()
		m := map[string]int64{}
		for u, n := range last {
			m[fmt.Sprint("user", u)] = n
		}
		return m
	}
}

// verdict waits until each follower has heard the last of its user's numbers, and
// fails the test for each that was told too little or too much.
func verdict(t *testing.T, all []*follower, last map[string]int64, finish func()) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for behind := 1; behind > 0 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		behind = 0
		for _, f := range all {
			if f.last.Load() < last[f.user] {
				behind++
			}
		}
	}
	finish()
	var heard int64
	resumed, faulty := 0, 0
	for i, f := range all {
		resumed += f.resumed
		heard += f.last.Load() - f.first.Load() + 1
		if got := f.last.Load(); got != last[f.user] {
			f.faults = append(f.faults, fmt.Sprintf("ends with %d of %d", got, last[f.user]))
		}
		if len(f.faults) > 0 {
			if faulty++; faulty <= 5 {
				t.Errorf("follower %d of %s: %s", i, f.user, strings.Join(f.faults[:min(len(f.faults), 5)], "; "))
			}
		}
	}
	if resumed < len(all) {
		t.Errorf("%d followers resumed %d times: the test shows nothing", len(all), resumed)
	}
	sent := int64(0)
	for _, n := range last {
		sent += n
	}
	t.Logf("%d messages; %d followers heard %d and resumed %d times; %d of them have faults", sent, len(all), heard, resumed, faulty)
}

// One of two web processes is killed with all clients on it, while messages go
// on. They resume at the other, and none misses anything.
func TestWebProcessKilled(t *testing.T) {
	broker := freeport.Addr(t)
	startNATS(t, broker, t.TempDir())
	one, two := startInbox(t, broker), startInbox(t, broker)
	l := networkOf(t, broker)
	c := scale{users: 5, each: 40, rate: 20, lasts: 2 * time.Second}.or(scale{users: 25, each: 40, rate: 100})
	all := c.gather(t, "http://"+one.addr, func(turn int) string {
		if turn == 0 {
			return "http://" + one.addr
		}
		return "http://" + two.addr
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, f := range all {
		running.Go(func() { f.follow(ctx) })
	}
	stop := c.publishing(t, l)
	eventually(t, 90*time.Second, "all followers hear", func() bool { return hearing(all) })
	time.Sleep(c.lasts)
	one.kill()
	killed := time.Now()
	marks := make([]int64, len(all))
	for i, f := range all {
		marks[i] = f.last.Load()
	}
	eventually(t, 90*time.Second, "all followers go on", func() bool {
		for i, f := range all {
			if f.last.Load() <= marks[i] {
				return false
			}
		}
		return true
	})
	t.Logf("all %d followers went on elsewhere within %v", len(all), time.Since(killed).Round(time.Millisecond))
	last := stop()
	verdict(t, all, last, func() { cancel(); running.Wait() })
	two.stop()
}

func hearing(all []*follower) bool {
	for _, f := range all {
		if f.last.Load() == 0 {
			return false
		}
	}
	return true
}

// Clients connect, join, drop and resume at two processes in turn, at random,
// while messages go on: 2,000 a second and 200 clients with CROWD=1m.
func TestComeAndGo(t *testing.T) {
	broker := freeport.Addr(t)
	startNATS(t, broker, t.TempDir())
	one, two := startInbox(t, broker), startInbox(t, broker)
	l := networkOf(t, broker)
	c := scale{users: 10, each: 4, rate: 200, lasts: 4 * time.Second}.or(scale{users: 200, each: 1, rate: 2000})
	all := c.gather(t, "http://"+one.addr, func(turn int) string {
		return "http://" + []string{one.addr, two.addr}[turn%2]
	})
	stop := c.publishing(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i, f := range all {
		f.drops = rand.New(rand.NewPCG(7, uint64(i)))
		running.Go(func() { f.follow(ctx) })
	}
	began := time.Now()
	eventually(t, 90*time.Second, "all followers hear", func() bool { return hearing(all) })
	time.Sleep(c.lasts)
	last := stop()
	t.Logf("published for %v", time.Since(began).Round(time.Millisecond))
	verdict(t, all, last, func() { cancel(); running.Wait() })
	one.stop()
	two.stop()
}
