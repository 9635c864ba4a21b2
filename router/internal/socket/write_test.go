package socket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

func textOf(n int) *consumer.Prepared {
	return consumer.Prepare(consumer.TextFrame(strings.Repeat("x", n)))
}

// narrow makes the kernel's part of the queue small.
func narrow(s *Socket) {
	if c, ok := s.wire.Conn.(*net.TCPConn); ok {
		c.SetWriteBuffer(8 << 10)
	}
}

// Messages from two senders, the library's pongs and our pings share a socket;
// a client that reads in jerks forces partial writes and the queue. Messages
// carry a checksum and a number.
func TestInterleaving(t *testing.T) {
	const senders, each = 2, 200
	s := newServer(t, &Options{PingRate: -1, FrameRate: -1, ByteRate: -1, MaxQueueBytes: 2 << 20}, echo)
	cl := dial(t, s)
	sock := s.socket(t)
	narrow(sock)

	var work sync.WaitGroup
	for w := range senders {
		work.Go(func() {
			for i := range each {
				size := []int{0, 100, 200, 5000, 70000}[rand.IntN(5)]
				p := consumer.Prepare(consumer.BinaryFrame(checked(uint32(w*each+i), size)))
				if err := sock.Send(context.Background(), p); err != nil {
					t.Errorf("Send: %v", err)
					return
				}
			}
		})
	}
	const pings = 100
	work.Go(func() {
		for i := range pings {
			if _, err := io.WriteString(cl.Conn, ping(strings.Repeat("p", i%126))); err != nil {
				t.Errorf("client ping: %v", err)
			}
			sock.wire.ping()
		}
	})

	next := [senders]uint32{0, each}
	pongs, pinged := 0, 0
	for messages := 0; messages < senders*each || pongs < pings || pinged < pings; {
		switch op, p := cl.next(); op {
		case opPong:
			if want := strings.Repeat("p", pongs%126); len(p) != len(want) {
				// A pong may overtake an earlier one while both wait.
				if strings.Trim(p, "p") != "" {
					t.Fatalf("pong %q", p)
				}
			}
			pongs++
		case opPing:
			pinged++
		case opBinary:
			messages++
			seq := binary.BigEndian.Uint32([]byte(p[4:]))
			if binary.BigEndian.Uint32([]byte(p)) != crc32.ChecksumIEEE([]byte(p[4:])) {
				t.Fatalf("message %d is corrupt", seq)
			}
			if w := seq / each; seq != next[w] {
				t.Fatalf("sender %d: message %d, want %d", w, seq, next[w])
			}
			next[seq/each]++
		default:
			t.Fatalf("opcode %d", op)
		}
	}
	work.Wait()
}

func checked(seq uint32, size int) []byte {
	p := make([]byte, 8+size)
	for i := 8; i < len(p); i++ {
		p[i] = byte(rand.Uint32())
	}
	binary.BigEndian.PutUint32(p[4:], seq)
	binary.BigEndian.PutUint32(p, crc32.ChecksumIEEE(p[4:]))
	return p
}

