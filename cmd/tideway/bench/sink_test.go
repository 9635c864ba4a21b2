package bench

import (
	"bytes"
	"compress/flate"
	"strconv"
	"testing"
	"time"
)

// tape is a wire that remembers what was written.
type tape struct {
	written []byte
	closed  bool
}

func (w *tape) write(b []byte) error { w.written = append(w.written, b...); return nil }
func (w *tape) close()               { w.closed = true }

// deliver hands bytes to a sink as a poller does.
func deliver(s *sink, c *client, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.gone {
		s.take(c, append(bytes.Clone(c.part), b...), len(b))
	}
}

func marked(due int64) []byte {
	return serverFrame(0x80|opText, append(appendText([]byte(`{"text":"`), due, 64), `"}`...))
}

func TestSinkCounts(t *testing.T) {
	s, w := &sink{}, &tape{}
	c := &client{wire: w}
	now := time.Now().UnixNano()
	all := marked(now - 1e6)
	all = append(all, marked(now)...)
	all = append(all, marked(now-2e6)...) // out of order
	all = append(all, serverFrame(0x80|opText, []byte("no mark"))...)
	two := append(appendMark(nil, now+1), appendMark(nil, now+2)...)
	all = append(all, serverFrame(0x80|opBinary, two)...)
	for _, b := range all { // however it is cut
		deliver(s, c, []byte{b})
	}
	got := s.counts()
	if got.messages != 5 || got.frames != 5 || got.disordered != 1 || got.bytes != int64(len(all)) || got.latency.Count() != 5 || got.problem != nil {
		t.Errorf("got %d messages in %d frames and %d bytes, %d out of order, %v", got.messages, got.frames, got.bytes, got.disordered, got.problem)
	}
	if s.received.Load() != 5 || s.frames.Load() != 5 {
		t.Errorf("those who wait see %d messages and %d frames", s.received.Load(), s.frames.Load())
	}
	if ms := milliseconds(got.latency.Max()); ms < 2 || ms > 60_000 {
		t.Errorf("the longest latency is %v ms", ms)
	}
	s.reset()
	if got := s.counts(); got.messages != 0 || s.received.Load() != 0 {
		t.Errorf("after a reset: %d messages", got.messages)
	}
}

// The last client of each message is the one that counts, however they mix.
func TestSinkNotesTheLastClient(t *testing.T) {
	s := &sink{perMessage: true}
	a, b := &client{wire: &tape{}}, &client{wire: &tape{}}
	now := time.Now().UnixNano()
	old, young := now-4e9, now-1e9
	deliver(s, a, marked(old))
	deliver(s, a, marked(young))
	deliver(s, b, marked(young))
	deliver(s, b, marked(old))
	got := s.counts()
	if h := got.lastClients(); h.Count() != 2 || milliseconds(h.Max()) < 4000 || milliseconds(h.Quantile(0)) < 900 {
		t.Errorf("got %d messages, the last client of the latest %v ms late", h.Count(), milliseconds(h.Max()))
	}
}

func TestSinkAnswersControlFrames(t *testing.T) {
	s, w := &sink{}, &tape{}
	c := &client{wire: w}
	deliver(s, c, serverFrame(0x80|opPing, []byte("here?")))
	if want := appendFrame(nil, opPong, []byte("here?")); !bytes.Equal(w.written, want) {
		t.Errorf("a ping: got %q, want %q", w.written, want)
	}
	deliver(s, c, serverFrame(0x80|opPong, nil))
	deliver(s, c, serverFrame(0x80|opClose, []byte("\x10\x0cslow")))
	if got := s.counts().closes; len(got) != 1 || got[4108] != 1 {
		t.Errorf("got the close codes %v, want one 4108", got)
	}
}

func TestSinkDropsWhoBreaksTheProtocol(t *testing.T) {
	s, w := &sink{}, &tape{}
	c := &client{wire: w}
	deliver(s, c, []byte("\x83\x00"))
	deliver(s, c, marked(1))
	got := s.counts()
	if !w.closed || got.problem == nil || got.lost != 1 || got.messages != 0 {
		t.Errorf("closed: %v, problem: %v, lost: %d, messages: %d", w.closed, got.problem, got.lost, got.messages)
	}
}

func TestSinkCountsWhatWasDueInTime(t *testing.T) {
	s := &sink{}
	c := &client{wire: &tape{}}
	due := time.Now().UnixNano()
	s.until(due)
	for i := range int64(2) {
		deliver(s, c, marked(due+i))
	}
	got := s.counts()
	if got.messages != 2 || got.latency.Count() != 1 {
		t.Errorf("got %d messages, %d in time; want 2, 1", got.messages, got.latency.Count())
	}
}

// Of compressed messages one in 64 is looked into; a bomb is not blown up.
func TestSinkInflates(t *testing.T) {
	s := &sink{}
	c := &client{wire: &tape{}}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(appendText(nil, time.Now().UnixNano(), maxSize))
	w.Flush()
	body := bytes.TrimSuffix(packed.Bytes(), []byte("\x00\x00\xff\xff"))
	for range inflateEvery + 1 {
		deliver(s, c, serverFrame(0xc0|opText, body))
	}
	deliver(s, c, serverFrame(0xc0|opText, []byte("\xff\xff")))
	got := s.counts()
	if got.messages != inflateEvery+2 || got.compressed != inflateEvery+2 || got.latency.Count() != 2 || got.problem != nil {
		t.Errorf("got %d messages, %d compressed, %d latencies, %v", got.messages, got.compressed, got.latency.Count(), got.problem)
	}
	if n := len(inflate(body)); n > 4096 {
		t.Errorf("%d bytes were inflated", n)
	}
}

func TestExpected(t *testing.T) {
	for _, tt := range []struct {
		clients, groups, silent, messages int
		want                              int64
	}{
		{10, 1, 0, 3, 30},
		{10, 1, 4, 3, 18},
		{10, 3, 0, 1, 4},             // clients 0, 3, 6, 9
		{10, 3, 0, 4, 4 + 3 + 3 + 4}, // once round, and group 0 again
		{3, 3, 0, 2, 2},
		{4, 2, 3, 2, 1}, // client 0 alone reads
		{5, 2, 0, 0, 0},
	} {
		f := &fleet{clients: make([]*client, tt.clients), opts: fleetOptions{groups: tt.groups, silent: tt.silent}}
		if got := f.expected(tt.messages); got != tt.want {
			t.Errorf("%+v: got %d", tt, got)
		}
	}
}

func TestWithGroup(t *testing.T) {
	if got := withGroup(`{"subscribe":"room%d"}`, 12); got != `{"subscribe":"room`+strconv.Itoa(12)+`"}` {
		t.Errorf("got %s", got)
	}
}
