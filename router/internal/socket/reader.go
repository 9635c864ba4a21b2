package socket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// reader is the library's Conn and its buffers, 2.4 KB. Between two messages it
// holds nothing of the client that it read for: compression is not its business,
// and the limits are the wire's. So a silent connection has none, and whoever is
// woken borrows one. It is the net.Conn that the library knows.
type reader struct {
	*wire // for which it reads; nil while nobody has borrowed it
	ws    *websocket.Conn
	br    *bufio.Reader // the library's
	since time.Duration // when it was borrowed
}

// Close is called by the library when it gives up, and when we give it up.
func (r *reader) Close() error {
	if r.wire == nil {
		return nil
	}
	return r.wire.Close()
}

// hijacked is what the library is given as its connection.
func (r *reader) hijacked() (net.Conn, *bufio.ReadWriter, error) {
	r.br = bufio.NewReaderSize(r, readBuffer)
	return r, bufio.NewReadWriter(r.br, bufio.NewWriterSize(r, writeBuffer)), nil
}

const (
	// maxReaders is how many are kept for whoever is woken next.
	maxReaders = 64

	// lendTime is for how long a reader may have been lent to be used again.
	// The library gives a control frame five seconds. If its timer ran out just
	// as the frame was complete, it would close the next borrower's connection.
	lendTime = 4 * time.Second
)

// readers are those that nobody uses. The zero readers is ready for use.
type readers struct {
	mu     sync.Mutex // guards what follows
	free   []*reader
	closed bool
}

// borrow returns a reader for w.
func (p *readers) borrow(w *wire) *reader {
	r := p.take()
	if r == nil {
		r = newReader()
	}
	r.wire, r.since = w, w.e.now()
	r.ws.SetReadLimit(w.readLimit())
	return r
}

func (p *readers) take() *reader {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.free) - 1
	if last < 0 {
		return nil
	}
	r := p.free[last]
	p.free[last] = nil
	p.free = p.free[:last]
	return r
}

// giveBack ends the use of a reader that is between two messages.
func (p *readers) giveBack(r *reader) {
	lent := r.wire.e.now() - r.since
	r.wire = nil
	if lent > lendTime || !p.put(r) {
		r.ws.CloseNow() // or it is never collected
	}
}

func (p *readers) put(r *reader) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.free) == maxReaders {
		return false
	}
	p.free = append(p.free, r)
	return true
}

// close lets go of all that are free, and of those that are given back later.
func (p *readers) close() {
	p.mu.Lock()
	free := p.free
	p.free, p.closed = nil, true
	p.mu.Unlock()
	for _, r := range free {
		r.ws.CloseNow()
	}
}

// newReader makes one with a handshake that nobody sees.
func newReader() *reader {
	r := new(reader)
	ws, err := websocket.Accept(&rehandshake{header: http.Header{}, r: r}, request, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		panic(fmt.Sprintf("socket: the library refuses the engine's own handshake: %v", err)) // the request is a constant
	}
	r.ws = ws
	return r
}

var request = &http.Request{
	Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	Header: http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key":     {"AAAAAAAAAAAAAAAAAAAAAA=="},
	},
}

// rehandshake is a ResponseWriter that answers nobody.
type rehandshake struct {
	header http.Header
	r      *reader
}

func (h *rehandshake) Header() http.Header                          { return h.header }
func (h *rehandshake) Write(p []byte) (int, error)                  { return len(p), nil }
func (h *rehandshake) WriteHeader(int)                              {}
func (h *rehandshake) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.r.hijacked() }

// hijacker slips the wire and small buffers under the library.
type hijacker struct {
	http.ResponseWriter
	e      *Engine
	socket *Socket // once the connection is taken over
}

// errParts tells the library that its Conn is not needed: a connection that will
// be silent at first borrows one when it speaks.
var errParts = errors.New("socket: the handshake is all that is needed")

// WriteHeader passes the library's answer on, but not what it says to errParts.
func (h *hijacker) WriteHeader(status int) {
	if h.socket == nil {
		h.ResponseWriter.WriteHeader(status)
	}
}

// Write is like WriteHeader.
func (h *hijacker) Write(p []byte) (int, error) {
	if h.socket == nil {
		return h.ResponseWriter.Write(p)
	}
	return len(p), nil
}

// Hijack is called by the library, after it wrote the 101 response.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	h.socket = &Socket{}
	w := &h.socket.wire
	w.Conn, w.e, w.fd, w.fresh = c, h.e, int32(descriptor(c)), true
	if len(early) > 0 {
		early = bytes.Clone(early)
		w.early = &early
	}
	now := h.e.now()
	w.heard.Store(int64(now))
	if w.polls() {
		return nil, nil, errParts
	}
	h.socket.reader = &reader{wire: w, since: now}
	return h.socket.reader.hijacked()
}

// WriteHeaderNow passes the library's courtesy to gin on, whose writer only
// notes a status until it is told to send it.
func (h *hijacker) WriteHeaderNow() {
	for w := h.ResponseWriter; ; {
		switch t := w.(type) {
		case interface{ WriteHeaderNow() }:
			t.WriteHeaderNow()
			return
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return
		}
	}
}
