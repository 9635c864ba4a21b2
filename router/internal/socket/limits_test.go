package socket

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// A client that floods, in one way each, is closed with a reason that names the
// limit, and a second client notices nothing.
func TestFloods(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      Options
		begin  string
		flood  string
		code   consumer.StatusCode
		reason string
	}{
		{"messages", Options{}, "", text("x"), 4129, "too many messages: more than 50 a second"},
		{"pings", Options{}, "", ping(""), 4129, "too many pings: more than 10 a second"},
		{"pongs", Options{}, "", masked(0x8a, ""), 4129, "too many frames: more than 500 a second"},
		{"zero-length continuations", Options{}, masked(0x01, ""), masked(0x00, ""), 4129, "too many frames: more than 500 a second"},
		{"bytes", Options{MessageRate: -1}, "", binaryMsg(strings.Repeat("x", 60000)), 4129, "too many bytes: more than 65536 a second"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, &c.o, func(s *Socket) error {
				for {
					if _, err := next(s); err != nil {
						return err
					}
				}
			})
			good := dial(t, s)
			fine := s.socket(t)
			bad := dial(t, s)
			s.socket(t)
			go func() {
				io.WriteString(bad.Conn, c.begin)
				for range 4000 {
					if _, err := io.WriteString(bad.Conn, c.flood); err != nil {
						return
					}
				}
			}()
			for {
				op, p, err := bad.read()
				if err != nil {
					t.Fatalf("no close frame: %v", err)
				}
				if op != opClose {
					continue
				}
				if got := payload(p); got.Code != c.code || got.Reason != c.reason {
					t.Errorf("close frame says %v, want %d %q", &got, c.code, c.reason)
				}
				break
			}
			bad.Close()
			if end := s.end(t); end.Code != c.code || end.Reason != c.reason {
				t.Errorf("Read ended with %v, want %d %q", end, c.code, c.reason)
			}
			fine.Offer(textOf(3))
			if op, p := good.next(); op != opText || p != "xxx" {
				t.Errorf("the other client got opcode %d, %q", op, p)
			}
		})
	}
}

// What the limits allow, they allow for ever.
func TestWithinLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, nil, func(s *Socket) error {
			for {
				if _, err := next(s); err != nil {
					return err
				}
			}
		})
		defer finish()
		cl := shakePipe(t, p)
		go io.Copy(io.Discard, cl.br)
		for range 100 { // the burst
			cl.send(text("x"))
		}
		for range 500 {
			time.Sleep(time.Second / 50)
			cl.send(text("x"))
			if time.Now().UnixMilli()%200 == 0 {
				cl.send(ping(""))
			}
		}
		cl.send(closing(1000, ""))
		if end := s.end(t); end.Code != consumer.StatusNormalClosure {
			t.Errorf("Read ended with %v, want 1000", end)
		}
	})
}

// shakePipe is dial for a bubble.
func shakePipe(t testing.TB, p *pipes) *client {
	t.Helper()
	cl := shake(t, p.dial(t), "")
	cl.SetDeadline(time.Time{})
	return cl
}

// A message must be complete 30 s after its first byte, however it is dribbled;
// the silence between messages has no such end.
func TestDribble(t *testing.T) {
	for _, c := range []struct{ name, send string }{
		{"header", text(strings.Repeat("x", 1000))},
		{"control frames between", masked(0x01, "begin") + strings.Repeat(ping(""), 200)},
		{"empty fragments", masked(0x01, "begin") + strings.Repeat(masked(0x00, ""), 200)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p, finish := inBubble(t, &Options{PingInterval: -1}, echo)
				defer finish()
				cl := shakePipe(t, p)
				var sending sync.WaitGroup
				defer sending.Wait()
				sending.Go(func() {
					time.Sleep(100 * time.Second)
					io.WriteString(cl, text("a whole message after a while"))
					start := time.Now()
					for i := range len(c.send) {
						time.Sleep(100 * time.Millisecond)
						if _, err := cl.Write([]byte{c.send[i]}); err != nil {
							return
						}
					}
					t.Errorf("still open after %v", time.Since(start))
				})
				for {
					if op, p := cl.next(); op == opClose {
						if got := payload(p); got.Code != 1008 || got.Reason != "a message was not complete 30s after its first byte" {
							t.Errorf("close frame says %v, want 1008", &got)
						}
						break
					}
				}
				cl.Close()
				if end := s.end(t); end.Code != consumer.StatusPolicyViolation {
					t.Errorf("Read ended with %v, want 1008", end)
				}
			})
		})
	}
}

