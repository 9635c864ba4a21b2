package layer

import (
	"fmt"
	"log/slog"
	"math"
	"path"
	"time"
)

// Options are the settings of a [Layer]. A nil *Options and the zero Options
// mean the defaults.
type Options struct {
	// Capacity is how many unread messages a channel holds. Default 100.
	Capacity int

	// Capacities are exceptions for channels whose name matches a pattern; the
	// first match counts. It is Channels' channel_capacity, in order.
	Capacities []Capacity

	// Expiry is how long a message waits to be read before it vanishes.
	// Default 60 s; at least 1 ms, for shared channels on NATS at least 100 ms.
	Expiry time.Duration

	// MaxMessage is the largest message in bytes, its headers counted. Default
	// 1 MiB. A wire may carry less.
	MaxMessage int

	// Linger is how long the process stays subscribed to a group after its last
	// member left, so that a page's reload costs nothing. Default 1 s; a
	// negative value is none.
	Linger time.Duration

	// Groups makes groups durable: their messages are kept, and each is stored
	// before it is delivered. Policies whose patterns overlap are an error, and
	// so is one that contradicts what the network has already. Default none:
	// nothing is stored. A process learns at New what the others keep.
	Groups []Retention

	// Queues makes shared channels durable queues, whose messages stay until a
	// worker has dealt with them. Policies keep the rules of Groups. Default
	// none.
	Queues []QueuePolicy

	// Presence makes the network keep who is in a group, by the pattern of its
	// name. Policies keep the rules of Groups, but are each process's own: give
	// all that have members in a group the same. Default none.
	Presence []Presence

	// Logger takes what nobody can be told by an error: drops, a lost link,
	// malformed messages; never a message's contents. Default slog.Default().
	Logger *slog.Logger
}

// Capacity is an exception from [Options].Capacity.
type Capacity struct {
	Pattern string // as of path.Match, on the channel's full name: "thumbnails", "job.*"
	Limit   int    // messages, at least 1
}

// resolve fills in the defaults and refuses what makes no sense.
func (o *Options) resolve() (Options, Limits, error) {
	var r Options
	if o != nil {
		r = *o
	}
	stated := r.Capacity != 0 || r.Expiry != 0 || len(r.Capacities) > 0
	r.Capacity = orDefault(r.Capacity, 100)
	r.Expiry = orDefault(r.Expiry, time.Minute)
	r.MaxMessage = orDefault(r.MaxMessage, 1<<20)
	r.Linger = orDefault(r.Linger, time.Second)
	if r.Logger == nil {
		r.Logger = slog.Default()
	}
	switch {
	case r.Capacity < 1:
		return r, Limits{}, fmt.Errorf("layer: Options.Capacity is %d; a channel holds at least 1 message", r.Capacity)
	case r.Expiry < time.Millisecond:
		return r, Limits{}, fmt.Errorf("layer: Options.Expiry is %v; 1ms is the least", r.Expiry)
	case r.MaxMessage < 256:
		return r, Limits{}, fmt.Errorf("layer: Options.MaxMessage is %d bytes; 256 is the least", r.MaxMessage)
	}
	limits := Limits{Capacity: r.Capacity, Expiry: r.Expiry, Ceiling: r.Capacity, Stated: stated}
	for _, c := range r.Capacities {
		if _, err := path.Match(c.Pattern, ""); err != nil || c.Pattern == "" {
			return r, limits, fmt.Errorf("layer: Options.Capacities has the pattern %q, which path.Match does not take", c.Pattern)
		}
		if c.Limit < 1 {
			return r, limits, fmt.Errorf("layer: Options.Capacities gives %q a limit of %d; 1 is the least", c.Pattern, c.Limit)
		}
		limits.Ceiling = max(limits.Ceiling, c.Limit)
	}
	var err error
	if r.Groups, err = resolvePolicies(r.Groups); err != nil {
		return r, limits, err
	}
	if r.Queues, err = resolveQueues(r.Queues); err != nil {
		return r, limits, err
	}
	r.Presence, err = resolvePresence(r.Presence)
	return r, limits, err
}

func orDefault[T int | time.Duration](v, fallback T) T {
	if v == 0 {
		return fallback
	}
	return v
}

// limitsOf returns the limits of one channel.
func (l *Layer) limitsOf(channel string) Limits {
	limits := l.limits
	for _, c := range l.opts.Capacities {
		if ok, _ := path.Match(c.Pattern, channel); ok { // resolve checked the pattern
			limits.Capacity = c.Limit
			break
		}
	}
	return limits
}

// capacityOf returns how many messages a channel of this process holds.
func (l *Layer) capacityOf(channel string) int32 {
	return int32(min(l.limitsOf(channel).Capacity, math.MaxInt32))
}
