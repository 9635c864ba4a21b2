package socket

import (
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// The sweeper is one goroutine for all sockets, and runs while there are any.
// Each socket hangs in the slot of a wheel at whose tick it is next worth a
// look: about once in PingInterval, however much it sends.

const (
	ticksPerInterval = 40 // also the most that a ping comes late: 1/40 of the interval
	phases           = 16 // over which the pings of sockets that came together spread
)

func (e *Engine) newWheel() {
	slots := 1
	if e.opts.PingInterval > 0 {
		shorter, longer := min(e.opts.PingInterval, e.opts.PongTimeout), max(e.opts.PingInterval, e.opts.PongTimeout)
		e.tick = max(shorter/ticksPerInterval, time.Millisecond)
		slots = int(min(longer/e.tick, maxSlots)) + 2
	}
	e.wheel = make([]*Socket, slots)
}

// maxSlots bounds the wheel where the two times differ by orders of magnitude;
// a socket that is looked at too early is hung up again.
const maxSlots = 4096

// add hangs s into the wheel, and reports false on a closed engine.
func (e *Engine) add(s *Socket) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.phase = e.opts.PingInterval / 5 * time.Duration(e.total%phases) / phases
	e.open++
	e.total++
	if e.tick > 0 && e.sweeper == nil && !e.closed {
		e.swept = int64(e.now() / e.tick)
		e.sweeper = make(chan struct{})
		go e.sweep(e.sweeper)
	}
	e.hang(s, e.due(s))
	return !e.closed
}

func (e *Engine) remove(s *Socket) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open--
	e.unhang(s)
}

// due returns when s is next worth a look: when its ping must be answered, or
// when it will have been silent for long enough. mu is held.
func (e *Engine) due(s *Socket) time.Duration {
	heard := time.Duration(s.wire.heard.Load())
	if s.pinged != 0 && heard < s.pinged {
		return s.pinged + e.opts.PongTimeout
	}
	s.pinged = 0
	return heard + e.opts.PingInterval - s.phase
}

// hang puts s into the slot of the first tick that is not before due. mu is held.
func (e *Engine) hang(s *Socket, due time.Duration) {
	s.slot = 0
	if e.tick > 0 {
		tick := int64((due + e.tick - 1) / e.tick)
		tick = min(max(tick, e.swept+1), e.swept+int64(len(e.wheel))-1)
		s.slot = int(tick % int64(len(e.wheel)))
	}
	head := e.wheel[s.slot]
	s.prev, s.next = nil, head
	if head != nil {
		head.prev = s
	}
	e.wheel[s.slot] = s
}

// unhang takes s out of its slot. mu is held.
func (e *Engine) unhang(s *Socket) {
	if s.prev != nil {
		s.prev.next = s.next
	} else if e.wheel[s.slot] == s {
		e.wheel[s.slot] = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
}

// sweep runs until there are no sockets or Close is called.
func (e *Engine) sweep(done chan struct{}) {
	defer close(done)
	ticker := time.NewTicker(e.tick)
	defer ticker.Stop()
	var silent, lost []*Socket
	for {
		select {
		case <-e.stop:
			return
		case <-ticker.C:
		}
		var more bool
		if silent, lost, more = e.look(silent[:0], lost[:0]); !more {
			return
		}
		for _, s := range lost {
			s.wire.fail(consumer.StatusAbnormalClosure, "no answer to a ping for "+e.opts.PongTimeout.String())
		}
		for _, s := range silent {
			s.wire.ping()
		}
		clear(silent)
		clear(lost)
	}
}

// look works through the ticks that have passed, and collects the sockets that
// are to be pinged and those that are lost: neither is done under the lock. more
// is false when there are no sockets, and then the sweeper is no longer running.
func (e *Engine) look(silent, lost []*Socket) (_, _ []*Socket, more bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == 0 {
		e.sweeper = nil
		return silent, lost, false
	}
	now := e.now()
	for last := int64(now / e.tick); e.swept < last; {
		e.swept++
		slot := e.swept % int64(len(e.wheel))
		s := e.wheel[slot]
		e.wheel[slot] = nil
		for s != nil {
			next := s.next
			due := e.due(s)
			switch {
			case due > now:
			case s.pinged != 0 && !s.wire.away.Load():
				lost = append(lost, s)
				due = now + e.opts.PingInterval
			default:
				silent = append(silent, s)
				s.pinged = now
				due = now + e.opts.PongTimeout
			}
			// An answer makes the next ping due sooner than the look for it.
			e.hang(s, min(due, now+e.opts.PingInterval))
			s = next
		}
	}
	return silent, lost, true
}
