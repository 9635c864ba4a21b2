package socket

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
)

// rawDeflate compresses p as a client does: flushed, the last four bytes taken
// away (RFC 7692, section 7.2.1).
func rawDeflate(p string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	io.WriteString(w, p)
	w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// zipped is one compressed frame of a client.
func zipped(b0 byte, p string) string { return masked(b0, rawDeflate(p)) }

// reinflate is a client's, independent of inflate: as RFC 7692, section 7.2.2,
// words it.
func reinflate(z []byte) ([]byte, error) {
	p, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(z), strings.NewReader("\x00\x00\xff\xff"))))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return p, err
}

func dialDeflate(t testing.TB, s *server) *client {
	t.Helper()
	c, err := net.Dial("tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	cl := ask(t, c, offering("permessage-deflate; client_max_window_bits"))
	if want := "permessage-deflate; client_no_context_takeover; server_no_context_takeover"; cl.agreed != want {
		t.Fatalf("agreed on %q, want %q", cl.agreed, want)
	}
	return cl
}

// What is agreed to, and what is declined: then messages go as they are.
func TestDeflateNegotiation(t *testing.T) {
	const both = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
	for _, c := range []struct{ offer, want string }{
		{"permessage-deflate", both},
		{"permessage-deflate; client_no_context_takeover", both},
		{"permessage-deflate; server_no_context_takeover; client_no_context_takeover", both},
		{"permessage-deflate; client_max_window_bits", both},
		{"permessage-deflate; client_max_window_bits=10", both},
		{"permessage-deflate; server_max_window_bits=15", both},
		{"permessage-deflate; server_max_window_bits=10", ""},
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", both},
		{"permessage-deflate; unheard_of", ""},
		{"x-webkit-deflate-frame", ""},
		{"x-other, permessage-deflate", both},
	} {
		t.Run(c.offer, func(t *testing.T) {
			t.Parallel()
			for _, from := range []int{0, 1} {
				want := c.want
				if from == 0 {
					want = ""
				}
				s := newServer(t, &Options{DeflateFrom: from}, echo)
				conn, err := net.Dial("tcp", s.addr())
				if err != nil {
					t.Fatal(err)
				}
				cl := ask(t, conn, offering(c.offer))
				if cl.agreed != want {
					t.Errorf("DeflateFrom %d: agreed on %q, want %q", from, cl.agreed, want)
				}
				msg := strings.Repeat("again and ", 100)
				cl.send(text(msg))
				if op, got := cl.next(); op != opText || got != msg {
					t.Errorf("DeflateFrom %d: got opcode %d, %.20q", from, op, got)
				}
				if compressed := cl.zipped == 1; compressed != (want != "") {
					t.Errorf("DeflateFrom %d: the answer was compressed: %v", from, compressed)
				}
			}
		})
	}
}

// TestRFC7692 holds what a client may do with compression, and what comes back
// from a server that echoes, inflated.
func TestRFC7692(t *testing.T) {
	const limit = 64 << 10
	long := strings.Repeat("0123456789", limit/10) // as large as a message may be, almost
	hello := "\xf2\x48\xcd\xc9\xc9\x07\x00"        // section 7.2.3.1
	noise := make([]byte, limit)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	z := rawDeflate(long)
	const broken, reserved = "a compressed message cannot be inflated", "reserved bits are set that say nothing here"
	for _, c := range []struct {
		name, send string
		want       []string
		code       consumer.StatusCode
		reason     string
	}{
		{"the RFC's example", masked(0xc1, hello), []string{"Hello"}, 1000, ""},
		{"in fragments", masked(0x41, hello[:3]) + masked(0x80, hello[3:]), []string{"Hello"}, 1000, ""},
		{"in fragments, a ping between them", masked(0x41, hello[:3]) + ping("") + masked(0x00, "") + masked(0x80, hello[3:]), []string{"Hello"}, 1000, ""},
		{"no compression in a block", masked(0xc1, "\x00\x05\x00\xfa\xffHello\x00"), []string{"Hello"}, 1000, ""},
		{"a final block", masked(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), []string{"Hello"}, 1000, ""},
		{"two blocks", masked(0xc1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), []string{"Hello"}, 1000, ""},
		{"an empty message", masked(0xc1, "\x00"), []string{""}, 1000, ""},
		{"plain and compressed in turn", text("a") + zipped(0xc1, "b") + text("c") + zipped(0xc2, "d") + zipped(0xc1, "e"), []string{"a", "b", "c", "d", "e"}, 1000, ""},
		{"the largest", masked(0xc2, z), []string{long}, 1000, ""},
		{"the largest, which cannot be compressed", zipped(0xc2, string(noise)), []string{string(noise)}, 1000, ""},
		{"1 byte too large", zipped(0xc2, strings.Repeat("x", limit+1)), nil, 1009, "a message may have 65536 bytes, this one inflates to more"},
		{"a bomb", zipped(0xc2, strings.Repeat("x", 10<<20)), nil, 1009, "this one inflates to more"},
		{"too large before it is inflated", masked(0xc2, strings.Repeat("x", limit+limit/8+65)), nil, 1009, "a message may have 65536 bytes, this one has 73793 or more"},
		{"garbage", masked(0xc2, "\xff\xff\xff"), nil, 1007, broken},
		{"garbage behind a good message", zipped(0xc1, "good") + masked(0xc2, "\xff"), []string{"good"}, 1007, broken},
		{"nothing", masked(0xc2, ""), nil, 1007, broken},
		{"half a message", masked(0xc2, z[:len(z)/2]), nil, 1007, broken},
		{"half a block", masked(0xc2, "\x00\x05\x00\xfa\xffHel"), nil, 1007, broken},
		{"bytes behind a final block", masked(0xc2, "\xf3\x48\xcd\xc9\xc9\x07\x00"+ping("x")+ping("y")), nil, 1007, broken},
		{"many behind a final block", masked(0xc2, "\xf3\x48\xcd\xc9\xc9\x07\x00"+strings.Repeat(ping(""), 5000)), nil, 1007, broken},
		{"a distance into the message before", zipped(0xc1, "Hello") + masked(0xc1, "\xf2\x00\x11\x00\x00"), []string{"Hello"}, 1007, broken}, // section 7.2.3.2
		{"text that is not UTF-8 inside", zipped(0xc1, "\xff"), nil, 1007, "a text message is not UTF-8"},
		{"RSV1 on a continuation", masked(0x41, hello[:3]) + masked(0xc0, hello[3:]), nil, 1002, reserved},
		{"RSV1 on a ping", masked(0xc9, ""), nil, 1002, reserved},
		{"RSV1 on a close frame", masked(0xc8, ""), nil, 1002, reserved},
		{"RSV1 and RSV2", masked(0xe1, hello), nil, 1002, reserved},
		{"RSV2", masked(0xa1, hello), nil, 1002, reserved},
		{"RSV3", masked(0x91, hello), nil, 1002, reserved},
		{"RSV1 and an unknown opcode", masked(0xc3, hello), nil, 1002, reserved},
	} {
		for _, way := range []string{"whole", "bytewise"} {
			if way == "bytewise" && len(c.send) > 2000 {
				continue
			}
			t.Run(c.name+" "+way, func(t *testing.T) {
				t.Parallel()
				s := newServer(t, &Options{DeflateFrom: 1}, echo)
				cl := dialDeflate(t, s)
				piece := len(c.send)
				if way == "bytewise" {
					piece = 1
				}
				go func() {
					for b := []byte(c.send + closing(1000, "")); len(b) > 0; b = b[min(piece, len(b)):] {
						if _, err := cl.Write(b[:min(piece, len(b))]); err != nil {
							return // the server saw enough
						}
					}
				}()
				for _, want := range c.want {
					op, got := cl.next()
					for op == opPong {
						op, got = cl.next()
					}
					if got != want {
						t.Errorf("got opcode %d, %d bytes, %.20q, want %d bytes, %.20q", op, len(got), got, len(want), want)
					}
				}
				op, p := cl.next()
				for op == opPong {
					op, p = cl.next()
				}
				if got := payload(p); op != opClose || got.Code != c.code || !strings.Contains(got.Reason, c.reason) {
					t.Errorf("the end is opcode %d, %d %q, want a close frame with %d %q", op, got.Code, got.Reason, c.code, c.reason)
				}
				if end := s.end(t); end.Code != c.code {
					t.Errorf("Read ended with %v, want %d", end, c.code)
				}
			})
		}
	}
}

// A connection that breaks off in a compressed message delivers no part of it.
func TestDeflatedMessageBreaksOff(t *testing.T) {
	s := newServer(t, &Options{DeflateFrom: 1}, echo)
	cl := dialDeflate(t, s)
	b := zipped(0xc1, strings.Repeat("all or nothing ", 500))
	cl.send(b[:len(b)-1])
	cl.Conn.(*net.TCPConn).CloseWrite()
	if end := s.end(t); end.Code != consumer.StatusAbnormalClosure {
		t.Errorf("Read ended with %v, want 1006", end)
	}
	if rest, _ := io.ReadAll(cl.br); len(rest) != 0 {
		t.Errorf("the server answered half a message with %q", rest)
	}
}

// As many small messages as fit into what is read at once, compressed or not at
// random, each byte cut anywhere.
func TestDeflateMarks(t *testing.T) {
	s := newServer(t, &Options{DeflateFrom: 512, MessageRate: -1, FrameRate: -1, ByteRate: -1}, echo)
	cl := dialDeflate(t, s)
	const n = 5000
	var all strings.Builder
	want := make([]string, n)
	var words, frames [50]string
	for i := range words {
		words[i] = fmt.Sprint(i)
		frames[i] = zipped(0xc2, words[i])
	}
	for i := range want {
		switch rand.IntN(3) {
		case 0:
			all.WriteString(binaryMsg(""))
		case 1:
			all.WriteString(masked(0xc2, "\x00"))
		case 2:
			k := rand.IntN(len(words))
			want[i] = words[k]
			all.WriteString(frames[k])
		}
	}
	go func() {
		for b := []byte(all.String()); len(b) > 0; {
			k := min(1+rand.IntN(5000), len(b))
			cl.Write(b[:k])
			b = b[k:]
		}
	}()
	for i := range want {
		if op, got := cl.next(); op != opBinary || got != want[i] {
			t.Fatalf("message %d: opcode %d, %q, want %q", i, op, got, want[i])
		}
	}
}

func TestDeflationMarks(t *testing.T) {
	var d deflation
	var want []bool
	for i := range 10_000 {
		if fill := len(want); fill < maxAhead && (fill == 0 || rand.IntN(2+i/5000) > 0) {
			c := rand.IntN(2) > 0
			d.push(c)
			want = append(want, c)
			continue
		}
		if got := d.pop(); got != want[0] {
			t.Fatalf("step %d: %v, want %v", i, got, want[0])
		}
		want = want[1:]
	}
}

// The client of the library, however it would like to compress, next to servers
// that do and that do not; plain messages mixed in by the thresholds of both.
func TestDeflateWithLibrary(t *testing.T) {
	modes := []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover, websocket.CompressionNoContextTakeover}
	for _, from := range []int{0, 1, 300} {
		for _, mode := range modes {
			t.Run(fmt.Sprintf("from %d, mode %d", from, mode), func(t *testing.T) {
				t.Parallel()
				s := newServer(t, &Options{DeflateFrom: from, MessageRate: -1, FrameRate: -1, ByteRate: -1}, echo)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				ws, resp, err := websocket.Dial(ctx, s.http.URL, &websocket.DialOptions{CompressionMode: mode})
				if err != nil {
					t.Fatal(err)
				}
				defer ws.CloseNow()
				ws.SetReadLimit(-1)
				agreed := resp.Header.Get(extensions) != ""
				if want := from > 0 && mode != websocket.CompressionDisabled; agreed != want {
					t.Errorf("agreed: %v, want %v", agreed, want)
				}
				for i := range 200 {
					msg := jsonish(rand.IntN(5000) * rand.IntN(2) * rand.IntN(12))
					if err := ws.Write(ctx, websocket.MessageText, msg); err != nil {
						t.Fatal(err)
					}
					_, got, err := ws.Read(ctx)
					if err != nil || !bytes.Equal(got, msg) {
						t.Fatalf("message %d of %d bytes: %d bytes, %v", i, len(msg), len(got), err)
					}
				}
				ws.Close(4000, "done")
				if end := s.end(t); end.Code != 4000 {
					t.Errorf("Read ended with %v, want 4000", end)
				}
			})
		}
	}
}

