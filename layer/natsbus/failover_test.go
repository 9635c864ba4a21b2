package natsbus_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/internal/testport"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// serverVariable has the test binary be a NATS server, as the JSON in it says.
const serverVariable = "NATSBUS_TEST_SERVER"

// node is a NATS server in a process of its own, which can be killed and frozen.
type node struct {
	Name    string
	Client  string
	Cluster string
	Routes  []string
	Store   string

	cmd *exec.Cmd
}

// serve runs the server until the parent is gone.
func (n *node) serve() error {
	o := &server.Options{
		ServerName: n.Name, NoSigs: true, NoLog: true,
		JetStream: true, DisableJetStreamBanner: true, StoreDir: n.Store,
		Cluster: server.ClusterOpts{Name: "c"},
	}
	split := func(address string, host *string, port *int) {
		h, p, _ := strings.Cut(address, ":")
		*host = h
		*port, _ = strconv.Atoi(p)
	}
	split(n.Client, &o.Host, &o.Port)
	split(n.Cluster, &o.Cluster.Host, &o.Cluster.Port)
	for _, r := range n.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: r})
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		return fmt.Errorf("%s is not ready", n.Name)
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func (n *node) start(t *testing.T) {
	t.Helper()
	settings, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverVariable+"="+string(settings))
	if _, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.cmd = cmd
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s says %q, %v", n.Name, line, err)
	}
}

func (n *node) kill() {
	_ = n.cmd.Process.Kill() // it may be gone
	_ = n.cmd.Wait()
}

func startNodes(t *testing.T) (nodes []*node, urls string) {
	t.Helper()
	var clients, clusters []string
	for range 3 {
		clients, clusters = append(clients, testport.Free(t)), append(clusters, testport.Free(t))
	}
	for i := range clients {
		n := &node{Name: fmt.Sprint("node", i), Client: clients[i], Cluster: clusters[i], Routes: clusters, Store: t.TempDir()}
		n.start(t)
		t.Cleanup(n.kill)
		nodes = append(nodes, n)
	}
	return nodes, strings.Join(clients, ",")
}

// info returns what a stream's leader says, nil while there is none.
func info(b *natsbus.Bus, stream string) *jetstream.ClusterInfo {
	reply, err := b.Conn().Request("$JS.API.STREAM.INFO."+stream, nil, time.Second)
	if err != nil {
		return nil
	}
	var i struct {
		Cluster *jetstream.ClusterInfo `json:"cluster"`
	}
	if json.Unmarshal(reply.Data, &i) != nil || i.Cluster == nil || i.Cluster.Leader == "" {
		return nil
	}
	return i.Cluster
}

