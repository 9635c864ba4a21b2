//go:build linux && !386 && !s390x && !tideway_goroutines

package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// events is an app for a polled socket, as a server has it: no goroutine is
// left between messages. Each message goes to got, the end to ended.
type events struct {
	s     *Socket
	wakes int // used by whoever reads
	got   func(consumer.Frame)
	ended chan error
}

func (e *events) run() {
	e.wakes++
	for {
		f, ok, err := e.s.Poll(e.run)
		switch {
		case err != nil:
			e.s.Release()
			e.ended <- err
			return
		case !ok:
			return
		}
		e.got(f)
	}
}

// newPolled serves with no goroutine per connection, and echoes.
func newPolled(t testing.TB, o Options) *server {
	t.Helper()
	return newPolledAfter(t, o, func(*Socket) {})
}

// newPolledAfter is newPolled whose sockets are polled when first has returned.
func newPolledAfter(t testing.TB, o Options, first func(*Socket)) *server {
	t.Helper()
	return newPolledFor(t, o, first, func(s *Socket, f consumer.Frame) { s.Send(context.Background(), consumer.Prepare(f)) })
}

// newPolledFor is newPolledAfter that does something else with messages.
func newPolledFor(t testing.TB, o Options, first func(*Socket), got func(*Socket, consumer.Frame)) *server {
	t.Helper()
	o.Polling = true
	e, err := NewEngine(&o)
	if err != nil {
		t.Fatal(err)
	}
	s := unstarted(t, &o, echo)
	s.engine.Close()
	s.engine = e
	e.stay = 0
	s.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sock, err := e.Upgrade(w, r, "")
		if err != nil {
			s.ended <- err
			return
		}
		s.sockets <- sock
		ev := &events{s: sock, ended: s.ended, got: func(f consumer.Frame) { got(sock, f) }}
		go func() {
			first(sock)
			ev.run()
		}()
	})
	s.http.Start()
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		e.Close()
		until(t, "all sockets are released", func() bool { return e.Len() == 0 })
	})
	return s
}

// Of hundreds whose messages come at once, some are read before the others are
// woken: whoever else wants to run need not wait for all.
func TestPollWakesInBatches(t *testing.T) {
	const n = 300
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var most, got atomic.Int64
	s := newPolledFor(t, Options{PingInterval: -1}, func(*Socket) {}, func(*Socket, consumer.Frame) {
		most.Store(max(most.Load(), int64(runtime.NumGoroutine())))
		got.Add(1)
	})
	s.http.Config.SetKeepAlivesEnabled(false)
	warm := dial(t, s)
	warm.send(text("x"))
	until(t, "the poller works", func() bool { return got.Load() == 1 })
	few := runtime.NumGoroutine() + 5
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = dial(t, s)
	}
	until(t, "idle connections have no goroutine", func() bool { return runtime.NumGoroutine() <= few })
	most.Store(0)
	for _, cl := range clients {
		cl.send(text("x"))
	}
	until(t, "all are read", func() bool { return got.Load() == n+1 })
	if most := int(most.Load()); most > few+2*wakeBatch {
		t.Errorf("%d goroutines at the same time, want %d at most", most, few+2*wakeBatch)
	}
}

// Hundreds of idle connections share one goroutine; each one answers, to
// messages and pings, and is alone again.
func TestPollWithoutGoroutines(t *testing.T) {
	const n = 300
	s := newPolled(t, Options{PingInterval: -1})
	s.http.Config.SetKeepAlivesEnabled(false)
	warm := dial(t, s)
	warm.send(text("x"))
	warm.next()
	few := runtime.NumGoroutine() + 5
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = dial(t, s)
	}
	idle := func() bool { return runtime.NumGoroutine() <= few }
	until(t, "idle connections have no goroutine", idle)
	for round := range 3 {
		for i, cl := range clients {
			cl.send(text(fmt.Sprint(round, i)) + ping("still?"))
		}
		for i, cl := range clients {
			if _, p := cl.next(); p != fmt.Sprint(round, i) {
				t.Fatalf("client %d got %q", i, p)
			}
			if op, p := cl.next(); op != opPong || p != "still?" {
				t.Fatalf("client %d got opcode %d, %q, want a pong", i, op, p)
			}
		}
		until(t, "idle connections have no goroutine again", idle)
	}
	for i, cl := range clients {
		code := consumer.StatusCode(4000 + i)
		cl.send(closing(code, ""))
		if end := s.end(t); end.Code != code {
			t.Fatalf("the end is %v, want %d", end, code)
		}
	}
}

