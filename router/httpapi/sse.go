package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// muchOut is how many bytes are collected before they are written.
const muchOut = 32 << 10

// errGone says that the client is gone.
var errGone = errors.New("httpapi: the client is gone")

// eventWriter writes server-sent events (WHATWG HTML, section 9.2). It collects
// until a flush.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	b       bytes.Buffer
	wrote   time.Time
}

func newEventWriter(w http.ResponseWriter, timeout time.Duration) *eventWriter {
	return &eventWriter{w: w, control: http.NewResponseController(w), timeout: timeout}
}

// begin sends the head of the response. Its error is an answer: nothing has been
// sent.
func (e *eventWriter) begin() error {
	// The deadline of the server is for ordinary responses.
	if err := e.control.SetWriteDeadline(time.Now().Add(e.timeout)); err != nil {
		return fmt.Errorf("no write deadlines through a %T: %w", e.w, err)
	}
	h := e.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx would collect
	h.Set("X-Content-Type-Options", "nosniff")
	if err := e.control.Flush(); errors.Is(err, http.ErrNotSupported) {
		h.Del("X-Accel-Buffering")
		return fmt.Errorf("no streaming through a %T: %w", e.w, err)
	}
	e.wrote = time.Now()
	return nil
}

// flush sends what was collected, and waits until the client or the network took
// it: for the timeout at most, then it is os.ErrDeadlineExceeded.
func (e *eventWriter) flush() error {
	if e.b.Len() == 0 {
		return nil
	}
	err := e.control.SetWriteDeadline(time.Now().Add(e.timeout))
	if err == nil {
		_, err = e.w.Write(e.b.Bytes())
	}
	if err == nil {
		err = e.control.Flush()
	}
	e.b.Reset()
	if e.b.Cap() > 4*muchOut {
		e.b = bytes.Buffer{}
	}
	e.wrote = time.Now()
	if err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

// flushMuch is flush if much was collected.
func (e *eventWriter) flushMuch() error {
	if e.b.Len() < muchOut {
		return nil
	}
	return e.flush()
}

// quiet returns how long it is until nothing was written for that long.
func (e *eventWriter) quiet(most time.Duration) time.Duration {
	return max(0, most-time.Since(e.wrote))
}

// eventKey is under which a message keeps its form as an event.
type eventKey struct{}

// message collects a message. What it looks like is the same for all who get it.
func (e *eventWriter) message(m *layer.Message) {
	e.b.Write(m.Once(eventKey{}, func(m *layer.Message) any { return appendMessage(nil, m) }).([]byte))
}

// appendMessage writes a message as an event, with its position as the id. JSON
// has line ends between tokens only, where a reader may find another one.
func appendMessage(b []byte, m *layer.Message) []byte {
	if !m.Position.IsZero() {
		b = append(b, "id: "...)
		b, _ = m.Position.AppendText(b) // it has no way to fail
		b = append(b, '\n')
	}
	b = append(b, "data: "...)
	for i, c := range m.Data {
		switch {
		case c == '\n' && i > 0 && m.Data[i-1] == '\r':
		case c == '\n' || c == '\r':
			b = append(b, "\ndata: "...)
		default:
			b = append(b, c)
		}
	}
	return append(b, "\n\n"...)
}

// id collects the id from which the client resumes, without an event.
func (e *eventWriter) id(id string) { e.b.WriteString("id: " + id + "\n\n") }

// gap collects the word that messages are missing, and cannot be had.
func (e *eventWriter) gap(reason layer.GapReason, at layer.Position) {
	_ = e.json("gap", at, map[string]layer.GapReason{"reason": reason}) // it is JSON
}

// retry collects the time after which the client comes back when the stream ends.
func (e *eventWriter) retry(after time.Duration) {
	fmt.Fprintf(&e.b, "retry: %d\n\n", after.Milliseconds())
}

// farewell ends a stream because the server does, and says when to come back: not
// all at once.
func (e *eventWriter) farewell() {
	e.retry(soonestReturn + rand.N(latestReturn-soonestReturn))
	_ = e.flush() // the client may be gone
}

// json collects a value as an event of that name, "" for the usual one.
func (e *eventWriter) json(name string, at layer.Position, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if name != "" {
		e.b.WriteString("event: " + name + "\n")
	}
	if !at.IsZero() {
		e.b.WriteString("id: " + at.String() + "\n")
	}
	e.b.WriteString("data: " + string(data) + "\n\n")
	return nil
}

// comment collects what clients do not see.
func (e *eventWriter) comment(text string) { e.b.WriteString(":" + text + "\n\n") }

// gaps notes that messages were missed, until somebody sees to it.
type gaps struct {
	mu     sync.Mutex // guards gapped
	gapped layer.GapReason
}

func (g *gaps) takeGap() layer.GapReason {
	g.mu.Lock()
	defer g.mu.Unlock()
	reason := g.gapped
	g.gapped = ""
	return reason
}

var _ layer.GapTap = (*stream)(nil)

// Offer declines: a write may wait for the client, and the channel has room.
func (s *stream) Offer(*layer.Batch) bool { return false }

// Wake says that messages wait in the channel.
func (s *stream) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Gapped says that messages are missing from the channel.
func (s *stream) Gapped(g layer.Gap) {
	s.mu.Lock()
	s.gapped = g.Reason
	s.mu.Unlock()
	s.Wake()
}