// A control frame whose payload is dribbled ends the connection too.
func TestDribbledPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, nil, echo)
		defer finish()
		cl := shakePipe(t, p)
		f := ping(strings.Repeat("p", 125))
		cl.send(f[:20])
		if op, p := cl.next(); op != opClose || payload(p).Code != consumer.StatusPolicyViolation {
			t.Errorf("opcode %d, %q; want a close frame with 1008", op, p)
		}
		cl.Close()
		if end := s.end(t); end.Code != consumer.StatusPolicyViolation {
			t.Errorf("Read ended with %v, want 1008", end)
		}
	})
}

// A silent client is pinged after 25 s, and dropped 20 s later.
func TestPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, nil, echo)
		defer finish()
		start := time.Now()
		cl := shakePipe(t, p)
		if op, payload := cl.next(); op != opPing || payload != "" {
			t.Fatalf("opcode %d, %q; want an empty ping", op, payload)
		}
		if got := time.Since(start); got != 25*time.Second {
			t.Errorf("pinged after %v, want 25s", got)
		}
		end := s.end(t)
		if end.Code != consumer.StatusAbnormalClosure || !strings.Contains(end.Reason, "no answer to a ping") {
			t.Errorf("Read ended with %v, want 1006 for want of an answer", end)
		}
		if got := time.Since(start); got != 45*time.Second {
			t.Errorf("dropped after %v, want 45s", got)
		}
		if rest, err := io.ReadAll(cl.br); len(rest) != 0 || err != nil {
			t.Errorf("then came %q, %v; want the end", rest, err)
		}
	})
}

// Any byte is life: an answer, a message, a part of one.
func TestAnyByteIsLife(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration
		send  string
		pings int
	}{
		{"pongs", 0, masked(0x8a, ""), 12},
		{"messages", 10 * time.Second, text("x"), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p, finish := inBubble(t, nil, echo)
				defer finish()
				cl := shakePipe(t, p)
				pings := 0
				go func() {
					for {
						op, _, err := cl.read()
						if err != nil {
							return
						}
						if op == opPing {
							pings++
							if c.every == 0 {
								io.WriteString(cl, c.send)
							}
						}
					}
				}()
				for range 30 {
					time.Sleep(10*time.Second + time.Millisecond)
					if c.every != 0 {
						cl.send(c.send)
					}
				}
				synctest.Wait()
				if got := s.engine.Len(); got != 1 {
					t.Fatalf("%d sockets after five minutes, want 1", got)
				}
				if pings != c.pings && pings != c.pings-1 {
					t.Errorf("%d pings in five minutes, want about %d", pings, c.pings)
				}
				cl.send(closing(1000, ""))
				s.end(t)
			})
		})
	}
}

// The pings of sockets that came together do not go out together.
func TestPingsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, nil, echo)
		defer finish()
		const n = 40
		at := make(chan time.Duration, n)
		var all []*client
		start := time.Now()
		for range n {
			cl := shakePipe(t, p)
			all = append(all, cl)
			go func() {
				if op, _, err := cl.read(); err == nil && op == opPing {
					at <- time.Since(start)
				}
			}()
		}
		ticks := map[time.Duration]int{}
		for range n {
			d := <-at
			ticks[d]++
			if d < 20*time.Second || d > 25*time.Second {
				t.Errorf("a ping after %v, want 20s to 25s", d)
			}
		}
		for d, k := range ticks {
			if k > n/4 {
				t.Errorf("%d of %d pings went out together, after %v", k, n, d)
			}
		}
		for _, cl := range all {
			cl.Close()
			s.end(t)
		}
	})
}

