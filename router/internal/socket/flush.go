package socket

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"

	"github.com/tideway-go/tideway/consumer"
)

// chunk is the most that one write of the flush goroutine takes, so that pings
// and close frames need not wait for the whole queue, and so that the write
// deadline measures progress.
const chunk = 128 << 10

// startFlush starts the flush goroutine unless it runs. It ends when the queue
// is empty; Release waits for it. mu is held.
func (w *wire) startFlush() {
	if !w.flushing {
		w.flushing = true
		go w.flush()
	}
}

func (w *wire) flush() {
	for {
		batch := w.nextBatch()
		if batch == nil {
			return
		}
		w.wrote(w.writeBatch(batch))
	}
}

// nextBatch takes at most a chunk off the queue, and sets the deadline for
// writing it. nil is the end of flushing.
func (w *wire) nextBatch() net.Buffers {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead || len(w.queue) == 0 {
		w.queue, w.places, w.flushing = nil, nil, false
		w.progress()
		return nil
	}
	most := chunk
	if w.places != nil {
		most = valuesChunk
	}
	n, k := 0, 0
	for k < len(w.queue) && n < most {
		n += len(w.queue[k].b)
		k++
	}
	batch := make(net.Buffers, k)
	for i := range batch {
		batch[i] = w.queue[i].b
	}
	var rest []byte
	if over := n - most; over > 0 { // cut the last frame, and leave its rest
		last := batch[k-1]
		batch[k-1], rest = last[:len(last)-over], last[len(last)-over:]
		n = most
	}
	w.cut(k, rest)
	w.inFlight = int32(n)
	by := w.e.now() + w.e.opts.WriteTimeout
	if w.verdict != nil {
		by = min(by, w.drainBy)
	}
	w.SetWriteDeadline(w.e.at(by))
	return batch
}

// writeBatch writes with one writev where the transport has it, and with one
// write (under TLS, few records) where it has not.
func (w *wire) writeBatch(batch net.Buffers) error {
	switch w.Conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		_, err := batch.WriteTo(w.Conn)
		return err
	}
	joined := batch[0]
	if len(batch) > 1 {
		joined = slices.Concat(batch...)
	}
	_, err := w.Conn.Write(joined)
	return err
}

// wrote books what the flush goroutine wrote. A frame of which only a part was
// written leaves the connection of no use.
func (w *wire) wrote(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queued = max(0, w.queued-int(w.inFlight))
	w.inFlight = 0
	if err == nil {
		w.progress()
		return
	}
	if w.verdict == nil {
		w.verdict = &consumer.CloseError{Code: consumer.StatusAbnormalClosure, Reason: "the connection was lost"}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.verdict = &consumer.CloseError{Code: consumer.StatusSlowConsumer, Reason: "the client read nothing for " + w.e.opts.WriteTimeout.String()}
		}
	}
	w.kill()
}

// drained waits until the flush goroutine has ended, which its deadlines see to.
func (w *wire) drained() {
	for {
		w.mu.Lock()
		if !w.flushing {
			w.mu.Unlock()
			return
		}
		wait := w.waiter()
		w.mu.Unlock()
		<-wait
	}
}

// free closes the socket. Where the peer did not take what was sent, the kernel
// shall not keep it either: it resets the connection.
func (w *wire) free() {
	w.mu.Lock()
	lost := w.dead
	fd := int(w.fd)
	w.dead, w.fd = true, -1
	w.mu.Unlock()
	if w.polled {
		w.e.poller.forget(fd)
	}
	c := w.Conn
	if t, ok := c.(*tls.Conn); ok && lost { // its Close would wait to say goodbye
		c = t.NetConn()
	}
	if t, ok := c.(*net.TCPConn); ok && lost {
		t.SetLinger(0)
	}
	c.Close()
}