// whole reports whether all three have all.
func whole(i *jetstream.ClusterInfo) bool {
	if i == nil || len(i.Replicas) != 2 {
		return false
	}
	for _, r := range i.Replicas {
		if !r.Current || r.Offline || r.Lag > 100 {
			return false
		}
	}
	return true
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// writers publish to one group until they are stopped.
type writers struct {
	acked   atomic.Int64
	stalled atomic.Int64 // the longest wait for an ack
	mu      sync.Mutex   // guards acks
	acks    map[layer.Position]string
}

func (w *writers) run(ctx context.Context, t *testing.T, l *layer.Layer, name string) {
	for n := 0; ctx.Err() == nil; n++ {
		text, began := fmt.Sprintf(`{"type":"t","from":%q,"n":%d}`, name, n), time.Now()
		r, err := l.Publish(t.Context(), "job.1", layer.Message{Type: "t", Data: []byte(text)}, nil)
		if err != nil {
			t.Errorf("publish %s: %v", text, err)
			return
		}
		raise(&w.stalled, int64(time.Since(began)))
		w.mu.Lock()
		w.acks[r.Position] = text
		w.mu.Unlock()
		w.acked.Add(1)
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// The leader of a durable group's stream is killed, or frozen and thawed, under
// load: nothing that was acknowledged is lost, nothing comes twice, each
// publisher's order holds, and a member gets all of it, in the order in which it
// is stored. Once each for a short test; `FAILOVERS=5` for a long one, with
// freezing.
func TestLeaderFails(t *testing.T) {
	t.Parallel()
	kills, freezes := failovers(t)
	nodes, urls := startNodes(t)
	join := func() (*natsbus.Bus, *layer.Layer) {
		b := open(t, &natsbus.Options{URL: urls})
		l, err := layer.New(b, &layer.Options{
			Groups: []layer.Retention{{Pattern: "job.>", Messages: 1_000_000, Age: time.Hour}}, Capacity: 1_000_000, Expiry: time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close(context.Background()) })
		return b, l
	}
	watcher, reader := join()
	_, writer := join()
	c, err := reader.NewChannel(t.Context())
	if err == nil {
		err = reader.GroupAdd(t.Context(), "job.1", c.Name())
	}
	if err != nil {
		t.Fatal(err)
	}
	const stream = "CHANNELS_log_job=+"
	eventually(t, "three copies", func() bool { return whole(info(watcher, stream)) })

	w := &writers{acks: map[layer.Position]string{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writing sync.WaitGroup
	for i := range 4 {
		writing.Go(func() { w.run(ctx, t, writer, fmt.Sprint("w", i)) })
	}
	disturb(t, nodes, watcher, stream, kills, freezes, &w.acked)
	stop()
	writing.Wait()
	t.Logf("%d kills, %d freezes: %d acknowledged, the longest wait %v", kills, freezes, w.acked.Load(), time.Duration(w.stalled.Load()).Round(time.Millisecond))
	w.check(t, writer, c)
	if s := reader.Stats(); s.Gaps != 0 {
		t.Errorf("%d gaps", s.Gaps)
	} else {
		t.Logf("the member had %d messages repaired", s.Repaired)
	}
}

// failovers says how often leaders are killed and frozen.
func failovers(t *testing.T) (kills, freezes int) {
	t.Helper()
	text := os.Getenv("FAILOVERS")
	if text == "" {
		return 1, 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("FAILOVERS: %v", err)
	}
	return n, n
}

// disturb kills and freezes the leaders of a stream, while messages are stored
// and counted.
func disturb(t *testing.T, nodes []*node, watcher *natsbus.Bus, stream string, kills, freezes int, stored *atomic.Int64) {
	t.Helper()
	more := func(n int64) {
		t.Helper()
		n += stored.Load()
		eventually(t, "more messages are stored", func() bool { return stored.Load() >= n })
	}
	leader := func() *node {
		t.Helper()
		var i *jetstream.ClusterInfo
		eventually(t, "three copies", func() bool { i = info(watcher, stream); return whole(i) })
		for _, n := range nodes {
			if n.Name == i.Leader {
				return n
			}
		}
		t.Fatalf("the leader is %s", i.Leader)
		return nil
	}
	for i := range max(kills, freezes) {
		more(100)
		if i < kills {
			n := leader()
			n.kill()
			more(100)
			n.start(t)
			more(100)
		}
		if i < freezes {
			n := leader()
			if err := freeze(n.cmd.Process); err != nil {
				t.Fatal(err)
			}
			more(100)
			if err := thaw(n.cmd.Process); err != nil {
				t.Fatal(err)
			}
			more(100)
		}
	}
}

// check compares what was acknowledged, what is stored, and what a member got.
func (w *writers) check(t *testing.T, l *layer.Layer, c *layer.Channel) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next, stored := map[string]int{}, 0
	for m, err := range l.History(ctx, "job.1", layer.Position{}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		stored++
		if want, ok := w.acks[m.Position]; ok && want != string(m.Data) {
			t.Errorf("at %v: got %s, acknowledged was %s", m.Position, m.Data, want)
		}
		delete(w.acks, m.Position)
		var n struct {
			From string
			N    int
		}
		if err := m.Decode(&n); err != nil || n.N != next[n.From] {
			t.Errorf("stored message %d: got %s, %v, want number %d", stored, m.Data, err, next[n.From])
		}
		next[n.From] = n.N + 1
		got, err := c.Receive(ctx)
		if err != nil || got.Position != m.Position {
			t.Fatalf("the member's message %d: got %v, %v, want %v", stored, got.Position, err, m.Position)
		}
	}
	if len(w.acks) > 0 {
		t.Errorf("%d acknowledged messages are lost: %v", len(w.acks), w.acks)
	}
}
