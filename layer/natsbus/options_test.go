package natsbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

func TestBadOptions(t *testing.T) {
	nc := &nats.Conn{}
	cluster := func(c Cluster) *Options { return &Options{Embedded: &Embedded{Cluster: &c}} }
	for _, c := range []struct {
		name string
		o    *Options
		want string // in the error
	}{
		{"two servers", &Options{Embedded: &Embedded{}, URL: "nats://x"}, "Options.Embedded and Options.URL exclude"},
		{"two servers", &Options{URL: "nats://x", Conn: nc}, "exclude each other"},
		{"two credentials", &Options{URL: "nats://x", Token: "t", CredsFile: "f"}, "Options.CredsFile and Options.Token"},
		{"credentials for nobody", &Options{Token: "hush"}, "Options.URL, which is empty"},
		{"TLS for nobody", &Options{TLS: &tls.Config{}}, "Options.URL, which is empty"},
		{"password alone", &Options{URL: "nats://x", Password: "p"}, "Options.User is empty"},
		{"URL", &Options{URL: "nats://x,,nats://y"}, "empty address"},
		{"URL", &Options{URL: "nats://u:hush@"}, "not valid"},
		{"nkey file", &Options{URL: "nats://127.0.0.1:1", NKeyFile: "/none"}, "/none"},
		{"prefix", &Options{Prefix: "a b"}, `"a b"`},
		{"prefix", &Options{Prefix: "a..b"}, "empty token"},
		{"prefix", &Options{Prefix: strings.Repeat("x", 65)}, "longer than 64"},
		{"prefix", &Options{Prefix: "a.*"}, "only ASCII"},
		{"encoding", &Options{Encoding: 7}, "Encoding 7"},
		{"shards", &Options{Shards: -1}, "Shards is -1"},
		{"pending", &Options{Pending: -1}, "Pending is -1"},
		{"connect wait", &Options{ConnectWait: -1}, "ConnectWait"},
		{"heartbeat", &Options{Heartbeat: 1}, "Heartbeat"},
		{"listen", &Options{Embedded: &Embedded{Listen: "4222"}}, `"4222"`},
		{"listen", &Options{Embedded: &Embedded{Listen: "127.0.0.1:70000"}}, "70000"},
		{"token and user", &Options{Embedded: &Embedded{Listen: "127.0.0.1:0", Token: "t", User: "u", Password: "p"}}, "exclude each other"},
		{"user alone", &Options{Embedded: &Embedded{Listen: "127.0.0.1:0", User: "u"}}, "belong together"},
		{"token for nobody", &Options{Embedded: &Embedded{Token: "t"}}, "Embedded.Listen, which is empty"},
		{"store without JetStream", &Options{Embedded: &Embedded{NoJetStream: true, StoreDir: "x"}}, "NoJetStream excludes"},
		{"payload", &Options{Embedded: &Embedded{MaxPayload: -1}}, "MaxPayload"},
		{"negative store", &Options{Embedded: &Embedded{MaxStore: -1}}, "negative"},
		{"cluster without address", cluster(Cluster{}), "Cluster.Listen is empty"},
		{"cluster without routes", cluster(Cluster{Listen: "127.0.0.1:0"}), "Cluster.Routes is empty"},
		{"cluster address", cluster(Cluster{Listen: "x", Routes: []string{"127.0.0.1:1"}}), `"x"`},
		{"cluster route", cluster(Cluster{Listen: "127.0.0.1:0", Routes: []string{"y"}}), `"y"`},
		{"cluster wait", cluster(Cluster{Listen: "127.0.0.1:0", Routes: []string{"127.0.0.1:1"}, Wait: -1}), "Cluster.Wait"},
	} {
		b, err := New(t.Context(), c.o)
		if err == nil {
			b.Close(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "natsbus: ") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for field, e := range map[string]*Embedded{
		"Embedded.Listen": {Listen: taken},
		"Cluster.Listen":  {Cluster: &Cluster{Listen: taken, Routes: []string{taken}}},
	} {
		_, err := New(t.Context(), &Options{Embedded: e})
		if err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), field) {
			t.Errorf("got %v, want an error that names %s and %s", err, taken, field)
		}
	}
}

