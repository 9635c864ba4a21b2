package natsbus

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Options says where the NATS server is and what is written to it. The zero
// value embeds a server that nobody else can reach.
type Options struct {
	// Embedded runs a NATS server inside this process. It is the default when
	// neither URL nor Conn is set; at most one of the three may be.
	Embedded *Embedded

	// URL is the address of a NATS server, or a comma-separated list of
	// addresses of one cluster, such as "nats://10.0.0.1:4222,nats://10.0.0.2:4222".
	URL string

	// Conn is a connection of the caller's own. The Bus does not close it. Its
	// handlers for errors, disconnects, reconnects and discovered servers go on
	// being called; connect it with nats.MaxReconnects(-1), or the Bus ends
	// with it.
	Conn *nats.Conn

	// Credentials for URL: a credentials file, an nkey seed file, a token, or a
	// user and password, at most one of them. Default: what the URL holds.
	CredsFile string
	NKeyFile  string
	Token     string
	User      string
	Password  string

	// TLS configures the connection to URL. Default: the system's roots, when
	// the URL's scheme is tls or the server asks for TLS.
	TLS *tls.Config

	// ConnectWait is how long New waits for the server at URL. Default 5
	// seconds. Once connected, the Bus reconnects for as long as it is open.
	ConnectWait time.Duration

	// Prefix begins every subject, and in capitals the stream's name. Layers
	// with different prefixes do not hear each other. Default "channels", which
	// is also that of the Python package channels-nats.
	Prefix string

	// Encoding is how messages are written. Both are read. Default JSON.
	Encoding Encoding

	// Shards is how many goroutines of each layer take group messages from the
	// connection. Default GOMAXPROCS, at most 16.
	Shards int

	// Pending is how many group messages may wait for each shard; what comes
	// beyond is dropped and reported. Default 65,536.
	Pending int

	// Heartbeat is how often the Bus tells the others that it lives; one that
	// was silent for three beats and a second is taken for dead. Default 3
	// seconds, at least 50 milliseconds.
	Heartbeat time.Duration

	// Logger takes what happens to the connection, and the embedded server's
	// log. Default slog.Default().
	Logger *slog.Logger
}

// Encoding is the form of the messages that a Bus writes.
type Encoding int

const (
	// JSON writes a message as the layer gives it.
	JSON Encoding = iota
	// MessagePack writes what a Django consumer behind channels-nats with its
	// MessagePack serializer can read.
	MessagePack
)

// withDefaults returns a complete copy of o, or says what contradicts what.
func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if err := c.checkServer(); err != nil {
		return c, err
	}
	c.Prefix = cmp.Or(c.Prefix, "channels")
	c.Shards = cmp.Or(c.Shards, min(runtime.GOMAXPROCS(0), 16))
	c.Pending = cmp.Or(c.Pending, 1<<16)
	c.ConnectWait = cmp.Or(c.ConnectWait, 5*time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, 3*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.Encoding != JSON && c.Encoding != MessagePack:
		return c, fmt.Errorf("natsbus: Options.Encoding %d is neither JSON nor MessagePack", c.Encoding)
	case c.Shards < 0:
		return c, fmt.Errorf("natsbus: Options.Shards is %d, less than 1", c.Shards)
	case c.Pending < 0:
		return c, fmt.Errorf("natsbus: Options.Pending is %d, less than 1", c.Pending)
	case c.ConnectWait < 0:
		return c, fmt.Errorf("natsbus: Options.ConnectWait is %v, less than 0", c.ConnectWait)
	case c.Heartbeat < 50*time.Millisecond:
		return c, fmt.Errorf("natsbus: Options.Heartbeat is %v, less than 50ms", c.Heartbeat)
	}
	return c, checkPrefix(c.Prefix)
}

// checkServer makes sure that the options name one server, and credentials only
// where they are used.
func (o *Options) checkServer() error {
	var where []string
	if o.Embedded != nil {
		where = append(where, "Embedded")
	}
	if o.URL != "" {
		where = append(where, "URL")
	}
	if o.Conn != nil {
		where = append(where, "Conn")
	}
	if len(where) > 1 {
		return fmt.Errorf("natsbus: Options.%s exclude each other: set one", strings.Join(where, " and Options."))
	}
	credentials := o.credentials()
	switch {
	case len(credentials) > 1:
		return fmt.Errorf("natsbus: Options.%s exclude each other: set one", strings.Join(credentials, " and Options."))
	case len(credentials) == 1 && o.URL == "":
		return fmt.Errorf("natsbus: Options.%s is for a server at Options.URL, which is empty", credentials[0])
	case o.Password != "" && o.User == "":
		return errors.New("natsbus: Options.Password is set, Options.User is empty")
	case o.TLS != nil && o.URL == "":
		return errors.New("natsbus: Options.TLS is for a server at Options.URL, which is empty")
	}
	if o.Embedded == nil && o.URL == "" && o.Conn == nil {
		o.Embedded = &Embedded{}
	}
	if o.URL != "" {
		return checkURL(o.URL)
	}
	return nil
}

func (o *Options) credentials() (set []string) {
	for _, c := range []struct{ name, value string }{
		{"CredsFile", o.CredsFile}, {"NKeyFile", o.NKeyFile}, {"Token", o.Token}, {"User", o.User},
	} {
		if c.value != "" {
			set = append(set, c.name)
		}
	}
	return set
}

func checkURL(list string) error {
	for s := range strings.SplitSeq(list, ",") {
		s = strings.TrimSpace(s)
		if s == "" {
			return fmt.Errorf("natsbus: Options.URL %q has an empty address", withoutSecrets(list))
		}
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return fmt.Errorf("natsbus: Options.URL %q is not valid: want nats://host:port", withoutSecrets(s))
		}
	}
	return nil
}

// withoutSecrets returns a list of addresses without users, passwords and
// tokens, for errors and logs.
func withoutSecrets(list string) string {
	urls := strings.Split(list, ",")
	for i, s := range urls {
		scheme, rest, ok := strings.Cut(strings.TrimSpace(s), "://")
		if !ok {
			scheme, rest = "nats", scheme
		}
		urls[i] = scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	return strings.Join(urls, ",")
}