// A client that does not read is bounded, closed with 4108, and told so when it
// reads again; what it gets before that has no gap. A second client notices
// nothing. // case 107
func TestSlowClient(t *testing.T) {
	const most = 256 << 10
	s := newServer(t, &Options{MaxQueueBytes: most}, echo)
	slow := dial(t, s)
	stuck := s.socket(t)
	narrow(stuck)
	good := dial(t, s)
	fine := s.socket(t)

	filler := strings.Repeat("x", 1000)
	sent := 0
	var err error
	for ; err == nil && sent < 1e5; sent++ {
		p := consumer.Prepare(consumer.BinaryFrame(append(binary.BigEndian.AppendUint32(nil, uint32(sent)), filler...)))
		err = stuck.Offer(p)
		if q := stuck.Queued(); q > most {
			t.Fatalf("%d bytes queued, want at most %d", q, most)
		}
		if err := fine.Offer(p); err != nil {
			t.Fatalf("the good client's Offer: %v", err)
		}
		if op, got := good.next(); op != opBinary || binary.BigEndian.Uint32([]byte(got)) != uint32(sent) {
			t.Fatalf("the good client got opcode %d, %q", op, got[:4])
		}
	}
	if consumer.CloseStatus(err) != consumer.StatusSlowConsumer {
		t.Fatalf("after %d messages Offer returned %v, want 4108", sent, err)
	}
	for i := uint32(0); ; i++ {
		op, p := slow.next()
		if op == opClose {
			if got := payload(p); got.Code != consumer.StatusSlowConsumer {
				t.Errorf("close frame says %v, want 4108", got.Code)
			}
			break
		}
		if got := binary.BigEndian.Uint32([]byte(p)); got != i {
			t.Fatalf("message %d, want %d", got, i)
		}
	}
	slow.send(closing(4108, ""))
	if end := s.end(t); end.Code != consumer.StatusSlowConsumer {
		t.Errorf("Read ended with %v, want 4108", end)
	}
}

// A client that never reads again is cut off, and nothing of it stays.
func TestNeverReads(t *testing.T) {
	s := newServer(t, &Options{CloseTimeout: 50 * time.Millisecond}, echo)
	dial(t, s)
	sock := s.socket(t)
	narrow(sock)
	for sock.Offer(textOf(60000)) == nil {
	}
	if end := s.end(t); end.Code != consumer.StatusSlowConsumer {
		t.Errorf("Read ended with %v, want 4108", end)
	}
	until(t, "the socket is gone", func() bool { return s.engine.Len() == 0 })
}

func TestSendWaitsForRoom(t *testing.T) {
	const most = 64 << 10
	s := newServer(t, &Options{MaxQueueBytes: most}, echo)
	cl := dial(t, s)
	sock := s.socket(t)
	narrow(sock)
	const n = 1000
	sent := make(chan error, 1)
	go func() {
		for range n {
			if err := sock.Send(t.Context(), textOf(5000)); err != nil {
				sent <- err
				return
			}
			if q := sock.Queued(); q > most/2 {
				t.Errorf("Send left %d bytes queued, want at most half of %d", q, most)
			}
		}
		sent <- nil
	}()
	until(t, "the queue is half full", func() bool { return sock.Queued() > most/2-5010 })
	if err := sock.Offer(textOf(5000)); err != nil {
		t.Errorf("Offer while a Send waits: %v", err)
	}
	for range n + 1 {
		if op, p := cl.next(); op != opText || len(p) != 5000 {
			t.Fatalf("opcode %d with %d bytes", op, len(p))
		}
	}
	if err := <-sent; err != nil {
		t.Errorf("Send: %v", err)
	}
}

func TestSendGivesUp(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*Socket, context.CancelFunc)
		code consumer.StatusCode
		took time.Duration
	}{
		{"the context ends", func(_ *Socket, cancel context.CancelFunc) { cancel() }, 4108, time.Second},
		{"it is closed meanwhile", func(s *Socket, _ context.CancelFunc) { s.Close(4003, "no") }, 4003, time.Second},
		{"nobody reads", func(*Socket, context.CancelFunc) {}, 4108, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p, finish := inBubble(t, &Options{MaxQueueBytes: 1000}, echo)
				defer finish()
				cl := shakePipe(t, p)
				sock := s.socket(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if err := sock.Send(ctx, textOf(600)); err != nil {
					t.Fatalf("Send into an empty queue: %v", err)
				}
				start := time.Now()
				time.AfterFunc(time.Second, func() { c.end(sock, cancel) })
				if err := sock.Send(ctx, textOf(600)); consumer.CloseStatus(err) != c.code {
					t.Errorf("Send = %v, want %d", err, c.code)
				}
				if d := time.Since(start); d != c.took {
					t.Errorf("Send took %v, want %v", d, c.took)
				}
				cl.Close()
				s.end(t)
			})
		})
	}
}

