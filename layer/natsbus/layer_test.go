package natsbus_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/internal/testport"
	"github.com/tideway-go/tideway/layer/layertest"
	"github.com/tideway-go/tideway/layer/natsbus"
)

func open(t testing.TB, o *natsbus.Options) *natsbus.Bus {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	b, err := natsbus.New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// TestMain lets more tests run at the same time than there are processors: the
// rows of layertest wait most of the time.
func TestMain(m *testing.M) {
	if setting := os.Getenv(settlersVar); setting != "" {
		_ = settle(setting) // it ends when the test does
		os.Exit(1)
	}
	if settings := os.Getenv(serverVariable); settings != "" {
		var n node
		err := json.Unmarshal([]byte(settings), &n)
		if err == nil {
			err = n.serve()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	if flag.Lookup("test.bench").Value.String() == "" { // benchmarks want the disk
		if err := tempInMemory(); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// tempInMemory has temporary folders in memory, on systems where that can be
// said.
var tempInMemory = func() error { return nil }

// networks numbers the networks, so that each has a prefix of its own.
var networks atomic.Int64

// prefixes makes a new network on servers that are there, by its prefix.
func prefixes(encoding natsbus.Encoding, urls ...string) layertest.Network {
	return func(testing.TB) layertest.Dial {
		prefix := fmt.Sprintf("net%d", networks.Add(1))
		var dialled atomic.Int64
		return func(t testing.TB) layer.Bus {
			url := urls[int(dialled.Add(1))%len(urls)]
			return open(t, &natsbus.Options{URL: url, Prefix: prefix, Encoding: encoding})
		}
	}
}

// The promises, by processes on one server.
func TestPromises(t *testing.T) {
	t.Parallel()
	b := open(t, &natsbus.Options{Embedded: &natsbus.Embedded{Listen: "127.0.0.1:0"}})
	for name, encoding := range map[string]natsbus.Encoding{"JSON": natsbus.JSON, "MessagePack": natsbus.MessagePack} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layertest.TestBus(t, prefixes(encoding, b.ClientURL()), nil)
		})
	}
}

// The promises, by layers that share one Bus in one process.
func TestPromisesEmbedded(t *testing.T) {
	t.Parallel()
	layertest.TestBus(t, func(t testing.TB) layertest.Dial {
		b := open(t, &natsbus.Options{})
		return func(testing.TB) layer.Bus { return b }
	}, nil)
}

// case 59: the promises, by processes on the nodes of a cluster in turn.
func TestPromisesCluster(t *testing.T) {
	t.Parallel()
	layertest.TestBus(t, prefixes(natsbus.JSON, clusterURLs(t)...), nil)
}

func clusterURLs(t testing.TB) []string {
	t.Helper()
	routes := []string{testport.Free(t), testport.Free(t), testport.Free(t)}
	urls := make([]string, len(routes))
	var starting sync.WaitGroup
	for i, address := range routes {
		starting.Go(func() {
			urls[i] = open(t, &natsbus.Options{Embedded: &natsbus.Embedded{
				Name: fmt.Sprintf("node%d", i), Listen: "127.0.0.1:0",
				Cluster: &natsbus.Cluster{Listen: address, Routes: routes},
			}}).ClientURL()
		})
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return urls
}

// cases 34, 113: a layer's members hear again when the server is back.
func TestLayerThroughRestart(t *testing.T) {
	address := testport.Free(t)
	host, port, _ := net.SplitHostPort(address)
	start := func() *server.Server {
		var p int
		fmt.Sscan(port, &p)
		s, err := server.NewServer(&server.Options{Host: host, Port: p, NoSigs: true, NoLog: true})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("the NATS server did not start")
		}
		return s
	}
	s := start()
	b := open(t, &natsbus.Options{URL: address})
	l, err := layer.New(b, &layer.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	c, err := l.NewChannel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.GroupAdd(t.Context(), "g", c.Name()); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		s.Shutdown()
		s.WaitForShutdown()
		for b.Connected() {
			if ctx.Err() != nil {
				t.Fatal("the Bus does not notice that the server is gone")
			}
			time.Sleep(time.Millisecond) // a message that is sent before it is noticed is lost
		}
		s = start()
		defer s.Shutdown()
		for l.GroupSend(ctx, "g", layer.Message{Type: "t", Data: fmt.Appendf(nil, `{"type":"t","n":%d}`, n)}) != nil {
			if ctx.Err() != nil {
				t.Fatal("the layer does not send again")
			}
			time.Sleep(5 * time.Millisecond) // it fails until the connection is back
		}
		m, err := c.Receive(ctx)
		if want := fmt.Sprintf(`{"type":"t","n":%d}`, n); err != nil || string(m.Data) != want {
			t.Fatalf("got %s, %v, want %s", m.Data, err, want)
		}
	}
}
