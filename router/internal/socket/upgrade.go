package socket

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
)

// The buffers that the library keeps for a connection's life. A message that is
// larger than the first is read straight into its own memory; the second must
// hold one whole control frame, header included, to reach wire.Write as one.
const (
	readBuffer  = 512
	writeBuffer = 131
)

// Upgrade completes the handshake with the headers that are in w.Header(), and
// with subprotocol, which the client must have offered ("" is none). Origin and
// host are the caller's to check before. On an error it has answered the
// request: with 426, 405 or 400 to one that is no handshake, with 501 where w
// gives no access to the connection, with 503 after Close.
//
// It may be called from any goroutine while the HTTP handler waits; the handler
// should return right after, which is what frees net/http's memory. The Socket
// must be read until Read fails, and then released.
func (e *Engine) Upgrade(w http.ResponseWriter, r *http.Request, subprotocol string) (*Socket, error) {
	if err := e.refuse(w, r, subprotocol); err != nil {
		return nil, err
	}
	h := &hijacker{ResponseWriter: w, e: e}
	opts := &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled}
	if e.opts.DeflateFrom > 0 {
		opts.CompressionMode = websocket.CompressionNoContextTakeover
	}
	w.Header().Del(extensions) // the library's to say
	if subprotocol != "" {
		opts.Subprotocols = []string{subprotocol}
	}
	ws, err := websocket.Accept(h, r, opts)
	if err != nil && !errors.Is(err, errParts) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	s := h.socket
	s.wire.in.patient = subprotocol == consumer.Protocol
	if w.Header().Get(extensions) != "" {
		s.wire.deflates, s.wire.in.deflate = true, new(deflation)
	}
	if s.reader != nil {
		s.reader.ws = ws
		ws.SetReadLimit(s.wire.readLimit())
	}
	if !e.add(s) {
		s.wire.close(consumer.StatusGoingAway, "")
	}
	return s, nil
}

// extensions is the header in which the library says what it agreed to: to
// permessage-deflate or to nothing.
const extensions = "Sec-WebSocket-Extensions"

// refuse answers requests that the library would answer too late or not
// clearly enough.
func (e *Engine) refuse(w http.ResponseWriter, r *http.Request, subprotocol string) error {
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	switch {
	case closed:
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return ErrEngineClosed
	case r.ProtoMajor > 1:
		http.Error(w, "WebSocket needs HTTP/1.1", http.StatusUpgradeRequired)
		return fmt.Errorf("socket: a handshake over %s: WebSocket needs HTTP/1.1; turn HTTP/2 off for this server or between the proxy and it", r.Proto)
	case subprotocol != "" && !offered(r, subprotocol):
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return fmt.Errorf("socket: the subprotocol %q was not offered by the client, which offered %q: choose one of those, or none",
			subprotocol, r.Header.Values("Sec-WebSocket-Protocol"))
	}
	if stuck := noHijacker(w); stuck != nil {
		http.Error(w, http.StatusText(http.StatusNotImplemented), http.StatusNotImplemented)
		return fmt.Errorf("socket: the connection cannot be taken over: the http.ResponseWriter %T has neither Hijack() nor Unwrap() http.ResponseWriter; "+
			"add Unwrap to it, or take its middleware (such as http.TimeoutHandler) off this route", stuck)
	}
	return nil
}

// offered reports whether the client's handshake names the subprotocol.
func offered(r *http.Request, subprotocol string) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(p), subprotocol) {
				return true
			}
		}
	}
	return false
}

// noHijacker returns the ResponseWriter at which the search for a Hijacker
// ends without one, or nil where there is one.
func noHijacker(w http.ResponseWriter) http.ResponseWriter {
	for {
		switch t := w.(type) {
		case http.Hijacker:
			return nil
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return w
		}
	}
}
