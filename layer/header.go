package layer

import (
	"fmt"
	"strings"
)

// maxHeader is the most bytes that one header value may have.
const maxHeader = 512

// Header is what travels beside a message's data. Its values are printable
// ASCII, at most 512 bytes each; the zero Header is not sent at all.
type Header struct {
	ID          string // idempotency key (Nats-Msg-Id)
	Sender      string // the session that does not want to hear itself (Tideway-Sender)
	TraceParent string // W3C Trace Context, carried through
	TraceState  string
}

// size is what the header adds to a message's size.
func (h *Header) size() int {
	if *h == (Header{}) {
		return 0
	}
	n := 0
	for _, v := range [...]string{h.ID, h.Sender, h.TraceParent, h.TraceState} {
		if v != "" {
			n += len(v) + 20 // its name, a colon, a line break
		}
	}
	return n
}

// given returns the header without a key that the layer made.
func (h Header) given() Header {
	if strings.HasPrefix(h.ID, ownKey) {
		h.ID = ""
	}
	return h
}

// check refuses what could end a line on the wire.
func (h *Header) check() error {
	if *h == (Header{}) {
		return nil
	}
	names := [...]string{"ID", "Sender", "TraceParent", "TraceState"}
	for i, v := range [...]string{h.ID, h.Sender, h.TraceParent, h.TraceState} {
		if len(v) > maxHeader {
			return &MessageError{Why: fmt.Sprintf("its Header.%s has %d bytes; %d is the most", names[i], len(v), maxHeader)}
		}
		for j := range len(v) {
			if v[j] < ' ' || v[j] > '~' {
				return &MessageError{Why: fmt.Sprintf("its Header.%s has %q at byte %d; only printable ASCII may travel in a header", names[i], v[j], j)}
			}
		}
	}
	return nil
}
