package socket

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// case 91, 93, 109
func TestUpgrade(t *testing.T) {
	e, err := NewEngine(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	released := make(chan struct{})
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-From-Connect", "yes")
		s, err := e.Upgrade(w, r, "chat.v2")
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			echo(s)
			s.Release()
			close(released)
		}()
	}))
	defer hs.Close()
	c, err := net.Dial("tcp", hs.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, strings.Replace(handshake, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat.v1, chat.v2\r\n\r\n", 1))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Sec-Websocket-Protocol": "chat.v2",
		"X-From-Connect":         "yes",
		"Upgrade":                "websocket",
		"Connection":             "Upgrade",
		"Sec-Websocket-Accept":   "ICX+Yqv66kxgM0FcWaLWlFLwTAI=", // of sixteen zero bytes (RFC 6455, section 4.2.2)
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if got := resp.Header.Get("Sec-Websocket-Extensions"); got != "" {
		t.Errorf("extensions %q were agreed on, want none", got)
	}
	c.Close()
	<-released
}

// No handshake is completed for these; the error says why, and so does the
// answer's status. // case 92
func TestUpgradeRefused(t *testing.T) {
	drop := func(line string) string { return strings.Replace(handshake, line+"\r\n", "", 1) }
	for _, c := range []struct {
		name        string
		request     string
		subprotocol string
		status      int
		says        string
	}{
		{"no upgrade", drop("Upgrade: websocket"), "", 426, `Upgrade header ""`},
		{"no connection", drop("Connection: Upgrade"), "", 426, `Connection header ""`},
		{"a post", strings.Replace(handshake, "GET", "POST", 1), "", 405, `"POST"`},
		{"version 8", strings.Replace(handshake, "Version: 13", "Version: 8", 1), "", 400, `"8"`},
		{"no key", drop("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), "", 400, "missing Sec-WebSocket-Key"},
		{"a short key", strings.Replace(handshake, "AAAA", "", 1), "", 400, "invalid Sec-WebSocket-Key"},
		{"HTTP/1.0", strings.Replace(handshake, "HTTP/1.1", "HTTP/1.0", 1), "", 426, `"HTTP/1.0"`},
		{"a subprotocol that was not offered", handshake, "chat", 500, `"chat" was not offered`},
	} {
		e, err := NewEngine(nil)
		if err != nil {
			t.Fatal(err)
		}
		var said error
		hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, said = e.Upgrade(w, r, c.subprotocol)
		}))
		conn, err := net.Dial("tcp", hs.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, c.request)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		conn.Close()
		hs.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.name, resp.StatusCode, c.status)
		}
		if said == nil || !strings.HasPrefix(said.Error(), "socket: ") || !strings.Contains(said.Error(), c.says) {
			t.Errorf("%s: error %v, want one with %q", c.name, said, c.says)
		}
		if n := e.Len(); n != 0 {
			t.Errorf("%s: %d sockets, want 0", c.name, n)
		}
		e.Close()
	}
}

// opaque hides what is below it; open shows it.
type opaque struct{ http.ResponseWriter }
type open struct{ http.ResponseWriter }

func (o open) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func TestMiddlewares(t *testing.T) {
	for _, c := range []struct {
		name string
		wrap func(http.Handler) http.Handler
		says string // of the type that is in the way; "" is none
	}{
		{"none", func(h http.Handler) http.Handler { return h }, ""},
		{"with Unwrap", func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(open{open{w}}, r) })
		}, ""},
		{"without Unwrap", func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(open{opaque{w}}, r) })
		}, "socket.opaque"},
		{"http.TimeoutHandler", func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Minute, "") }, "*http.timeoutWriter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := unstarted(t, nil, echo)
			s.http.Config.Handler = c.wrap(s.http.Config.Handler)
			s.http.Start()
			if c.says == "" {
				dial(t, s).send(closing(1000, ""))
				if end := s.end(t); end.Code != 1000 {
					t.Errorf("Read ended with %v, want 1000", end)
				}
				return
			}
			conn, err := net.Dial("tcp", s.addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, handshake)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != http.StatusNotImplemented {
				t.Errorf("answered with %v, %v; want 501", resp, err)
			}
			if err := <-s.ended; err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Upgrade = %v, want an error that names %s", err, c.says)
			}
		})
	}
}

// A writer like gin's notes the status and sends it only when told to.
type lazy struct {
	http.ResponseWriter
	status int
}

func (l *lazy) WriteHeader(status int) { l.status = status }
func (l *lazy) WriteHeaderNow()        { l.ResponseWriter.WriteHeader(l.status) }
func (l *lazy) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return l.ResponseWriter.(http.Hijacker).Hijack()
}

