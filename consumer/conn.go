package consumer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/tideway-go/tideway/layer"
)

// Conn is one connection: from its handshake, before which it can still be
// refused, to its end. A consumer's handlers get it, one at a time; its methods
// may be called from many goroutines.
type Conn struct {
	setup  Setup
	params []Param
	query  string
	path   string
	user   atomic.Pointer[User] // nil is the zero User
	events events               // who handles what arrives; nil in a Func

	// The connection's life as a context: a Conn is that scope, and handlers
	// run on goroutines that nobody with a context of his own starts.
	ctx    context.Context
	cancel context.CancelFunc

	mu          sync.Mutex // guards all below
	request     *http.Request
	header      http.Header // of the response, until it is sent
	accepted    bool
	refused     bool
	subprotocol string
	channel     *layer.Channel // nil until first needed
	failed      error          // the first failure of a handler
	over        *CloseError    // how the connection ended, once it has
	inbox       inbox
}

// Setup is what a server knows of a connection when it begins. Programs that
// serve consumers with package router never see one.
type Setup struct {
	Socket       Socket         // required
	Layer        *layer.Layer   // required, unless no consumer uses groups or channels
	Request      *http.Request  // of the handshake; required
	Params       []Param        // what the path's wildcards matched
	Subprotocols []string       // what the client offered, credentials left out
	RemoteAddr   string         // the client's address
	User         User           // who it is; the zero User is anonymous
	Header       http.Header    // of the response; required
	Logger       *slog.Logger   // required
	Stats        *Stats         // counts; nil for none
	Started      func(*Conn)    // called before the consumer begins; may be nil
	OnUser       func(old User) // called after SetUser; may be nil
}

// Param is one wildcard of a path and what it matched.
type Param struct{ Name, Value string }

// Stats are counts over many connections.
type Stats struct {
	Received atomic.Int64 // messages from clients
	Unknown  atomic.Int64 // layer messages of a type that no handler takes
	Failed   atomic.Int64 // connections that ended by a handler's error or panic
}

func newConn(ctx context.Context, s Setup) *Conn {
	ctx, cancel := context.WithCancel(ctx)
	c := &Conn{
		ctx:     ctx,
		cancel:  cancel,
		setup:   s,
		params:  s.Params,
		path:    s.Request.URL.Path,
		query:   s.Request.URL.RawQuery,
		request: s.Request,
		header:  s.Header,
	}
	c.setup.Request, c.setup.Header = nil, nil
	if s.Stats == nil {
		c.setup.Stats = new(Stats)
	}
	if !s.User.zero() {
		c.user.Store(&s.User)
	}
	return c
}

// Request returns the handshake's request while Connect runs, or until a Func
// accepted. Afterwards it is nil: a request kept would cost more than all the
// rest of an idle connection.
func (c *Conn) Request() *http.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.request
}

// PathValue returns what the wildcard of that name in the route's pattern
// matched, or "".
func (c *Conn) PathValue(name string) string {
	for _, p := range c.params {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// Path returns the request's path, decoded.
func (c *Conn) Path() string { return c.path }

// Query returns the values of the request's query string.
func (c *Conn) Query() url.Values {
	q, _ := url.ParseQuery(c.query)
	return q
}

// RemoteAddr returns the client's address, "host:port" or "host": that of the
// browser where a trusted proxy tells it.
func (c *Conn) RemoteAddr() string { return c.setup.RemoteAddr }

// User returns who stands behind the connection.
func (c *Conn) User() User {
	if u := c.user.Load(); u != nil {
		return *u
	}
	return User{}
}

// SetUser changes who stands behind the connection, as a login over the socket
// does. Limits and kicks by user go by the new one from then on.
func (c *Conn) SetUser(u User) {
	old := c.User()
	if u.zero() {
		c.user.Store(nil)
	} else {
		c.user.Store(&u)
	}
	if c.setup.OnUser != nil {
		c.setup.OnUser(old)
	}
}

// Subprotocols returns what the client offered, in its order of preference.
func (c *Conn) Subprotocols() []string { return c.setup.Subprotocols }

// Subprotocol returns what was agreed upon, or "".
func (c *Conn) Subprotocol() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subprotocol
}

// Header returns the headers that go out when the connection is accepted; after
// that it returns an empty one that nobody reads.
func (c *Conn) Header() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.header == nil {
		return http.Header{}
	}
	return c.header
}

// Logger returns the connection's logger, which carries its path and address.
func (c *Conn) Logger() *slog.Logger { return c.setup.Logger }

// Accept completes the handshake, with a subprotocol that the client offered or
// "" for none. A Connect that returns nil accepts by itself, and so does the
// first Send; a second Accept does nothing.
func (c *Conn) Accept(subprotocol string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.accept(subprotocol)
}

