package consumer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// Cursors that come when the groups have been joined without them are too late:
// the client is told so, and that it missed something.
func TestLateResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := watch(t)
		s.publish("job.1", 1, 3)
		p := s.dial("/job.1/?start", client.Resume{})
		p.joined(client.Joined{Group: "job.1", Outcome: "live", Replayed: 3})
		p.lines("job.1", 1, 3)
		p.Vanish()
		s.publish("job.1", 4, 6)

		c := consumertest.Dial(t, s, "/job.1/", &consumertest.Options{Subprotocols: []string{consumer.Protocol}})
		expect := func(want string) {
			t.Helper()
			if got := c.ReceiveText(); !strings.HasPrefix(got, want) {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
		expect(`{"hello":`)
		began := time.Now()
		expect(`{"joined":"job.1","outcome":"live"`)
		if waited := time.Since(began); waited != 2*time.Second {
			t.Errorf("cursors were awaited for %v, want 2s", waited)
		}
		cursors, err := json.Marshal(p.Resume().Cursors)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // however often it is tried
			c.SendText(`{"resume":` + string(cursors) + `}`)
			expect(`{"error":{"code":"late_resume"`)
			expect(`{"gap":{"group":"job.1","reason":"far"}}`)
		}
		s.publish("job.1", 7, 7)
		expect(`{"group":"job.1","at":"`)
	})
}

// Keys are renewed while clients hold cursors: those hold in all processes, also
// where another one made the new key, until their key is gone.
func TestCursorsOutliveKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		table := router.Table{"/{group}/": watchers}
		a, b := keepingStation(t, bus, table, nil, 24*time.Hour), keepingStation(t, bus, table, nil, 24*time.Hour)
		cursor := func(s *station) client.Resume {
			at, err := s.layer.Position(t.Context(), "job.1")
			if err != nil {
				t.Fatal(err)
			}
			return client.Resume{Cursors: map[string]string{"job.1": consumer.Cursor(s.layer, "job.1", at)}}
		}
		back := func(s *station, from client.Resume, replayed int) {
			t.Helper()
			p := s.dial("/job.1/", from)
			p.joined(client.Joined{Group: "job.1", Outcome: "resumed", Replayed: replayed})
			p.Vanish()
		}
		time.Sleep(23 * time.Hour)
		a.publish("job.1", 1, 1)
		old := cursor(a)
		a.publish("job.1", 2, 3)
		time.Sleep(2 * time.Hour) // the first key signs no more
		for _, s := range []*station{a, b} {
			back(s, old, 2)
			back(a, cursor(s), 0)
			back(b, cursor(s), 0)
		}
		time.Sleep(24 * time.Hour) // and is gone
		for _, s := range []*station{a, b} {
			p := s.dial("/job.1/", old)
			if e := p.next(); e.Err == nil || e.Err.Code != "bad_cursor" {
				t.Errorf("got %s, want bad_cursor", show(e))
			}
			p.joined(client.Joined{Group: "job.1", Outcome: "gap", Reason: "reset"})
			p.Vanish()
		}
	})
}

// A client comes back to each node of a cluster in turn, with the cursors that the
// one before has signed, and has everything once.
func TestResumeThroughEachNode(t *testing.T) {
	var nodes []*station
	for _, bus := range cluster(t) {
		nodes = append(nodes, newStation(t, bus, router.Table{"/{group}/": watchers}, nil))
	}
	p := nodes[0].dial("/job.1/", client.Resume{})
	p.joined(client.Joined{Group: "job.1", Outcome: "live"})
	for n := 1; n <= 30; n += 5 {
		nodes[n%3].publish("job.1", n, n+1) // one node publishes, one has the client, which comes back to the next
		p.lines("job.1", n, n+1)
		p.Vanish()
		nodes[(n+1)%3].publish("job.1", n+2, n+4)
		p = nodes[n/5%3].dial("/job.1/", p.Resume())
		p.joined(client.Joined{Group: "job.1", Outcome: "resumed", Replayed: 3})
		p.lines("job.1", n+2, n+4)
	}
}

// cluster starts three servers.
func cluster(t *testing.T) (nodes [3]layer.Bus) {
	t.Helper()
	var routes []string
	for range nodes {
		routes = append(routes, freeAddress(t))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var starting sync.WaitGroup
	for i := range nodes {
		starting.Go(func() {
			b, err := natsbus.New(ctx, &natsbus.Options{Embedded: &natsbus.Embedded{
				Name: fmt.Sprintf("node%d", i), Listen: "127.0.0.1:0", StoreDir: t.TempDir(),
				Cluster: &natsbus.Cluster{Listen: routes[i], Routes: routes},
			}})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { b.Close(context.Background()) })
			nodes[i] = b
		})
	}
	if starting.Wait(); t.Failed() {
		t.FailNow()
	}
	return nodes
}

// freeAddress returns an address below those that systems give out, which no
// other test takes before this one ends: the UDP port is the token.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.N(22_000))
		token, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		t.Cleanup(func() { token.Close() })
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no address is free")
	return ""
}
