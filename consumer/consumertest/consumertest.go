// Package consumertest tests consumers as Channels' WebsocketCommunicator does:
// a client on an in-memory socket, through the whole stack, from the router's
// checks to the frames on the wire. Nothing of it touches the network, so a test
// may run in a bubble of testing/synctest, where seconds pass at once.
//
//	synctest.Test(t, func(t *testing.T) {
//		bus := membus.New()
//		l, _ := layer.New(bus, nil)
//		defer l.Close(t.Context())
//		r, _ := router.New(l, router.Table{"/ws/chat/{room}/": chat.Consumer}, nil)
//		defer r.Shutdown(t.Context())
//		ann := consumertest.Dial(t, r, "/ws/chat/lobby/", nil)
//		ann.SendJSON(chat.Message{Text: "hi"})
//		var got chat.Message
//		ann.ReceiveJSON(&got)
//	})
package consumertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
)

// Options are the settings of a client. A nil *Options means the defaults.
type Options struct {
	// Header is added to the handshake: Origin, Cookie, Authorization.
	Header http.Header

	// Host is the name by which the client addresses the server. Default
	// "localhost".
	Host string

	// Subprotocols are offered, the best first.
	Subprotocols []string

	// Timeout is how long Receive and the others wait before they fail the
	// test. Default 5 s.
	Timeout time.Duration
}

// Client is one connected client. Its methods fail the test when something
// else happens than was asked for. They are for the test's own goroutine.
type Client struct {
	t       testing.TB
	ws      *websocket.Conn
	header  http.Header
	timeout time.Duration
	frames  chan consumer.Frame // closed when the connection has ended
	end     error               // why; set before frames is closed
}

// Refusal is the answer to a handshake that was refused.
type Refusal struct {
	Status int
	Header http.Header
	Body   string
}

// Dial connects to target, a path with or without a query, of h, and fails the
// test if it is refused. The connection ends with the test.
func Dial(t testing.TB, h http.Handler, target string, opts *Options) *Client {
	t.Helper()
	c, refused := dial(t, h, target, opts)
	if refused != nil {
		t.Fatalf("consumertest: %s was refused with %d: %s", target, refused.Status, refused.Body)
	}
	return c
}

// Refused connects and expects to be refused.
func Refused(t testing.TB, h http.Handler, target string, opts *Options) *Refusal {
	t.Helper()
	_, refused := dial(t, h, target, opts)
	if refused == nil {
		t.Fatalf("consumertest: %s was accepted", target)
	}
	return refused
}

func dial(t testing.TB, h http.Handler, target string, opts *Options) (*Client, *Refusal) {
	t.Helper()
	o := Options{}
	if opts != nil {
		o = *opts
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Host == "" {
		o.Host = "localhost"
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	ws, res, err := websocket.Dial(ctx, "ws://"+o.Host+target, &websocket.DialOptions{
		HTTPClient:   HTTPClient(t, h),
		HTTPHeader:   o.Header,
		Subprotocols: o.Subprotocols,
	})
	if err != nil {
		if res == nil {
			t.Fatalf("consumertest: connect to %s: %v", target, err)
		}
		body, _ := io.ReadAll(res.Body)
		return nil, &Refusal{Status: res.StatusCode, Header: res.Header, Body: string(body)}
	}
	ws.SetReadLimit(-1)
	c := &Client{t: t, ws: ws, header: res.Header, timeout: o.Timeout, frames: make(chan consumer.Frame, 256)}
	ended := make(chan struct{})
	go c.read(ended)
	t.Cleanup(func() {
		ws.CloseNow()
		for range c.frames { // let the reader go
		}
		<-ended
	})
	return c, nil
}

// HTTPClient returns a client of h whose connections are in memory, each with a
// server of its own at the other end, until the test ends: for package client,
// which speaks tideway.v1, and for ordinary requests. The URL's host is what the
// server takes for its name.
//
//	c, err := client.Dial(ctx, "ws://localhost/ws/job/42/", &client.Options{HTTPClient: consumertest.HTTPClient(t, r)})
func HTTPClient(t testing.TB, h http.Handler) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DialContext: pipeTo(t, h), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// pipeTo makes each connection a pipe with a server of its own at the other end.
func pipeTo(t testing.TB, h http.Handler) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		srv := &http.Server{Handler: h}
		served := make(chan struct{})
		go func() {
			defer close(served)
			srv.Serve(&oneConn{conn: pipeConn{server}, closed: make(chan struct{})})
		}()
		t.Cleanup(func() {
			client.Close()
			srv.Close()
			<-served
		})
		return client, nil
	}
}

// pipeConn is the server's end of a pipe, with an address as TCP has.
type pipeConn struct{ net.Conn }

// RemoteAddr returns an address on this machine.
func (pipeConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9} }