// A socket that was read from is polled as if it had not been: what came together
// with the message that was read is there, too.
func TestPollAfterRead(t *testing.T) {
	s := newPolledAfter(t, Options{PingInterval: -1}, func(sock *Socket) {
		if f, err := sock.Read(); err != nil || string(f.Data) != "first" {
			t.Errorf("got %q, %v, want the first message", f.Data, err)
		}
	})
	cl := dial(t, s)
	cl.send(text("first") + text("second"))
	if _, p := cl.next(); p != "second" {
		t.Errorf("got %q, want the second message", p)
	}
	cl.send(text("third"))
	if _, p := cl.next(); p != "third" {
		t.Errorf("got %q, want the third message", p)
	}
}

// A connection that has not spoken has none of the library's Conns, and never had
// one: that would be 2.4 KB for each handshake.
func TestHandshakeTakesNoReader(t *testing.T) {
	s := newServer(t, &Options{Polling: true}, func(sock *Socket) error {
		if sock.reader != nil {
			t.Error("a reader was made for the handshake")
		}
		return echo(sock)
	})
	cl := dial(t, s)
	cl.send(text("x") + closing(1000, ""))
	if _, p := cl.next(); p != "x" {
		t.Errorf("got %q", p)
	}
	s.end(t)
}

// While a socket is parked, whatever ends the connection wakes its reader.
func TestPollEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *server, sock *Socket, cl *client)
		code consumer.StatusCode
	}{
		{"our close", func(_ *server, sock *Socket, _ *client) { sock.Close(4000, "") }, 4000},
		{"the peer's close", func(_ *server, _ *Socket, cl *client) { cl.send(closing(4001, "")) }, 4001},
		{"the peer goes", func(_ *server, _ *Socket, cl *client) { cl.Close() }, 1006},
		{"the peer resets", func(_ *server, _ *Socket, cl *client) {
			cl.Conn.(*net.TCPConn).SetLinger(0)
			cl.Close()
		}, 1006},
		{"the peer closes its side", func(_ *server, _ *Socket, cl *client) { cl.Conn.(*net.TCPConn).CloseWrite() }, 1006},
		{"a rule is broken", func(_ *server, _ *Socket, cl *client) { cl.send("\x81\x02hi") }, 1002},
		{"a slow client", func(_ *server, sock *Socket, cl *client) {
			narrow(sock)
			for sock.Offer(textOf(60000)) == nil {
			}
		}, 4108},
		{"a message that never ends", func(_ *server, sock *Socket, cl *client) { cl.send(text("hello")[:3]) }, 1008},
		{"the engine closes", func(s *server, _ *Socket, _ *client) { s.engine.Close() }, 1001},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newPolled(t, Options{PingInterval: -1, CloseTimeout: 100 * time.Millisecond, MessageTimeout: 100 * time.Millisecond})
			cl := dial(t, s)
			sock := s.socket(t)
			until(t, "the socket is parked", parked(sock))
			c.end(s, sock, cl)
			if end := s.end(t); end.Code != c.code {
				t.Errorf("the end is %v, want %d", end, c.code)
			}
		})
	}
}

func parked(s *Socket) func() bool {
	return func() bool {
		s.wire.mu.Lock()
		defer s.wire.mu.Unlock()
		return s.wire.parked != nil
	}
}

// A parked client that does not answer a ping is lost; one that does, stays.
func TestPollKeepalive(t *testing.T) {
	s := newPolled(t, Options{PingInterval: 200 * time.Millisecond, PongTimeout: 6 * time.Second})
	silent := dial(t, s)
	alive := dial(t, s)
	go io.Copy(io.Discard, silent.br)
	done := make(chan int, 1)
	go func() {
		pings := 0
		for {
			op, _, err := alive.read()
			if err != nil || op == opClose {
				done <- pings
				return
			}
			if op == opPing {
				pings++
				alive.Write([]byte(masked(0x8a, "")))
			}
		}
	}()
	if end := s.end(t); end.Code != 1006 || !strings.Contains(end.Reason, "no answer to a ping") {
		t.Errorf("the silent one ended with %v", end)
	}
	if n := s.engine.Len(); n != 1 {
		t.Errorf("%d sockets are left, want the one that answers", n)
	}
	alive.Write([]byte(closing(1000, "")))
	if end := s.end(t); end.Code != 1000 {
		t.Errorf("the one that answered ended with %v", end)
	}
	if n := <-done; n == 0 {
		t.Error("no ping reached the one that answers")
	}
}

