package socket

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// Options are the bounds of an [Engine]. The zero value of a field stands for
// its default; limits on what a client sends may be turned off by a negative
// value, where the field says so.
type Options struct {
	// Logger gets one debug line for each connection that ended. Default:
	// slog.Default().
	Logger *slog.Logger

	// ReadLimit is the largest inbound message in bytes; a larger one ends the
	// connection with 1009. Default 64 KiB; negative is no limit.
	ReadLimit int64

	// MaxQueueBytes is how far a client may lag behind, beyond the kernel's
	// buffer. [Socket.Offer] over it closes the connection as slow;
	// [Socket.Send] waits for room in half of it. One message that is larger is
	// accepted when nothing else is queued. Default 1 MiB.
	MaxQueueBytes int

	// WriteTimeout is how long a part of the queue (at most 128 KiB) may take to
	// leave, how long Send waits, and how long the queue of a closed connection
	// has to drain. Default 10 s.
	WriteTimeout time.Duration

	// CloseTimeout is how long the peer has to answer our close frame, and how
	// long a slow client has to take it. Default 5 s.
	CloseTimeout time.Duration

	// PingInterval is after how much silence a ping is sent; up to a fifth less,
	// so that the pings of clients that came together spread. Default 25 s;
	// negative is no pings.
	PingInterval time.Duration

	// PongTimeout is how long after a ping any inbound byte must arrive, or the
	// connection counts as lost. While nobody calls Read, pings go on and no
	// connection is lost for want of an answer. Default 20 s.
	PongTimeout time.Duration

	// MessageTimeout is how long one message may take from its first byte to its
	// last, before the connection ends with 1008. Default 30 s; negative is no
	// limit.
	MessageTimeout time.Duration

	// MessageRate is how many messages a second a client may send on average,
	// and MessageBurst how many at once. Over it, as over the rates below, the
	// connection ends with 4129. Default 50 and 100; a negative rate is no limit.
	MessageRate, MessageBurst int

	// FrameRate is how many frames of any kind a second a client may send, and
	// as many at once. Default 500; negative is no limit.
	FrameRate int

	// ByteRate is how many bytes a second a client may send on average, and
	// ByteBurst how many at once. Default 64 KiB and 1 MiB, or twice ReadLimit
	// where that is more; a negative rate is no limit.
	ByteRate, ByteBurst int

	// PingRate is how many pings a second a client may send, and as many at
	// once. Default 10; negative is no limit.
	PingRate int

	// Polling lets [Socket.Poll] do without a goroutine while a client is
	// silent, where the system can: on Linux, for TCP and Unix sockets without
	// TLS. It has no effect elsewhere, or on Read. Default false.
	Polling bool

	// DeflateFrom is the size in bytes from which messages are compressed to
	// clients that agree to permessage-deflate (RFC 7692), which is then offered
	// to all. No context is taken over from message to message, either way.
	// ReadLimit holds for what a client's message inflates to, and is needed;
	// the rates count bytes as they come over the wire. Default 0: no compression
	// is agreed to.
	DeflateFrom int
}

// withDefaults returns a copy of o (nil is the zero Options) in which every
// field is set, or says which one makes no sense.
func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	setDefault(&c.ReadLimit, 64<<10)
	setDefault(&c.MaxQueueBytes, 1<<20)
	setDefault(&c.WriteTimeout, 10*time.Second)
	setDefault(&c.CloseTimeout, 5*time.Second)
	setDefault(&c.PingInterval, 25*time.Second)
	setDefault(&c.PongTimeout, 20*time.Second)
	setDefault(&c.MessageTimeout, 30*time.Second)
	setDefault(&c.MessageRate, 50)
	setDefault(&c.MessageBurst, 100)
	setDefault(&c.FrameRate, 500)
	setDefault(&c.ByteRate, 64<<10)
	setDefault(&c.ByteBurst, int(max(1<<20, 2*min(c.ReadLimit, maxBurst/2))))
	setDefault(&c.PingRate, 10)
	return c, c.validate()
}

