package socket

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// noDeadline is for clients that run as long as a benchmark.
var noDeadline time.Time

// server upgrades every request and runs app on the socket, on a goroutine of
// its own as the router does, and releases it afterwards.
type server struct {
	engine  *Engine
	http    *httptest.Server
	sockets chan *Socket // each one, before app
	ended   chan error   // each one's last error
	done    sync.WaitGroup
}

// next is the next message, by Poll: where that does not wait, next does.
func next(s *Socket) (consumer.Frame, error) {
	for {
		ready := make(chan struct{})
		f, ok, err := s.Poll(func() { close(ready) })
		if ok || err != nil {
			return f, err
		}
		<-ready
	}
}

// app is what runs on a connection. It returns Read's error.
type app func(*Socket) error

func echo(s *Socket) error {
	for {
		f, err := next(s)
		if err != nil {
			return err
		}
		s.Send(context.Background(), consumer.Prepare(f))
	}
}

func newServer(t testing.TB, o *Options, run app) *server {
	t.Helper()
	s := unstarted(t, o, run)
	s.http.Start()
	return s
}

func unstarted(t testing.TB, o *Options, run app) *server {
	t.Helper()
	e, err := NewEngine(o)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{engine: e, sockets: make(chan *Socket, 4096), ended: make(chan error, 4096)}
	s.http = httptest.NewUnstartedServer(s.handler(run))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
		e.Close()
		s.done.Wait()
		if n := e.Len(); n != 0 {
			t.Errorf("%d sockets left in the engine, want 0", n)
		}
	})
	return s
}

func (s *server) handler(run app) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Before the hijacking, which http.Close does not wait behind: done may
		// not begin to count while somebody waits for it.
		s.done.Add(1)
		defer s.done.Done()
		sock, err := s.engine.Upgrade(w, r, "")
		if err != nil {
			s.ended <- err
			return
		}
		s.sockets <- sock
		s.done.Go(func() {
			err := run(sock)
			sock.Release()
			s.ended <- err
		})
	})
}

// addr is the server's address for a TCP dial.
func (s *server) addr() string { return s.http.Listener.Addr().String() }

// end waits for the last error of the next socket that ends.
func (s *server) end(t testing.TB) *consumer.CloseError {
	t.Helper()
	select {
	case err := <-s.ended:
		ce, ok := errors.AsType[*consumer.CloseError](err)
		if !ok {
			t.Fatalf("the socket ended with %#v, want a *consumer.CloseError", err)
		}
		return ce
	case <-time.After(patience):
		t.Fatal("the socket did not end")
		return nil
	}
}

func (s *server) socket(t testing.TB) *Socket {
	t.Helper()
	select {
	case sock := <-s.sockets:
		return sock
	case <-time.After(patience):
		t.Fatal("no socket was upgraded")
		return nil
	}
}

// client is the raw other end.
type client struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader

	agreed string // the extensions that the server agreed to
	zipped int    // how many of the messages read were compressed
}

const handshake = "GET /path HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// offering is a handshake that offers an extension.
func offering(extension string) string {
	return strings.TrimSuffix(handshake, "\r\n") + "Sec-WebSocket-Extensions: " + extension + "\r\n\r\n"
}

func dial(t testing.TB, s *server) *client {
	t.Helper()
	c, err := net.Dial("tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	return shake(t, c, "")
}

// shake does the handshake, with early bytes behind it in the same write.
func shake(t testing.TB, c net.Conn, early string) *client {
	t.Helper()
	return ask(t, c, handshake+early)
}

// ask sends a handshake, and what may follow it.
func ask(t testing.TB, c net.Conn, request string) *client {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	cl := &client{Conn: c, t: t, br: bufio.NewReader(c)}
	resp, err := http.ReadResponse(cl.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake answered with %s", resp.Status)
	}
	cl.agreed = resp.Header.Get("Sec-WebSocket-Extensions")
	return cl
}

// send writes raw bytes.
func (c *client) send(b string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, b); err != nil {
		c.t.Fatalf("client write: %v", err)
	}
}