// Bytes may come in any pieces: with the handshake, one at a time, many messages
// at once, fragments with a ping between them and a pause in the middle.
func TestPollPieces(t *testing.T) {
	for _, deflate := range []int{0, 1} {
		t.Run(fmt.Sprint("deflate from ", deflate), func(t *testing.T) {
			s := newPolled(t, Options{DeflateFrom: deflate, MessageRate: -1, FrameRate: -1, ByteRate: -1, PingRate: -1, MaxQueueBytes: 64 << 20})
			conn, err := net.Dial("tcp", s.addr())
			if err != nil {
				t.Fatal(err)
			}
			cl := ask(t, conn, offering("permessage-deflate")+text("early"))
			if _, p := cl.next(); p != "early" {
				t.Fatalf("got %q, want early", p)
			}
			const n = 700
			var all bytes.Buffer
			want := make([]string, n)
			for i := range want {
				want[i] = strings.Repeat(fmt.Sprint(i, " "), []int{0, 1, 50, 3000}[rand.IntN(4)])
				switch cut := rand.IntN(len(want[i]) + 1); {
				case i%3 == 0:
					all.WriteString(masked(0x02, want[i][:cut]) + ping("") + masked(0x00, "") + masked(0x80, want[i][cut:]))
				case i%7 == 0 && deflate > 0:
					all.WriteString(zipped(0xc2, want[i]))
				default:
					all.WriteString(binaryMsg(want[i]))
				}
			}
			go func() {
				for b := all.Bytes(); len(b) > 0; {
					k := min(len(b), 1+rand.IntN([]int{3, 700, 50_000}[rand.IntN(3)]))
					cl.Write(b[:k])
					b = b[k:]
					if rand.IntN(100) == 0 {
						time.Sleep(time.Millisecond) // so that the server parks in between, too
					}
				}
			}()
			for i := range want {
				op, p := cl.next()
				for op == opPong {
					op, p = cl.next()
				}
				if p != want[i] {
					t.Fatalf("message %d: %d bytes, %.20q, want %d bytes, %.20q", i, len(p), p, len(want[i]), want[i])
				}
			}
		})
	}
}

// Closes, sends and messages of the peer at the same moment: the reader is
// woken, and runs, once.
func TestPollRaces(t *testing.T) {
	s := newPolled(t, Options{CloseTimeout: 100 * time.Millisecond})
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for i := range 40 {
				cl := dial(t, s)
				sock := s.socket(t)
				var both sync.WaitGroup
				both.Go(func() { sock.Close(4000, "") })
				both.Go(func() { cl.Write([]byte(text("x") + ping(""))) })
				both.Go(func() { sock.Offer(textOf(10)) })
				if i%2 == 0 {
					both.Go(func() { cl.Close() })
				}
				both.Wait()
				cl.Close()
				s.end(t)
			}
		})
	}
	work.Wait()
}

func TestPollUnixSocket(t *testing.T) {
	s := newPolled(t, Options{})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go s.http.Config.Serve(l)
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cl := shake(t, c, "")
	until(t, "the socket is parked", parked(s.socket(t)))
	cl.send(text("hello"))
	if _, p := cl.next(); p != "hello" {
		t.Errorf("got %q, want hello", p)
	}
}

// Without descriptors that can be polled, Poll waits as Read does.
func TestPollWaitsElsewhere(t *testing.T) {
	e, err := NewEngine(&Options{Polling: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	p := newPipes()
	ended := make(chan error, 1)
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sock, err := e.Upgrade(w, r, "")
		if err != nil {
			t.Error(err)
			return
		}
		ev := &events{s: sock, ended: ended, got: func(f consumer.Frame) { sock.Offer(consumer.Prepare(f)) }}
		go ev.run()
	})}
	go hs.Serve(p)
	defer hs.Close()
	cl := shakePipe(t, p)
	go cl.send(text("hello"))
	if _, p := cl.next(); p != "hello" {
		t.Errorf("got %q, want hello", p)
	}
	cl.Close()
	if err := <-ended; consumer.CloseStatus(err) != 1006 {
		t.Errorf("the end is %v, want 1006", err)
	}
}