func jsonish(n int) []byte {
	b := make([]byte, 0, n)
	for len(b) < n {
		b = fmt.Appendf(b, `{"n":%d,"who":"%x"},`, rand.IntN(100), rand.Uint32())
	}
	return b[:n]
}

// One broadcast for clients that agreed to compression and for those that did
// not, from several senders, with control frames between, to jerky readers.
func TestDeflateInterleaving(t *testing.T) {
	const senders, each = 2, 60
	s := newServer(t, &Options{DeflateFrom: 200, PingRate: -1, FrameRate: -1, MaxQueueBytes: 64 << 20}, echo)
	clients := []*client{dialDeflate(t, s), dial(t, s)}
	socks := []*Socket{s.socket(t), s.socket(t)}
	var work sync.WaitGroup
	for w := range senders {
		work.Go(func() {
			for i := range each {
				var frames []consumer.Frame
				for part := range 1 + rand.IntN(3) {
					body := jsonish([]int{0, 100, 300, 5000, 70000}[rand.IntN(5)])
					frames = append(frames, consumer.BinaryFrame(append([]byte{byte(w), byte(i), byte(part)}, body...)))
				}
				frames = append(frames, consumer.BinaryFrame([]byte{byte(w), byte(i), 255}))
				p := consumer.Prepare(frames...)
				for _, sock := range socks {
					narrow(sock)
					if err := sock.Offer(p); err != nil {
						t.Errorf("Offer: %v", err)
						return
					}
					sock.wire.ping()
				}
			}
		})
	}
	for _, cl := range clients {
		work.Go(func() {
			seen := [senders]int{}
			for seen[0]+seen[1] < senders*each {
				op, p, err := cl.read()
				if err != nil {
					t.Errorf("client: %v", err)
					return
				}
				if op != opBinary {
					continue
				}
				if int(p[1]) != seen[p[0]] {
					t.Errorf("sender %d: message %d, want %d", p[0], p[1], seen[p[0]])
					return
				}
				if p[2] == 255 {
					seen[p[0]]++
				}
			}
		})
	}
	work.Wait()
	if clients[0].zipped == 0 || clients[1].zipped != 0 {
		t.Errorf("%d and %d messages were compressed, want some and none", clients[0].zipped, clients[1].zipped)
	}
}

