package bench

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// client is one connection of the load client.
type client struct {
	index  int
	target *target
	wire   wire
	silent bool // it never reads

	// Owned by the sink's lock.
	part    []byte // of a frame that is not whole yet
	lastDue int64
	gone    bool
}

// wire carries a client's bytes.
type wire interface {
	write(b []byte) error // whole; from any goroutine
	close()
}

// tally is what a sink counted since it was reset.
type tally struct {
	messages   int64 // marks
	frames     int64
	compressed int64 // frames of the former
	bytes      int64
	disordered int64 // messages that were due before one that came earlier
	first      int64 // when the first and the last arrived, in ns since 1970
	last       int64
	lost       int         // connections that ended unasked
	closes     map[int]int // close frames, by code
	latency    Histogram
	lasts      map[int64]int64 // when the last client so far got a message, by when that was due
	problem    error           // the first thing that no server may send
}

// sink takes what arrives on all connections.
type sink struct {
	received atomic.Int64 // messages, for those who wait
	frames   atomic.Int64

	watch func(c *client, body []byte, now int64) // looks into each frame of data with mu held, if it is set

	mu      sync.Mutex // guards all below, and the clients' state; held while bytes are parsed
	now     tally
	lastDue int64 // the latency of what was due later is not counted; 0 is no end

	perMessage bool // note when the last client got each message
}

// reset begins to count anew.
func (s *sink) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.lastDue = tally{}, 0
	s.received.Store(0)
	s.frames.Store(0)
}

// noteLast has it noted when the last client gets each message.
func (s *sink) noteLast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.perMessage = true
}

// until ends what counts as latency: messages that are due later do not.
func (s *sink) until(due int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastDue = due
}

// counts returns what arrived since the last reset.
func (s *sink) counts() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.now
	t.closes, t.lasts = maps.Clone(t.closes), maps.Clone(t.lasts)
	return t
}

// feed takes the bytes that arrived for c: what was left of those before, and
// new ones. It returns what is left of them now. The caller holds s.mu.
func (s *sink) feed(c *client, b []byte) (rest []byte, err error) {
	now := int64(0)
	for {
		f, next, ok, err := cutFrame(b)
		if err != nil || !ok {
			return next, err
		}
		if now == 0 {
			now = time.Now().UnixNano()
		}
		b = next
		switch f.op {
		case opPing:
			c.wire.write(appendFrame(nil, opPong, f.body)) // a lost connection shows on reading
		case opClose:
			if s.now.closes == nil {
				s.now.closes = map[int]int{}
			}
			s.now.closes[closeCode(f.body)]++
			c.wire.write(appendFrame(nil, opClose, f.body))
		case opPong:
		default:
			s.data(c, f, now)
		}
	}
}

// data takes a data frame.
func (s *sink) data(c *client, f frame, now int64) {
	s.now.frames++
	s.frames.Add(1)
	if s.watch != nil && !f.compressed {
		s.watch(c, f.body, now)
	}
	body := f.body
	if f.compressed {
		if s.now.compressed++; s.now.compressed%inflateEvery != 1 {
			s.message(c, now)
			return
		}
		body = inflate(body)
	}
	for {
		due, rest, ok := cutMark(body)
		if !ok {
			return
		}
		body = rest
		s.message(c, now)
		s.late(c, due, now)
	}
}

// message counts one message.
func (s *sink) message(c *client, now int64) {
	if s.now.messages++; s.now.first == 0 {
		s.now.first = now
	}
	s.now.last = now
	s.received.Add(1)
}

// late counts the latency of a message.
func (s *sink) late(c *client, due, now int64) {
	if due < c.lastDue {
		s.now.disordered++
	}
	c.lastDue = due
	if s.lastDue == 0 || due <= s.lastDue {
		s.now.latency.Add(now - due)
	}
	if s.perMessage {
		s.arrivedLast(due, now)
	}
}

// mostLasts bounds the memory of lasts; the rest of a longer run is like its
// beginning.
const mostLasts = 1 << 16

// arrivedLast notes that a message reached one more client.
func (s *sink) arrivedLast(due, now int64) {
	if s.now.lasts == nil {
		s.now.lasts = map[int64]int64{}
	}
	if _, known := s.now.lasts[due]; known || len(s.now.lasts) < mostLasts {
		s.now.lasts[due] = now
	}
}

// lastClients returns how late the last client of each message was.
func (t *tally) lastClients() *Histogram {
	h := &Histogram{}
	for due, at := range t.lasts {
		h.Add(at - due)
	}
	return h
}

// take is feed for bytes of which c.part is the beginning. It keeps what is left,
// and drops the connection when its end has come. The caller holds s.mu.
func (s *sink) take(c *client, b []byte, fresh int) {
	s.now.bytes += int64(fresh)
	rest, err := s.feed(c, b)
	if err != nil {
		if s.now.problem == nil {
			s.now.problem = err
		}
		s.drop(c)
		return
	}
	c.part = append(c.part[:0], rest...)
}

// drop ends a connection. The caller holds s.mu.
func (s *sink) drop(c *client) {
	if !c.gone {
		c.gone = true
		s.now.lost++
		c.wire.close()
	}
}

// leave ends a connection on the client's own wish, without a word, as a
// network that fails does.
func (s *sink) leave(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.gone {
		c.gone = true
		c.wire.close()
	}
}