// oneConn is a listener that accepts one connection.
type oneConn struct {
	conn   net.Conn
	taken  bool
	closed chan struct{}
}

// Accept returns the connection, and then waits for Close.
func (l *oneConn) Accept() (net.Conn, error) {
	if !l.taken {
		l.taken = true
		return l.conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

// Close ends Accept.
func (l *oneConn) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

// Addr returns the connection's address.
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

func (c *Client) read(ended chan struct{}) {
	defer close(ended)
	defer close(c.frames)
	for {
		typ, data, err := c.ws.Read(context.Background())
		if err != nil {
			c.end = err
			return
		}
		c.frames <- consumer.Frame{Type: consumer.FrameType(typ), Data: data}
	}
}

// Subprotocol returns what the server chose, or "".
func (c *Client) Subprotocol() string { return c.ws.Subprotocol() }

// Header returns the headers of the server's answer to the handshake.
func (c *Client) Header() http.Header { return c.header }

// Send sends a frame.
func (c *Client) Send(f consumer.Frame) {
	c.t.Helper()
	if err := c.Try(f); err != nil {
		c.t.Fatalf("consumertest: send: %v", err)
	}
}

// Try sends a frame and returns the error that Send would fail the test with. It
// may be called from any goroutine.
func (c *Client) Try(f consumer.Frame) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageType(f.Type), f.Data)
}

// SendText sends a text frame.
func (c *Client) SendText(s string) {
	c.t.Helper()
	c.Send(consumer.TextFrame(s))
}

// SendJSON sends v as JSON in a text frame.
func (c *Client) SendJSON(v any) {
	c.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		c.t.Fatalf("consumertest: send: %v", err)
	}
	c.Send(consumer.Frame{Type: consumer.Text, Data: data})
}

// Receive waits for the next frame.
func (c *Client) Receive() consumer.Frame {
	c.t.Helper()
	select {
	case f, ok := <-c.frames:
		if !ok {
			c.t.Fatalf("consumertest: expected a message, but %s", c.ending())
		}
		return f
	case <-time.After(c.timeout):
		c.t.Fatalf("consumertest: no message came within %v", c.timeout)
	}
	panic("unreachable")
}

// ReceiveText waits for the next frame, which must be text.
func (c *Client) ReceiveText() string {
	c.t.Helper()
	f := c.Receive()
	if f.Type != consumer.Text {
		c.t.Fatalf("consumertest: expected text, but a binary frame of %d bytes came", len(f.Data))
	}
	return string(f.Data)
}

// ReceiveJSON waits for the next frame, which must be text, and decodes it into
// v, a pointer.
func (c *Client) ReceiveJSON(v any) {
	c.t.Helper()
	text := c.ReceiveText()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		c.t.Fatalf("consumertest: %.200q does not fit into %T: %v", text, v, err)
	}
}

// ReceiveNothing fails the test if a frame comes, or the connection ends,
// within d.
func (c *Client) ReceiveNothing(d time.Duration) {
	c.t.Helper()
	select {
	case f, ok := <-c.frames:
		if !ok {
			c.t.Fatalf("consumertest: expected silence, but %s", c.ending())
		}
		c.t.Fatalf("consumertest: expected silence, but this came: %.200q", f.Data)
	case <-time.After(d):
	}
}

// Close leaves with a code and a reason, and waits for the server's answer.
func (c *Client) Close(code consumer.StatusCode, reason string) {
	c.t.Helper()
	if err := c.ws.Close(websocket.StatusCode(code), reason); err != nil && websocket.CloseStatus(err) < 0 && !errors.Is(err, net.ErrClosed) {
		c.t.Logf("consumertest: close: %v", err)
	}
}

// Vanish cuts the connection without a word, as a lost network does.
func (c *Client) Vanish() { c.ws.CloseNow() }

// ReceiveClose waits until the server closes, skipping what comes before, and
// returns its code and reason; 1006 when it only cut the connection.
func (c *Client) ReceiveClose() (consumer.StatusCode, string) {
	c.t.Helper()
	deadline := time.After(c.timeout)
	for {
		select {
		case _, ok := <-c.frames:
			if ok {
				continue
			}
			var ce websocket.CloseError
			if errors.As(c.end, &ce) {
				return consumer.StatusCode(ce.Code), ce.Reason
			}
			return consumer.StatusAbnormalClosure, ""
		case <-deadline:
			c.t.Fatalf("consumertest: the server did not close within %v", c.timeout)
		}
	}
}

// ending says how the connection ended.
func (c *Client) ending() string {
	var ce websocket.CloseError
	if errors.As(c.end, &ce) {
		return fmt.Sprintf("the server closed with %d %q", ce.Code, ce.Reason)
	}
	return fmt.Sprintf("the connection was lost: %v", c.end)
}
