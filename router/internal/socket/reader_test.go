//go:build linux && !386 && !s390x && !tideway_goroutines

package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a reader relies on inside the library: between two messages a Conn
// remembers nothing of what it read, so that it can go on with another client's
// bytes; and nothing that ends a message touches the transport.
func TestReaderGoesOnElsewhere(t *testing.T) {
	pause := errors.New("later")
	turn := &scripted{}
	ws := accepted(t, turn, writeBuffer)
	defer ws.CloseNow()
	clients := []*scripted{
		{steps: []any{masked(0x01, "frag"), ping("p"), masked(0x80, "ments"), pause, text(""), pause, text("more"), pause}},
		{steps: []any{masked(0x82, "bytes"), pause, masked(0x8a, "pong"), pause}},
		{steps: []any{pause, text("a")[:4], text("a")[4:], pause}},
	}
	var got []string
	for left := true; left; {
		left = false
		for _, c := range clients {
			if len(c.steps) == 0 {
				continue
			}
			left = true
			*turn = *c
			ws.SetReadLimit(int64(9 + len(got)))
			for {
				_, p, err := ws.Read(context.Background())
				if errors.Is(err, pause) {
					break
				}
				if err != nil {
					t.Fatalf("Read = %v after %.40q: does a Conn keep something between messages now?", err, got)
				}
				got = append(got, string(p))
			}
			*c = *turn
		}
	}
	if want := "[fragments bytes  a more]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if turn.closed {
		t.Error("the library closed the transport")
	}
}

// The longest that the library looks after a control frame, see lendTime: if its
// timer were shorter, it could go off in another client's hands.
func TestControlFrameTimer(t *testing.T) {
	t.Parallel()
	half := &stuck{first: ping("p")[:6], closed: make(chan struct{})}
	ws := accepted(t, half, writeBuffer)
	start := time.Now()
	ws.Read(context.Background())
	if d := time.Since(start); d <= lendTime {
		t.Errorf("the library gave up on half a ping after %v; lendTime is %v and must be shorter", d, lendTime)
	}
}

// stuck is a transport that brings a few bytes and then waits for its Close.
type stuck struct {
	nowhere
	first  string
	closed chan struct{}
	once   sync.Once
}

func (s *stuck) Read(p []byte) (int, error) {
	if s.first != "" {
		n := copy(p, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	<-s.closed
	return 0, io.EOF
}

func (s *stuck) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Many clients, compressing or not, are read for by few of the library's Conns:
// none gets what is another's, and the silent ones keep none.
func TestReadersAreShared(t *testing.T) {
	const n, rounds = 40, 10
	s := newPolled(t, Options{DeflateFrom: 1, MessageRate: -1, FrameRate: -1, PingRate: -1})
	var work sync.WaitGroup
	sockets := make([]*Socket, n)
	for i := range sockets {
		connect := dial
		if i%2 == 0 {
			connect = dialDeflate
		}
		cl := connect(t, s)
		sockets[i] = s.socket(t)
		work.Go(func() {
			for round := range rounds {
				want := strings.Repeat(fmt.Sprintf("%d/%d ", i, round), 1+rand.IntN(300))
				switch {
				case i%2 == 0:
					cl.Write([]byte(zipped(0xc1, want)))
				case round%2 == 0:
					cl.Write([]byte(ping("") + masked(0x01, want[:3])))
					cl.Write([]byte(masked(0x80, want[3:])))
				default:
					cl.Write([]byte(text(want)))
				}
				op, p, err := cl.read()
				for err == nil && op == opPong {
					op, p, err = cl.read()
				}
				if err != nil || p != want {
					t.Errorf("client %d, round %d: %.40q, %v; want %.40q", i, round, p, err, want)
					return
				}
			}
		})
	}
	work.Wait()
	for i, sock := range sockets {
		until(t, fmt.Sprintf("socket %d is parked, without a reader", i), func() bool {
			sock.wire.mu.Lock()
			defer sock.wire.mu.Unlock()
			return sock.wire.parked != nil && sock.reader == nil
		})
	}
	s.engine.readers.mu.Lock()
	defer s.engine.readers.mu.Unlock()
	if k := len(s.engine.readers.free); k == 0 || k > maxReaders {
		t.Errorf("%d readers are kept, want 1 to %d", k, maxReaders)
	}
}

// A reader that was lent for long is not used again, nor is one that comes back
// after Close or finds no room.
func TestReadersLetGo(t *testing.T) {
	e, err := NewEngine(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{e: e}
	lend := func() *reader { return e.readers.borrow(w) }
	closed := func(r *reader) bool {
		_, _, err := r.ws.Read(context.Background())
		return err != nil && r.wire == nil
	}
	r := lend()
	e.readers.giveBack(r)
	if again := lend(); again != r {
		t.Error("a reader that was given back in time is not used again")
	}
	r.since -= lendTime + time.Second
	e.readers.giveBack(r)
	if again := lend(); again == r || !closed(r) {
		t.Error("a reader that was lent for too long is used again")
	}
	var all []*reader
	for range maxReaders + 1 {
		all = append(all, lend())
	}
	for _, r := range all {
		e.readers.giveBack(r)
	}
	if n := len(e.readers.free); n != maxReaders || !closed(all[maxReaders]) {
		t.Errorf("%d readers are kept, want %d", n, maxReaders)
	}
	e.Close()
	late := newReader()
	late.wire = w
	e.readers.giveBack(late)
	if len(e.readers.free) != 0 || !closed(all[0]) || !closed(late) {
		t.Error("a reader outlives its engine")
	}
}