// accept is Accept with mu held.
func (c *Conn) accept(subprotocol string) error {
	switch {
	case c.refused:
		return ErrNotOpen
	case c.accepted:
		return nil
	}
	if subprotocol != "" && !contains(c.setup.Subprotocols, subprotocol) {
		return fmt.Errorf("consumer: accept: the subprotocol %q was not offered; the client offered %q", subprotocol, c.setup.Subprotocols)
	}
	if err := c.setup.Socket.Accept(subprotocol, c.header); err != nil {
		c.refused = true
		return fmt.Errorf("consumer: accept: %w", err)
	}
	c.accepted, c.subprotocol = true, subprotocol
	c.header = nil
	if c.events == nil {
		c.request = nil
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// Send sends a message to the client. It returns when the message is queued;
// when the client lags so far that its queue is full it waits for room, so that
// a consumer is slowed by its own client alone. It fails when ctx ends first, or
// when the connection is closed, perhaps as slow: *[CloseError] or [ErrNotOpen].
func (c *Conn) Send(ctx context.Context, f Frame) error {
	if f.Type != Text && f.Type != Binary {
		return fmt.Errorf("consumer: send: a frame's type is %d; use TextFrame or BinaryFrame", f.Type)
	}
	if err := c.Accept(""); err != nil {
		return err
	}
	return c.setup.Socket.Send(ctx, Prepare(f))
}

// SendJSON sends v as a text message. A [layer.Payload] is sent with its type.
func (c *Conn) SendJSON(ctx context.Context, v any) error {
	data, err := marshal(v)
	if err != nil {
		return err
	}
	return c.Send(ctx, Frame{Text, data})
}

// marshal is how a value reaches a client.
func marshal(v any) ([]byte, error) {
	if p, ok := v.(layer.Payload); ok {
		return layer.Encode(p)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("consumer: %T as JSON: %w", v, err)
	}
	return data, nil
}

// Close ends the connection with a code and a reason (at most 123 bytes, a
// longer one is cut), which the client is told behind what was sent before.
// Before Accept it refuses the connection with 403. It does not wait. The first
// Close counts; Disconnect runs with its code.
func (c *Conn) Close(code StatusCode, reason string) {
	c.mu.Lock()
	if !c.accepted {
		c.refused = true
		if c.failed == nil {
			c.failed = &DenyError{Reason: reason}
		}
		c.mu.Unlock()
		return
	}
	c.inbox.closing(code)
	c.mu.Unlock()
	c.setup.Socket.Close(code, reason)
}

// Layer returns the channel layer of this connection.
func (c *Conn) Layer() *layer.Layer { return c.setup.Layer }

// ChannelName returns the name of the connection's own channel, to which any
// process may send and which may be added to any group.
func (c *Conn) ChannelName() string {
	ch, err := c.ownChannel()
	if err != nil {
		return ""
	}
	return ch.Name()
}

// ownChannel opens the connection's channel, once.
func (c *Conn) ownChannel() (*layer.Channel, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.channel != nil:
		return c.channel, nil
	case c.inbox.ended:
		return nil, ErrNotOpen
	case c.setup.Layer == nil:
		return nil, fmt.Errorf("consumer: this connection has no channel layer; give the router one")
	}
	ch, err := c.setup.Layer.Tap(context.Background(), (*tap)(c))
	if err != nil {
		return nil, fmt.Errorf("consumer: the connection's channel: %w", err)
	}
	c.channel = ch
	return ch, nil
}

// GroupAdd makes the connection a member of a group until it ends. See
// [layer.Layer.GroupAdd].
func (c *Conn) GroupAdd(ctx context.Context, group string) error {
	ch, err := c.ownChannel()
	if err != nil {
		return err
	}
	return c.setup.Layer.GroupAdd(ctx, group, ch.Name())
}

// GroupDiscard takes the connection out of a group.
func (c *Conn) GroupDiscard(ctx context.Context, group string) error {
	ch, err := c.ownChannel()
	if err != nil {
		return err
	}
	return c.setup.Layer.GroupDiscard(ctx, group, ch.Name())
}

// GroupSend sends to a group, of which the connection need not be a member. See
// [layer.Layer.GroupSend].
func (c *Conn) GroupSend(ctx context.Context, group string, p layer.Payload) error {
	if c.setup.Layer == nil {
		return fmt.Errorf("consumer: this connection has no channel layer; give the router one")
	}
	return c.setup.Layer.GroupSend(ctx, group, p)
}

// GroupSendOthers is GroupSend to all members but this connection.
func (c *Conn) GroupSendOthers(ctx context.Context, group string, p layer.Payload) error {
	ch, err := c.ownChannel()
	if err != nil {
		return err
	}
	data, err := layer.Encode(p)
	if err != nil {
		return err
	}
	return c.setup.Layer.GroupSend(ctx, group, layer.Message{Data: data, Header: layer.Header{Sender: ch.Name()}})
}
