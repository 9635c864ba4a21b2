package socket

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// A slow client that was amid a large frame still gets the whole of it, or the
// close frame behind it would be read as its payload.
func TestSlowAmidFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, &Options{MaxQueueBytes: 3 * chunk}, echo)
		defer finish()
		cl := shakePipe(t, p)
		sock := s.socket(t)
		if err := sock.Offer(textOf(5 * chunk / 2)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the first chunk is on its way
		for sock.Offer(textOf(1000)) == nil {
		}
		if op, got := cl.next(); op != opText || len(got) != 5*chunk/2 {
			t.Errorf("opcode %d with %d bytes, want the whole text", op, len(got))
		}
		cl.wantClose(consumer.StatusSlowConsumer, "did not read")
		s.end(t)
	})
}

// A slow client has CloseTimeout to take its close frame, however it trickles.
func TestSlowTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, &Options{MaxQueueBytes: 3 * chunk}, echo)
		defer finish()
		cl := shakePipe(t, p)
		sock := s.socket(t)
		sock.Offer(textOf(5 * chunk / 2))
		synctest.Wait()
		start := time.Now()
		for sock.Offer(textOf(1000)) == nil {
		}
		time.Sleep(3 * time.Second)
		io.ReadFull(cl.Conn, make([]byte, chunk+1))
		s.end(t)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("released after %v, want 5s", d)
		}
	})
}

// The echo of the peer's close frame goes behind what is queued, and Release
// lets all of it arrive.
func TestPeersCloseBehindQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, nil, echo)
		defer finish()
		cl := shakePipe(t, p)
		sock := s.socket(t)
		for range 10 {
			if err := sock.Offer(textOf(chunk / 3)); err != nil {
				t.Fatal(err)
			}
		}
		cl.send(closing(1000, "done"))
		synctest.Wait()
		if err := sock.Offer(textOf(1)); consumer.CloseStatus(err) != consumer.StatusNormalClosure {
			t.Errorf("Offer after the peer's close frame = %v, want 1000", err)
		}
		for i := range 10 {
			if op, got := cl.next(); op != opText || len(got) != chunk/3 {
				t.Fatalf("frame %d: opcode %d with %d bytes", i, op, len(got))
			}
		}
		cl.wantClose(consumer.StatusNormalClosure, "done")
		if end := s.end(t); end.Code != consumer.StatusNormalClosure {
			t.Errorf("Read ended with %v, want 1000", end)
		}
	})
}

// Nothing follows our close frame: neither a pong nor the echo that the library
// may be writing at that moment, nor a ping.
func TestNothingAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, nil, echo)
		defer finish()
		cl := shakePipe(t, p)
		sock := s.socket(t)
		sock.Close(consumer.StatusForbidden, "no")
		for _, f := range []string{"\x8a\x00", "\x88\x02\x03\xe8"} {
			if n, err := sock.wire.Write([]byte(f)); n != len(f) || err != nil {
				t.Errorf("the library's Write = %d, %v; it must not notice", n, err)
			}
		}
		sock.wire.ping()
		cl.wantClose(consumer.StatusForbidden, "no")
		s.end(t)
	})
}

// A ping goes behind a frame of which the socket took a part.
func TestPingAfterPartialWrite(t *testing.T) {
	s := newServer(t, nil, echo)
	cl := dial(t, s)
	w := &s.socket(t).wire
	w.mu.Lock() // the flush goroutine waits, so that the rest is still queued
	w.push(textOf(16 << 20).Bytes())
	queued := w.queued
	w.pushFront(pingFrame)
	w.mu.Unlock()
	if queued == 0 {
		t.Fatal("the socket took 16 MiB at once")
	}
	if op, got := cl.next(); op != opText || len(got) != 16<<20 {
		t.Fatalf("opcode %d with %d bytes, want the whole text", op, len(got))
	}
	if op, _ := cl.next(); op != opPing {
		t.Errorf("opcode %d, want the ping", op)
	}
}

// Release leaves nothing in memory, whoever ended the connection.
func TestReleaseFrees(t *testing.T) {
	const n = 300
	s := newServer(t, nil, echo)
	connect := func(k int) {
		for i := range k {
			cl := dial(t, s)
			sock := s.socket(t)
			if i%2 == 0 {
				cl.Close()
			} else {
				sock.Close(1001, "")
				cl.wantClose(1001, "")
			}
			s.end(t)
			cl.Conn, cl.br = nil, nil
		}
		until(t, "all are released", func() bool { return s.engine.Len() == 0 })
	}
	connect(20)
	before := heap()
	connect(n)
	each := (heap() - before) / n
	t.Logf("%d bytes are left of each connection, the test's own end included", each)
	if each > 1500 {
		t.Errorf("%d bytes are left of each connection, want next to none", each)
	}
}

// Where nothing can be polled, the first Poll returns nevertheless, so that its
// caller can give it a goroutine.
func TestFirstPollReturns(t *testing.T) {
	s := newServer(t, nil, func(sock *Socket) error {
		ready := make(chan struct{})
		if f, ok, err := sock.Poll(func() { close(ready) }); ok || err != nil {
			t.Errorf("the first Poll = %v, %t, %v; want nothing", f, ok, err)
		}
		<-ready
		return echo(sock)
	})
	cl := dial(t, s)
	cl.send(text("x") + closing(1000, ""))
	if _, p := cl.next(); p != "x" {
		t.Errorf("got %q", p)
	}
	s.end(t)
}
