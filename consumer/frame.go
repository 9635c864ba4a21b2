package consumer

import (
	"encoding/binary"
	"sync/atomic"
	"unicode/utf8"
)

// FrameType tells text from binary (RFC 6455, section 5.6).
type FrameType byte

// The two types of a data message. The values are the opcodes of RFC 6455.
const (
	Text   FrameType = 1
	Binary FrameType = 2
)

// String returns "text" or "binary".
func (t FrameType) String() string {
	if t == Text {
		return "text"
	}
	return "binary"
}

// Frame is one whole WebSocket message, as a browser sends and receives it.
// The zero Frame is invalid; make one with [TextFrame] or [BinaryFrame].
type Frame struct {
	Type FrameType
	Data []byte // valid UTF-8 where Type is Text
}

// TextFrame makes a text message.
func TextFrame(s string) Frame { return Frame{Text, []byte(s)} }

// BinaryFrame makes a binary message. It does not copy p.
func BinaryFrame(p []byte) Frame { return Frame{Binary, p} }

// Prepared is one or more messages in the form in which they leave a server:
// whole frames, unmasked and unfragmented, so that one Prepared serves any
// number of connections. It is immutable and may be used from many goroutines.
type Prepared struct {
	wire []byte
	twin atomic.Pointer[twin] // nil until a connection needs it
}

// Prepare builds the wire form of messages that are sent together, in order.
// A Text frame that is not UTF-8 is a programming error and is replaced, byte
// by byte, by U+FFFD: a browser would end the connection otherwise.
func Prepare(frames ...Frame) *Prepared {
	n := 0
	for _, f := range frames {
		n += len(f.Data) + 10
	}
	p := &Prepared{wire: make([]byte, 0, n)}
	for _, f := range frames {
		p.wire = appendFrame(p.wire, f)
	}
	return p
}

// concat makes one of several, in order, nil of none.
func concat(list []*Prepared) *Prepared {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	all := new(Prepared)
	for _, p := range list {
		all.wire = append(all.wire, p.wire...)
	}
	return all
}

// Values are messages of which a client that lags needs the newest of each key
// alone, in the order in which they were sent.
type Values struct {
	All  *Prepared   // in one piece
	Each []*Prepared // one by one
	Keys []string    // of each; "" is one that nothing replaces
}

// Bytes returns the frames. They must not be modified.
func (p *Prepared) Bytes() []byte { return p.wire }

// appendFrame appends f as one final, unmasked frame (RFC 6455, section 5.2).
func appendFrame(b []byte, f Frame) []byte {
	data := f.Data
	if f.Type == Text && !utf8.Valid(data) {
		data = []byte(string([]rune(string(data))))
	}
	return appendPayload(b, 0x80|byte(f.Type), data)
}

// appendPayload appends a frame that begins with the byte first.
func appendPayload(b []byte, first byte, data []byte) []byte {
	b = append(b, first)
	switch n := len(data); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, data...)
}

// cutPayload takes the first frame off b, which appendPayload made.
func cutPayload(b []byte) (first byte, data, rest []byte) {
	head, n := 2, int(b[1])
	switch n {
	case 126:
		head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		head, n = 10, int(binary.BigEndian.Uint64(b[2:]))
	}
	return b[0], b[head : head+n], b[head+n:]
}
