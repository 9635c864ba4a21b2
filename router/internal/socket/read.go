package socket

import (
	"errors"
	"os"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// maxLinger is how many bytes of a peer that goes on sending are thrown away
// while its close frame is awaited.
const maxLinger = 4 << 20

// caughtUp is how long a read must have waited to show that nothing was waiting
// for us.
const caughtUp = 10 * time.Millisecond

// back is called when the reader reads again, after leave. A client must not
// pay for the time in which nobody read: its pongs, the rest of its message and
// all that it sent at a lawful rate wait in the kernel.
func (w *wire) back() {
	if !w.away.Load() {
		return
	}
	now := w.e.now()
	w.in.slack += now - w.left
	if w.in.busy {
		w.in.since = now
	}
	w.heard.Store(int64(now))
	w.away.Store(false)
	if w.nowait && w.parkAt < now {
		w.parkAt = w.lingerUntil(now)
	}
}

// lingerUntil is until when a client is waited for that sent a message just
// before now, 0 where that is over.
func (w *wire) lingerUntil(now time.Duration) time.Duration {
	if until := w.left + w.e.stay; until > now {
		return until
	}
	return 0
}

// leave is called when the reader has a message to work on.
func (w *wire) leave() {
	w.left = w.e.now()
	w.away.Store(true)
}

// Read gives the library what the client sent, up to the first frame that
// breaks a rule. That is left for the next call, so that the messages before it
// are delivered; it ends the connection.
func (w *wire) Read(p []byte) (int, error) {
	if bad := w.in.bad; bad != nil {
		w.close(bad.Code, bad.Reason)
	}
	if !w.arm() {
		return 0, errEnded
	}
	before := w.e.now()
	n, err := w.take(p)
	if n == 0 {
		if w.idle {
			w.in.slack = 0
			return 0, err
		}
		return 0, w.readFailed(err)
	}
	now := w.e.now()
	if now-before > caughtUp {
		w.in.slack = 0
	}
	w.heard.Store(int64(now))
	good := w.in.feed(p[:n], now, &w.e.limits)
	if good == 0 {
		w.close(w.in.bad.Code, w.in.bad.Reason)
		return 0, errEnded
	}
	return good, nil
}

// take reads what came early, then from the transport.
func (w *wire) take(p []byte) (int, error) {
	if w.early == nil {
		if w.nowait && !w.in.busy {
			return w.takeSoon(p)
		}
		w.dry = false
		return w.Conn.Read(p)
	}
	n := copy(p, *w.early)
	if *w.early = (*w.early)[n:]; len(*w.early) == 0 {
		w.early = nil
	}
	return n, nil
}

// takeSoon reads what comes before it is time to park. A client that sends much
// is not worth a wake-up for each message. The deadline is moved when it passes,
// not with each message.
func (w *wire) takeSoon(p []byte) (int, error) {
	for w.parkAt != 0 {
		w.dry = false
		n, err := w.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		w.parkAt = w.lingerUntil(w.e.now())
		if !w.arm() {
			return 0, errEnded
		}
	}
	return w.takeNow(p)
}

// takeNow reads from the transport what is there, or returns errIdle.
func (w *wire) takeNow(p []byte) (int, error) {
	if !w.dry {
		n, wait := recvNow(int(w.fd), p)
		if n > 0 {
			w.dry = n < len(p)
			return n, nil
		}
		if !wait {
			return w.Conn.Read(p) // which says what it is: the end, or an error
		}
	}
	w.idle = true
	return 0, errIdle
}

// arm sets the read deadline: while a message is incomplete that for its end, and
// between messages that for parking, if any. It reports false once the connection has ended: then the
// deadline is Close's.
func (w *wire) arm() bool {
	want := time.Duration(0)
	switch {
	case w.in.busy && w.e.opts.MessageTimeout > 0:
		want = w.in.since + w.e.opts.MessageTimeout
	case !w.in.busy && w.nowait:
		want = w.parkAt
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict != nil {
		return false
	}
	if want != w.armed {
		w.armed = want
		var by time.Time
		if want != 0 {
			by = w.e.at(want)
		}
		w.SetReadDeadline(by)
	}
	return true
}

// readFailed returns the error for the library, after it ended the connection
// when the deadline that passed was the message's.
func (w *wire) readFailed(err error) error {
	if w.in.busy && w.armed != 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		w.close(consumer.StatusPolicyViolation, "a message was not complete "+w.e.opts.MessageTimeout.String()+" after its first byte")
	}
	return err
}

// linger reads on until the peer's close frame has come, or its end, or
// CloseTimeout has passed: a socket that is closed with bytes unread is reset,
// and a reset may take our close frame from the peer's hands.
func (w *wire) linger() {
	buf := make([]byte, 1024)
	until := w.e.at(w.e.now() + w.e.opts.CloseTimeout)
	for left := maxLinger; left > 0 && !w.in.closed; {
		w.mu.Lock()
		dead := w.dead
		if !dead {
			w.SetReadDeadline(until)
		}
		w.mu.Unlock()
		if dead {
			return
		}
		n, err := w.take(buf)
		if n == 0 && err != nil {
			return
		}
		w.in.feed(buf[:n], w.e.now(), &limits{message: -1})
		left -= n
	}
}
