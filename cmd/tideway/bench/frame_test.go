package bench

import (
	"bytes"
	"strings"
	"testing"
)

// serverFrame makes a frame of a server with a first byte of one's own.
func serverFrame(first byte, body []byte) []byte {
	b := appendServerFrame(nil, 0, body)
	b[0] = first
	return b
}

func TestCutFrame(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 65535, 65536} {
		body := bytes.Repeat([]byte{'a'}, size)
		b := append(serverFrame(0x80|opText, body), "next"...)
		f, rest, ok, err := cutFrame(b)
		if err != nil || !ok || f.op != opText || !f.fin || f.compressed || !bytes.Equal(f.body, body) || string(rest) != "next" {
			t.Errorf("%d bytes: got opcode %d, %d bytes, rest %q (%v, %v)", size, f.op, len(f.body), rest, ok, err)
		}
		for _, n := range []int{0, 1, 2, 3, len(b) - 5} {
			if n > len(b)-5 {
				continue
			}
			if _, rest, ok, err := cutFrame(b[:n]); ok || err != nil || len(rest) != n {
				t.Errorf("%d of %d bytes: got %v (%v) and %d bytes left", n, len(b), ok, err, len(rest))
			}
		}
	}
}

func TestCutFrameRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, bytes, want string
	}{
		{"masked", "\x81\x80", "masked"},
		{"reserved bit", "\xa1\x00", "reserved"},
		{"unknown opcode", "\x83\x00", "opcode 3"},
		{"unknown control opcode", "\x8b\x00", "opcode 11"},
		{"split ping", "\x09\x00", "control frame"},
		{"long ping", "\x89\x7e\x01\x00", "control frame"},
		{"too long", "\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00", "4294967296 bytes"},
		{"negative length", "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "bytes"},
	} {
		_, _, ok, err := cutFrame([]byte(tt.bytes))
		if ok || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v (%v), want an error with %q", tt.name, ok, err, tt.want)
		}
	}
}

func TestCloseCode(t *testing.T) {
	for _, tt := range []struct {
		body string
		want int
	}{{"", 1005}, {"\x03", 1005}, {"\x03\xe8bye", 1000}, {"\x10\x0c", 4108}} {
		if got := closeCode([]byte(tt.body)); got != tt.want {
			t.Errorf("%q: got %d, want %d", tt.body, got, tt.want)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(serverFrame(0x81, []byte("hello @due=1767225600000000000;")))
	f.Add(append(serverFrame(0x89, []byte("ping")), serverFrame(0x88, []byte("\x03\xe8"))...))
	f.Add([]byte("\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01a"))
	f.Add([]byte("\x01\x02@d\x80\x04ue=1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for rest := b; ; {
			fr, next, ok, err := cutFrame(rest)
			if !ok || err != nil {
				if len(next) != len(rest) {
					t.Fatalf("%d bytes became %d without a frame", len(rest), len(next))
				}
				break
			}
			if len(next) >= len(rest) || len(fr.body) > len(rest)-len(next) {
				t.Fatalf("a frame of %d bytes, and %d of %d are left", len(fr.body), len(next), len(rest))
			}
			for body := fr.body; ; {
				due, after, ok := cutMark(body)
				if !ok {
					break
				}
				if due <= 0 || len(after) >= len(body) {
					t.Fatalf("the mark %d in %q leaves %d bytes", due, body, len(after))
				}
				body = after
			}
			rest = next
		}
	})
}

func TestMarks(t *testing.T) {
	const due = int64(1767225600123456789)
	text := appendText(nil, due, 64)
	if len(text) != 64 || len(appendText(nil, due, 1)) != markSize {
		t.Errorf("got %d and %d bytes, want 64 and %d", len(text), len(appendText(nil, due, 1)), markSize)
	}
	b := []byte(`[{"a":"@due=12;@due=x"},{"b":"` + string(text) + `"},"@due=1767225600123456790;"@due=17672256`)
	for _, want := range []int64{due, due + 1} {
		got, rest, ok := cutMark(b)
		if !ok || got != want {
			t.Errorf("got %d (%v), want %d", got, ok, want)
		}
		b = rest
	}
	if got, _, ok := cutMark(b); ok {
		t.Errorf("half a mark: got %d", got)
	}
}
