package router_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/consumertest"
	"github.com/tideway-go/tideway/router"
)

// Case 104: a drain tells every client to come back, behind what was sent to it,
// lets nobody in, and waits until every Disconnect has run.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var disconnected atomic.Int32
		typ := chat
		typ.Disconnect = func(_ *room, ctx context.Context, _ *consumer.Conn, code consumer.StatusCode) {
			if code != 1012 {
				t.Errorf("Disconnect got %d, want 1012", code)
			}
			time.Sleep(3 * time.Second)
			if ctx.Err() == nil {
				disconnected.Add(1)
			}
		}
		s := open(t, router.Table{"/{room}/": typ}, nil)
		if err := s.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		var clients []*consumertest.Client
		for range 10 {
			clients = append(clients, consumertest.Dial(t, s, "/lobby/", nil))
		}
		synctest.Wait()
		if err := s.layer.GroupSend(t.Context(), "chat.lobby", line{Text: "last words"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began, done := time.Now(), make(chan error, 2)
		for range 2 { // a second call waits like the first
			go func() {
				err := s.Shutdown(t.Context())
				if got := disconnected.Load(); got != 10 {
					t.Errorf("Shutdown returned after %d Disconnects, want 10", got)
				}
				done <- err
			}()
		}
		synctest.Wait()
		if err := s.Ready(); err == nil {
			t.Error("ready while draining")
		}
		if got := consumertest.Refused(t, s, "/lobby/", nil); got.Status != 503 || got.Header.Get("Retry-After") != "5" {
			t.Errorf("a new connection: got %d, Retry-After %q, want 503, 5", got.Status, got.Header.Get("Retry-After"))
		}
		s.log.expect(t, "the router is shutting down")
		for _, c := range clients {
			if got := c.ReceiveText(); !strings.Contains(got, "last words") {
				t.Errorf("got %q, want the last words", got)
			}
			if code, reason := c.ReceiveClose(); code != 1012 || reason != "the server restarts; come back in a moment" {
				t.Errorf("got %d %q, want 1012", code, reason)
			}
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("it took %v, want 3 s", d)
		}
	})
}

// A connection whose Connect is under way is refused with 503.
func TestShutdownDuringConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := make(chan struct{})
		s := open(t, router.Table{"/": asks(func(context.Context, *consumer.Conn) error {
			close(began)
			time.Sleep(time.Second)
			return nil
		})}, nil)
		go func() {
			<-began
			s.Shutdown(context.Background())
		}()
		got := consumertest.Refused(t, s, "/", nil)
		if got.Status != 503 || got.Header.Get("Retry-After") == "" {
			t.Errorf("got %d, Retry-After %q, want 503 and when to come back", got.Status, got.Header.Get("Retry-After"))
		}
	})
}

// One that is being authenticated is refused, too, before its Connect begins.
func TestShutdownDuringAuthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := make(chan struct{})
		s := open(t, router.Table{"/": asks(func(context.Context, *consumer.Conn) error {
			t.Error("Connect began")
			return nil
		})}, &router.Options{Authenticate: &byHeader{authenticate: func(*http.Request) error {
			close(began)
			time.Sleep(time.Second)
			return nil
		}}})
		go func() {
			<-began
			s.Shutdown(context.Background())
		}()
		if got := consumertest.Refused(t, s, "/", nil); got.Status != 503 {
			t.Errorf("got %d, want 503", got.Status)
		}
		s.log.expect(t, "the server restarts")
	})
}

// When its context ends first, Shutdown says how many are left, and their
// handlers' contexts end.
func TestShutdownRunsOutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": consumer.Type[struct{}]{
			Receive: func(_ *struct{}, ctx context.Context, _ *consumer.Conn, _ consumer.Frame) error {
				<-ctx.Done()
				return ctx.Err()
			},
		}}, nil)
		for range 3 {
			consumertest.Dial(t, s, "/", nil).SendText("work")
		}
		consumertest.Dial(t, s, "/", nil)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := s.Shutdown(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "3 connections are left") {
			t.Errorf("got %v, want 3 left", err)
		}
		synctest.Wait()
		if got := s.Stats(); got.Open != 0 || got.Failed != 0 {
			t.Errorf("got %+v, want nobody open and nobody failed", got)
		}
	})
}

// A client that does not answer the close does not hold Shutdown up for longer
// than its close handshake may take.
func TestShutdownWithADeafClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, router.Table{"/": consumer.Type[struct{}]{}}, nil)
		client, server := net.Pipe()
		defer client.Close()
		ln := &oneConn{conn: server, closed: make(chan struct{})}
		srv := &http.Server{Handler: s}
		go srv.Serve(ln)
		defer srv.Close()
		go handshake("/").Write(client)
		if _, err := client.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > 15*time.Second {
			t.Errorf("it took %v, want at most the 10 s for writing and the 5 s for an answer", d)
		}
	})
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn   net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// Serve runs until its context ends, and then drains: sockets and requests under
// way alike, while new sockets are refused.
func TestServe(t *testing.T) {
	var disconnected atomic.Int32
	slow := make(chan struct{})
	began := make(chan struct{})
	other := open(t, router.Table{"/": consumer.Type[struct{}]{}}, nil)
	r := open(t, router.Table{"/ws/": consumer.Type[struct{}]{
		Disconnect: func(_ *struct{}, ctx context.Context, _ *consumer.Conn, _ consumer.StatusCode) {
			disconnected.Add(1)
			for ; other.Ready() == nil; time.Sleep(time.Millisecond) {
				if ctx.Err() != nil {
					t.Error("the other router takes connections while this one drains")
					return
				}
			}
		},
	}}, nil)
	mux := http.NewServeMux()
	mux.Handle("/ws/", r)
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-slow
		io.WriteString(w, "done")
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	srv := &http.Server{Handler: mux}
	go func() { served <- router.Serve(ctx, srv, ln, r.Router, other.Router) }()

	addr := ln.Addr().String()
	ws := dialTCP(t, "ws://"+addr+"/ws/")
	page := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + addr + "/page")
		if err != nil {
			page <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		page <- string(body)
	}()
	<-began
	cancel()
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != 1012 {
		t.Errorf("the client was told %v, want 1012", err)
	}
	close(slow)
	if got := <-page; got != "done" {
		t.Errorf("the page under way: got %q, want done", got)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if n := disconnected.Load(); n != 1 {
		t.Errorf("%d Disconnects, want 1", n)
	}
	if srv.ReadHeaderTimeout != 5*time.Second {
		t.Errorf("ReadHeaderTimeout: got %v, want 5 s", srv.ReadHeaderTimeout)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the server still listens")
	}
}

// A server that cannot listen, and one that somebody else shuts down.
func TestServeFails(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := open(t, router.Table{"/": consumer.Type[struct{}]{}}, nil)
	err = router.Serve(t.Context(), &http.Server{Addr: ln.Addr().String(), Handler: s}, nil, s.Router)
	if err == nil || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("got %v, want an error that names the address", err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("nothing has begun, but: %v", err)
	}
	srv := &http.Server{Addr: "127.0.0.1:0", Handler: s}
	served := make(chan error, 1)
	go func() { served <- router.Serve(t.Context(), srv, nil, s.Router) }()
	time.AfterFunc(50*time.Millisecond, func() { srv.Shutdown(context.Background()) })
	if err := <-served; err != nil {
		t.Errorf("after srv.Shutdown: got %v, want nil", err)
	}
	if err := s.Ready(); err == nil {
		t.Error("the router was not shut down")
	}
}

func dialTCP(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	return ws
}
