package natsbus

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

func stopNATS(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func portOf(s *server.Server) int {
	var port int
	fmt.Sscanf(s.Addr().String()[strings.LastIndexByte(s.Addr().String(), ':'):], ":%d", &port)
	return port
}

// cases 34, 56, 113: nothing is sent to a broken link, everything is whole when
// it is back.
func TestReconnect(t *testing.T) {
	s := startNATS(t, -1, nil)
	port := portOf(s)
	b := openBus(t, &Options{URL: s.ClientURL()})
	r := newRecorder()
	owner := newProcess()
	l, err := b.Attach(t.Context(), owner, r)
	if err != nil {
		t.Fatal(err)
	}
	const groups = 1000
	for i := range groups {
		subscribe(t, l, fmt.Sprintf("g%d", i))
	}
	if err := l.Subscribe(t.Context(), layer.Subscription{Group: "relayed", Relay: "w"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		stopNATS(s)
		r.awaitEvent(t, layer.LinkDown)
		p := &layer.Packet{Data: []byte(`{"type":"t"}`)}
		for what, err := range map[string]error{
			"Publish":   l.Publish(t.Context(), "g1", p),
			"SendTo":    l.SendTo(t.Context(), owner+"!x", p),
			"Push":      l.Push(t.Context(), "c", p, testLimits),
			"Subscribe": l.Subscribe(t.Context(), layer.Subscription{Group: "new"}),
		} {
			if !errors.Is(err, layer.ErrUnavailable) {
				t.Errorf("%s without a server: got %v, want ErrUnavailable", what, err)
			}
		}
		if b.Connected() || b.Err() != nil {
			t.Errorf("without a server: Connected %v, Err %v; want false, nil", b.Connected(), b.Err())
		}
		s = startNATS(t, port, nil)
		r.awaitEvent(t, layer.LinkUp)
		r.mu.Lock()
		r.events, r.groups = nil, nil
		clear(r.direct)
		r.mu.Unlock()
		for i := range groups {
			publish(t, l, fmt.Sprintf("g%d", i), `{"type":"t"}`)
		}
		publish(t, l, "relayed", `{"type":"t"}`)
		if err := l.SendTo(t.Context(), owner+"!x", p); err != nil {
			t.Error(err)
		}
		r.awaitGroups(t, groups+1)
		subscribe(t, l, "new")
		if err := l.Unsubscribe(layer.Subscription{Group: "new"}); err != nil {
			t.Error(err)
		}
	}
}

// A puller waits through the loss of the server and of the stream with it.
func TestPullThroughRestart(t *testing.T) {
	withJetStream := func(o *server.Options) { o.JetStream = true }
	s := startNATS(t, -1, withJetStream)
	port := portOf(s)
	b := openBus(t, &Options{URL: s.ClientURL()})
	r := newRecorder()
	l := attach(t, b, r)
	got := make(chan string, 1)
	go func() { got <- pull(t, l, "c", testLimits) }()
	until(t, "the request is at the server", func() bool { return l.(*link).isAsking("c") })
	stopNATS(s)
	startNATS(t, port, withJetStream)
	r.awaitEvent(t, layer.LinkUp)
	if err := push(t, l, "c", 1, testLimits); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m != `{"n":1}` {
		t.Errorf("got %s", m)
	}
}

// case 48: New waits for a server that is late, and names one that is not there
// without its secrets.
func TestFirstConnect(t *testing.T) {
	address := freeAddresses(t, 1)[0]
	_, err := New(t.Context(), &Options{URL: "nats://user:hush@" + address, ConnectWait: 300 * time.Millisecond})
	if !errors.Is(err, layer.ErrUnavailable) || !strings.Contains(err.Error(), address) || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v", err)
	}
	var port int
	fmt.Sscanf(address[strings.LastIndexByte(address, ':'):], ":%d", &port)
	opened := make(chan *Bus, 1)
	go func() { opened <- openBus(t, &Options{URL: address, ConnectWait: 10 * time.Second}) }()
	time.Sleep(150 * time.Millisecond) // the server is late
	startNATS(t, port, nil)
	if b := <-opened; !b.Connected() {
		t.Error("not connected")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := New(ctx, &Options{URL: freeAddresses(t, 1)[0]}); err == nil || time.Since(start) > 3*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
}

func TestCredentials(t *testing.T) {
	s := startNATS(t, -1, func(o *server.Options) { o.Username, o.Password = "u", "p" })
	openBus(t, &Options{URL: s.ClientURL(), User: "u", Password: "p"})
	start := time.Now()
	_, err := New(t.Context(), &Options{URL: s.ClientURL(), User: "u", Password: "hush"})
	if err == nil || !strings.Contains(err.Error(), "credentials") || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v", err)
	}
	if time.Since(start) > 3*time.Second {
		t.Errorf("refused credentials were tried for %v", time.Since(start))
	}
}

// The caller's own connection keeps its handlers and stays open, and its
// reconnect buffer is not used.
func TestOwnConnection(t *testing.T) {
	s := startNATS(t, -1, nil)
	port := portOf(s)
	down, up := make(chan struct{}, 8), make(chan struct{}, 8)
	nc, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { down <- struct{}{} }),
		nats.ReconnectHandler(func(*nats.Conn) { up <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	subs := nc.NumSubscriptions()
	b, err := New(t.Context(), &Options{Conn: nc, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	l := attach(t, b, r)
	subscribe(t, l, "g")
	stopNATS(s)
	<-down
	r.awaitEvent(t, layer.LinkDown)
	if err := l.Publish(t.Context(), "g", &layer.Packet{Data: []byte("{}")}); !errors.Is(err, layer.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	startNATS(t, port, nil)
	<-up
	r.awaitEvent(t, layer.LinkUp)
	publish(t, l, "g", "{}")
	r.awaitGroups(t, 1)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if nc.IsClosed() {
		t.Error("the caller's connection was closed")
	}
	if got := nc.NumSubscriptions(); got > subs+1 { // nats.go's own for answers
		t.Errorf("%d subscriptions are left, %d before", got, subs)
	}
}

// A connection that ends for good is reported, and liveness fails.
func TestClosedConnection(t *testing.T) {
	s := startNATS(t, -1, nil)
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	b := openBus(t, &Options{Conn: nc})
	r := newRecorder()
	l := attach(t, b, r)
	nc.Close()
	r.awaitEvent(t, layer.LinkClosed)
	if b.Err() == nil || b.Connected() {
		t.Errorf("got Err %v, Connected %v", b.Err(), b.Connected())
	}
	if err := l.Publish(t.Context(), "g", &layer.Packet{Data: []byte("{}")}); !errors.Is(err, layer.ErrUnavailable) && !errors.Is(err, layer.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// case 107: what a process is too slow to take is counted exactly.
func TestSlowConsumer(t *testing.T) {
	b := openBus(t, &Options{Shards: 1, Pending: 16})
	r := newRecorder()
	release := make(chan struct{})
	got := 0
	r.onDeliver = func(batch []layer.Inbound) {
		<-release
		r.mu.Lock()
		got += len(batch)
		r.mu.Unlock()
		r.signal()
	}
	l := attach(t, b, r)
	subscribe(t, l, "g")
	const n = 500
	for i := range n {
		publish(t, l, "g", fmt.Sprintf(`{"n":%d}`, i))
		if i == n/2 {
			r.awaitEvent(t, layer.Dropped)
		}
	}
	if err := b.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	close(release)
	r.await(t, "all messages delivered or reported", func() bool {
		lost := 0
		for _, e := range r.events {
			if e.Kind != layer.Dropped || e.Group != "g" {
				t.Errorf("got %+v", e)
			}
			lost += e.Count
		}
		return got+lost == n
	})
}

// case 36
func TestNoLeaks(t *testing.T) {
	round := func() {
		b, err := New(t.Context(), &Options{Logger: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		l := attach(t, b, newRecorder())
		for i := range 100 {
			subscribe(t, l, fmt.Sprintf("g%d", i))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := l.Pull(ctx, "c", testLimits); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	round() // starts what nats-server keeps for ever
	before := runtime.NumGoroutine()
	for range 5 {
		round()
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}
