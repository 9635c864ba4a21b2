package natsbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// wire is a TCP proxy that can be cut.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex // guards what follows
	cut   bool
	conns map[net.Conn]struct{}
}

func newWire(t testing.TB, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to, conns: map[net.Conn]struct{}{}}
	t.Cleanup(func() {
		w.set(true)
		l.Close()
	})
	go w.serve()
	return w
}

func (w *wire) serve() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		go w.carry(c)
	}
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	o, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer o.Close()
	w.mu.Lock()
	if w.cut {
		w.mu.Unlock()
		return
	}
	w.conns[c], w.conns[o] = struct{}{}, struct{}{}
	w.mu.Unlock()
	go func() {
		io.Copy(o, c)
		o.Close()
	}()
	io.Copy(c, o)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	delete(w.conns, o)
}

// set cuts the wire, or mends it.
func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for c := range w.conns {
			c.Close()
		}
	}
}

// breakable is a cluster whose servers reach each other by wires alone.
type breakable struct {
	servers []*server.Server
	wires   [][]*wire // from, to
}

func startBreakable(t testing.TB) *breakable {
	t.Helper()
	const n = 3
	x := &breakable{servers: make([]*server.Server, n)}
	addresses := freeAddresses(t, n)
	for i := range n {
		x.wires = append(x.wires, make([]*wire, n))
		for j := range n {
			if i != j {
				x.wires[i][j] = newWire(t, addresses[j])
			}
		}
	}
	var starting sync.WaitGroup
	for i := range n {
		host, port, _ := net.SplitHostPort(addresses[i])
		starting.Go(func() {
			x.servers[i] = startNATS(t, -1, func(o *server.Options) {
				o.ServerName = fmt.Sprint("node", i)
				o.JetStream, o.DisableJetStreamBanner = true, true
				// Nobody can reach what is advertised, past the wires.
				o.Cluster = server.ClusterOpts{Name: "c", Host: host, Advertise: "127.0.0.1:1"}
				fmt.Sscan(port, &o.Cluster.Port)
				for _, w := range x.wires[i] {
					if w != nil {
						o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: w.listener.Addr().String()})
					}
				}
			})
		})
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	within(t, time.Minute, "all servers have found each other", func() bool {
		return slices.ContainsFunc(x.servers, func(s *server.Server) bool { return len(s.JetStreamClusterPeers()) == n })
	})
	return x
}

// isolate cuts one server off from the others, or brings it back.
func (x *breakable) isolate(name string, cut bool) {
	for i, s := range x.servers {
		for j := range x.servers {
			if i != j && (s.Name() == name || x.servers[j].Name() == name) {
				x.wires[i][j].set(cut)
			}
		}
	}
}

func (x *breakable) urls() string {
	var all []string
	for _, s := range x.servers {
		all = append(all, s.ClientURL())
	}
	return strings.Join(all, ",")
}

// home is a tap that notes gaps, for who asks from another goroutine.
type home struct {
	gaps chan layer.Gap
	got  chan string
}

func (h *home) Offer(b *layer.Batch) bool {
	for _, m := range b.Messages {
		h.got <- string(m.Data)
	}
	return true
}
func (h *home) Wake()              {}
func (h *home) Gapped(g layer.Gap) { h.gaps <- g }

