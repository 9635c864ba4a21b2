package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// patience is for a loaded machine.
const patience = 30 * time.Second

// event is one event of a stream, as a browser reads it.
type event struct{ id, name, data string }

// eventReader reads a stream of events as WHATWG HTML, section 9.2.6, says.
type eventReader struct {
	from  io.Reader
	lines *bufio.Scanner
	last  string // the last event id
	retry string
	beats int // comments
}

func newEventReader(r io.Reader) *eventReader {
	e := &eventReader{from: r, lines: bufio.NewScanner(r)}
	e.lines.Buffer(nil, 8<<20)
	return e
}

// next returns the next event that has data.
func (e *eventReader) next() (event, error) {
	ev, data := event{name: "message"}, []string(nil)
	for e.lines.Scan() {
		field, value, _ := strings.Cut(e.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case e.lines.Text() == "" && data == nil:
			ev = event{name: "message"}
		case e.lines.Text() == "":
			ev.id, ev.data = e.last, strings.Join(data, "\n")
			return ev, nil
		case field == "":
			if e.beats++; e.beats > 500 {
				return ev, errors.New("500 heartbeats, and no event")
			}
		case field == "id":
			e.last = value
		case field == "event":
			ev.name = value
		case field == "data":
			data = append(data, value)
		case field == "retry":
			e.retry = value
		}
	}
	if err := e.lines.Err(); err != nil {
		return ev, err
	}
	return ev, io.EOF
}

// client is an HTTP client and where it finds the httpapi.
type client struct {
	*http.Client
	base string
}

// pipes is a network inside the process, which works on a fake clock.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// servePipes serves h without a network. end ends the server and the client, and
// has to be called within a bubble.
func servePipes(h http.Handler) (c *client, end func()) {
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: h}
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve(p)
	}()
	tr := &http.Transport{DialContext: p.dial, DisableCompression: true}
	return &client{&http.Client{Transport: tr}, "http://localhost"}, func() {
		srv.Close()
		<-served
		tr.CloseIdleConnections()
	}
}

// open opens a stream and takes all that comes, whether or not the test is there
// yet; headers are "Name: value". cut ends it.
func (c *client) open(t *testing.T, path string, headers ...string) (e *eventReader, cut func()) {
	t.Helper()
	e, cut = c.openLazily(t, path, headers...)
	ahead := &readAhead{from: e.from, chunks: make(chan []byte, 10_000)}
	go ahead.run()
	return newEventReader(ahead), cut
}

// readAhead reads before anybody asks.
type readAhead struct {
	from   io.Reader
	chunks chan []byte
	err    error // read after chunks is closed
	rest   []byte
}

func (r *readAhead) run() {
	defer close(r.chunks)
	for {
		b := make([]byte, 4096)
		n, err := r.from.Read(b)
		if n > 0 {
			r.chunks <- b[:n]
		}
		if err != nil {
			r.err = err
			return
		}
	}
}

func (r *readAhead) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		chunk, ok := <-r.chunks
		if !ok {
			return 0, r.err
		}
		r.rest = chunk
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// openLazily opens a stream of which the client takes what the test reads.
func (c *client) openLazily(t *testing.T, path string, headers ...string) (e *eventReader, cut func()) {
	t.Helper()
	res := c.get(t, path, headers...)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("%s: got %s, %v: %s", path, res.Status, res.Header, body)
	}
	return newEventReader(res.Body), func() { res.Body.Close() }
}

func (c *client) get(t *testing.T, path string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequest("GET", c.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// post sends a JSON body.
func (c *client) post(t *testing.T, path, body string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequest("POST", c.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// wants fails the test unless these are the next events' data.
func (e *eventReader) wants(t *testing.T, data ...string) {
	t.Helper()
	for _, want := range data {
		got, err := e.next()
		if err != nil || got.data != want {
			t.Fatalf("got %+v (%v), want %s", got, err, want)
		}
	}
}

// line is a message of these tests.
type line struct {
	N int `json:"n"`
}

func (line) MessageType() string { return "line" }

func lineJSON(n int) string { return fmt.Sprintf(`{"type":"line","n":%d}`, n) }

// publish sends lines from one number to another, and returns the place behind
// the last.
func publish(t *testing.T, l *layer.Layer, group string, from, to int) (at layer.Position) {
	t.Helper()
	for n := from; n <= to; n++ {
		r, err := l.Publish(context.Background(), group, line{n}, nil)
		if err != nil {
			t.Fatal(err)
		}
		at = r.Position
	}
	return at
}
