package consumer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Conn is one connection: from its handshake, before which it can still be
// refused, to its end. A consumer's handlers get it, one at a time; its methods
// may be called from many goroutines.
type Conn struct {
	// The message table while messages may be forwarded; nil before and after.
	// With the socket behind it, it is all that a delivery needs of a Conn, so
	// they stand together: among many connections each line of memory is a miss.
	forward atomic.Pointer[table]

	setup  kept
	params []Param
	query  string
	path   string
	user   atomic.Pointer[User] // nil is the zero User

	life   life
	waited func() bool  // stops the wait for the end of Setup.Handshake; false: it has come
	done   func(Result) // Run's
	again  func()       // what a Poller calls

	mu          sync.Mutex // guards all below
	typ         lifecycle  // who handles what arrives; nil in a Func
	state       any        // what typ made for this connection
	request     *http.Request
	header      http.Header   // of the response, until it is sent
	accepting   chan struct{} // closed when the Accept that is under way is over; nil without one
	maxGroups   int32
	booked      uint32 // places so far
	first       bool   // accepted before the consumer begins, see Login
	accepted    bool
	refused     bool
	preferred   string // the subprotocol that is chosen where Accept is implied
	subprotocol string
	pending     *CloseError    // a Close that came while accepting
	channel     *layer.Channel // nil until first needed
	places      []place        // the groups that it is in
	flow        *flow          // nil unless there is more than plain frames
	failed      error          // why it was refused, or the first failure of a handler
	over        *CloseError    // how the connection ended, once it has
	hurrying    *time.Timer    // runs from the end on while anybody works, see hurry
	inbox       inbox
}

// Setup is what a server knows of a connection when it begins. Programs that
// serve consumers with package router never see one.
type Setup struct {
	Socket       Socket          // required
	Layer        *layer.Layer    // required, unless no consumer uses groups or channels
	Request      *http.Request   // of the handshake; required
	Handshake    context.Context // ends when nobody waits for Connect's decision any more; nil is never
	Params       []Param         // what the path's wildcards matched
	Subprotocols []string        // what the client offered, credentials left out
	RemoteAddr   string          // the client's address
	User         User            // who it is; the zero User is anonymous
	Header       http.Header     // of the response; required
	MaxGroups    int             // how many groups it may be in; 0 is 128, negative no limit
	Logger       *slog.Logger    // required
	Stats        *Stats          // counts; nil for none
	Started      func(*Conn)     // called before the consumer begins; may be nil
	OnUser       func(old User)  // called after the user changed; may be nil
	Terms        *Terms          // for clients that speak tideway.v1; nil is the defaults
	Login        *Login          // the connection begins with a token; nil is not so
}

// Terms are what a server tells and allows clients that speak tideway.v1. Many
// connections share them.
type Terms struct {
	Ping         time.Duration // silence after which the server pings
	MessageRate  int           // messages a second that are handled; the others are refused; 0 is no limit
	MessageBurst int           // and at once

	// AuthenticateToken returns whose token a client has sent; nil where tokens
	// cannot be sent over an open connection.
	AuthenticateToken func(ctx context.Context, token string) (User, error)
}

var noTerms = &Terms{}

// kept is what a connection needs of its Setup for as long as it lives.
type kept struct {
	Socket       Socket
	Layer        *layer.Layer
	Subprotocols []string
	RemoteAddr   string
	Logger       *slog.Logger
	Stats        *Stats
	OnUser       func(old User)
	Terms        *Terms
}

// Param is one wildcard of a path and what it matched.
type Param struct{ Name, Value string }

// Stats are counts over many connections.
type Stats struct {
	Received atomic.Int64 // messages from clients
	Unknown  atomic.Int64 // layer messages of a type that no handler takes
	Failed   atomic.Int64 // accepted connections of which a handler failed or panicked
	Gaps     atomic.Int64 // times that messages of a group did not reach a connection
	Limited  atomic.Int64 // messages from clients that were refused as too many
	Dropped  atomic.Int64 // messages that a client's full queue had no room for, see Overflow
	Replaced atomic.Int64 // values that a newer one replaced before they were sent, see Latest
}

