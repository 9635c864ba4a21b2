// Package client speaks tideway.v1 from Go: for tools, for tests, and for
// programs that listen where browsers do. A [Conn] is one connection. It hears of
// groups, positions and gaps, asks for replies, and knows from where the next one
// has to go on:
//
//	conn, err := client.Dial(ctx, "wss://example.com/ws/job/42/", nil)
//	...
//	for e, err := range conn.Events(ctx) { ... }
//	conn, err = client.Dial(ctx, url, &client.Options{Resume: conn.Resume()})
//
// docs/reference/wire.md has the protocol.
package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/tideway-go/tideway/consumer"
)

// Options are the settings of [Dial]. A nil *Options means the
// defaults.
type Options struct {
	// Header is added to the handshake: Origin, Cookie, Authorization.
	Header http.Header

	// Token goes out as a subprotocol, as browsers pass one. Default none.
	Token string

	// TokenInFrame sends Token as the first frame instead, so that it is in no
	// header: for servers that wait for one, see router.Options.FirstToken. Dial
	// returns when it is found good; one that is not is an *[Error].
	TokenInFrame bool

	// Resume is from where to go on: the Resume of an earlier connection.
	Resume Resume

	// HTTPClient makes the handshake. Default http.DefaultClient.
	HTTPClient *http.Client

	// Buffer is how many events wait to be received before the connection is no
	// longer read from. Default 256.
	Buffer int

	// MaxFrame is the largest frame in bytes; a larger one ends the connection.
	// Default 16 MiB.
	MaxFrame int64
}

// Resume says where a client is: its session, and its position in each group that
// it was in, "" in one that is not durable. The server says Left of those that the
// next connection is not in.
type Resume struct {
	Session string
	Cursors map[string]string
}

// RefusedError is the answer to a handshake that was refused.
type RefusedError struct {
	Status int
	Header http.Header
	Body   string // its first kilobyte
}

// Error returns the status and the body.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("client: the handshake was refused with %d: %s", e.Status, e.Body)
}

// ErrPlain is returned by Dial where the consumer speaks another subprotocol.
var ErrPlain = errors.New("client: the server does not speak " + consumer.Protocol + " here")

// Error is what the server refused: in a reply, or in an event of its own.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	ID      string `json:"id"` // by which the server's log names it, if it does
}

// Error returns the code and the message.
func (e *Error) Error() string { return "client: refused as " + e.Code + ": " + e.Message }

// Conn is one connection. Its methods may be called from many goroutines.
type Conn struct {
	ws      *websocket.Conn
	session string
	ping    time.Duration
	header  http.Header
	events  chan Event    // closed when the connection has ended
	done    chan struct{} // likewise
	quit    chan struct{} // closed when nobody wants events any more
	leave   func()        // closes quit

	mu       sync.Mutex // guards all below
	resume   Resume
	requests map[uint64]chan frame
	lastID   uint64
	end      error // why the connection ended
}

// Dial connects to url (ws, wss, http or https) and returns when the server has
// said hello. The error is a *[RefusedError] when it answered the handshake
// otherwise, [ErrPlain], or what the network says.
func Dial(ctx context.Context, url string, opts *Options) (*Conn, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	protocols := []string{consumer.Protocol}
	if o.Token != "" && !o.TokenInFrame {
		protocols = append(protocols, "tideway.bearer."+base64.RawURLEncoding.EncodeToString([]byte(o.Token)))
	}
	ws, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: o.HTTPClient, HTTPHeader: o.Header, Subprotocols: protocols})
	if err != nil {
		if res == nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1024))
		return nil, &RefusedError{res.StatusCode, res.Header, string(body)}
	}
	if ws.Subprotocol() != consumer.Protocol {
		ws.CloseNow()
		return nil, ErrPlain
	}
	if o.Buffer == 0 {
		o.Buffer = 256
	}
	if o.MaxFrame == 0 {
		o.MaxFrame = 16 << 20
	}
	ws.SetReadLimit(o.MaxFrame)
	c := &Conn{
		ws: ws, header: res.Header, events: make(chan Event, o.Buffer), done: make(chan struct{}),
		resume: Resume{o.Resume.Session, maps.Clone(o.Resume.Cursors)}, requests: map[uint64]chan frame{},
	}
	c.quit = make(chan struct{})
	c.leave = sync.OnceFunc(func() { close(c.quit) })
	if err := c.begin(ctx, o); err != nil {
		c.Vanish()
		return nil, err
	}
	return c, nil
}

