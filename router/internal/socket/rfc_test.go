package socket

import (
	"io"
	"strings"
	"testing"

	"github.com/tideway-go/tideway/consumer"
)

// TestRFC6455 holds the clauses of the RFC that concern a server's end: what a
// client sends, and all the bytes that come back from a server that echoes.
func TestRFC6455(t *testing.T) {
	long := func(n int) string { return strings.Repeat("*", n) }
	frame := func(op byte, p string) string { // a server's
		return string(consumer.Prepare(consumer.Frame{Type: consumer.FrameType(op), Data: []byte(p)}).Bytes())
	}
	pong := func(p string) string { return "\x8a" + string(rune(len(p))) + p }
	shut := func(code consumer.StatusCode, reason string) string {
		return string(closeFrame(&consumer.CloseError{Code: code, Reason: reason}))
	}
	bye, byeBack := closing(1000, ""), shut(1000, "")
	const unmasked = "a client's frame must be masked"

	for _, c := range []struct {
		clause, name string
		send, want   string
		code         consumer.StatusCode // what Read ends with
	}{
		{"5.2", "text of 0 bytes", text("") + bye, frame(1, "") + byeBack, 1000}, // case 108
		{"5.2", "text of 125 bytes", text(long(125)) + bye, frame(1, long(125)) + byeBack, 1000},
		{"5.2", "text of 126 bytes", text(long(126)) + bye, frame(1, long(126)) + byeBack, 1000},
		{"5.2", "text of 65535 bytes", text(long(65535)) + bye, frame(1, long(65535)) + byeBack, 1000},
		{"5.2", "binary of 65536 bytes", binaryMsg(long(65536)) + bye, frame(2, long(65536)) + byeBack, 1000},          // case 97
		{"5.2", "binary that is not UTF-8", binaryMsg("\xff\xfe\x00") + bye, frame(2, "\xff\xfe\x00") + byeBack, 1000}, // case 96
		{"5.6", "text in UTF-8", text("κόσμε \U0001F30A") + bye, frame(1, "κόσμε \U0001F30A") + byeBack, 1000},         // case 96
		{"5.2", "a length in more bytes than it needs", "\x81\xfe\x00\x02\x00\x00\x00\x00hi" + bye, frame(1, "hi") + byeBack, 1000},
		{"5.2", "a length with its highest bit set", "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", shut(1002, "the highest bit of a frame's length must be zero"), 1002},
		{"5.2", "reserved bit 1", masked(0xc1, "x"), shut(1002, "reserved bits are set, and no extension was agreed on"), 1002},
		{"5.2", "reserved bit 2", masked(0xa1, "x"), shut(1002, "reserved bits are set, and no extension was agreed on"), 1002},
		{"5.2", "reserved bit 3 on a ping", masked(0x99, "x"), shut(1002, "reserved bits are set, and no extension was agreed on"), 1002},
		{"5.2", "opcode 3", masked(0x83, "x"), shut(1002, "unknown opcode 3"), 1002},
		{"5.2", "opcode 7", masked(0x87, ""), shut(1002, "unknown opcode 7"), 1002},
		{"5.2", "opcode 11", masked(0x8b, "x"), shut(1002, "unknown opcode 11"), 1002},
		{"5.2", "opcode 15", masked(0x8f, ""), shut(1002, "unknown opcode 15"), 1002},
		{"5.1", "a frame without mask", "\x81\x02hi", shut(1002, unmasked), 1002},
		{"5.1", "a ping without mask", "\x89\x00", shut(1002, unmasked), 1002},
		{"5.1", "good messages before a bad frame arrive", text("one") + "\x81\x02hi", frame(1, "one") + shut(1002, unmasked), 1002},
		{"5.3", "a mask of zeros", "\x81\x82\x00\x00\x00\x00hi" + bye, frame(1, "hi") + byeBack, 1000},
		{"5.4", "two fragments", masked(0x01, "frag") + masked(0x80, "ment") + bye, frame(1, "fragment") + byeBack, 1000},
		{"5.4", "empty fragments", masked(0x01, "") + masked(0x00, "") + masked(0x80, "") + bye, frame(1, "") + byeBack, 1000},
		{"5.4", "control frames between fragments", masked(0x02, "fr") + ping("1") + masked(0x00, "ag") + masked(0x8a, "") + ping("2") + masked(0x80, "!") + bye,
			pong("1") + pong("2") + frame(2, "frag!") + byeBack, 1000},
		{"5.4", "a continuation of nothing", masked(0x80, "x"), shut(1002, "a continuation frame without a message to continue"), 1002},
		{"5.4", "a continuation after the last fragment", masked(0x01, "a") + masked(0x80, "b") + masked(0x00, "c"),
			frame(1, "ab") + shut(1002, "a continuation frame without a message to continue"), 1002},
		{"5.4", "a message inside a message", masked(0x01, "a") + text("b"), shut(1002, "a new message inside a fragmented one"), 1002},
		{"5.5", "a ping of 126 bytes", ping(long(126)), shut(1002, "a control frame holds at most 125 bytes"), 1002},
		{"5.5", "a fragmented ping", masked(0x09, "x"), shut(1002, "a control frame must not be fragmented"), 1002},
		{"5.5.1", "a close frame without code", masked(0x88, ""), "\x88\x00", 1005},
		{"5.5.1", "a close frame of 1 byte", masked(0x88, "x"), shut(1002, `received invalid close payload: close payload "x" too small, cannot even contain the 2 byte status code`), 1002},
		{"5.5.1", "a code with a reason", closing(1001, "leaving"), shut(1001, "leaving"), 1001},
		{"5.5.1", "the longest reason", closing(4999, long(123)), shut(4999, long(123)), 4999},
		{"5.5.1", "a reason of 124 bytes", closing(1000, long(124)), shut(1002, "a control frame holds at most 125 bytes"), 1002},
		{"5.5.1", "a reason that is not UTF-8", closing(1000, "\xff"), shut(1007, "the reason in the close frame is not UTF-8"), 1007},
		{"5.5.1", "nothing counts after a close frame", closing(1000, "") + text("late") + "garbage", byeBack, 1000},
		{"7.4.1", "code 3000", closing(3000, ""), shut(3000, ""), 3000},
		{"7.4.1", "code 999", closing(999, ""), shut(1002, "received invalid close payload: invalid status code StatusCode(999)"), 1002},
		{"7.4.1", "code 1005", closing(1005, ""), shut(1002, "received invalid close payload: invalid status code StatusNoStatusRcvd"), 1002},
		{"7.4.1", "code 1006", closing(1006, ""), shut(1002, "received invalid close payload: invalid status code StatusAbnormalClosure"), 1002},
		{"7.4.1", "code 2999", closing(2999, ""), shut(1002, "received invalid close payload: invalid status code StatusCode(2999)"), 1002},
		{"7.4.2", "code 5000", closing(5000, ""), shut(1002, "received invalid close payload: invalid status code StatusCode(5000)"), 1002},
		{"5.5.2", "a ping is answered with its payload", ping(long(125)) + bye, pong(long(125)) + byeBack, 1000},
		{"5.5.2", "an empty ping", ping("") + bye, pong("") + byeBack, 1000},
		{"5.5.3", "a pong that nobody asked for", masked(0x8a, "x") + bye, byeBack, 1000},
		{"8.1", "text that is not UTF-8", text("\xce\xba\xff"), shut(1007, "a text message is not UTF-8"), 1007},
		{"8.1", "a surrogate", text("\xed\xa0\x80"), shut(1007, "a text message is not UTF-8"), 1007},
		{"8.1", "text that breaks off in a character", text("\xce"), shut(1007, "a text message is not UTF-8"), 1007},
		{"8.1", "a character split over fragments", masked(0x01, "\xce") + masked(0x80, "\xba") + bye, frame(1, "\xce\xba") + byeBack, 1000},
		{"10.4", "a message over the limit", binaryMsg(long(65537)), shut(1009, "a message may have 65536 bytes, this one has 65537 or more"), 1009}, // case 97
		{"10.4", "fragments over the limit", masked(0x02, long(40000)) + masked(0x00, long(30000)), shut(1009, "a message may have 65536 bytes, this one has 70000 or more"), 1009},
	} {
		for _, way := range []string{"whole", "bytewise"} {
			if way == "bytewise" && len(c.send) > 2000 {
				continue
			}
			t.Run(c.clause+" "+c.name+" "+way, func(t *testing.T) {
				t.Parallel()
				s := newServer(t, nil, echo)
				cl := dial(t, s)
				if way == "whole" {
					cl.send(c.send)
				} else {
					for i := range len(c.send) {
						if _, err := cl.Write([]byte{c.send[i]}); err != nil {
							break // the server saw enough
						}
					}
				}
				got := cl.rest()
				if got != c.want {
					t.Errorf("the server sent\n%q, want\n%q", got, c.want)
				}
				if end := s.end(t); end.Code != c.code {
					t.Errorf("Read ended with %v, want %d", end, c.code)
				}
			})
		}
	}
}

// rest reads up to and including the close frame, answers it as a client must,
// and returns all that the server sent until it closed the connection.
func (c *client) rest() string {
	c.t.Helper()
	var all strings.Builder
	c.br.Reset(io.TeeReader(io.MultiReader(strings.NewReader(c.buffered()), c.Conn), &all))
	for {
		op, _, err := c.read()
		if err != nil {
			c.t.Fatalf("no close frame: %v; got %q", err, all.String())
		}
		if op == opClose {
			break
		}
	}
	c.Write([]byte(closing(1000, "")))
	io.Copy(io.Discard, c.br)
	return all.String()
}

func (c *client) buffered() string {
	b, _ := c.br.Peek(c.br.Buffered())
	return string(b)
}