// A message is compressed by its first receiver, and offered to all others
// without an allocation.
func TestOfferDeflatedAllocatesNothing(t *testing.T) {
	s := newServer(t, &Options{DeflateFrom: 512}, echo)
	cl := dialDeflate(t, s)
	sock := s.socket(t)
	for _, size := range []int{128, 1024} {
		p := textOf(size)
		got := make([]byte, len(p.Deflated(512)))
		if small := len(got) < size/2; small != (size >= 512) {
			t.Errorf("%d bytes became %d", size, len(got))
		}
		n := testing.AllocsPerRun(1000, func() {
			if err := sock.Offer(p); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(cl.Conn, got); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("Offer of %d bytes, compressed before, made %v allocations, want 0", size, n)
		}
	}
}

// What compression costs a connection that has none: nothing; a Socket with the
// pointer is in the size class that it was in without.
func TestSocketSize(t *testing.T) {
	if got := unsafe.Sizeof(Socket{}); got > 320 && unsafe.Sizeof(uintptr(0)) == 8 {
		t.Errorf("a Socket has %d bytes, want at most 320, a size class", got)
	}
}

// A header of the caller's cannot agree to what the client did not offer.
func TestForeignExtensionHeader(t *testing.T) {
	e, err := NewEngine(&Options{DeflateFrom: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	agreed := make(chan bool, 1)
	s := unstarted(t, nil, echo)
	s.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(extensions, "permessage-deflate")
		sock, err := e.Upgrade(w, r, "")
		if err != nil {
			t.Error(err)
			return
		}
		agreed <- sock.wire.in.deflate != nil
		sock.Close(1000, "")
		next(sock)
		sock.Release()
	})
	s.http.Start()
	if cl := dial(t, s); cl.agreed != "" || <-agreed {
		t.Errorf("agreed on %q", cl.agreed)
	}
}

// FuzzInflate: whatever a message holds, it inflates to no more than the limit,
// to what the standard library makes of it, or to an error.
func FuzzInflate(f *testing.F) {
	for _, s := range []string{"", "\x00", "\xf2\x48\xcd\xc9\xc9\x07\x00", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "\xff",
		rawDeflate(strings.Repeat("hello", 500)), rawDeflate(string(binary.BigEndian.AppendUint64(nil, 0x9e3779b97f4a7c15)))} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, z []byte) {
		const limit = 1000
		got, bad := inflate(bytes.Clone(z), limit)
		switch {
		case bad == nil:
			want, err := reinflate(z)
			if err != nil || !bytes.Equal(got, want) || len(got) > limit {
				t.Fatalf("inflated to %q, want %q, %v", got, want, err)
			}
		case bad.Code == consumer.StatusMessageTooBig: // of one that breaks off, the tail may have become data
		case bad.Code != consumer.StatusInvalidPayload:
			t.Fatal(bad)
		}
		whole, bad := inflate([]byte(rawDeflate(string(z))), int64(len(z)))
		if bad != nil || !bytes.Equal(whole, z) {
			t.Fatalf("there and back: %q, %v, want %q", whole, bad, z)
		}
		if len(z) > 0 {
			if _, bad = inflate([]byte(rawDeflate(string(z))), int64(len(z))-1); bad == nil || bad.Code != consumer.StatusMessageTooBig {
				t.Fatalf("1 byte over the limit: %v, want 1009", bad)
			}
		}
	})
}
