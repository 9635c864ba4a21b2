package socket

import (
	"slices"

	"github.com/tideway-go/tideway/consumer"
)

const (
	// valuesChunk takes chunk's place while values are queued: what the flush
	// goroutine has taken is replaced no more.
	valuesChunk = 16 << 10

	// valuesNotSent takes notSent's place on a connection that lagged with
	// values, which grow old in the kernel's buffer. A client that reads 20 of
	// 100 KB/s gets values that are 2.9 s old on average, with notSent and chunk
	// 4.9 s; the rest is in its own buffer.
	valuesNotSent = 16 << 10
)

// piece is a part of what waits for the socket: whole frames, or the rest of one.
type piece struct {
	b   []byte
	key string // of the value that it is; "" of all else
}

// places says where in a queue the values are.
type places struct {
	of   map[string]int // by key, counted from where the queue began
	gone int            // how many pieces have left its head since
}

// OfferLatest queues values and never waits. One whose key has an older value in
// the queue takes its place; one whose key is "" has no older or newer one. When
// more than Options.MaxQueueBytes would be queued, the connection is closed as
// slow. It returns how many were replaced; the error is a *consumer.CloseError.
// It allocates nothing while the peer reads.
func (s *Socket) OfferLatest(v *consumer.Values) (replaced int, err error) {
	w := &s.wire
	if done, err := w.offerNow(s.frames(v.All)); done {
		return 0, err
	}
	forms := make([][]byte, len(v.Each)) // not under mu: they may have to be compressed
	for i, p := range v.Each {
		forms[i] = s.frames(p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := 0; i < len(forms) && w.verdict == nil; i++ {
		if w.pushValue(forms[i], v.Keys[i]) {
			replaced++
		}
	}
	if w.verdict != nil {
		return replaced, w.verdict
	}
	return replaced, nil
}

// offerNow writes b if nothing is queued and the socket takes it, or the first
// part of it: the rest is queued then.
func (w *wire) offerNow(b []byte) (done bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.verdict != nil:
		return true, w.verdict
	case w.flushing:
		return false, nil
	}
	n := sendNow(int(w.fd), b)
	if n > 0 && n < len(b) {
		w.partial = true
		w.enqueue(b[n:], "")
	}
	return n > 0, nil
}

// pushValue queues a value, and reports whether it took an older one's place. Mu
// is held, and there is no verdict.
func (w *wire) pushValue(b []byte, key string) (replaced bool) {
	if i, ok := w.place(key); ok {
		old := &w.queue[i]
		if !w.fits(len(b)-len(old.b), w.e.opts.MaxQueueBytes) {
			w.slow()
			return false
		}
		w.queued += len(b) - len(old.b)
		old.b = b
		return true
	}
	if !w.fits(len(b), w.e.opts.MaxQueueBytes) {
		w.slow()
		return false
	}
	if key != "" {
		if w.places == nil {
			w.places = &places{of: map[string]int{}}
			keepLess(int(w.fd), valuesNotSent)
		}
		w.places.of[key] = len(w.queue) + w.places.gone
	}
	w.enqueue(b, key)
	return false
}

// place returns the index in the queue of a key's value. Mu is held.
func (w *wire) place(key string) (i int, ok bool) {
	if w.places == nil || key == "" {
		return 0, false
	}
	i, ok = w.places.of[key]
	return i - w.places.gone, ok
}

// cut removes the first k pieces from the queue, of which the last stays with
// rest, unless that is empty. Mu is held.
func (w *wire) cut(k int, rest []byte) {
	if w.places != nil {
		for _, p := range w.queue[:k] {
			delete(w.places.of, p.key)
		}
	}
	if w.partial = len(rest) > 0; w.partial {
		k--
		w.queue[k] = piece{b: rest}
	}
	clear(w.queue[:k])
	w.queue = w.queue[k:]
	if w.places != nil {
		w.places.gone += k
	}
}

// insert puts b into the queue, in front of the piece at. Mu is held.
func (w *wire) insert(at int, b []byte) {
	w.queue = slices.Insert(w.queue, at, piece{b: b})
	w.queued += len(b)
	if w.places != nil { // all values stand behind it
		w.places.gone--
	}
}

// enqueue appends a piece to the queue. Mu is held.
func (w *wire) enqueue(b []byte, key string) {
	w.queue = append(w.queue, piece{b, key})
	w.queued += len(b)
	w.startFlush()
}
