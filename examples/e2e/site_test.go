package e2e

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
)

// site is a small site in the test's own process, for what the demo's settings
// would make slow, and for clients that want more than a chat.
type site struct {
	*httptest.Server
	layer *layer.Layer
}

// note is what the site's listeners get.
type note struct {
	Text string `json:"text"`
}

func (note) MessageType() string { return "note" }

// listener hears the group "notes".
var listener = consumer.Type[struct{}]{
	Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
		return c.GroupAdd(ctx, "notes")
	},
	Messages: consumer.Table(consumer.Forward[struct{}, note]()),
}

// mirror sends back what it receives.
var mirror = consumer.Type[struct{}]{
	Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
		return c.Send(ctx, f)
	},
}

// closer accepts, and closes with the code in its path.
var closer = consumer.Type[struct{}]{
	Connect: func(_ *struct{}, ctx context.Context, c *consumer.Conn) error {
		code, err := strconv.Atoi(c.PathValue("code"))
		if err != nil {
			return consumer.Deny(400, "the code is no number")
		}
		if err := c.Accept(""); err != nil {
			return err
		}
		c.Close(consumer.StatusCode(code), "as you asked")
		return nil
	},
}

func startSite(t *testing.T, limits router.Limits) *site {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := layer.New(membus.New(), &layer.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	table := router.Table{"/notes": listener, "/echo": mirror, "/close/{code}": closer}
	r, err := router.New(l, table, &router.Options{Limits: limits, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Errorf("shut down the router: %v", err)
		}
		server.Close()
		if err := l.Close(ctx); err != nil {
			t.Errorf("close the layer: %v", err)
		}
	})
	return &site{server, l}
}

func (s *site) socketURL(path string) string { return strings.Replace(s.URL, "http:", "ws:", 1) + path }
