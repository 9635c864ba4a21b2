package socket

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// errEnded is what the library hears once the verdict stands.
var errEnded = errors.New("socket: the connection ended")

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// wire is the net.Conn that the library is given in place of the hijacked one.
// Its Read judges what the client sends; its Write gets the library's control
// frames only. Messages come by offer and send.
type wire struct {
	// mu guards what follows, up to the reader's part, and the order of all
	// that is written. Nothing that may wait is called while it is held.
	//
	// A delivery to a client that reads needs the first 64 bytes alone.
	mu       sync.Mutex
	verdict  *consumer.CloseError // why the connection ended; nothing is queued after it
	e        *Engine              // constant
	queued   int                  // bytes in queue and in flight
	fd       int32                // for sendNow, recvNow and the poller; -1 is none
	inFlight int32                // bytes that the flush goroutine is writing
	deflates bool                 // compression was agreed on; constant
	dead     bool                 // the transport is of no more use
	partial  bool                 // queue begins with the rest of a frame
	flushing bool                 // the flush goroutine runs, and owns the socket
	polled   bool                 // the poller knows the descriptor
	queue    []piece              // what the socket did not take
	places   *places              // of the values in queue; nil while there are none
	parked   func()               // to be run when there is something to read; nil while somebody reads
	drainBy  time.Duration        // when the queue of an ended connection must be gone
	moved    chan struct{}        // closed when the queue gets shorter; nil while nobody waits

	net.Conn // what was hijacked; constant

	heard atomic.Int64 // when the client was last known to live, on the engine's clock
	away  atomic.Bool  // nobody reads, so that a silence says nothing

	// The reader's part: used by the goroutine in Read, Poll or Release alone.
	fresh  bool          // Poll was not called yet
	nowait bool          // between messages Read does not wait
	idle   bool          // and so found nothing
	dry    bool          // nothing is left in the kernel's buffer, as far as is known
	early  *[]byte       // what the client sent behind its handshake; nil once it is read
	left   time.Duration // when away began
	armed  time.Duration // the read deadline; 0 is none
	parkAt time.Duration // until when a client that has sent something is waited for, though nowait; 0 is not at all
	in     inbound
}

// readLimit is the limit of a message's size as the library sees it.
func (w *wire) readLimit() int64 {
	if w.in.deflate != nil {
		return w.e.limits.compressed
	}
	return w.e.opts.ReadLimit
}

// offer queues b, and ends the connection when there is no room.
func (w *wire) offer(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict != nil {
		return w.verdict
	}
	if !w.fits(len(b), w.e.opts.MaxQueueBytes) {
		w.slow()
		return w.verdict
	}
	w.push(b)
	return nil
}

// tryOffer queues b, and reports false when there is no room.
func (w *wire) tryOffer(b []byte) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict != nil {
		return false, w.verdict
	}
	if !w.fits(len(b), w.e.opts.MaxQueueBytes) {
		return false, nil
	}
	w.push(b)
	return true, nil
}

// room returns nil when at most a quarter of the queue is used, or else a channel
// that is closed when it is worth looking again.
func (w *wire) room() (wait <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict != nil {
		return nil, w.verdict
	}
	if w.queued == 0 || w.fits(0, w.e.opts.MaxQueueBytes/4) {
		return nil, nil
	}
	return w.waiter(), nil
}

// trySend queues b when it fits half of the queue. Otherwise it returns a
// channel that is closed when it is worth trying again.
func (w *wire) trySend(b []byte) (wait <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict != nil {
		return nil, w.verdict
	}
	if !w.fits(len(b), w.e.opts.MaxQueueBytes/2) {
		return w.waiter(), nil
	}
	w.push(b)
	return nil, nil
}

// leastPiece is what a piece of the queue counts at least. Without it a queue of
// 1 MiB could be a quarter of a million messages of two bytes, which take 10 MB.
const leastPiece = 64

// fits reports whether n more bytes may be queued, in one more piece, where most
// bytes may be. mu is held.
func (w *wire) fits(n, most int) bool {
	return w.queued == 0 || w.queued+n <= most && len(w.queue) < most/leastPiece
}

// waiter returns a channel that the next progress closes. mu is held.
func (w *wire) waiter() <-chan struct{} {
	if w.moved == nil {
		w.moved = make(chan struct{})
	}
	return w.moved
}

