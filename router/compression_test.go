package router_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/router"
)

// metered counts what a client reads.
type metered struct {
	net.Conn
	in *atomic.Int64
}

func (m metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.in.Add(int64(n))
	return n, err
}

// One message to a group reaches the clients that agreed to compression
// compressed, and the others as it is.
func TestCompression(t *testing.T) {
	long := strings.Repeat("all the tides of the sea ", 100)
	for _, c := range []struct {
		name       string
		opts       *router.Options
		mode       websocket.CompressionMode
		text       string
		compressed bool
	}{
		{"by default there is none", nil, websocket.CompressionNoContextTakeover, long, false},
		{"a client that does not ask", &router.Options{Compression: &router.Compression{}}, websocket.CompressionDisabled, long, false},
		{"a client that asks", &router.Options{Compression: &router.Compression{}}, websocket.CompressionNoContextTakeover, long, true},
		{"a client that asks for takeover", &router.Options{Compression: &router.Compression{}}, websocket.CompressionContextTakeover, long, true},
		{"below the threshold", &router.Options{Compression: &router.Compression{}}, websocket.CompressionNoContextTakeover, long[:450], false},
		{"at a threshold of one's own", &router.Options{Compression: &router.Compression{Threshold: 300}}, websocket.CompressionNoContextTakeover, long[:450], true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, router.Table{"/{room}": chat}, c.opts)
			server := httptest.NewServer(s)
			defer server.Close()
			var in atomic.Int64
			dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				return metered{conn, &in}, err
			}
			ws, _, err := websocket.Dial(t.Context(), strings.Replace(server.URL, "http", "ws", 1)+"/lobby", &websocket.DialOptions{
				CompressionMode: c.mode,
				HTTPClient:      &http.Client{Transport: &http.Transport{DialContext: dial}},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			before := in.Load()
			if err := s.layer.GroupSend(t.Context(), "chat.lobby", line{Text: c.text}); err != nil {
				t.Fatal(err)
			}
			_, data, err := ws.Read(t.Context())
			if err != nil || !strings.Contains(string(data), c.text) {
				t.Fatalf("got %.80q, %v", data, err)
			}
			if read := in.Load() - before; (read < int64(len(c.text))/2) != c.compressed {
				t.Errorf("%d characters came as %d bytes; compressed: want %v", len(c.text), read, c.compressed)
			}
		})
	}
}

func TestBadCompression(t *testing.T) {
	for want, o := range map[string]*router.Options{
		"Compression.Threshold is -1":   {Compression: &router.Compression{Threshold: -1}},
		"MessageSize is -1 (none) with": {Compression: &router.Compression{}, Limits: router.Limits{MessageSize: -1}},
	} {
		if _, err := router.New(nil, router.Table{}, o); err == nil || !strings.HasPrefix(err.Error(), "router: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that names %s", err, want)
		}
	}
}