// maxBurst keeps the time of a burst, at one a second, inside a Duration.
const maxBurst = 1 << 30

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports the first field that contradicts itself or another.
func (o *Options) validate() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"MaxQueueBytes", int64(o.MaxQueueBytes)},
		{"WriteTimeout", int64(o.WriteTimeout)},
		{"CloseTimeout", int64(o.CloseTimeout)},
		{"PongTimeout", int64(o.PongTimeout)},
		{"MessageBurst", int64(o.MessageBurst)},
		{"ByteBurst", int64(o.ByteBurst)},
		{"DeflateFrom", int64(o.DeflateFrom)},
	} {
		if f.value < 0 {
			return fmt.Errorf("socket: option %s is %d: it cannot be turned off; leave it zero for the default", f.name, f.value)
		}
	}
	if o.ByteBurst > maxBurst || o.MessageBurst > maxBurst {
		return fmt.Errorf("socket: options ByteBurst and MessageBurst are %d and %d: at most %d; set the rate to -1 for no limit",
			o.ByteBurst, o.MessageBurst, maxBurst)
	}
	if o.DeflateFrom > 0 && o.ReadLimit < 0 {
		return fmt.Errorf("socket: option ReadLimit is %d (none) with compression: a message inflates to a thousand times its size; set a limit", o.ReadLimit)
	}
	if o.ByteRate > 0 && int64(o.ByteBurst) < o.ReadLimit {
		return fmt.Errorf("socket: option ByteBurst (%d) is below ReadLimit (%d): one allowed message would break the byte rate; "+
			"raise ByteBurst or set ByteRate to -1", o.ByteBurst, o.ReadLimit)
	}
	if most := mostCompressed(o.ReadLimit); o.ByteRate > 0 && o.DeflateFrom > 0 && int64(o.ByteBurst) < most {
		return fmt.Errorf("socket: option ByteBurst (%d) is below what a message of ReadLimit (%d) may have when it is compressed badly (%d): "+
			"raise ByteBurst or set ByteRate to -1", o.ByteBurst, o.ReadLimit, most)
	}
	return nil
}

// limits is the part of Options that is checked on every inbound frame.
type limits struct {
	message                        int64 // bytes; negative is off
	compressed                     int64 // the same, of a compressed one
	frames, bytes, pings, messages rate
	patient                        rate // messages of clients that are told before
}

func newLimits(o *Options) limits {
	return limits{
		message:    o.ReadLimit,
		compressed: mostCompressed(o.ReadLimit),
		frames:     newRate("frames", o.FrameRate, o.FrameRate),
		bytes:      newRate("bytes", o.ByteRate, o.ByteBurst),
		pings:      newRate("pings", o.PingRate, o.PingRate),
		messages:   newRate("messages", o.MessageRate, o.MessageBurst),
		patient:    newRate("messages", o.MessageRate, 2*o.MessageBurst),
	}
}

// rate is how often something may happen.
type rate struct {
	cost  time.Duration        // of one; zero is no limit
	burst time.Duration        // of as many as may come at once
	over  *consumer.CloseError // the end of a connection that exceeds it
}

func newRate(what string, perSecond, burst int) rate {
	if perSecond <= 0 {
		return rate{}
	}
	cost := time.Second / time.Duration(perSecond)
	return rate{cost, cost * time.Duration(burst), &consumer.CloseError{
		Code:   consumer.StatusTooManyMessage,
		Reason: fmt.Sprintf("too many %s: more than %d a second", what, perSecond),
	}}
}

// bucket is the state of one rate on one connection: the moment at which all
// that was let through will be paid for (the generic cell rate algorithm, which
// needs neither a timer nor a refill).
type bucket time.Duration

// take pays for n at the moment now, or returns r's error and pays nothing.
// slack is for how long what comes in now may have waited for us.
func (b *bucket) take(r *rate, n int, now, slack time.Duration) *consumer.CloseError {
	if r.cost == 0 {
		return nil
	}
	paid := max(time.Duration(*b), now-slack) + time.Duration(n)*r.cost
	if paid-now > r.burst {
		return r.over
	}
	*b = bucket(paid)
	return nil
}