// One message may be larger than the whole queue.
func TestLargeMessage(t *testing.T) {
	s := newServer(t, &Options{MaxQueueBytes: 1000}, echo)
	cl := dial(t, s)
	sock := s.socket(t)
	if err := sock.Offer(textOf(3 << 20)); err != nil {
		t.Fatal(err)
	}
	if op, p := cl.next(); op != opText || len(p) != 3<<20 {
		t.Errorf("opcode %d with %d bytes, want text with 3 MiB", op, len(p))
	}
}

// Everything that was queued before Close arrives, then the close frame, and
// nothing of what came after. // case 109
func TestCloseBehindQueue(t *testing.T) {
	s := newServer(t, nil, echo)
	cl := dial(t, s)
	sock := s.socket(t)
	narrow(sock)
	n := 0
	for ; sock.Queued() < 500<<10; n++ {
		if err := sock.Offer(textOf(1000)); err != nil {
			t.Fatal(err)
		}
	}
	sock.Close(consumer.StatusUnauthorized, "bye")
	sock.Close(consumer.StatusForbidden, "the first call counts")
	if err := sock.Offer(textOf(1)); consumer.CloseStatus(err) != consumer.StatusUnauthorized {
		t.Errorf("Offer after Close = %v, want 4001", err)
	}
	if err := sock.Send(t.Context(), textOf(1)); consumer.CloseStatus(err) != consumer.StatusUnauthorized {
		t.Errorf("Send after Close = %v, want 4001", err)
	}
	for i := range n {
		if op, p := cl.next(); op != opText || len(p) != 1000 {
			t.Fatalf("frame %d: opcode %d with %d bytes", i, op, len(p))
		}
	}
	cl.wantClose(consumer.StatusUnauthorized, "bye")
	if end := s.end(t); end.Code != consumer.StatusUnauthorized || end.Reason != "bye" {
		t.Errorf("Read ended with %v, want 4001 bye", end)
	}
}

func TestCloseCodesAndReasons(t *testing.T) {
	long := strings.Repeat("ä", 100)
	for _, c := range []struct {
		code   consumer.StatusCode
		reason string
		want   string // the close frame's payload
		read   consumer.StatusCode
	}{
		{1000, "", "\x03\xe8", 1000},
		{4001, "credentials refused", "\x0f\xa1credentials refused", 4001},
		{1008, strings.Repeat("r", 123), "\x03\xf0" + strings.Repeat("r", 123), 1008},
		{1008, strings.Repeat("r", 124), "\x03\xf0" + strings.Repeat("r", 123), 1008},
		{1008, long, "\x03\xf0" + long[:122], 1008},
		{1008, "\xff", "\x03\xf0\uFFFD", 1008},
		{1005, "dropped", "", 1005},
		{1006, "dropped", "", 1006},
		{1004, "why", "\x03\xf3why", 1011},
		{1015, "why", "\x03\xf3why", 1011},
		{999, "why", "\x03\xf3why", 1011},
		{-1, "why", "\x03\xf3why", 1011},
		{2999, "why", "\x03\xf3why", 1011},
		{5000, "why", "\x03\xf3why", 1011},
	} {
		s := newServer(t, nil, echo)
		cl := dial(t, s)
		s.socket(t).Close(c.code, c.reason)
		if op, p := cl.next(); op != opClose || p != c.want {
			t.Errorf("Close(%d, %q) sent opcode %d, %q; want a close frame with %q", c.code, c.reason, op, p, c.want)
		}
		cl.send(closing(1000, ""))
		if end := s.end(t); end.Code != c.read {
			t.Errorf("after Close(%d) Read ended with %v, want %d", c.code, end, c.read)
		}
	}
}

