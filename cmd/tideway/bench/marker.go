package bench

import (
	"bytes"
	"strconv"
)

// A message carries when it was due as a mark that survives any wrapping: it
// needs no escape in JSON, and servers that put several messages into one frame
// leave it whole.
//
//	@due=1767225600000000000;
const (
	markHead   = "@due="
	markDigits = 19 // a time in nanoseconds since 1970, until the year 2286
	markSize   = len(markHead) + markDigits + 1
)

var markHeadBytes = []byte(markHead)

// appendMark appends the mark of a time.
func appendMark(b []byte, due int64) []byte {
	b = append(b, markHead...)
	b = strconv.AppendInt(b, due, 10)
	return append(b, ';')
}

// cutMark returns the first mark in b and what follows it.
func cutMark(b []byte) (due int64, rest []byte, ok bool) {
	for {
		i := bytes.Index(b, markHeadBytes)
		if i < 0 || len(b)-i < markSize {
			return 0, nil, false
		}
		if due, ok := digits(b[i+len(markHead) : i+markSize-1]); ok && b[i+markSize-1] == ';' {
			return due, b[i+markSize:], true
		}
		b = b[i+len(markHead):]
	}
}

func digits(b []byte) (v int64, ok bool) {
	for _, d := range b {
		if d < '0' || d > '9' {
			return 0, false
		}
		v = v*10 + int64(d-'0')
	}
	return v, v > 0
}

// padding fills messages up.
var padding = bytes.Repeat([]byte("x"), maxSize)

// appendText appends a mark and so much padding that it is size bytes in all,
// at least the mark.
func appendText(b []byte, due int64, size int) []byte {
	b = appendMark(b, due)
	return append(b, padding[:max(size-markSize, 0)]...)
}