// Nobody reaches the default server, and it leaves nothing behind.
func TestEmbeddedDefault(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	b := openBus(t, nil)
	if got := b.ClientURL(); got != "" {
		t.Errorf("got client URL %q, want none", got)
	}
	if b.server.Addr() != nil {
		t.Errorf("it listens on %v", b.server.Addr())
	}
	if got := b.conn.MaxPayload(); got < 1<<20 {
		t.Errorf("got max payload %d, want room for 1 MiB", got)
	}
	if err := push(t, attach(t, b, newRecorder()), "c", 1, testLimits); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestEmbeddedStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nats")
	b := openBus(t, &Options{Embedded: &Embedded{StoreDir: dir, SyncInterval: -1}})
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the folder is gone: %v", err)
	}
}

func TestEmbeddedCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		e   Embedded
		url func(string) string
	}{
		"token": {Embedded{Token: "t0k"}, func(u string) string { return strings.Replace(u, "://", "://t0k@", 1) }},
		"user":  {Embedded{User: "u", Password: "p"}, func(u string) string { return strings.Replace(u, "://", "://u:p@", 1) }},
	} {
		c.e.Listen = "127.0.0.1:0"
		b := openBus(t, &Options{Embedded: &c.e})
		if nc, err := nats.Connect(b.ClientURL()); err == nil {
			nc.Close()
			t.Errorf("%s: a client without credentials was let in", name)
		}
		nc, err := nats.Connect(c.url(b.ClientURL()))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		nc.Close()
	}
}

// Whoever finds the loopback listener of a clustered server is not let in.
func TestClusterListener(t *testing.T) {
	b := openBus(t, &Options{Embedded: &Embedded{NoJetStream: true, Cluster: &Cluster{Listen: "127.0.0.1:0"}}})
	if got := b.ClientURL(); got != "" {
		t.Errorf("got client URL %q, want none", got)
	}
	if nc, err := nats.Connect(b.server.ClientURL()); err == nil {
		nc.Close()
		t.Error("a client was let in")
	}
}

// Configure reaches what has no field: here a leaf node, whose joins are known
// at the hub when Subscribe returns.
func TestLeafNode(t *testing.T) {
	address := freeAddresses(t, 1)[0]
	hub := startNATS(t, -1, func(o *server.Options) {
		host, port, err := splitAddress("leaf", address)
		if err != nil {
			t.Fatal(err)
		}
		o.LeafNode.Host, o.LeafNode.Port = host, port
	})
	leaf := openBus(t, &Options{Embedded: &Embedded{NoJetStream: true, Configure: func(o *server.Options) {
		u := &url.URL{Scheme: "nats-leaf", Host: address}
		o.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: []*url.URL{u}}}
	}}})
	atHub := openBus(t, &Options{URL: hub.ClientURL()})
	awaitPeers(t, leaf, 1)
	awaitPeers(t, atHub, 1)
	r := newRecorder()
	member, sender := attach(t, leaf, r), attach(t, atHub, newRecorder())
	const rounds = 500
	for i := range rounds {
		group := fmt.Sprintf("g%d", i)
		subscribe(t, member, group)
		publish(t, sender, group, "{}")
	}
	r.awaitGroups(t, rounds)
}

func TestServerLog(t *testing.T) {
	var out strings.Builder
	l := newServerLogger(slog.New(slog.NewTextHandler(&out, nil)))
	l.Noticef("quiet %d", 1)
	l.Warnf("warned %d", 2)
	l.Fatalf("broken %d", 3)
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "warned 2") || !strings.Contains(got, "broken 3") {
		t.Errorf("got %s", got)
	}
	if got := <-l.fatal; got != "broken 3" {
		t.Errorf("got %q", got)
	}
}

func TestWithoutSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"nats://u:p@h:1, tls://t@h:2": "nats://h:1,tls://h:2",
		"h:1":                         "nats://h:1",
		"nats://u:p@x@h":              "nats://h",
	} {
		if got := withoutSecrets(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestNewCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if b, err := New(ctx, &Options{URL: "nats://127.0.0.1:1"}); err == nil {
		b.Close(t.Context())
		t.Error("got no error")
	} else if !errors.Is(err, layer.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