func newConn(ctx context.Context, s Setup) *Conn {
	c := &Conn{
		life:    life{base: ctx},
		waited:  func() bool { return true },
		params:  s.Params,
		path:    s.Request.URL.Path,
		query:   s.Request.URL.RawQuery,
		request: s.Request,
		header:  s.Header,

		maxGroups: int32(min(cmp.Or(s.MaxGroups, defaultMaxGroups), math.MaxInt32)),
	}
	if s.Handshake != nil {
		c.waited = context.AfterFunc(s.Handshake, c.life.cancel)
	}
	if u := s.User; !u.zero() { // a copy: a pointer into s would keep the request
		c.user.Store(&u)
	}
	if s.Stats == nil {
		s.Stats = new(Stats)
	}
	if s.Terms == nil {
		s.Terms = noTerms
	}
	c.setup = kept{s.Socket, s.Layer, s.Subprotocols, s.RemoteAddr, s.Logger, s.Stats, s.OnUser, s.Terms}
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

// RemoteAddr returns the client's address, without a port: that of the browser
// where a trusted proxy tells it. It is "" or "@" on a Unix socket.
func (c *Conn) RemoteAddr() string { return c.setup.RemoteAddr }

// User returns who stands behind the connection.
func (c *Conn) User() User { return c.user.Load().user() }

// SetUser changes who stands behind the connection, as a login over the socket
// does. Limits, kicks and presence go by the new one from then on.
func (c *Conn) SetUser(u User) {
	c.changedUser(c.user.Swap(u.pointer()))
}

// RenewUser puts now in the place of old, as a recheck of credentials does, and
// reports whether it did: not if somebody logged in or out meanwhile, so that
// the connection's user is no longer the [User.Same] as old.
func (c *Conn) RenewUser(old, now User) bool {
	for {
		p := c.user.Load()
		if !p.user().Same(old) {
			return false
		}
		if c.user.CompareAndSwap(p, now.pointer()) {
			c.changedUser(p)
			return true
		}
	}
}

func (c *Conn) changedUser(old *User) {
	c.mu.Lock()
	if c.channel != nil {
		c.identify(c.User().ID) // the newest, whoever comes here first
	}
	c.mu.Unlock()
	if c.setup.OnUser != nil {
		c.setup.OnUser(old.user())
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

// Header returns the headers that go out when the connection is accepted: set
// what the client shall see of them before Accept. A refusal carries those of its
// [DenyError] instead. Later it returns an empty one that nobody reads. It is for
// one goroutine at a time.
func (c *Conn) Header() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.header == nil {
		return http.Header{}
	}
	return c.header
}

// Logger returns a logger that names the connection's path and address, or the
// queue, the type and the attempt of a message of a queue.
func (c *Conn) Logger() *slog.Logger {
	if d := c.Delivery(); d != nil {
		return c.setup.Logger.With("queue", d.Queue, "type", d.Type, "attempt", d.Attempt)
	}
	return c.setup.Logger.With("path", c.path, "remote", c.RemoteAddr())
}

// Send sends a message to the client, and accepts the connection if nobody has
// yet. It returns when the message is queued; when the client lags so far that
// its queue is full it waits for room, so that a consumer is slowed by its own
// client alone. When ctx ends, or the write timeout passes, before there is
// room, the connection is closed as slow. The error is the *[CloseError] with
// which the connection ended, or [ErrNotOpen] when it was refused.
func (c *Conn) Send(ctx context.Context, f Frame) error {
	if f.Type != Text && f.Type != Binary {
		return fmt.Errorf("consumer: send: a frame's type is %d; use TextFrame or BinaryFrame", f.Type)
	}
	if err := c.accept(c.implied()); err != nil {
		return err
	}
	if c.speaks() {
		f = wrapped(f)
	}
	return c.setup.Socket.Send(ctx, Prepare(f))
}

// SendJSON sends v as a text message. A [layer.Payload] is sent with its type. A
// [layer.Message] that came through a group goes as such to a client that speaks
// tideway.v1, with its position.
func (c *Conn) SendJSON(ctx context.Context, v any) error {
	data, err := marshal(v)
	if err != nil {
		return err
	}
	m, ok := v.(layer.Message)
	if p, isPointer := v.(*layer.Message); isPointer {
		m, ok = *p, true
	}
	if !ok || m.Group == "" || !c.speaks() {
		return c.sendData(ctx, data)
	}
	return c.setup.Socket.Send(ctx, prepareText(groupText(c.setup.Layer, &m, data)))
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