func TestLazyWriter(t *testing.T) {
	s := unstarted(t, nil, echo)
	inner := s.http.Config.Handler
	s.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(open{&lazy{ResponseWriter: w}}, r)
	})
	s.http.Start()
	dial(t, s).send(closing(1000, ""))
	if end := s.end(t); end.Code != 1000 {
		t.Errorf("Read ended with %v, want 1000", end)
	}
}

func TestHTTP2(t *testing.T) {
	s := unstarted(t, nil, echo)
	s.http.EnableHTTP2 = true
	s.http.StartTLS()
	resp, err := s.http.Client().Get(s.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("answered over %s with %s, want 426 over HTTP/2", resp.Proto, resp.Status)
	}
	if err := <-s.ended; err == nil || !strings.Contains(err.Error(), "HTTP/2.0") {
		t.Errorf("Upgrade = %v, want an error that names HTTP/2.0", err)
	}
}

// Frames that the client sent in one packet with its handshake come first.
func TestEarlyBytes(t *testing.T) {
	for _, size := range []int{0, 5, 600, 3000} {
		s := newServer(t, nil, echo)
		c, err := net.Dial("tcp", s.addr())
		if err != nil {
			t.Fatal(err)
		}
		early := strings.Repeat("e", size)
		cl := shake(t, c, text(early)+ping("?"))
		cl.send(text("late"))
		for _, want := range []string{early, "?", "late"} {
			if _, got := cl.next(); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		cl.send(closing(1000, ""))
		s.end(t)
	}
}

// The handler's goroutine need not be the one that upgrades.
func TestUpgradeFromAnotherGoroutine(t *testing.T) {
	s := unstarted(t, nil, echo)
	inner := s.http.Config.Handler
	s.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			inner.ServeHTTP(w, r)
		}()
		<-done
	})
	s.http.Start()
	cl := dial(t, s)
	cl.send(text("hi"))
	if _, p := cl.next(); p != "hi" {
		t.Errorf("got %q, want hi", p)
	}
	cl.send(closing(1000, ""))
	if end := s.end(t); end.Code != 1000 {
		t.Errorf("Read ended with %v, want 1000", end)
	}
}

func TestTLS(t *testing.T) {
	s := unstarted(t, nil, echo)
	s.http.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(s.http.Certificate())
	c, err := tls.Dial("tcp", s.addr(), &tls.Config{RootCAs: roots, ServerName: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	cl := shake(t, c, text("early"))
	if _, p := cl.next(); p != "early" {
		t.Errorf("got %q, want early", p)
	}
	sock := s.socket(t)
	for _, n := range []int{0, 1, 20000, 65536} {
		cl.send(binaryMsg(strings.Repeat("x", n)))
		if op, p := cl.next(); op != opBinary || len(p) != n {
			t.Errorf("opcode %d with %d bytes, want binary with %d", op, len(p), n)
		}
	}
	for range 1000 {
		if err := sock.Offer(textOf(1000)); err != nil {
			t.Fatal(err)
		}
	}
	sock.Close(consumer.StatusForbidden, "enough")
	for range 1000 {
		if op, p := cl.next(); op != opText || len(p) != 1000 {
			t.Fatalf("opcode %d with %d bytes", op, len(p))
		}
	}
	cl.wantClose(consumer.StatusForbidden, "enough")
	if end := s.end(t); end.Code != consumer.StatusForbidden {
		t.Errorf("Read ended with %v, want 4003", end)
	}
}

func TestTLSSlowClient(t *testing.T) {
	s := unstarted(t, &Options{MaxQueueBytes: 64 << 10, CloseTimeout: 50 * time.Millisecond}, echo)
	s.http.StartTLS()
	c, err := tls.Dial("tcp", s.addr(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	shake(t, c, "")
	sock := s.socket(t)
	for sock.Offer(textOf(60000)) == nil {
	}
	if end := s.end(t); end.Code != consumer.StatusSlowConsumer {
		t.Errorf("Read ended with %v, want 4108", end)
	}
}

// After many connections that end in every way, nothing is left of them.
func TestNoLeak(t *testing.T) {
	s := newServer(t, &Options{CloseTimeout: 20 * time.Millisecond, PingInterval: 100 * time.Millisecond}, echo)
	warm := dial(t, s)
	warm.send(text("x"))
	warm.next()
	if sock := s.socket(t); polling(false) {
		until(t, "the poller runs", func() bool { sock.wire.mu.Lock(); defer sock.wire.mu.Unlock(); return sock.wire.polled })
	}
	warm.send(closing(1000, ""))
	s.end(t)
	warm.Close()
	until(t, "the sweeper ended", s.noSweeper)
	http.DefaultClient.CloseIdleConnections()
	goroutines, files := runtime.NumGoroutine(), descriptors(t)

	for i := range 200 {
		cl := dial(t, s)
		sock := s.socket(t)
		switch i % 5 {
		case 0:
			cl.send(closing(1000, ""))
		case 1:
			cl.Close()
		case 2:
			cl.Conn.(*net.TCPConn).SetLinger(0)
			cl.Close()
		case 3:
			sock.Close(1001, "")
		case 4:
			cl.send(text("\xff"))
		}
		s.end(t)
		cl.Close()
	}
	until(t, "all sockets are released", func() bool { return s.engine.Len() == 0 })
	until(t, "goroutines are at the baseline", func() bool { return runtime.NumGoroutine() <= goroutines })
	until(t, "descriptors are at the baseline", func() bool { return descriptors(t) <= files })
}

func (s *server) noSweeper() bool {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	return s.engine.sweeper == nil
}

func TestEngineClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, nil, echo)
		defer finish()
		cl := shakePipe(t, p)
		s.socket(t)
		if n := s.engine.Len(); n != 1 {
			t.Errorf("Len = %d, want 1", n)
		}
		s.engine.Close()
		s.engine.Close()
		cl.wantClose(consumer.StatusGoingAway, "")
		if end := s.end(t); end.Code != consumer.StatusGoingAway {
			t.Errorf("Read ended with %v, want 1001", end)
		}
		c := p.dial(t)
		defer c.Close()
		io.WriteString(c, handshake)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("answered with %v, %v; want 503", resp, err)
		}
		if err := <-s.ended; !errors.Is(err, ErrEngineClosed) {
			t.Errorf("Upgrade after Close = %v, want ErrEngineClosed", err)
		}
	})
}