// Close from elsewhere ends a Read that waits, however silent the peer is.
func TestCloseWhileReading(t *testing.T) {
	s := newServer(t, &Options{CloseTimeout: 50 * time.Millisecond}, func(s *Socket) error {
		time.AfterFunc(5*time.Millisecond, func() { s.Close(consumer.StatusServiceRestart, "restart") })
		return echo(s)
	})
	cl := dial(t, s)
	if end := s.end(t); end.Code != consumer.StatusServiceRestart {
		t.Errorf("Read ended with %v, want 1012", end)
	}
	// The silent peer was cut off, and still reads why.
	if op, p := cl.next(); op != opClose || payload(p).Code != consumer.StatusServiceRestart {
		t.Errorf("opcode %d, %q; want a close frame with 1012", op, p)
	}
	if _, err := cl.br.ReadByte(); err != io.EOF {
		t.Errorf("after the close frame: %v, want EOF", err)
	}
}

// A peer that goes on sending still gets our close frame, not a reset.
func TestCloseBusyPeer(t *testing.T) {
	s := newServer(t, &Options{ByteRate: -1, MessageRate: -1, FrameRate: -1}, echo)
	cl := dial(t, s)
	sock := s.socket(t)
	go func() {
		for range 2000 {
			if _, err := io.WriteString(cl.Conn, binaryMsg(strings.Repeat("x", 1000))); err != nil {
				t.Errorf("client write: %v", err)
				return
			}
		}
		io.WriteString(cl.Conn, closing(1000, ""))
	}()
	cl.next()
	sock.Close(consumer.StatusForbidden, "")
	for {
		op, p, err := cl.read()
		if err != nil {
			t.Fatalf("no close frame: %v", err)
		}
		if op == opClose {
			if payload(p).Code != consumer.StatusForbidden {
				t.Errorf("close frame %q, want 4003", p)
			}
			break
		}
	}
	if _, err := io.ReadAll(cl.br); err != nil {
		t.Errorf("after the close frame: %v, want EOF", err)
	}
}

// Peers that vanish: by a reset, and by an end without a close frame.
func TestPeerVanishes(t *testing.T) {
	for _, reset := range []bool{true, false} {
		s := newServer(t, nil, echo)
		cl := dial(t, s)
		s.socket(t)
		if reset {
			cl.Conn.(*net.TCPConn).SetLinger(0)
		}
		cl.Close()
		if end := s.end(t); end.Code != consumer.StatusAbnormalClosure {
			t.Errorf("reset %v: Read ended with %v, want 1006", reset, end)
		}
	}
}

// A write to a peer that has gone ends the connection too, and sends never
// fail in another way.
func TestOfferToVanishedPeer(t *testing.T) {
	var end consumer.CloseError
	e, err := NewEngine(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	mine, theirs := tcpPair(t)
	sock := &Socket{}
	sock.wire.Conn, sock.wire.e, sock.wire.fd = mine, e, int32(descriptor(mine))
	theirs.SetLinger(0)
	theirs.Close()
	until(t, "Offer fails", func() bool {
		err := sock.Offer(textOf(100))
		if ce, ok := errors.AsType[*consumer.CloseError](err); ok {
			end = *ce
		}
		return err != nil
	})
	if end.Code != consumer.StatusAbnormalClosure {
		t.Errorf("Offer = %v, want 1006", end)
	}
	sock.wire.drained()
	sock.wire.free()
}

func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), peer.(*net.TCPConn)
}

func TestOfferAllocatesNothing(t *testing.T) {
	s := newServer(t, nil, echo)
	cl := dial(t, s)
	sock := s.socket(t)
	p := textOf(128)
	got := make([]byte, len(p.Bytes()))
	n := testing.AllocsPerRun(1000, func() {
		if err := sock.Offer(p); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(cl.Conn, got); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("Offer to a client that reads made %v allocations, want 0", n)
	}
	if !bytes.Equal(got, p.Bytes()) {
		t.Errorf("got %q, want %q", got, p.Bytes())
	}
}
