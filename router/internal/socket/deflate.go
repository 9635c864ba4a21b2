package socket

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/tideway-go/tideway/consumer"
)

// Compressed messages do not go through the library either: it negotiates
// permessage-deflate (RFC 7692), and is then given the messages unmarked, as if
// they were plain. On its own it takes a message that breaks off for a whole
// one, gets out of step behind a final block, and keeps 4 KB for a connection
// from its first compressed message on.

// rsv1 is the bit of a frame's first byte that marks a compressed message.
const rsv1 = 0x40

// compressed reports whether a frame that begins with b may begin a compressed
// message (RFC 7692, section 6).
func compressed(b byte) bool {
	op := opcode(b & 0x0f)
	return b&0x70 == rsv1 && (op == opText || op == opBinary)
}

// mostCompressed is how many bytes a compressed message may have that inflates
// to limit: some compressors make what they cannot compress an eighth larger.
func mostCompressed(limit int64) int64 {
	if limit < 0 || limit > math.MaxInt64/2 {
		return limit
	}
	return limit + limit/8 + 64
}

// deflation is what a connection has that agreed to compression; nil is one that
// did not. It is used by the reader's goroutine alone.
type deflation struct {
	// Which of the messages that the library has begun, or has in its buffer,
	// are compressed: bits, the oldest is the lowest.
	marks [maxAhead / 64]uint64
	n     int
	last  bool // the newest one is compressed
}

const (
	// maxAhead is how many messages the marks have room for.
	maxAhead = 128

	// minFrame is the length of a client's shortest frame: header and mask.
	minFrame = 2 + maskingKey
)

// The message that the library reads, those in its buffer, and one of which it
// has only a part.
const _ = uint(maxAhead - (readBuffer/minFrame + 2))

// push notes that a message begins.
func (d *deflation) push(compressed bool) {
	d.last = compressed
	if compressed {
		d.marks[d.n/64] |= 1 << (d.n % 64)
	}
	d.n++
}

// pop reports whether the oldest message is compressed, and forgets it.
func (d *deflation) pop() bool {
	first := d.marks[0]&1 != 0
	d.marks[0] = d.marks[0]>>1 | d.marks[1]<<63
	d.marks[1] >>= 1
	d.n--
	return first
}

// amid reports whether the message that began last is compressed.
func (d *deflation) amid() bool { return d != nil && d.last }

// message returns the next message, which came over the wire as data, inflated
// if it was compressed.
func (d *deflation) message(data []byte, limit int64) ([]byte, *consumer.CloseError) {
	if d == nil || !d.pop() {
		return data, nil
	}
	return inflate(data, limit)
}

// inflater is what inflating needs, about 45 KB.
type inflater struct {
	src bytes.Reader
	r   io.ReadCloser // a flate.Resetter
	lim io.LimitedReader
	out bytes.Buffer
}

var inflaters = sync.Pool{New: func() any {
	f := new(inflater)
	f.r = flate.NewReader(&f.src)
	return f
}}

// tail is what the sender of a message took away (RFC 7692, section 7.2.2), and
// an empty final block, which makes a whole message end in io.EOF.
const tail = "\x00\x00\xff\xff" + "\x01\x00\x00\xff\xff"

// maxKept is the largest buffer that is kept for the next message.
const maxKept = 256 << 10

// inflate returns what the compressed message z holds, and stops as soon as that
// is more than limit bytes. It writes behind z, which must be the caller's own.
func inflate(z []byte, limit int64) ([]byte, *consumer.CloseError) {
	f := inflaters.Get().(*inflater)
	f.src.Reset(append(z, tail...))
	if err := f.r.(flate.Resetter).Reset(&f.src, nil); err != nil {
		panic(err) // which it never fails with
	}
	f.lim = io.LimitedReader{R: f.r, N: limit + 1}
	f.out.Reset()
	n, err := f.out.ReadFrom(&f.lim)
	rest := f.src.Len()
	f.src.Reset(nil)
	defer func() {
		if f.out.Cap() > maxKept {
			f.out = bytes.Buffer{}
		}
		inflaters.Put(f)
	}()
	switch {
	case n > limit:
		return nil, &consumer.CloseError{
			Code:   consumer.StatusMessageTooBig,
			Reason: fmt.Sprintf("a message may have %d bytes, this one inflates to more", limit),
		}
	case err != nil, !endsWell(rest):
		return nil, &consumer.CloseError{Code: consumer.StatusInvalidPayload, Reason: "a compressed message cannot be inflated"}
	}
	return bytes.Clone(f.out.Bytes()), nil
}

// endsWell reports whether a stream may end with so many bytes unread: none, or,
// behind a final block of the sender's, the tail, and the byte that RFC 7692,
// section 7.2.3.4, pads such a block with. More would be data that is lost.
func endsWell(rest int) bool { return rest == 0 || rest == len(tail) || rest == len(tail)+1 }
