package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Options are the settings of a [API]. A nil *Options and the zero Options mean
// the defaults, with which every request is refused: there are no keys.
type Options struct {
	// Keys are who may come in, and for what. Default none.
	Keys []Key

	// Open lets everybody do everything without a key: for a server that only
	// this machine can reach. Keys that are shown count all the same. Default
	// false.
	Open bool

	// Hosts are the names by which clients may address the server, without
	// ports, or "*" for any. Default: any; if Open, the names of this machine,
	// localhost and loopback addresses, which is what stops DNS rebinding.
	Hosts []string

	// Origins are the pages of other sites that may come in with a key or
	// a token of their own: "https://example.com". Default none: pages of the
	// very host that serves the API.
	Origins []string

	// Rate is how many requests a second each key may make on average, and Burst
	// how many at once. Defaults 100, and twice the rate. A negative Rate is no
	// limit.
	Rate, Burst int

	// MaxBody is the largest request body in bytes. Default 1 MiB, as a layer's
	// messages. The layer's own limit, which counts headers, holds as well.
	MaxBody int

	// BodyTimeout is how long a client may take to send its body. Default 30 s.
	BodyTimeout time.Duration

	// MaxStreams is how many streams of events are served at a time, and
	// MaxStreamsPerKey how many for each key. Defaults 1,000 and 100; negative is
	// no limit.
	MaxStreams, MaxStreamsPerKey int

	// Heartbeat is how often a stream without events gets a comment, so that
	// proxies keep it. Default 20 s.
	Heartbeat time.Duration

	// WriteTimeout is how long a stream's client may take nothing of what is
	// written to it, before it is dropped. Default 10 s.
	WriteTimeout time.Duration

	// Disconnect closes connections, as router.Kick does. Default nil: there is
	// no such route.
	Disconnect func(ctx context.Context, k Kick) (closed int, err error)

	// Logger gets a line for requests that are refused, one a second at most,
	// and for each that fails here. Default slog.Default().
	Logger *slog.Logger
}

// resolve fills in the defaults and refuses what makes no sense.
func (o *Options) resolve() (Options, error) {
	var r Options
	if o != nil {
		r = *o
	}
	setDefault(&r.Rate, 100)
	setDefault(&r.Burst, 2*max(r.Rate, 1))
	setDefault(&r.MaxBody, 1<<20)
	setDefault(&r.BodyTimeout, 30*time.Second)
	setDefault(&r.MaxStreams, 1000)
	setDefault(&r.MaxStreamsPerKey, 100)
	setDefault(&r.Heartbeat, 20*time.Second)
	setDefault(&r.WriteTimeout, 10*time.Second)
	setDefault(&r.Logger, slog.Default())
	for _, f := range []struct {
		name  string
		value int
	}{{"Burst", r.Burst}, {"MaxBody", r.MaxBody}, {"BodyTimeout", int(r.BodyTimeout)}, {"Heartbeat", int(r.Heartbeat)}, {"WriteTimeout", int(r.WriteTimeout)}} {
		if f.value < 0 {
			return r, fmt.Errorf("httpapi: Options.%s is %d; it cannot be less than 0", f.name, f.value)
		}
	}
	return r, checkOrigins(r.Origins)
}

func setDefault[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}
