package bench

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
)

// deflateOffer asks for compression whose messages stand alone (RFC 7692,
// section 7.1.1), which is the kind that a broadcast can share.
const deflateOffer = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n"

// inflateEvery is of how many compressed messages one is inflated, for its mark:
// to inflate all would make the load client the bottleneck. The others count as
// one message each.
const inflateEvery = 64

// deflateTail ends a message's compressed data as RFC 7692, section 7.2.2,
// says, and then the stream.
const deflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// inflate returns the beginning of a compressed message, which holds the mark.
// What is broken has none.
func inflate(body []byte) []byte {
	r := flate.NewReader(io.MultiReader(bytes.NewReader(body), strings.NewReader(deflateTail)))
	head, _ := io.ReadAll(io.LimitReader(r, 4096))
	return head
}
