package socket

import (
	"testing"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

func TestBucket(t *testing.T) {
	r := newRate("things", 10, 3)
	var b bucket
	for _, c := range []struct {
		at time.Duration
		n  int
		ok bool
	}{
		{0, 3, true},
		{0, 1, false},
		{99 * time.Millisecond, 1, false},
		{100 * time.Millisecond, 1, true},
		{150 * time.Millisecond, 1, false},
		{300 * time.Millisecond, 2, true},
		{time.Hour, 4, false},
		{time.Hour, 3, true},
		{time.Hour, 1, false},
	} {
		over := b.take(&r, c.n, c.at, 0)
		if (over == nil) != c.ok {
			t.Errorf("taking %d at %v: %v, want allowed: %v", c.n, c.at, over, c.ok)
		}
	}
	off := newRate("things", -1, 1)
	if over := b.take(&off, 1e9, 0, 0); over != nil {
		t.Errorf("a rate that is off: %v", over)
	}
}

// The place in the stream that the read deadline and the lingering go by.
func TestInboundState(t *testing.T) {
	lim := limits{message: 100}
	for _, c := range []struct {
		name         string
		p            string
		busy, closed bool
	}{
		{"nothing", "", false, false},
		{"a message", text("hi"), false, false},
		{"half a header", text("hi")[:1], true, false},
		{"a header", text("hi")[:2], true, false},
		{"a masking key", text("")[:5], true, false},
		{"an empty message", text(""), false, false},
		{"half a message", text("hi")[:7], true, false},
		{"a fragment", masked(0x01, "x"), true, false},
		{"a ping in a fragmented message", masked(0x01, "x") + ping(""), true, false},
		{"both fragments", masked(0x01, "x") + masked(0x80, ""), false, false},
		{"half a close frame", closing(1000, "")[:7], true, false},
		{"a close frame", closing(1000, ""), false, true},
		{"a close frame in a message", masked(0x01, "x") + closing(1000, ""), true, true},
		{"garbage behind a close frame", closing(1000, "") + "\xff\xff", false, true},
	} {
		var in inbound
		if good := in.feed([]byte(c.p), time.Second, &lim); good != len(c.p) || in.bad != nil {
			t.Errorf("%s: %d of %d bytes good, %v", c.name, good, len(c.p), in.bad)
		}
		if in.busy != c.busy || in.closed != c.closed {
			t.Errorf("%s: busy %v, closed %v; want %v, %v", c.name, in.busy, in.closed, c.busy, c.closed)
		}
	}
}

// A message's time begins with its own first byte, in whatever piece that came.
func TestInboundSince(t *testing.T) {
	var in inbound
	lim := limits{message: -1}
	both := text("first") + text("second")
	in.feed([]byte(both[:5]), 1*time.Second, &lim)
	in.feed([]byte(both[5:15]), 2*time.Second, &lim)
	if in.since != 2*time.Second {
		t.Errorf("the second message began after %v, want 2s", in.since)
	}
	in.feed([]byte(both[15:]), 3*time.Second, &lim)
	if in.busy {
		t.Error("busy after two whole messages")
	}
}

// The frames behind the one that broke a rule are followed, to find the peer's
// close frame, and judged no more.
func TestInboundAfterViolation(t *testing.T) {
	var in inbound
	lim := limits{message: 3}
	p := text("abc") + text("abcd") + masked(0xff, "x") + closing(1000, "")
	good := in.feed([]byte(p), 0, &lim)
	if want := len(text("abc")); good != want {
		t.Errorf("%d bytes good, want %d", good, want)
	}
	if in.bad == nil || in.bad.Code != consumer.StatusMessageTooBig {
		t.Errorf("violation %v, want 1009", in.bad)
	}
	if !in.closed {
		t.Error("the close frame was not seen")
	}
}
