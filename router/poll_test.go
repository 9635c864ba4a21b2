//go:build linux && !386 && !s390x && !tideway_goroutines

package router_test

import (
	"context"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router"
)

// A silent connection has no goroutine; it hears its group,
// its messages are handled, and its Disconnect runs, whoever ends it.
func TestPolling(t *testing.T) {
	const n = 100
	var ended atomic.Int32
	typ := chat
	typ.Disconnect = func(*room, context.Context, *consumer.Conn, consumer.StatusCode) { ended.Add(1) }
	s := open(t, router.Table{"/{room}": typ}, &router.Options{MaxPerAddress: -1})
	server := httptest.NewServer(s)
	defer server.Close()
	url := strings.Replace(server.URL, "http", "ws", 1) + "/lobby"
	dialTCP(t, url).CloseNow() // what runs from the first connection on
	eventually(t, "the first one has ended", func() bool { return ended.Load() == 1 })
	before := runtime.NumGoroutine()
	clients := make([]*websocket.Conn, n)
	for i := range clients {
		clients[i] = dialTCP(t, url)
	}
	idle := func() bool { return runtime.NumGoroutine() <= before+5 }
	eventually(t, "silent connections have no goroutine", idle)
	for i := range 3 {
		if err := clients[i].Write(t.Context(), websocket.MessageText, []byte(`{"text":"hello"}`)); err != nil {
			t.Fatal(err)
		}
		for j, ws := range clients {
			if _, data, err := ws.Read(t.Context()); err != nil || !strings.Contains(string(data), "hello") {
				t.Fatalf("client %d got %q, %v", j, data, err)
			}
		}
	}
	eventually(t, "they have none again", idle)
	for i := range n / 2 {
		if i%2 == 0 {
			clients[i].CloseNow()
		} else {
			go clients[i].Close(4000, "")
		}
	}
	eventually(t, "those that left are gone", func() bool { return ended.Load() == 1+n/2 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, ws := range clients[n/2:] {
		go ws.Read(ctx) // which answers the close frame
	}
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if got := ended.Load(); got != 1+n {
		t.Errorf("Disconnect ran %d times, want %d", got, 1+n)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}
