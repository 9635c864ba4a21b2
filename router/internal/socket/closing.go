package socket

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/tideway-go/tideway/consumer"
)

// maxControl is the longest payload of a control frame (RFC 6455, section 5.5);
// two of its bytes are a close frame's code.
const maxControl = 125

// pingFrame is the one ping that all connections share.
var pingFrame = []byte{0x80 | byte(opPing), 0}

// sendable returns e as it can go over the wire: a code that must not be sent
// (RFC 6455, section 7.4) becomes none (1005, 1006) or 1011, and the reason is
// valid UTF-8 of at most 123 bytes, cut between two characters.
func sendable(code consumer.StatusCode, reason string) *consumer.CloseError {
	switch {
	case code == consumer.StatusNoStatusRcvd, code == consumer.StatusAbnormalClosure:
		return &consumer.CloseError{Code: code}
	case code < 1000, code > 4999, code == 1004, code == 1015, code > 1014 && code < 3000:
		code = consumer.StatusInternalError
	}
	return &consumer.CloseError{Code: code, Reason: cutReason(reason)}
}

func cutReason(reason string) string {
	const most = maxControl - 2
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) <= most {
		return reason
	}
	n := most
	for !utf8.RuneStart(reason[n]) {
		n--
	}
	return reason[:n]
}

// closeFrame builds e's close frame; e is sendable.
func closeFrame(e *consumer.CloseError) []byte {
	if e.Code == consumer.StatusNoStatusRcvd || e.Code == consumer.StatusAbnormalClosure {
		return []byte{0x80 | byte(opClose), 0}
	}
	f := append(make([]byte, 0, 4+len(e.Reason)), 0x80|byte(opClose), byte(2+len(e.Reason)))
	f = binary.BigEndian.AppendUint16(f, uint16(e.Code))
	return append(f, e.Reason...)
}

// parseClose reads the close frame f that the library wrote: the echo of the
// peer's, or its complaint about it. The library lets a reason pass that is not
// UTF-8, which RFC 6455, section 5.5.1, forbids.
func parseClose(f []byte) *consumer.CloseError {
	if len(f) < 4 {
		return &consumer.CloseError{Code: consumer.StatusNoStatusRcvd}
	}
	if !utf8.Valid(f[4:]) {
		return &consumer.CloseError{Code: consumer.StatusInvalidPayload, Reason: "the reason in the close frame is not UTF-8"}
	}
	return &consumer.CloseError{Code: consumer.StatusCode(binary.BigEndian.Uint16(f[2:])), Reason: string(f[4:])}
}
