package router

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/internal/socket"
)

// Options are the settings of a [Router]. A nil *Options and the zero Options
// mean the defaults, which are safe and bounded.
type Options struct {
	// Prefix is put in front of every pattern of the table, for a router below
	// a path: "/app", "/tenant/{tenant}". Its wildcards are path values, too. A
	// router behind http.StripPrefix needs none. Default "".
	Prefix string

	// Origins are the pages that may open a socket: "example.com" (http or
	// https, any port), ".example.com" (subdomains, too), "https://example.com"
	// (that scheme, on its own port), "https://example.com:8443", "*" (any, which
	// gives every site your users' sessions). A handshake without an Origin,
	// which no browser sends, is let in only when it carries no cookie. Default:
	// pages of this machine, localhost, 127.0.0.0/8 and [::1].
	Origins []string

	// Hosts are the names by which clients may address the server: "example.com",
	// ".example.com", "*". It is what stops DNS rebinding. Default: the names of
	// this machine, as above.
	Hosts []string

	// Authenticate finds out who opens a connection. Package auth has ready
	// ones. Default: everybody is anonymous.
	Authenticate Authenticator

	// FirstToken is how long a client that speaks tideway.v1 may take to log in
	// over the connection, by an auth frame that is its first one, where
	// Authenticate refuses it for want of any credentials, as auth.Required does:
	// its consumer begins behind that. It is for tokens that must not show in the
	// handshake. Authenticate is a TokenAuthenticator then. Such a connection
	// counts for MaxConnections and MaxPerAddress at once, and for MaxPerUser from
	// its login on. 10 s is a good value. Default 0: it is refused with 401, as
	// all others are.
	FirstToken time.Duration

	// RecheckEvery is how often the credentials of an open connection are
	// looked at again; when they expire they are looked at in any case. Default
	// 1 minute; negative is at expiry alone.
	RecheckEvery time.Duration

	// NotFound answers a request whose path no route matches: the site's pages,
	// or another Router. Default: 404, and a line in the log.
	NotFound http.Handler

	// TrustedProxies are the addresses or networks ("10.0.0.0/8") whose
	// X-Forwarded-For says who the client is; "unix" is whoever comes by a Unix
	// socket. Default none: the header is ignored.
	TrustedProxies []string

	// MaxConnections is how many connections the router serves; more are
	// refused with 503. Default 10,000; negative is no limit.
	MaxConnections int

	// MaxPerUser and MaxPerAddress bound the connections of one user, who is
	// not anonymous, and of one client address, or with IPv6 one /64; more are
	// refused with 429. Default 50 and 200; negative is no limit. Nobody is ever
	// evicted.
	MaxPerUser, MaxPerAddress int

	// Admission paces newcomers. Default nil: as the zero Admission.
	Admission *Admission

	// HandshakeTimeout is how long authentication and Connect may take to
	// decide, from a newcomer's turn on. Default 10 s.
	HandshakeTimeout time.Duration

	// ReaderGoroutines keeps a goroutine for each connection, as on all systems
	// but Linux. Default false: on Linux, over TCP or Unix sockets without TLS, a
	// connection whose client has been silent for 3 s has none, which saves two
	// thirds of its memory (11 KB became 3.1) for a little more work when the next
	// message comes. It is nothing that a consumer can notice. The goroutine of a
	// consumer.Func, or of a Type that is wrapped in another App, stays in any case.
	ReaderGoroutines bool

	// Compression offers permessage-deflate (RFC 7692) to the clients, as all
	// browsers understand it. It is for large messages over slow networks: it
	// costs CPU, though a message to a group is compressed only once, however
	// many get it. Default nil: off.
	Compression *Compression

	// Limits bound what one client may send, and how far it may lag behind.
	Limits Limits

	// Logger gets a line for each connection that is refused, which says why,
	// and for each that a handler's error ended. Default slog.Default().
	Logger *slog.Logger
}

// Compression is how messages are compressed, for clients that agree to it. No
// message refers to another, in either direction, so that an idle connection
// keeps no window of what went by. Limits.MessageSize bounds what a client's
// message inflates to; the rates count bytes as they come over the wire.
type Compression struct {
	// Threshold is the size in bytes from which a message to a client is
	// compressed; one that would not get smaller is sent as it is. Default 512.
	Threshold int
}

// Limits bound one connection. For each field zero is the default; negative
// values of rates, MessageSize, MessageTime, PingInterval and Groups turn them
// off.
type Limits struct {
	MessageSize    int64         // inbound, bytes; default 64 KiB; more closes with 1009
	MessageTime    time.Duration // from a message's first byte to its last; default 30 s; more closes with 1008
	MessageRate    int           // inbound messages a second, on average; default 50; more closes with 4129, as with the rates below
	MessageBurst   int           // inbound messages at once; default 100
	FrameRate      int           // inbound frames a second; default 500
	ByteRate       int           // inbound bytes a second, on average; default 64 KiB
	ByteBurst      int           // inbound bytes at once; default 1 MiB
	PingRate       int           // inbound pings a second; default 10
	QueueBytes     int           // outbound bytes that a client may lag behind; default 1 MiB; more closes with 4108
	WriteTimeout   time.Duration // for a lagging client to take some of them; default 10 s; more closes with 4108
	PingInterval   time.Duration // silence after which we ping; default 25 s, below the 60 s of common proxies
	PongTimeout    time.Duration // for an answer to a ping; default 20 s; the connection counts as lost then
	CloseHandshake time.Duration // for the peer to answer our close; default 5 s
	Groups         int           // that the connection may be in; default 128, negative is no limit
}

