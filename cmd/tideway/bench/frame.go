package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// maxFrame is the longest frame that the load client takes.
const maxFrame = 16 << 20

// frame is one frame of a server (RFC 6455, section 5.2).
type frame struct {
	op         byte
	fin        bool
	compressed bool   // RSV1, as permessage-deflate uses it (RFC 7692)
	body       []byte // of the bytes that were parsed
}

var errMasked = errors.New("the server masked a frame")

// cutFrame takes the first frame off b. While b holds only a part of it, ok is
// false and rest is b. The error says what no server may send, and that the
// rest cannot be told apart any more.
func cutFrame(b []byte) (f frame, rest []byte, ok bool, err error) {
	if len(b) < 2 {
		return frame{}, b, false, nil
	}
	f = frame{op: b[0] & 15, fin: b[0]&0x80 != 0, compressed: b[0]&0x40 != 0}
	if err := checkHead(b[0], b[1]); err != nil {
		return frame{}, b, false, err
	}
	head, size := 2, uint64(b[1])
	switch {
	case size == 126:
		if head = 4; len(b) < head {
			return frame{}, b, false, nil
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case size == 127:
		if head = 10; len(b) < head {
			return frame{}, b, false, nil
		}
		size = binary.BigEndian.Uint64(b[2:])
	}
	if size > maxFrame {
		return frame{}, b, false, fmt.Errorf("the server sent a frame of %d bytes; the load client takes %d", size, maxFrame)
	}
	end := head + int(size)
	if len(b) < end {
		return frame{}, b, false, nil
	}
	f.body = b[head:end]
	return f, b[end:], true, nil
}

func checkHead(first, second byte) error {
	op := first & 15
	switch {
	case second&0x80 != 0:
		return errMasked
	case first&0x30 != 0:
		return fmt.Errorf("the server set reserved bits: %#02x", first)
	case op > opBinary && op < opClose || op > opPong:
		return fmt.Errorf("the server sent a frame with opcode %d", op)
	case op >= opClose && (second > 125 || first&0x80 == 0):
		return fmt.Errorf("the server sent a control frame that is split or longer than 125 bytes")
	}
	return nil
}

// appendFrame appends a frame of a client. Its mask is zero, which the protocol
// allows and which leaves the body as it is: the mask protects proxies from
// scripts, and here is neither.
func appendFrame(b []byte, op byte, body []byte) []byte {
	b = append(appendHead(b, op, len(body), 0x80), 0, 0, 0, 0)
	return append(b, body...)
}

// appendServerFrame appends a frame of a server.
func appendServerFrame(b []byte, op byte, body []byte) []byte {
	return append(appendHead(b, op, len(body), 0), body...)
}

func appendHead(b []byte, op byte, n int, mask byte) []byte {
	b = append(b, 0x80|op)
	switch {
	case n < 126:
		return append(b, mask|byte(n))
	case n < 1<<16:
		return append(b, mask|126, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint64(append(b, mask|127), uint64(n))
}

// closeCode returns the code in the body of a close frame, 1005 when there is
// none (RFC 6455, section 7.1.5).
func closeCode(body []byte) int {
	if len(body) < 2 {
		return 1005
	}
	return int(binary.BigEndian.Uint16(body))
}