// next reads one frame.
func (c *client) next() (op opcode, payload string) {
	c.t.Helper()
	op, payload, err := c.read()
	if err != nil {
		c.t.Fatalf("client read: %v", err)
	}
	return op, payload
}

func (c *client) read() (opcode, string, error) {
	var h [10]byte
	if _, err := io.ReadFull(c.br, h[:2]); err != nil {
		return 0, "", err
	}
	zipped := c.agreed != "" && compressed(h[0])
	if h[0]&0xf0 != 0x80 && !zipped || h[1]&0x80 != 0 {
		return 0, "", fmt.Errorf("a server's frame must be final, plain and unmasked: % x", h[:2])
	}
	n := uint64(h[1])
	switch n {
	case 126:
		io.ReadFull(c.br, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		io.ReadFull(c.br, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	if n > 64<<20 {
		return 0, "", fmt.Errorf("a frame of %d bytes: the stream is out of step", n)
	}
	p := make([]byte, n)
	_, err := io.ReadFull(c.br, p)
	if zipped && err == nil {
		c.zipped++
		p, err = reinflate(p)
	}
	return opcode(h[0] & 0x0f), string(p), err
}

// wantClose reads up to the close frame, checks it, answers it, and waits for
// the end of the connection.
func (c *client) wantClose(code consumer.StatusCode, reasonPart string) {
	c.t.Helper()
	for {
		op, p := c.next()
		if op != opClose {
			continue
		}
		got := payload(p)
		if got.Code != code || !strings.Contains(got.Reason, reasonPart) {
			c.t.Errorf("close frame says %d %q, want %d with %q", got.Code, got.Reason, code, reasonPart)
		}
		c.Write([]byte(closing(code, "")))
		if rest, err := io.ReadAll(c.br); err != nil || len(rest) != 0 {
			c.t.Errorf("after the close frame: %q, %v; want the end", rest, err)
		}
		return
	}
}

// payload takes a close frame's payload apart.
func payload(p string) consumer.CloseError {
	if len(p) < 2 {
		return consumer.CloseError{Code: consumer.StatusNoStatusRcvd}
	}
	return consumer.CloseError{Code: consumer.StatusCode(binary.BigEndian.Uint16([]byte(p))), Reason: p[2:]}
}

// masked is one frame of a client. b0 holds FIN, the reserved bits and the
// opcode.
func masked(b0 byte, p string) string {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b := []byte{b0}
	switch n := len(p); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xfe), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0xff), uint64(n))
	}
	b = append(b, key[:]...)
	for i := range len(p) {
		b = append(b, p[i]^key[i%4])
	}
	return string(b)
}

func text(p string) string      { return masked(0x81, p) }
func binaryMsg(p string) string { return masked(0x82, p) }
func ping(p string) string      { return masked(0x89, p) }

func closing(code consumer.StatusCode, reason string) string {
	return masked(0x88, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// until waits for a condition that nothing announces.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// pipes is a listener of in-memory connections, for bubbles.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// dialPipe connects a client to a server that was started on pipes.
func (p *pipes) dial(t testing.TB) net.Conn {
	mine, theirs := net.Pipe()
	p.conns <- theirs
	return mine
}

// inBubble starts a server on pipes; call it inside a synctest bubble, and
// finish with the returned function.
func inBubble(t testing.TB, o *Options, run app) (s *server, p *pipes, finish func()) {
	t.Helper()
	e, err := NewEngine(o)
	if err != nil {
		t.Fatal(err)
	}
	s = &server{engine: e, sockets: make(chan *Socket, 4096), ended: make(chan error, 4096)}
	p = newPipes()
	hs := &http.Server{Handler: s.handler(run), ErrorLog: log.New(io.Discard, "", 0)}
	var serving sync.WaitGroup
	serving.Go(func() { hs.Serve(p) })
	return s, p, func() {
		hs.Close()
		serving.Wait()
		e.Close()
		s.done.Wait()
		if n := e.Len(); n != 0 {
			t.Errorf("%d sockets left in the engine, want 0", n)
		}
	}
}