// Authenticator finds out who opens a connection, and whether that still holds
// later. Package auth has ready ones. Its methods are called from many
// goroutines.
type Authenticator interface {
	// Authenticate is called before the upgrade. The zero User lets an
	// anonymous visitor in; a *consumer.DenyError in the error's chain answers
	// with its status, any other error with 500.
	Authenticate(r *http.Request) (consumer.User, error)

	// Recheck is called when u.Expires has come, and on a timer, and returns
	// the user as it is now. An error, or an anonymous user in the place of
	// another, closes the connection: with the code of the *consumer.CloseError
	// in the chain, else 4001. The code 1013 means that nobody knows at the
	// moment: the connection stays, as long as its credentials have not expired.
	Recheck(ctx context.Context, u consumer.User) (consumer.User, error)
}

// settings are Options with everything filled in.
type settings struct {
	Options
	origins *originRules
	hosts   *hostRules
	proxies []netip.Prefix
	unix    bool // peers of Unix sockets are trusted
}

func (o *Options) resolve() (*settings, error) {
	s := &settings{}
	if o != nil {
		s.Options = *o
	}
	var err error
	if s.Admission, err = s.Admission.resolve(); err != nil {
		return nil, err
	}
	setDefault(&s.RecheckEvery, time.Minute)
	setDefault(&s.HandshakeTimeout, 10*time.Second)
	setDefault(&s.MaxConnections, 10_000)
	if s.Compression != nil {
		s.Compression = &Compression{cmp.Or(s.Compression.Threshold, 512)}
		if s.Compression.Threshold < 0 {
			return nil, fmt.Errorf("router: Options.Compression.Threshold is %d; it is a size in bytes, 1 compresses all", s.Compression.Threshold)
		}
		if s.Limits.MessageSize < 0 {
			return nil, fmt.Errorf("router: Options.Limits.MessageSize is %d (none) with Compression: a message inflates to a thousand times its size; set a limit", s.Limits.MessageSize)
		}
	}
	setDefault(&s.MaxPerUser, 50)
	setDefault(&s.MaxPerAddress, 200)
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	if _, ok := s.Authenticate.(TokenAuthenticator); s.FirstToken < 0 || s.FirstToken > 0 && !ok {
		return nil, fmt.Errorf("router: Options.FirstToken is %v with the authenticator %T; it is a time, for a TokenAuthenticator", s.FirstToken, s.Authenticate)
	}
	if s.HandshakeTimeout < 0 {
		return nil, fmt.Errorf("router: Options.HandshakeTimeout is %v; a handshake needs a bound", s.HandshakeTimeout)
	}
	if s.Prefix != "" && (!strings.HasPrefix(s.Prefix, "/") || strings.HasSuffix(s.Prefix, "/")) {
		return nil, fmt.Errorf(`router: Options.Prefix is %q; it begins with "/" and does not end with one`, s.Prefix)
	}
	if s.origins, err = newOriginRules(s.Origins); err != nil {
		return nil, err
	}
	if s.hosts, err = newHostRules(s.Hosts); err != nil {
		return nil, err
	}
	s.proxies, s.unix, err = parseProxies(s.TrustedProxies)
	return s, err
}

func setDefault[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}

// terms are what clients that speak tideway.v1 are told and allowed.
func (s *settings) terms() *consumer.Terms {
	t := &consumer.Terms{
		Ping: cmp.Or(s.Limits.PingInterval, 25*time.Second), MessageRate: cmp.Or(s.Limits.MessageRate, 50), MessageBurst: cmp.Or(s.Limits.MessageBurst, 100),
	}
	if a, ok := s.Authenticate.(TokenAuthenticator); ok {
		t.AuthenticateToken = a.AuthenticateToken
	}
	return t
}

// TokenAuthenticator is an [Authenticator] that takes tokens over connections that
// are open, from clients that speak tideway.v1: a new one of the same user before
// the old one expires, or one of a visitor who was anonymous.
type TokenAuthenticator interface {
	Authenticator

	// AuthenticateToken returns whose token it is. Errors are as those of
	// Authenticate, and nothing but a DenyError's reason reaches the client.
	AuthenticateToken(ctx context.Context, token string) (consumer.User, error)
}

// engine returns the socket engine's options.
func (s *settings) engine() *socket.Options {
	l := s.Limits
	o := &socket.Options{
		Logger: s.Logger, Polling: !s.ReaderGoroutines, ReadLimit: l.MessageSize, MessageTimeout: l.MessageTime, MessageRate: l.MessageRate, MessageBurst: l.MessageBurst,
		FrameRate: l.FrameRate, ByteRate: l.ByteRate, ByteBurst: l.ByteBurst, PingRate: l.PingRate, MaxQueueBytes: l.QueueBytes,
		WriteTimeout: l.WriteTimeout, PingInterval: l.PingInterval, PongTimeout: l.PongTimeout, CloseTimeout: l.CloseHandshake,
	}
	if s.Compression != nil {
		o.DeflateFrom = s.Compression.Threshold
	}
	return o
}
