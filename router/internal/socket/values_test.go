package socket

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// valuesOf are texts, each with what stands in front of its "=" as its key.
func valuesOf(texts ...string) *consumer.Values {
	v := &consumer.Values{}
	var frames []consumer.Frame
	for _, s := range texts {
		key, _, _ := strings.Cut(s, "=")
		f := consumer.TextFrame(s)
		frames = append(frames, f)
		v.Each = append(v.Each, consumer.Prepare(f))
		v.Keys = append(v.Keys, key)
	}
	v.All = consumer.Prepare(frames...)
	return v
}

func offer(t testing.TB, s *Socket, texts ...string) int {
	t.Helper()
	n, err := s.OfferLatest(valuesOf(texts...))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// bubbled runs test on a socket whose client is at the other end of a pipe, and
// reads nothing but what test reads: a pipe keeps nothing.
func bubbled(t *testing.T, o *Options, test func(t *testing.T, s *Socket, cl *client)) {
	synctest.Test(t, func(t *testing.T) {
		s, p, finish := inBubble(t, o, echo)
		defer finish()
		cl := shakePipe(t, p)
		defer cl.Close()
		test(t, s.socket(t), cl)
	})
}

// The newest value of a key takes the place of the one that waits, what is on its
// way stays, and all else stays where it is.
func TestLatest(t *testing.T) {
	bubbled(t, nil, func(t *testing.T, s *Socket, cl *client) {
		replaced := offer(t, s, "a=1")
		synctest.Wait() // the flush goroutine is at it
		replaced += offer(t, s, "b=1", "a=2")
		s.Offer(consumer.Prepare(consumer.TextFrame("other")))
		replaced += offer(t, s, "c=1", "b=22222", "=1", "=2")
		s.wire.ping() // goes ahead of the queue, whose places move
		replaced += offer(t, s, "a=3", "c=2", "d=1", "b=3")
		if replaced != 4 {
			t.Errorf("%d values were replaced, want 4", replaced)
		}
		var got []string
		for range 9 {
			_, p := cl.next()
			got = append(got, p)
		}
		if got, want := strings.Join(got, " "), "a=1  b=3 a=3 other c=2 =1 =2 d=1"; got != want {
			t.Errorf("got  %q,\nwant %q", got, want)
		}
		synctest.Wait()
		if s.Queued() != 0 || s.wire.places != nil {
			t.Errorf("%d bytes and the places %v are left of the queue", s.Queued(), s.wire.places)
		}
		offer(t, s, "a=4")
		if _, p := cl.next(); p != "a=4" {
			t.Errorf("got %q, want a=4", p)
		}
	})
}

// Whatever happens beside, the last value of every key arrives, no older one comes
// after a newer one, and the queue never holds more than one for each.
func TestLatestProperty(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			bubbled(t, nil, func(t *testing.T, s *Socket, cl *client) { checkLatest(t, s, cl, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func checkLatest(t *testing.T, s *Socket, cl *client, r *rand.Rand) {
	sent, got := map[string]int{}, map[string]int{}
	others, othersGot := 0, 0
	read := func() {
		op, p := cl.next()
		if op == opPing {
			return
		}
		key, value, _ := strings.Cut(p, "=")
		n, _ := strconv.Atoi(strings.TrimRight(value, "."))
		if key == "other" {
			if n != othersGot {
				t.Fatalf("got the other message %d, want %d", n, othersGot)
			}
			othersGot++
			return
		}
		if n <= got[key] || n > sent[key] {
			t.Fatalf("got %s=%d after %d, and %d was the last one sent", key, n, got[key], sent[key])
		}
		got[key] = n
	}
	keys := 1 + r.IntN(20)
	for range 500 {
		switch r.IntN(12) {
		case 0:
			s.Offer(consumer.Prepare(consumer.TextFrame(fmt.Sprint("other=", others))))
			others++
		case 1:
			s.wire.ping()
		case 2, 3:
			if synctest.Wait(); s.Queued()+cl.br.Buffered() > 0 {
				read()
			}
		default:
			var batch []string
			for range 1 + r.IntN(4) {
				key := fmt.Sprint("k", r.IntN(keys))
				sent[key]++
				batch = append(batch, fmt.Sprint(key, "=", sent[key], strings.Repeat(".", r.IntN(6000))))
			}
			offer(t, s, batch...)
		}
		s.wire.mu.Lock()
		values := 0
		for _, p := range s.wire.queue {
			if p.key != "" {
				values++
			}
		}
		if values > keys || s.wire.places != nil && len(s.wire.places.of) != values {
			t.Errorf("%d values wait, of %d keys, with places %v", values, keys, s.wire.places.of)
		}
		s.wire.mu.Unlock()
	}
	for synctest.Wait(); s.Queued()+cl.br.Buffered() > 0; synctest.Wait() {
		read()
	}
	for key, n := range sent {
		if got[key] != n {
			t.Errorf("the last value of %s is %d, want %d", key, got[key], n)
		}
	}
	if othersGot != others {
		t.Errorf("%d of %d other messages arrived", othersGot, others)
	}
}

// dialWith dials, and offers an extension unless it is "".
func dialWith(t *testing.T, s *server, extension string) *client {
	t.Helper()
	if extension == "" {
		return dial(t, s)
	}
	c, err := net.Dial("tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	return ask(t, c, offering(extension))
}

// Over real buffers, with a client that begins to read late, and reads in jerks: current at the end,
// and never back. Frames are cut anywhere here.
func TestLatestOverTCP(t *testing.T) {
	s := newServer(t, &Options{DeflateFrom: 100, WriteTimeout: patience, PingInterval: -1}, echo) // the client answers no ping
	for _, extension := range []string{"", "permessage-deflate"} {
		cl := dialWith(t, s, extension)
		sock := s.socket(t)
		narrow(sock)
		const keys, rounds = 20, 1000
		filler := strings.Repeat("0123456789", 50)
		replaced := 0
		got := map[string]int{}
		reads, begin := make(chan error, 1), make(chan struct{})
		go func() {
			<-begin
			for done := 0; done < keys; {
				_, p, err := cl.read()
				if err != nil {
					reads <- err
					return
				}
				key, value, _ := strings.Cut(p, "=")
				value, _, _ = strings.Cut(value, " ")
				n, _ := strconv.Atoi(value)
				if n <= got[key] {
					reads <- fmt.Errorf("%s=%d came after %d", key, n, got[key])
					return
				}
				if got[key] = n; n == rounds {
					done++
				}
				if n%100 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			reads <- nil
		}()
		for n := 1; n <= rounds; n++ {
			if n == rounds/2 {
				close(begin)
			}
			var batch []string
			for k := range keys {
				batch = append(batch, fmt.Sprintf("k%d=%d %s", k, n, filler))
			}
			replaced += offer(t, sock, batch...)
			if q := sock.Queued(); q > 100<<10 {
				t.Fatalf("%d bytes queued for %d keys", q, keys)
			}
		}
		if err := <-reads; err != nil {
			t.Errorf("%q: %v", extension, err)
		}
		if replaced == 0 {
			t.Errorf("%q: nothing was replaced: the client did not lag", extension)
		}
		cl.Close()
	}
}

// Keys are bounded, too, in bytes and in number, and so are other messages: over
// it the connection is closed as slow.
func TestLatestTooManyKeys(t *testing.T) {
	for _, c := range []struct {
		name   string
		most   int
		value  string
		queued int // at most
		offer  func(*Socket, *consumer.Values) error
	}{
		{"bytes", 10_000, strings.Repeat("x", 1000), 9, func(s *Socket, v *consumer.Values) error { _, err := s.OfferLatest(v); return err }},
		{"number", 6400, "", 100, func(s *Socket, v *consumer.Values) error { _, err := s.OfferLatest(v); return err }},
		{"other messages", 6400, "", 100, func(s *Socket, v *consumer.Values) error { return s.Offer(v.All) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubbled(t, &Options{MaxQueueBytes: c.most}, func(t *testing.T, s *Socket, cl *client) {
				offer(t, s, "first=1")
				synctest.Wait()
				n := 0
				for ; n < 1000; n++ {
					if err := c.offer(s, valuesOf(fmt.Sprint("k", n, "=", c.value))); err != nil {
						if consumer.CloseStatus(err) != consumer.StatusSlowConsumer {
							t.Errorf("got %v, want 4108", err)
						}
						break
					}
				}
				if n == 0 || n > c.queued {
					t.Errorf("%d values were queued, want at most %d", n, c.queued)
				}
				cl.wantClose(consumer.StatusSlowConsumer, "did not read")
			})
		})
	}
}

// TryOffer leaves a connection open that has no room, and takes messages again
// once it has.
func TestTryOffer(t *testing.T) {
	bubbled(t, &Options{MaxQueueBytes: 10_000}, func(t *testing.T, s *Socket, cl *client) {
		p := textOf(1000)
		n := 0
		for ; n < 100; n++ {
			if ok, err := s.TryOffer(p); err != nil {
				t.Fatal(err)
			} else if !ok {
				break
			}
		}
		if n != 9 {
			t.Errorf("%d messages fit, want 9", n)
		}
		room := make(chan error, 1)
		go func() { room <- s.AwaitRoom(context.Background()) }()
		for range n {
			if synctest.Wait(); s.Queued() > 2500 && len(room) > 0 {
				t.Errorf("room was told with %d bytes in the queue", s.Queued())
			}
			cl.next()
		}
		if err := <-room; err != nil {
			t.Error(err)
		}
		if ok, err := s.TryOffer(p); !ok || err != nil {
			t.Errorf("with room again: %v, %v", ok, err)
		}
		cl.next()

		ctx, cancel := context.WithCancel(t.Context())
		for ok := true; ok; ok, _ = s.TryOffer(p) {
		}
		go cancel()
		if err := s.AwaitRoom(ctx); err != context.Canceled {
			t.Errorf("AwaitRoom returned %v, want the context's error", err)
		}
		if err := s.AwaitRoom(context.Background()); consumer.CloseStatus(err) != consumer.StatusSlowConsumer {
			t.Errorf("with a client that reads nothing AwaitRoom returned %v, want 4108", err)
		}
		if _, err := s.TryOffer(p); consumer.CloseStatus(err) != consumer.StatusSlowConsumer {
			t.Errorf("TryOffer after the end returned %v, want 4108", err)
		}
		if _, err := s.OfferLatest(valuesOf("a=1")); consumer.CloseStatus(err) != consumer.StatusSlowConsumer {
			t.Errorf("OfferLatest after the end returned %v, want 4108", err)
		}
	})
}

func TestValuesAllocateNothing(t *testing.T) {
	s := newServer(t, nil, echo)
	cl := dial(t, s)
	sock := s.socket(t)
	v := valuesOf("a=1", "b=1", "c=1")
	got := make([]byte, len(v.All.Bytes()))
	for name, offer := range map[string]func() error{
		"OfferLatest": func() error { _, err := sock.OfferLatest(v); return err },
		"TryOffer":    func() error { _, err := sock.TryOffer(v.All); return err },
	} {
		allocs := testing.AllocsPerRun(100, func() {
			if err := offer(); err != nil {
				t.Error(err)
			}
			io.ReadFull(cl.Conn, got)
		})
		if allocs != 0 {
			t.Errorf("%s allocates %v times, want 0", name, allocs)
		}
	}
}
