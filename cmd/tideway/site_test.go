package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer/natsbus"
)

// output collects what a program writes.
type output struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// await waits until a text was written.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(o.String(), text); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q within %v:\n%s", text, patience, o)
		}
	}
}

// running is a tideway that runs in the test's own process.
type running struct {
	stdout, stderr output
	cancel         context.CancelFunc // what a signal does
	status         chan int           // gets the exit status
}

func noEnv(string) string { return "" }

func startRun(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, status: make(chan int, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.status <- run(ctx, args, strings.NewReader(""), &r.stdout, &r.stderr, noEnv)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if t.Failed() {
			t.Logf("tideway %s\n%s%s", strings.Join(args, " "), &r.stdout, &r.stderr)
		}
	})
	return r
}

// find waits for a pattern on stdout, and returns its group.
func (r *running) find(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if m := re.FindStringSubmatch(r.stdout.String()); m != nil {
			return m[1]
		}
	}
	t.Fatalf("no %s on stdout within %v", re, patience)
	return ""
}

// stop ends the program as a signal does, and returns its exit status.
func (r *running) stop(t *testing.T) int {
	t.Helper()
	r.cancel()
	select {
	case status := <-r.status:
		return status
	case <-time.After(patience):
		t.Fatalf("the program did not end within %v", patience)
		return 0
	}
}

// startSite runs a demo and returns the address of its page.
func startSite(t *testing.T, args ...string) (r *running, addr string) {
	t.Helper()
	r = startRun(t, append([]string{"demo", "--addr", "127.0.0.1:0"}, args...)...)
	return r, r.find(t, `Open http://(\S+)/`)
}

// join opens a socket in the lobby of a site.
func join(t *testing.T, addr string) *socket {
	t.Helper()
	s, err := dialSocket("ws://" + addr + "/ws/chat/lobby/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func says(user, text string) string {
	return fmt.Sprintf(`{"type":"chat.message","user":%q,"text":%q}`, user, text)
}

// hear fails the test unless want is the next that arrives.
func (s *socket) hear(t *testing.T, want string) {
	t.Helper()
	got, err := s.next()
	if err != nil || got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

// everywhereOnce has somebody speak on each site, and a script send to each NATS
// server: everybody hears it all, in order.
func everywhereOnce(t *testing.T, sockets []*socket, servers []string) {
	t.Helper()
	for i, s := range sockets {
		text := says(fmt.Sprint("user", i), "hello")
		if err := s.say(text); err != nil {
			t.Fatal(err)
		}
		for _, other := range sockets {
			other.hear(t, text)
		}
	}
	for i, server := range servers {
		text := says("script", fmt.Sprint("number ", i))
		sender := startRun(t, "send", "--nats", server, "chat.lobby", text)
		if status := <-sender.status; status != 0 {
			t.Fatalf("send at %s: got exit status %d", server, status)
		}
		for _, s := range sockets {
			s.hear(t, text)
		}
	}
}

// drained ends the sites as SIGTERM does: their sockets are told to come back.
func drained(t *testing.T, sites []*running, sockets []*socket) {
	t.Helper()
	for _, site := range sites {
		site.cancel()
	}
	for _, s := range sockets {
		got, err := s.next()
		if err != io.EOF || !strings.HasPrefix(got, "close 1012 ") {
			t.Errorf("got %q (%v), want a close with 1012", got, err)
		}
	}
	for _, site := range sites {
		if status := site.stop(t); status != 0 {
			t.Errorf("got exit status %d, want 0", status)
		}
	}
}

func TestTwoDemosOnOneNATS(t *testing.T) {
	bus, err := natsbus.New(t.Context(), &natsbus.Options{Embedded: &natsbus.Embedded{Listen: "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := bus.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	var sites []*running
	var sockets []*socket
	for range 2 {
		site, addr := startSite(t, "--nats", bus.ClientURL())
		sites, sockets = append(sites, site), append(sockets, join(t, addr))
	}
	everywhereOnce(t, sockets, []string{bus.ClientURL()})
	drained(t, sites, sockets)
}

func TestThreeDemosAreOneCluster(t *testing.T) {
	routes := freeAddrs(t, 3)
	var sites []*running
	for _, listen := range routes {
		sites = append(sites, startRun(t, "demo", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--store", t.TempDir(),
			"--cluster-listen", listen, "--cluster-routes", strings.Join(routes, ","), "--cluster-name", "demos", "--cluster-secret", "open sesame"))
	}
	var servers []string
	var sockets []*socket
	for _, site := range sites {
		sockets = append(sockets, join(t, site.find(t, `Open http://(\S+)/`)))
		servers = append(servers, site.find(t, ` --nats (\S+)`))
	}
	everywhereOnce(t, sockets, servers)
	drained(t, sites, sockets)
}

// freeAddrs returns loopback addresses that nothing listens on.
func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	var addrs []string
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		addrs = append(addrs, ln.Addr().String())
	}
	return addrs
}

// A signal that comes before the demo is up ends it, too.
func TestSignalDuringStart(t *testing.T) {
	routes := freeAddrs(t, 2) // the other one is never there
	r := startRun(t, "demo", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0",
		"--cluster-listen", routes[0], "--cluster-routes", strings.Join(routes, ","))
	if status := r.stop(t); status != 0 {
		t.Errorf("got exit status %d, want 0", status)
	}
}