// What Poll relies on inside the library: an error of the transport before the
// first byte of a frame does not end its Conn, nor lose its place.
func TestReadErrorBetweenMessages(t *testing.T) {
	pause := errors.New("later")
	steps := &scripted{steps: []any{pause, text("one"), pause, ping("p"), pause, pause, text("two")[:3], text("two")[3:], pause}}
	ws := accepted(t, steps, writeBuffer)
	defer ws.CloseNow()
	var got []string
	for len(steps.steps) > 0 {
		_, p, err := ws.Read(context.Background())
		if err != nil && !errors.Is(err, pause) {
			t.Fatalf("Read = %v: does an error between messages end the Conn now?", err)
		}
		if err == nil {
			got = append(got, string(p))
		}
	}
	if fmt.Sprint(got) != "[one two]" {
		t.Errorf("got %q, want one, two", got)
	}
	if steps.closed {
		t.Error("the library closed the transport")
	}
}

// scripted is a transport that reads bytes and errors in turn.
type scripted struct {
	nowhere
	steps  []any
	closed bool
}

func (s *scripted) Read(p []byte) (int, error) {
	if len(s.steps) == 0 {
		return 0, io.EOF
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	if err, ok := step.(error); ok {
		return 0, err
	}
	return copy(p, step.(string)), nil
}

func (s *scripted) Close() error {
	s.closed = true
	return nil
}

// An idle connection without a goroutine is at most 3 KB of heap and stack, the
// test's own end included.
func TestPolledIdleConnection(t *testing.T) {
	const n = 500
	s := newPolled(t, Options{})
	warm := dial(t, s)
	warm.send(text("x"))
	goroutines, before := runtime.NumGoroutine(), memory()
	conns := make([]*client, n)
	for i := range conns {
		conns[i] = dial(t, s)
		conns[i].br = nil
	}
	until(t, "no idle connection is a goroutine", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
	each := (memory() - before) / n
	t.Logf("%d bytes of heap and stack for each idle connection", each)
	if each > underRace*3<<10 {
		t.Errorf("an idle connection holds %d bytes of heap and stack, want at most 3 KB", each)
	}
	for _, c := range conns {
		c.Close()
	}
}

// FuzzPolledFrames is FuzzServerDeflated for a polled socket, whose bytes come in
// any pieces.
func FuzzPolledFrames(f *testing.F) {
	for _, s := range append(seeds, zipped(0xc1, "hello")+ping("")+text("plain")+zipped(0xc2, "")) {
		f.Add([]byte(s), uint64(1))
		f.Add([]byte(s+s), uint64(0x9e3779b97f4a7c15))
	}
	s := newPolled(f, Options{DeflateFrom: 1, CloseTimeout: 50 * time.Millisecond, WriteTimeout: time.Second, MessageTimeout: time.Second, PingInterval: -1})
	f.Fuzz(func(t *testing.T, b []byte, cuts uint64) {
		c, err := net.Dial("tcp", s.addr())
		if err != nil {
			t.Fatal(err)
		}
		cl := ask(t, c, offering("permessage-deflate"))
		<-s.sockets
		go func() {
			for rest := b; len(rest) > 0; cuts = cuts*6364136223846793005 + 1442695040888963407 {
				k := min(len(rest), 1+int(cuts>>58))
				if _, err := c.Write(rest[:k]); err != nil {
					return
				}
				if rest = rest[k:]; cuts>>50&1 == 0 {
					runtime.Gosched()
				}
			}
			c.Write([]byte(closing(1000, "")))
			c.(*net.TCPConn).CloseWrite()
		}()
		for {
			op, _, err := cl.read()
			if op == opClose {
				break
			}
			if err != nil {
				if _, lost := errors.AsType[net.Error](err); !lost && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				break
			}
		}
		c.Close()
		if end := s.end(t); end.Code < 1000 {
			t.Fatalf("the end is %v", end)
		}
	})
}

// BenchmarkPollEcho is a message there and back, with a wake-up.
func BenchmarkPollEcho(b *testing.B) { benchmarkEcho(b, 0) }

func benchmarkEcho(b *testing.B, stay time.Duration) {
	s := newPolled(b, Options{MessageRate: -1, FrameRate: -1, ByteRate: -1})
	s.engine.stay = stay
	cl := dial(b, s)
	cl.SetDeadline(noDeadline)
	msg := []byte(text(string(make([]byte, 100))))
	got := make([]byte, 102)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cl.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(cl.Conn, got); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLingerEcho is the same for a client that talks all the time: there is
// no wake-up, since its reader waits.
func BenchmarkLingerEcho(b *testing.B) { benchmarkEcho(b, stay) }
