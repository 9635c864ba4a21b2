package router_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router"
)

// echo answers with what it gets.
var echo = consumer.Type[struct{}]{
	Receive: func(_ *struct{}, ctx context.Context, c *consumer.Conn, f consumer.Frame) error {
		return c.Send(ctx, f)
	},
}

// Case 96: over TCP and TLS, UTF-8 text and bytes that are none go both ways,
// small and large.
func TestEchoOverTheNetwork(t *testing.T) {
	s := open(t, router.Table{"/": echo}, nil)
	for name, start := range map[string]func(http.Handler) *httptest.Server{"TCP": httptest.NewServer, "TLS": httptest.NewTLSServer} {
		t.Run(name, func(t *testing.T) {
			server := start(s)
			defer server.Close()
			ws, _, err := websocket.Dial(t.Context(), strings.Replace(server.URL, "http", "ws", 1), &websocket.DialOptions{HTTPClient: server.Client()})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			ws.SetReadLimit(-1)
			for _, m := range []struct {
				typ  websocket.MessageType
				data string
			}{
				{websocket.MessageText, "grüß 💧"}, {websocket.MessageText, ""}, {websocket.MessageBinary, "\xff\xfe\x00"},
				{websocket.MessageText, strings.Repeat("ü", 32<<10)}, {websocket.MessageBinary, strings.Repeat("\xff", 64<<10)},
			} {
				if err := ws.Write(t.Context(), m.typ, []byte(m.data)); err != nil {
					t.Fatal(err)
				}
				typ, data, err := ws.Read(t.Context())
				if err != nil || typ != m.typ || string(data) != m.data {
					t.Fatalf("got %v, %d bytes, %v; want %v, %d bytes", typ, len(data), err, m.typ, len(m.data))
				}
			}
			if err := ws.Close(4000, "bye"); err != nil && websocket.CloseStatus(err) != 4000 {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// Serve speaks TLS where the server has a configuration for it.
func TestServeTLS(t *testing.T) {
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	defer certified.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, router.Table{"/": echo}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	srv := &http.Server{Handler: s, TLSConfig: &tls.Config{Certificates: certified.TLS.Certificates}}
	go func() { served <- router.Serve(ctx, srv, ln, s.Router) }()
	ws, _, err := websocket.Dial(t.Context(), "wss://"+ln.Addr().String()+"/", &websocket.DialOptions{HTTPClient: certified.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	cancel()
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != 1012 {
		t.Errorf("the client was told %v, want 1012", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A reset is a lost connection: Disconnect gets 1006.
func TestReset(t *testing.T) {
	codes := make(chan consumer.StatusCode, 1)
	s := open(t, router.Table{"/": consumer.Type[struct{}]{
		Disconnect: func(_ *struct{}, _ context.Context, _ *consumer.Conn, code consumer.StatusCode) { codes <- code },
	}}, nil)
	server := httptest.NewServer(s)
	defer server.Close()
	c, _ := rawHandshake(t, server, "/", "")
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	select {
	case code := <-codes:
		if code != 1006 {
			t.Errorf("Disconnect got %d, want 1006", code)
		}
	case <-time.After(time.Minute):
		t.Fatal("no Disconnect")
	}
}

// rawHandshake sends a handshake with more header lines, and whatever follows
// them, and returns the response.
func rawHandshake(t *testing.T, server *httptest.Server, target, more string) (net.Conn, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n", target, more)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, res
}

// Case 100: bytes that have no place in a header end the request before anybody
// sees it.
func TestBadHeaders(t *testing.T) {
	s := open(t, router.Table{"/": echo}, nil)
	server := httptest.NewServer(s)
	defer server.Close()
	for _, bad := range []string{"\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x00", "\x7f"} {
		if _, res := rawHandshake(t, server, "/", "X-Value: a"+bad+"b\r\n"); res.StatusCode != 400 {
			t.Errorf("the byte %q in a value: got %d, want 400", bad, res.StatusCode)
		}
	}
	for _, name := range []string{"X Y", "X\x0bY", "X(Y)", "", "Ü"} {
		if _, res := rawHandshake(t, server, "/", name+": value\r\n"); res.StatusCode != 400 {
			t.Errorf("the name %q: got %d, want 400", name, res.StatusCode)
		}
	}
	for _, target := range []string{"/\x01", "/%zz", "/ws/\x7f"} {
		if _, res := rawHandshake(t, server, target, ""); res.StatusCode != 400 {
			t.Errorf("the path %q: got %d, want 400", target, res.StatusCode)
		}
	}
	if got := s.Stats(); got != (router.Stats{}) {
		t.Errorf("got %+v, want nothing", got)
	}
}

// Cases 95 and 101: a consumer sees the headers of the handshake, duplicates in
// order, without the space around them, whatever their letters' case.
func TestHeadersArrive(t *testing.T) {
	headers := make(chan []string, 1)
	s := open(t, router.Table{"/": asks(func(_ context.Context, c *consumer.Conn) error {
		headers <- c.Request().Header.Values("x-twice")
		return nil
	})}, nil)
	server := httptest.NewServer(s)
	defer server.Close()
	if _, res := rawHandshake(t, server, "/", "x-TWICE:   one  \r\nX-Twice: two, three\r\nX-Twice:\r\n"); res.StatusCode != 101 {
		t.Fatalf("got %d, want 101", res.StatusCode)
	}
	if got, want := fmt.Sprintf("%q", <-headers), `["one" "two, three" ""]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What a client sends without waiting for the answer is not lost.
func TestFramesBehindTheHandshake(t *testing.T) {
	s := open(t, router.Table{"/": echo}, nil)
	server := httptest.NewServer(s)
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	var request strings.Builder
	handshake("/").Write(&request)
	io.WriteString(c, request.String()+"\x81\x82\x00\x00\x00\x00hi") // masked with zeros
	br := bufio.NewReader(c)
	if _, err := http.ReadResponse(br, nil); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "\x81\x02hi" {
		t.Errorf("got %q, %v, want the echo of hi", got, err)
	}
}

// Case 98: the timeouts of the HTTP server end with the handshake.
func TestServerTimeoutsEndWithTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": echo}, nil)
		client, server := net.Pipe()
		ln := &oneConn{conn: server, closed: make(chan struct{})}
		srv := &http.Server{Handler: s, ReadTimeout: time.Second, WriteTimeout: time.Second, IdleTimeout: time.Second}
		go srv.Serve(ln)
		defer srv.Close()
		ws, _, err := websocket.Dial(t.Context(), "ws://localhost/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil },
		}}})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		for range 3 {
			time.Sleep(10 * time.Second)
			if err := ws.Write(t.Context(), websocket.MessageText, []byte("hi")); err != nil {
				t.Fatal(err)
			}
			if _, data, err := ws.Read(t.Context()); err != nil || string(data) != "hi" {
				t.Fatalf("got %q, %v, want hi", data, err)
			}
		}
	})
}

// deadlineWriter notes the write deadline, and cannot be taken over.
type deadlineWriter struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (w *deadlineWriter) SetWriteDeadline(t time.Time) error { w.deadline = t; return nil }

func (w *deadlineWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("not today")
}

// The answer to a handshake has a deadline, so that a client that does not read
// it keeps no place for ever.
func TestTheAnswerHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": echo}, &router.Options{HandshakeTimeout: 7 * time.Second})
		w := &deadlineWriter{ResponseRecorder: httptest.NewRecorder()}
		s.ServeHTTP(w, handshake("/"))
		if got, want := time.Until(w.deadline), 7*time.Second; got != want {
			t.Errorf("the deadline is in %v, want %v", got, want)
		}
		s.log.expect(t, "not today")
	})
}

// After everything, however it ended, no goroutine is left.
func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("connections", func(t *testing.T) {
		s := open(t, router.Table{"/ws/chat/{room}/": chat, "/deny/": asks(func(context.Context, *consumer.Conn) error { return consumer.Deny(403, "no") })}, nil)
		server := httptest.NewServer(s)
		defer server.Close()
		url := strings.Replace(server.URL, "http", "ws", 1)
		for i := range 60 {
			ws := dialTCP(t, url+"/ws/chat/lobby/")
			switch i % 4 {
			case 0:
				ws.Close(1000, "")
			case 1:
				ws.CloseNow()
			case 2:
				ws.Write(t.Context(), websocket.MessageText, []byte("not JSON"))
			}
			if _, res, err := websocket.Dial(t.Context(), url+"/deny/", nil); err == nil || res.StatusCode != 403 {
				t.Fatalf("got %v, want 403", err)
			}
		}
	})
	http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
