package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// seeds are conversations worth varying.
var seeds = []string{
	"",
	text("hello") + closing(1000, "bye"),
	masked(0x01, "fr") + ping("p") + masked(0x80, "ag") + masked(0x8a, ""),
	binaryMsg(strings.Repeat("x", 126)) + binaryMsg(strings.Repeat("y", 1001)),
	masked(0x01, "") + masked(0x00, "") + masked(0x80, "") + text("\xff"),
	"\x81\x02hi",
	masked(0xc1, "x"),
	"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00",
	closing(999, "\xff") + "late",
}

// reference is the outcome of a stream, found frame by frame over the whole of
// it, as RFC 6455, section 5.2, draws a frame.
type reference struct {
	good   int // bytes before the frame that breaks a rule
	code   consumer.StatusCode
	closed bool
	busy   bool
}

func refer(p []byte, most uint64, deflate bool) (r reference) {
	at, open, size := 0, false, uint64(0)
	for at < len(p) {
		f := p[at:]
		r.good, r.busy = len(p), true
		if len(f) < 2 {
			return r
		}
		length, head := uint64(f[1]&0x7f), 2
		switch length {
		case 126:
			if head = 4; len(f) < head {
				return r
			}
			length = uint64(binary.BigEndian.Uint16(f[2:]))
		case 127:
			if head = 10; len(f) < head {
				return r
			}
			length = binary.BigEndian.Uint64(f[2:])
		}
		op, fin := f[0]&15, f[0]&0x80 != 0
		control := op >= 8
		switch {
		case f[0]&0x70 != 0 && !(deflate && f[0]&0x70 == 0x40 && (op == 1 || op == 2)), f[1]&0x80 == 0, length > 1<<63-1, op > 2 && op < 8, op > 10,
			control && (!fin || length > 125), op == 0 && !open, (op == 1 || op == 2) && open:
			r.good, r.code = at, 1002
			return r
		}
		if !control {
			if op != 0 {
				size = 0
			}
			size += length
			if size > most {
				r.good, r.code = at, 1009
				return r
			}
			open = !fin
		}
		if uint64(len(f)-head) < 4+length {
			return r
		}
		at += head + 4 + int(length)
		r.busy = open
		if op == 8 {
			r.closed = true
			return r
		}
	}
	r.good = len(p)
	return r
}

// FuzzScanner: whatever pieces a stream arrives in, the scanner finds what a
// plain parser finds in the whole of it.
func FuzzScanner(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), uint64(1))
		f.Add([]byte(s), uint64(2))
		f.Add([]byte(s), uint64(0x9e3779b97f4a7c15))
	}
	f.Fuzz(func(t *testing.T, p []byte, cuts uint64) {
		const most = 1000
		deflate := cuts&2 != 0
		want := refer(p, most, deflate)
		lim := limits{message: most, compressed: most}
		var in inbound
		if deflate {
			in.deflate = new(deflation)
			p = bytes.Clone(p)
		}
		good, rest := 0, p
		for len(rest) > 0 && in.bad == nil {
			cuts = cuts*6364136223846793005 + 1442695040888963407
			n := min(len(rest), 1+int(cuts>>60))
			k := in.feed(rest[:n], 1, &lim)
			if k < n && in.bad == nil {
				t.Fatalf("%d of %d bytes are good, and nothing is bad", k, n)
			}
			for in.deflate != nil && in.deflate.n > 0 { // the library keeps up
				in.deflate.pop()
			}
			good += k
			rest = rest[n:]
		}
		if want.code == 0 {
			if in.bad != nil {
				t.Fatalf("%v, want no violation", in.bad)
			}
			if in.closed != want.closed || (!in.closed && in.busy != want.busy) {
				t.Fatalf("closed %v, busy %v; want %v, %v", in.closed, in.busy, want.closed, want.busy)
			}
			return
		}
		if in.bad == nil || in.bad.Code != want.code {
			t.Fatalf("violation %v, want %d", in.bad, want.code)
		}
		// Bytes of the bad frame's header that came in an earlier piece have
		// passed; no more than those.
		if good < want.good || good > want.good+9 {
			t.Fatalf("%d bytes good, want %d", good, want.good)
		}
		in.feed(p, 1, &lim) // goes on without judging, and does not panic
	})
}

// FuzzServerFrames: whatever a client sends, a server's socket never panics,
// sends only whole frames of its own, and ends.
func FuzzServerFrames(f *testing.F) { fuzzServer(f, 0, handshake) }

// FuzzServerDeflated is the same for a client that agreed to compression.
func FuzzServerDeflated(f *testing.F) {
	for _, s := range []string{
		zipped(0xc1, strings.Repeat("hello ", 99)) + text("plain"),
		masked(0x41, rawDeflate("fragment")[:5]) + ping("") + masked(0x80, rawDeflate("fragment")[5:]),
		zipped(0xc1, "") + masked(0xc2, "\x00") + masked(0xc1, ""),
		zipped(0xc2, strings.Repeat("\x00", 1<<20)),
		masked(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00") + masked(0xe1, "x") + masked(0xc9, "x"),
	} {
		f.Add([]byte(s))
	}
	fuzzServer(f, 1, offering("permessage-deflate"))
}

func fuzzServer(f *testing.F, deflateFrom int, request string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	e, err := NewEngine(&Options{DeflateFrom: deflateFrom, CloseTimeout: 50 * time.Millisecond, WriteTimeout: time.Second, MessageTimeout: time.Second, PingInterval: -1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(e.Close)
	ended := make(chan error)
	p := newPipes()
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := e.Upgrade(w, r, "")
		if err != nil {
			ended <- err
			return
		}
		go func() {
			err := echo(s)
			s.Release()
			ended <- err
		}()
	})}
	go hs.Serve(p)
	f.Cleanup(func() { hs.Close() })

	f.Fuzz(func(t *testing.T, b []byte) {
		c := p.dial(t)
		cl := ask(t, c, request)
		go func() {
			c.Write(b)
			c.Write([]byte(closing(1000, "")))
			time.AfterFunc(5*time.Millisecond, func() { c.Close() })
		}()
		for {
			op, _, err := cl.read()
			if op == opClose || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
				break
			}
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			if err != nil {
				break
			}
		}
		go io.Copy(io.Discard, c)
		err := <-ended
		ce, ok := errors.AsType[*consumer.CloseError](err)
		if !ok || ce.Code < 1000 {
			t.Fatalf("Read ended with %#v, want a *consumer.CloseError", err)
		}
	})
}

var _ net.Conn = (*wire)(nil)
