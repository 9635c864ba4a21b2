package socket

import (
	"context"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
)

// Socket is one upgraded connection. One goroutine reads, and calls Release
// after Read's last error; all other methods may be called at the same time from
// many goroutines.
type Socket struct {
	wire wire

	// Used by the reader's goroutine alone.
	reader   *reader // nil while parked
	released bool

	// Guarded by the engine's mu: the place in the sweeper's wheel, and when a
	// ping went out that nothing answered yet (0 is none).
	prev, next *Socket
	slot       int
	phase      time.Duration
	pinged     time.Duration
}

// Read waits for the next message. Its error is always a *consumer.CloseError,
// and final: the peer's code (1005 where it sent none), 1006 when the connection
// was lost, the code of our own Close, after which Read returns at once, or the
// code of the limit that the client broke.
func (s *Socket) Read() (consumer.Frame, error) {
	s.wire.nowait = false
	return s.read()
}

// read returns errIdle, too, where the wire does.
func (s *Socket) read() (consumer.Frame, error) {
	s.wire.idle = false
	if err := s.Err(); err != nil {
		return consumer.Frame{}, err
	}
	s.wire.back()
	if s.reader == nil {
		s.reader = s.wire.e.readers.borrow(&s.wire)
	}
	r := s.reader
	if s.wire.nowait && r.br.Buffered() == 0 {
		// The library's answer to this error would cost allocations.
		if r.br.Peek(1); s.wire.idle {
			return consumer.Frame{}, errIdle
		}
	}
	// The context is never done: an ended one would close the connection, and
	// one that can end costs four allocations a frame.
	typ, data, err := r.ws.Read(context.Background())
	if s.wire.idle {
		return consumer.Frame{}, errIdle
	}
	if err != nil {
		return consumer.Frame{}, s.wire.lost()
	}
	data, bad := s.wire.in.deflate.message(data, s.wire.e.opts.ReadLimit)
	if bad != nil {
		return consumer.Frame{}, s.wire.close(bad.Code, bad.Reason)
	}
	if typ == websocket.MessageText && !utf8.Valid(data) {
		return consumer.Frame{}, s.wire.close(consumer.StatusInvalidPayload, "a text message is not UTF-8")
	}
	s.wire.leave()
	return consumer.Frame{Type: consumer.FrameType(typ), Data: data}, nil
}

// Send queues p. While more than half of Options.MaxQueueBytes is queued, it
// waits for room, so that a consumer's own messages leave the other half to
// Offer. When ctx ends or WriteTimeout passes before there is room, the
// connection is closed as slow. The error is a *consumer.CloseError.
func (s *Socket) Send(ctx context.Context, p *consumer.Prepared) error {
	b := s.frames(p)
	wait, err := s.wire.trySend(b)
	if wait == nil {
		return err
	}
	timeout := time.NewTimer(s.wire.e.opts.WriteTimeout)
	defer timeout.Stop()
	for wait != nil {
		select {
		case <-wait:
			wait, err = s.wire.trySend(b)
		case <-ctx.Done():
			return s.wire.closeSlow()
		case <-timeout.C:
			return s.wire.closeSlow()
		}
	}
	return err
}

// Offer queues p and never waits. When more than Options.MaxQueueBytes would be
// queued, the connection is closed as slow. The error is a
// *consumer.CloseError. It allocates nothing while the peer reads.
func (s *Socket) Offer(p *consumer.Prepared) error { return s.wire.offer(s.frames(p)) }

// TryOffer is Offer that leaves a connection open whose queue has no room: it
// reports whether p was queued.
func (s *Socket) TryOffer(p *consumer.Prepared) (bool, error) { return s.wire.tryOffer(s.frames(p)) }

// AwaitRoom waits until at most a quarter of Options.MaxQueueBytes is queued. Its
// error is ctx's or a *consumer.CloseError, as when the client reads nothing for
// WriteTimeout.
func (s *Socket) AwaitRoom(ctx context.Context) error {
	for {
		wait, err := s.wire.room()
		if wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// frames returns p in the form that was agreed on with the client. The first of
// a message's receivers that agreed to compression does it for all.
func (s *Socket) frames(p *consumer.Prepared) []byte {
	if !s.wire.deflates {
		return p.Bytes()
	}
	return p.Deflated(s.wire.e.opts.DeflateFrom)
}

// Close starts the close handshake and never waits: the close frame goes behind
// what is queued, Read returns, and sends fail from then on. The first call
// counts. The reason is cut to 123 bytes between two characters; a code that
// must not be sent becomes a close frame without a code (1005, 1006) or 1011.
func (s *Socket) Close(code consumer.StatusCode, reason string) { s.wire.close(code, reason) }

// Err returns why the connection ended, as a *consumer.CloseError, or nil while
// it is open.
func (s *Socket) Err() error {
	if v := s.wire.ended(); v != nil {
		return v
	}
	return nil
}

// Lost reports whether the connection is gone without a word that is left to be
// said, so that Release will not wait.
func (s *Socket) Lost() bool {
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	return s.wire.dead && !s.wire.flushing
}

// Queued returns how many bytes wait for the client to read, beyond the
// kernel's buffer.
func (s *Socket) Queued() int {
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	return s.wire.queued
}

// Release ends what is left of the connection and frees it. The reader's
// goroutine calls it, after Read's last error. It waits until the queue and the
// close frame have left, and for the peer's answer, no longer than WriteTimeout
// and CloseTimeout. A connection that is still open is dropped as lost.
func (s *Socket) Release() {
	if s.released {
		return
	}
	s.released = true
	w := &s.wire
	w.nowait = false
	if s.Err() == nil {
		w.fail(consumer.StatusAbnormalClosure, "released while open")
	}
	w.linger()
	w.drained()
	w.free()
	if s.reader != nil {
		s.reader.ws.CloseNow() // or it is never collected
		s.reader = nil
	}
	w.e.remove(s)
	w.e.opts.Logger.LogAttrs(context.Background(), slog.LevelDebug, "socket: connection ended",
		slog.Int("code", int(w.verdict.Code)), slog.String("reason", w.verdict.Reason))
}
