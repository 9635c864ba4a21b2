package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

// The whole site, over real NATS: a browser's handshake, and a push that is no
// more than a line to the NATS server.
func TestPushReachesABrowser(t *testing.T) {
	site, nats := freeport.Addr(t), freeport.Addr(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, site, nats) }()
	await(t, site, ended)

	page, err := http.Get("http://" + site + "/?room=lobby&name=ann")
	if err != nil {
		t.Fatal(err)
	}
	html, err := io.ReadAll(page.Body)
	page.Body.Close()
	if err != nil || !strings.Contains(string(html), `<script type="module" src="chat.js">`) {
		t.Errorf("the page is %.200q, %v", html, err)
	}

	browser := dial(t, site)
	fmt.Fprintf(browser, "GET /ws/chat/lobby/ HTTP/1.1\r\nHost: %s\r\nOrigin: http://%s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", site, site)
	in := bufio.NewReader(browser)
	response, err := http.ReadResponse(in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake: %+v, %v", response, err)
	}

	message := `{"type":"chat.message","user":"script","text":"hello"}`
	fmt.Fprintf(dial(t, nats), "CONNECT {\"verbose\":false}\r\nPUB channels.grp.chat.lobby %d\r\n%s\r\n", len(message), message)
	frame := make([]byte, 2+len(message))
	if _, err := io.ReadFull(in, frame); err != nil || string(frame) != "\x81"+string(rune(len(message)))+message {
		t.Errorf("the browser got %q, %v", frame, err)
	}

	stop()
	browser.Close()
	if err := <-ended; err != nil {
		t.Errorf("the site ended with %v", err)
	}
}

// A taken port is an error that names it.
func TestTakenPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for name, err := range map[string]error{
		"site": run(t.Context(), addr, freeport.Addr(t)),
		"NATS": run(t.Context(), freeport.Addr(t), addr),
	} {
		if err == nil || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s on a taken port: %v, want an error that names %s", name, err, addr)
		}
	}
}

// await returns once somebody listens on addr.
func await(t *testing.T, addr string, ended <-chan error) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("the site ended with %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("nobody listens on %s", addr)
}

// dial connects for at most 20 s.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}
