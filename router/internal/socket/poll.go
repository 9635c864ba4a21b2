package socket

import (
	"errors"

	"github.com/tideway-go/tideway/consumer"
)

// errIdle is what the library hears when no message has begun to arrive, and
// nobody waits for one. It does not end the library's Conn.
var errIdle = errors.New("socket: nothing to read")

// Poll is Read for a caller that will not wait for a client's next message. It
// returns a message and true, or the final error, as Read does; for the rest of
// a message that has begun it waits. When there is none, it returns false, and
// ready is called, once and on a goroutine of its own, as soon as there is
// something to read or the connection has ended: then Poll again. Until then
// nobody calls Read, Poll or Release. Without Options.Polling, and where a
// connection cannot be polled, Poll waits, and returns false the first time only:
// ready is then called at once.
func (s *Socket) Poll(ready func()) (f consumer.Frame, ok bool, err error) {
	w := &s.wire
	w.nowait = w.polls()
	if w.fresh {
		// A client has hardly said a word as long as its handshake is unanswered. Who
		// has been read from, with Read, may have more in the reader.
		w.fresh = false
		if !w.nowait || w.early != nil || s.reader != nil || !w.park(ready) {
			go ready()
		}
		return consumer.Frame{}, false, nil
	}
	for {
		f, err = s.read()
		if err != errIdle {
			return f, err == nil, err
		}
		w.dry = false
		w.e.readers.giveBack(s.reader)
		s.reader = nil
		if w.park(ready) {
			return consumer.Frame{}, false, nil
		}
		w.nowait = false // it ended meanwhile, or the system has no more room for it
	}
}

// polls reports whether the poller can watch the connection.
func (w *wire) polls() bool { return w.e.opts.Polling && w.fd >= 0 }

// park has the poller call ready. When it returns true, another goroutine may be
// reading already.
func (w *wire) park(ready func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict != nil {
		return false
	}
	w.parked = ready
	if !w.e.poller.arm(w) {
		w.parked = nil
		return false
	}
	return true
}

// wake is called by the poller: something happened on the descriptor.
func (w *wire) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unpark()
}

// unpark lets reading go on, if nobody reads. mu is held.
func (w *wire) unpark() {
	if ready := w.parked; ready != nil {
		w.parked = nil
		go ready()
	}
}