// A Release that comes early drops the connection; a second one does nothing.
func TestReleaseEarly(t *testing.T) {
	s := newServer(t, nil, func(s *Socket) error {
		s.Release()
		s.Release()
		return s.Err()
	})
	cl := dial(t, s)
	if end := s.end(t); end.Code != consumer.StatusAbnormalClosure {
		t.Errorf("after Release: %v, want 1006", end)
	}
	if _, err := io.ReadAll(cl.br); err == io.EOF {
		t.Errorf("client read: %v", err)
	}
	if err := (<-s.sockets).Offer(textOf(1)); consumer.CloseStatus(err) != consumer.StatusAbnormalClosure {
		t.Errorf("Offer after Release = %v, want 1006", err)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		says string // "" is fine
	}{
		{Options{}, ""},
		{Options{ReadLimit: -1, MessageRate: -1, FrameRate: -1, ByteRate: -1, PingRate: -1, PingInterval: -1, MessageTimeout: -1}, ""},
		{Options{ReadLimit: 64 << 20}, ""},
		{Options{MaxQueueBytes: -1}, "MaxQueueBytes is -1"},
		{Options{WriteTimeout: -1}, "WriteTimeout"},
		{Options{CloseTimeout: -1}, "CloseTimeout"},
		{Options{PongTimeout: -1}, "PongTimeout"},
		{Options{MessageBurst: -1}, "MessageBurst"},
		{Options{ByteBurst: 1000}, "ByteBurst (1000) is below ReadLimit (65536)"},
		{Options{ByteBurst: maxBurst + 1}, "at most 1073741824"},
		{Options{ReadLimit: 2 << 30}, "is below ReadLimit"},
		{Options{DeflateFrom: 1, ByteBurst: 80_000}, ""},
		{Options{DeflateFrom: 1, ByteBurst: 70_000}, "ByteBurst (70000) is below what a message of ReadLimit (65536) may have when it is compressed badly (73792)"},
		{Options{DeflateFrom: 1, ReadLimit: -1}, "ReadLimit is -1 (none) with compression"},
		{Options{DeflateFrom: -1}, "DeflateFrom is -1"},
	} {
		e, err := NewEngine(&c.o)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("NewEngine(%+v) = %v", c.o, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "socket: ")):
			t.Errorf("NewEngine(%+v) = %v, want an error with %q", c.o, err, c.says)
		}
		if e != nil {
			e.Close()
		}
	}
}

// descriptors counts this process's open files; on systems without /dev/fd it
// is zero throughout.
func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		return 0
	}
	return len(names)
}
