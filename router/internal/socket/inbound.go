package socket

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// inbound follows the frames of one client, whatever pieces they arrive in,
// without keeping their payload, and judges each header (RFC 6455, section 5)
// before the library sees it. It is used by the reader's goroutine alone.
type inbound struct {
	skip                           int64 // payload bytes left of the current frame
	size                           int64 // payload bytes of the current message
	head                           [10]byte
	n                              uint8 // bytes seen of the current frame's header
	op                             opcode
	patient                        bool                 // the consumer refuses messages before we close
	open                           bool                 // inside a fragmented message
	busy                           bool                 // amid a message or a frame
	closed                         bool                 // nothing after this counts: a whole close frame went by (section 5.5.1)
	since                          time.Duration        // when busy began; never 0
	slack                          time.Duration        // for how long nobody read, as bucket.take has it
	bad                            *consumer.CloseError // the first violation
	deflate                        *deflation           // nil: no compression was agreed to
	frames, bytes, pings, messages bucket
}

type opcode byte

// The opcodes of RFC 6455, section 5.2.
const (
	opContinuation opcode = 0
	opText         opcode = 1
	opBinary       opcode = 2
	opClose        opcode = 8
	opPing         opcode = 9
	opPong         opcode = 10
)

func (op opcode) control() bool { return op >= opClose }

// feed follows p, which arrived at now, and returns how many of its bytes come
// before the first frame that breaks a rule; that rule is then in.bad. In p the
// mark of a compressed message is taken away, and noted in in.deflate. The
// frames behind it are followed too, to find the peer's close frame, but no
// longer judged.
func (in *inbound) feed(p []byte, now time.Duration, lim *limits) (good int) {
	good = len(p)
	if in.bad == nil {
		if in.bad = in.bytes.take(&lim.bytes, len(p), now, in.slack); in.bad != nil {
			good = 0
		}
	}
	start := 0 // of the current frame, as far as it lies in p
	for i := 0; i < len(p) && !in.closed; {
		if !in.busy {
			in.busy, in.since = true, max(now, 1)
		}
		if in.skip > 0 {
			k := min(in.skip, int64(len(p)-i))
			i += int(k)
			in.pass(k)
			continue
		}
		if in.n == 0 {
			start = i
		}
		complete := in.headByte(p[i])
		if in.n == 1 && in.deflate != nil && compressed(p[i]) {
			p[i] &^= rsv1 // the library knows nothing of compression
		}
		i++
		if !complete {
			continue
		}
		h := in.header()
		if in.bad == nil {
			if in.bad = in.judge(h, now, lim); in.bad != nil {
				good = start
			}
		}
		in.begin(h)
	}
	return good
}

// headByte takes one byte of a header and reports whether it was the last. The
// masking key is none: the library, too, judges the length before it.
func (in *inbound) headByte(b byte) bool {
	in.head[in.n] = b
	in.n++
	if in.n < 2 {
		return false
	}
	switch in.head[1] & 0x7f {
	case 126:
		return in.n == 4
	case 127:
		return in.n == 10
	}
	return true
}

// header is what a frame says of itself.
type header struct {
	fin, masked bool
	rsv         byte
	op          opcode
	length      uint64
}

func (in *inbound) header() header {
	b0, b1 := in.head[0], in.head[1]
	h := header{
		fin:    b0&0x80 != 0,
		rsv:    b0 >> 4 & 7,
		op:     opcode(b0 & 0x0f),
		masked: b1&0x80 != 0,
		length: uint64(b1 & 0x7f),
	}
	switch h.length {
	case 126:
		h.length = uint64(binary.BigEndian.Uint16(in.head[2:]))
	case 127:
		h.length = binary.BigEndian.Uint64(in.head[2:])
	}
	return h
}

// judge returns the rule that h breaks, or nil.
func (in *inbound) judge(h header, now time.Duration, lim *limits) *consumer.CloseError {
	if broken := in.protocol(h); broken != "" {
		return &consumer.CloseError{Code: consumer.StatusProtocolError, Reason: broken}
	}
	if over := in.frames.take(&lim.frames, 1, now, in.slack); over != nil {
		return over
	}
	switch h.op {
	case opPing:
		return in.pings.take(&lim.pings, 1, now, in.slack)
	case opContinuation:
		return tooBig(uint64(in.size)+h.length, in.deflate.amid(), lim)
	case opText, opBinary:
		rate := &lim.messages
		if in.patient {
			rate = &lim.patient
		}
		if over := in.messages.take(rate, 1, now, in.slack); over != nil {
			return over
		}
		return tooBig(h.length, h.rsv != 0, lim)
	}
	return nil
}

// protocol returns the sentence of RFC 6455 that h breaks, or "". A length in
// more bytes than it needs is let pass.
func (in *inbound) protocol(h header) string {
	switch {
	case h.rsv != 0 && in.deflate == nil:
		return "reserved bits are set, and no extension was agreed on"
	case h.rsv != 0 && (h.rsv != rsv1>>4 || h.op != opText && h.op != opBinary):
		return "reserved bits are set that say nothing here"
	case !h.masked:
		return "a client's frame must be masked"
	case h.length > math.MaxInt64:
		return "the highest bit of a frame's length must be zero"
	case h.op > opBinary && h.op < opClose, h.op > opPong:
		return fmt.Sprintf("unknown opcode %d", h.op)
	case h.op.control() && !h.fin:
		return "a control frame must not be fragmented"
	case h.op.control() && h.length > maxControl:
		return "a control frame holds at most 125 bytes"
	case h.op == opContinuation && !in.open:
		return "a continuation frame without a message to continue"
	case (h.op == opText || h.op == opBinary) && in.open:
		return "a new message inside a fragmented one"
	}
	return ""
}

func tooBig(size uint64, compressed bool, lim *limits) *consumer.CloseError {
	most := lim.message
	if compressed {
		most = lim.compressed
	}
	if most < 0 || size <= uint64(most) {
		return nil
	}
	return &consumer.CloseError{
		Code:   consumer.StatusMessageTooBig,
		Reason: fmt.Sprintf("a message may have %d bytes, this one has %d or more", lim.message, size),
	}
}

// begin enters what follows the header h: the masking key and the payload.
func (in *inbound) begin(h header) {
	in.n, in.op = 0, h.op
	if h.length > math.MaxInt64-maskingKey {
		in.closed = true // nothing behind it can be understood
		return
	}
	length := int64(h.length)
	if !h.op.control() {
		if h.op != opContinuation {
			in.size = 0
			if in.deflate != nil && in.bad == nil {
				in.deflate.push(h.rsv != 0)
			}
		}
		in.size += min(length, math.MaxInt64-in.size)
		in.open = !h.fin
	}
	in.skip = length
	if h.masked {
		in.skip += maskingKey
	}
	if in.skip == 0 {
		in.end()
	}
}

const maskingKey = 4

// pass moves k bytes on in the payload.
func (in *inbound) pass(k int64) {
	if in.skip -= k; in.skip == 0 {
		in.end()
	}
}

// end leaves a frame.
func (in *inbound) end() {
	in.closed = in.op == opClose
	in.busy = in.open
}