// begin makes a connection ready, with a login if there is to be one.
func (c *Conn) begin(ctx context.Context, o Options) error {
	if o.Token == "" || !o.TokenInFrame {
		if err := c.greet(ctx); err != nil {
			return err
		}
		go c.read()
		return nil
	}
	id, answer := c.expect()
	defer c.forget(id)
	if err := c.write(ctx, authFrame{id, o.Token}); err != nil {
		return err
	}
	if err := c.greet(ctx); err != nil {
		return err
	}
	go c.read()
	return c.await(ctx, answer, nil)
}

// greet says from where to go on, even if that is from nowhere, since the server
// waits for it, and hears hello.
func (c *Conn) greet(ctx context.Context) error {
	if c.resume.Cursors == nil {
		c.resume.Cursors = map[string]string{}
	}
	err := c.write(ctx, struct {
		Resume  map[string]string `json:"resume"`
		Session string            `json:"session,omitempty"`
	}{c.resume.Cursors, c.resume.Session})
	if err != nil {
		return err
	}
	_, data, err := c.ws.Read(ctx)
	if err != nil {
		return closed(err)
	}
	var f frame
	if err := json.Unmarshal(data, &f); err != nil || f.Hello == nil {
		return fmt.Errorf("client: the server begins with %.100q instead of hello", data)
	}
	c.session, c.ping = f.Hello.Session, time.Duration(f.Hello.Ping)*time.Second
	if c.resume.Session == "" { // else the server goes on calling us that
		c.resume.Session = c.session
	}
	return nil
}

// Session returns what the server calls this connection, for [Resume].
func (c *Conn) Session() string { return c.session }

// PingInterval returns after how much silence the server pings.
func (c *Conn) PingInterval() time.Duration { return c.ping }

// Header returns the headers of the server's answer to the handshake.
func (c *Conn) Header() http.Header { return c.header }

// Resume returns from where the next connection has to go on, so that nothing is
// missed of what [Conn.Receive] has yet to return: call it when that has returned
// all.
func (c *Conn) Resume() Resume {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Resume{c.resume.Session, maps.Clone(c.resume.Cursors)}
}

// Send sends v as JSON to the consumer's Receive. nil says that it is on its way.
func (c *Conn) Send(ctx context.Context, v any) error {
	return c.write(ctx, struct {
		Data any `json:"data"`
	}{v})
}

// write sends one frame.
func (c *Conn) write(ctx context.Context, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("client: send: %w", err)
	}
	if err := c.ws.Write(ctx, websocket.MessageText, data); err != nil {
		return closed(err)
	}
	return nil
}

// Close says goodbye with a code and a reason, and waits a little for the answer.
// What has not been received by then is dropped.
func (c *Conn) Close(code consumer.StatusCode, reason string) error {
	c.leave()
	err := c.ws.Close(websocket.StatusCode(code), reason)
	if err != nil && websocket.CloseStatus(err) < 0 {
		return fmt.Errorf("client: close: %w", err)
	}
	return nil
}

// Vanish cuts the connection without a word, as a lost network does.
func (c *Conn) Vanish() {
	c.leave()
	c.ws.CloseNow()
}

// closed makes a *consumer.CloseError of an error of the socket.
func closed(err error) error {
	var ce websocket.CloseError
	if errors.As(err, &ce) {
		return &consumer.CloseError{Code: consumer.StatusCode(ce.Code), Reason: ce.Reason}
	}
	return fmt.Errorf("client: %w: %w", &consumer.CloseError{Code: consumer.StatusAbnormalClosure}, err)
}

func (c *Conn) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}