// A client that works through a long queue gets its ping ahead of it.
func TestPingOvertakesQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, &Options{WriteTimeout: time.Hour}, echo)
		defer finish()
		cl := shakePipe(t, p)
		sock := s.socket(t)
		for range 10 {
			if err := sock.Offer(textOf(50 << 10)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(26 * time.Second)
		for i := 0; ; i++ {
			if op, _ := cl.next(); op == opPing {
				if i > 4 {
					t.Errorf("the ping came behind %d messages", i)
				}
				break
			}
		}
		for range 10 - 4 {
			cl.next()
		}
		cl.Close()
		s.end(t)
	})
}

// The queue path, which TLS and other transports take: a peer that does not
// read blocks no sender, and is cut off in time.
func TestPipeNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, nil, echo)
		defer finish()
		cl := shakePipe(t, p)
		sock := s.socket(t)
		start := time.Now()
		for range 100 {
			if err := sock.Offer(textOf(1000)); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("Offer took %v", d)
		}
		if end := s.end(t); end.Code != consumer.StatusSlowConsumer {
			t.Errorf("Read ended with %v, want 4108", end)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("cut off after %v, want 10s", d)
		}
		cl.Close()
	})
}

// Release waits for a silent peer no longer than CloseTimeout.
func TestReleaseWithSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, nil, func(s *Socket) error {
			s.Close(consumer.StatusServiceRestart, "")
			_, err := next(s)
			start := time.Now()
			s.Release()
			if d := time.Since(start); d != 5*time.Second {
				t.Errorf("Release took %v, want 5s", d)
			}
			return err
		})
		defer finish()
		cl := shakePipe(t, p)
		go io.Copy(io.Discard, cl.br)
		if end := s.end(t); end.Code != consumer.StatusServiceRestart {
			t.Errorf("Read ended with %v, want 1012", end)
		}
	})
}

// The same when the peer takes nothing either.
func TestReleaseWithDeafPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, nil, func(s *Socket) error {
			s.Close(consumer.StatusServiceRestart, "")
			_, err := next(s)
			return err
		})
		defer finish()
		start := time.Now()
		shakePipe(t, p)
		s.end(t)
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("released after %v, want at most 15s", d)
		}
	})
}

var _ net.Listener = (*pipes)(nil)

// A consumer that works on a message for minutes does not make its client pay:
// not for the pongs that nobody read, nor for a message that waited in part, nor
// for all that was sent meanwhile at a lawful rate. Pings go on, for the proxies.
func TestSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages, busy = 3000, 5 * time.Minute
		var got int
		s, p, finish := inBubble(t, nil, func(s *Socket) error {
			for {
				f, err := next(s)
				if err != nil {
					return err
				}
				if got++; string(f.Data) == "work" {
					time.Sleep(busy)
				}
			}
		})
		defer finish()
		cl := shakePipe(t, p)

		// The client's kernel: writes return at once.
		var buffer []byte
		var mu sync.Mutex
		more := make(chan struct{}, 1)
		write := func(b string) {
			mu.Lock()
			buffer = append(buffer, b...)
			mu.Unlock()
			select {
			case more <- struct{}{}:
			default:
			}
		}
		var kernel sync.WaitGroup
		defer kernel.Wait()
		kernel.Go(func() {
			for range more {
				mu.Lock()
				b := buffer
				buffer = nil
				mu.Unlock()
				if _, err := cl.Write(b); err != nil {
					return
				}
			}
		})
		defer close(more)
		pings := 0
		var reading sync.WaitGroup
		defer reading.Wait()
		reading.Go(func() {
			for {
				op, _, err := cl.read()
				if err != nil || op == opClose {
					return
				}
				if op == opPing {
					pings++
					write(masked(0x8a, ""))
				}
			}
		})

		whole := text("the second message")
		write(text("work") + whole[:9])
		time.Sleep(time.Second)
		write(whole[9:])
		for range messages { // ten a second
			time.Sleep(100 * time.Millisecond)
			write(text("x"))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got != messages+2 {
			t.Errorf("the consumer got %d messages, want %d", got, messages+2)
		}
		if pings < 10 {
			t.Errorf("%d pings in six minutes, want about one in 25 s", pings)
		}
		if err := (<-s.sockets).Err(); err != nil {
			t.Errorf("the connection ended: %v", err)
		}
		write(closing(1000, ""))
		s.end(t)
	})
}
