package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
	"github.com/tideway-go/tideway/router"
)

// count is what flows while members come and go.
type count struct {
	N int `json:"n"`
}

func (count) MessageType() string { return "count" }

// counting joins one of eight rooms and forwards what is counted there.
var counting = consumer.Type[struct{}]{
	Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
		return c.GroupAdd(ctx, "count."+c.PathValue("room"))
	},
	Messages: consumer.Table(consumer.Forward[struct{}, count]()),
}

const (
	churnRooms = 8
	stayers    = 100
	churners   = 900
	churnRate  = 200 // messages a second, over all rooms
)

// churnTime is 5 s, or what CHURN says: `CHURN=1m go test -run Churn`.
func churnTime(t *testing.T) time.Duration {
	text := os.Getenv("CHURN")
	if text == "" {
		return 5 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("CHURN: %v", err)
	}
	return d
}

// A thousand clients connect, join and leave in a loop while messages flow. Those
// that stay miss nothing, and when all are gone nothing of them is left.
func TestChurn(t *testing.T) {
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	bus, err := natsbus.New(t.Context(), &natsbus.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close(context.Background())
	l, err := layer.New(bus, &layer.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	r, err := router.New(l, router.Table{"/count/{room}": counting}, &router.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Shutdown(context.Background())
	server := httptest.NewServer(r)
	defer server.Close()
	base := measure(t, l, bus)

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	ready := make(chan int, stayers)
	heard := make([]atomic.Int64, stayers)
	for i := range stayers {
		clients.Go(func() { stay(t, ctx, server.URL, i, ready, &heard[i]) })
	}
	for range stayers {
		<-ready
	}
	churn, stopChurn := context.WithCancel(ctx)
	var rounds atomic.Int64
	var comers sync.WaitGroup
	for i := range churners {
		comers.Go(func() { comeAndGo(t, churn, server.URL, i, &rounds) })
	}
	sent := flow(t, l, churnTime(t))
	stopChurn()
	comers.Wait()
	want := int64(sent / churnRooms)
	eventually(t, 10*time.Second, "each stayer heard all of its room", func() bool {
		for i := range heard {
			if heard[i].Load() != want {
				return false
			}
		}
		return true
	})
	stop()
	clients.Wait()
	t.Logf("%d messages, %d visits, %d stayers missed nothing", sent, rounds.Load(), stayers)
	base.files++ // what the engine waits at for silent clients, from the first of them on
	eventually(t, 20*time.Second, "nothing is left of the clients", func() bool {
		now := measure(t, l, bus)
		return now.goroutines <= base.goroutines+5 && now.files <= base.files && now.subs <= base.subs && now.groups == 0 && now.channels == 0
	})
	t.Logf("before %+v, after %+v", base, measure(t, l, bus))
}

// usage is what a leak would raise.
type usage struct{ goroutines, files, subs, groups, channels int }

func measure(t *testing.T, l *layer.Layer, bus *natsbus.Bus) usage {
	t.Helper()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return usage{runtime.NumGoroutine(), len(files), bus.Conn().NumSubscriptions(), l.Stats().Groups, l.Stats().Channels}
}

// flow sends numbers to all rooms in turn and returns how many.
func flow(t *testing.T, l *layer.Layer, d time.Duration) int {
	tick := time.NewTicker(time.Second / churnRate)
	defer tick.Stop()
	total := int(d.Seconds() * churnRate)
	total -= total % churnRooms
	for n := range total {
		<-tick.C
		if err := l.GroupSend(t.Context(), fmt.Sprint("count.", n%churnRooms), count{n / churnRooms}); err != nil {
			t.Error(err)
		}
	}
	return total
}

// visit opens a socket from one of several addresses, as limits go by address.
func visit(ctx context.Context, url string, i int) (*websocket.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%16))}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	c, _, err := websocket.Dial(ctx, fmt.Sprintf("%s/count/%d", strings.Replace(url, "http", "ws", 1), i%churnRooms),
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	return c, err
}

// stay hears everything, in order and once.
func stay(t *testing.T, ctx context.Context, url string, i int, ready chan<- int, heard *atomic.Int64) {
	c, err := visit(ctx, url, i)
	if err != nil {
		t.Errorf("stayer %d: %v", i, err)
		ready <- i
		return
	}
	defer c.Close(websocket.StatusNormalClosure, "")
	ready <- i
	for {
		_, data, err := c.Read(ctx)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("stayer %d: %v", i, err)
			}
			return
		}
		var m count
		if err := json.Unmarshal(data, &m); err != nil || int64(m.N) != heard.Load() {
			t.Errorf("stayer %d heard %s, want number %d", i, data, heard.Load())
			return
		}
		heard.Add(1)
	}
}

// comeAndGo visits until ctx ends; every third time it leaves without a word.
func comeAndGo(t *testing.T, ctx context.Context, url string, i int, rounds *atomic.Int64) {
	for n := 0; ctx.Err() == nil; n++ {
		c, err := visit(ctx, url, i)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("visitor %d: %v", i, err)
			}
			return
		}
		c.Read(ctx) // one message, wherever the room is
		if n%3 == 0 {
			c.CloseNow()
		} else {
			c.Close(websocket.StatusNormalClosure, "")
		}
		rounds.Add(1)
	}
}