// progress wakes whoever waits. mu is held.
func (w *wire) progress() {
	if w.moved != nil {
		close(w.moved)
		w.moved = nil
	}
}

// push writes b, or queues what the socket does not take. mu is held, and there
// is no verdict.
func (w *wire) push(b []byte) {
	if !w.flushing {
		n := sendNow(int(w.fd), b)
		if n == len(b) {
			return
		}
		b, w.partial = b[n:], n > 0
	}
	w.enqueue(b, "")
}

// pushFront is push for a ping or a pong, which may overtake whole frames: a
// client that works through a long queue still answers in time. mu is held.
func (w *wire) pushFront(b []byte) {
	if len(w.queue) == 0 {
		w.push(b)
		return
	}
	at := 0
	if w.partial {
		at = 1
	}
	w.insert(at, b)
}

// Write queues one control frame of the library's, which reuses p. It never
// waits and, as long as the connection is open, never fails.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.verdict != nil: // nothing may follow a close frame (RFC 6455, section 5.5.1)
		return len(p), nil
	case opcode(p[0]&0x0f) == opClose:
		w.end(parseClose(p))
	case !w.fits(len(p), w.e.opts.MaxQueueBytes):
		w.slow()
	default:
		w.pushFront(slices.Clone(p))
	}
	return len(p), nil
}

// Close is called by the library when it gives up. Only free closes the socket.
// Without a verdict it is the library's own five seconds for the payload of a
// control frame that ran out.
func (w *wire) Close() error {
	w.close(consumer.StatusPolicyViolation, "a control frame was not complete in time")
	return nil
}

// close ends the connection with our close frame, unless it has ended already,
// and returns why it ended.
func (w *wire) close(code consumer.StatusCode, reason string) *consumer.CloseError {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict == nil {
		w.end(sendable(code, reason))
	}
	return w.verdict
}

// fail ends the connection without a close frame, at once; a verdict that
// stands already, stays.
func (w *wire) fail(code consumer.StatusCode, reason string) *consumer.CloseError {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict == nil {
		w.verdict = &consumer.CloseError{Code: code, Reason: reason}
	}
	w.kill()
	return w.verdict
}

// lost ends the connection because reading failed, and returns why it ended.
func (w *wire) lost() *consumer.CloseError {
	if v := w.ended(); v != nil {
		return v
	}
	return w.fail(consumer.StatusAbnormalClosure, "the connection was lost")
}

// closeSlow ends the connection as slow, unless it has ended already, and
// returns why it ended.
func (w *wire) closeSlow() *consumer.CloseError {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict == nil {
		w.slow()
	}
	return w.verdict
}

// ended returns the verdict, nil while the connection is open.
func (w *wire) ended() *consumer.CloseError {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.verdict
}

// ping sends one, ahead of what is queued.
func (w *wire) ping() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict == nil {
		w.pushFront(pingFrame)
	}
}

// end makes v the verdict, sends its close frame behind what is queued, and
// stops the reader. mu is held, and there is no verdict.
func (w *wire) end(v *consumer.CloseError) {
	w.drainBy = w.e.now() + w.e.opts.WriteTimeout
	w.push(closeFrame(v))
	w.verdict = v
	w.SetReadDeadline(past)
	w.progress()
	w.unpark()
}

// slow ends the connection of a client that does not read. What was not begun
// is dropped: the close frame says more, sooner. mu is held, and there is no
// verdict.
func (w *wire) slow() {
	keep := 0
	if w.partial {
		keep = 1
	}
	clear(w.queue[keep:])
	w.queue, w.places = w.queue[:keep], nil
	w.queued = int(w.inFlight)
	for _, p := range w.queue {
		w.queued += len(p.b)
	}
	w.end(&consumer.CloseError{Code: consumer.StatusSlowConsumer, Reason: "the client did not read what was sent to it"})
	w.drainBy = w.e.now() + w.e.opts.CloseTimeout
	w.SetWriteDeadline(w.e.at(w.drainBy))
}

// kill drops everything and wakes the reader and the flush goroutine. mu is
// held, and there is a verdict.
func (w *wire) kill() {
	w.dead = true
	w.queue, w.places, w.queued, w.partial = nil, nil, 0, false
	w.SetDeadline(past)
	w.progress()
	w.unpark()
}