func newHome(t *testing.T, l *layer.Layer, groups ...string) *home {
	t.Helper()
	h := &home{make(chan layer.Gap, 100), make(chan string, 10_000)}
	c, err := l.Tap(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if err := l.GroupAdd(t.Context(), g, c.Name()); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *home) wants(t *testing.T, n int) {
	t.Helper()
	select {
	case got := <-h.got:
		if want := string(numbered(n).Data); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	case <-time.After(90 * time.Second): // servers take their time to find each other again
		t.Fatalf("message %d does not come", n)
	}
}

// forgetGaps drops what came so far: on a busy machine, servers may be slow to
// answer even before one is cut off.
func (h *home) forgetGaps() {
	for len(h.gaps) > 0 {
		<-h.gaps
	}
}

func (h *home) wantsGap(t *testing.T, group string) {
	t.Helper()
	select {
	case g := <-h.gaps:
		if g.Group != group || g.Reason != layer.GapLink {
			t.Fatalf("got %+v, want a gap of %s because of the link", g, group)
		}
	case <-time.After(90 * time.Second): // servers take their time to find each other again
		t.Fatalf("no gap of %s comes", group)
	}
}

// A process at a server that is cut off notices within 10 seconds, although its
// connection is up, and goes to another one. Its members miss nothing of durable
// groups, and are told that they may have missed something of the others.
func TestMovesFromACutOffServer(t *testing.T) {
	t.Parallel()
	x := startBreakable(t)
	here, there := openBus(t, &Options{URL: x.urls()}), openBus(t, &Options{URL: x.urls()})
	l, other := durableLayer(t, here), durableLayer(t, there)
	h := newHome(t, l, "job.1", "chat")
	at := here.conn.ConnectedServerName()
	if there.conn.ConnectedServerName() == at {
		// It shall be on the other side.
		moveFrom(t, there, at)
	}
	publishUntil(t, other, 0)
	h.wants(t, 0)

	h.forgetGaps()
	began := time.Now()
	x.isolate(at, true)
	// Err may be nil again some milliseconds later, at another server.
	within(t, time.Minute, "the process notices", func() bool { return l.Err() != nil || here.conn.ConnectedServerName() != at })
	t.Logf("noticed after %v", time.Since(began))
	if took := time.Since(began); took > 30*time.Second { // 10, and what a busy machine adds
		t.Errorf("it took %v", took)
	}
	publishUntil(t, other, 1)
	h.wants(t, 1)
	t.Logf("there again after %v, at %s instead of %s", time.Since(began), here.conn.ConnectedServerName(), at)
	if here.conn.ConnectedServerName() == at {
		t.Error("it is still at the server that is cut off")
	}
	h.wantsGap(t, "chat")
	if err := l.Err(); err != nil || !here.Connected() {
		t.Errorf("in the end: got Err %v, Connected %v", err, here.Connected())
	}
}

// A process that has nowhere to go says that it is cut off, and when it no
// longer is.
func TestSaysThatItIsCutOff(t *testing.T) {
	t.Parallel()
	x := startBreakable(t)
	// Its own connection, which the Bus does not move.
	conn := connectTo(t, x.servers[0])
	here, there := openBus(t, &Options{Conn: conn}), openBus(t, &Options{URL: x.servers[1].ClientURL()})
	l, other := durableLayer(t, here), durableLayer(t, there)
	h := newHome(t, l, "job.1", "chat")
	publishUntil(t, other, 0)
	h.wants(t, 0)
	h.forgetGaps()
	x.isolate("node0", true)
	within(t, time.Minute, "the process notices", func() bool { return errors.Is(l.Err(), layer.ErrUnavailable) && !here.Connected() })
	if here.Err() != nil {
		t.Errorf("liveness: got %v", here.Err())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := l.Publish(ctx, "job.1", numbered(9), nil); err == nil {
		t.Error("the minority says that a message is stored")
	}
	publishUntil(t, other, 1)
	x.isolate("node0", false)
	h.wants(t, 1)
	h.wantsGap(t, "chat")
	within(t, time.Minute, "it is there again", func() bool { return l.Err() == nil && here.Connected() })
}

// publishUntil stores a message, whoever has to be elected first.
func publishUntil(t *testing.T, l *layer.Layer, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		_, err := l.Publish(ctx, "job.1", numbered(n), &layer.PublishOptions{ID: fmt.Sprint("n", n)})
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func connectTo(t *testing.T, s *server.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// moveFrom has b leave the server of that name.
func moveFrom(t *testing.T, b *Bus, name string) {
	t.Helper()
	if err := b.conn.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "it is elsewhere", func() bool { return b.conn.IsConnected() && b.conn.ConnectedServerName() != name && b.Connected() })
}
