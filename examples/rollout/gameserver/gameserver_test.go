package gameserver_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/examples/rollout/gameserver"
)

// step asks a server of the fleet at url for one step of an update.
func step(t *testing.T, url, path, version string) (status int, text string) {
	t.Helper()
	body, err := json.Marshal(gameserver.Request{Version: version})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Post(url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var reply gameserver.Reply
	if err := json.NewDecoder(r.Body).Decode(&reply); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, reply.Text
}

func TestFleet(t *testing.T) {
	fleet := httptest.NewServer(gameserver.New(time.Millisecond))
	defer fleet.Close()
	for _, c := range []struct {
		path, version string
		status        int
		text          string
	}{
		{"/servers/fra-01/steps/drain", "2.1.0", 200, "players moved"},
		{"/servers/fra-01/steps/install", "2.1.0", 200, "2.1.0 replaces 2.0.4"},
		{"/servers/fra-01/steps/install", "2.1.0", 200, "2.1.0 replaces 2.1.0"},
		{"/servers/fra-01/steps/health", "2.3.0-broken", 503, "unhealthy"},
		{"/servers/gru-03/steps/start", "2.1.0", 503, "in use"},
		{"/servers/gru-03/steps/start", "2.1.0", 200, "pid"},
		{"/servers/jnb-02/steps/verify", "2.2.0-rc1", 503, "checksum"},
		{"/servers/jnb-02/steps/verify", "2.2.0-rc1", 503, "checksum"},
		{"/servers/jnb-02/steps/verify", "2.2.0-rc1", 200, "signature"},
		{"/servers/jnb-02/steps/dance", "2.1.0", 400, "step"},
		{"/servers/jnb-02/steps/drain", "", 400, "version"},
		{"/servers/nobody/steps/drain", "2.1.0", 404, "no server"},
	} {
		if status, text := step(t, fleet.URL, c.path, c.version); status != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%s %s: got %d %q, want %d %q", c.path, c.version, status, text, c.status, c.text)
		}
	}
}

// A fleet ends when nobody holds its input any more.
func TestServeEndsWithItsParent(t *testing.T) {
	in, hold := io.Pipe()
	read, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- gameserver.Serve(t.Context(), "127.0.0.1:0", time.Millisecond, in, out) }()
	url, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Get(strings.TrimSpace(url) + "/servers")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	hold.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
