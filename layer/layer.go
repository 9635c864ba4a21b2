package layer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

	// Logger takes what nobody can be told by an error: drops, a lost link,
	// malformed messages; never a message's contents. Default slog.Default().
	Logger *slog.Logger
}

// Capacity is an exception from [Options].Capacity.
type Capacity struct {
	Pattern string // as of path.Match, on the channel's full name: "thumbnails", "job.*"
	Limit   int    // messages, at least 1
}

// Layer is one process's place in the channel layer. All its methods may be
// called from many goroutines.
type Layer struct {
	opts     Options
	limits   Limits // of a channel that no pattern matches
	link     Link
	process  string
	log      *slog.Logger
	lost     *lossLog
	policies []Retention // of the whole network, fixed by New
	start    time.Time
	serial   atomic.Uint64 // of the newest channel
	keys     atomic.Uint64 // idempotency keys that were made
	stats    counters
	linkErr  atomic.Pointer[error] // nil while the link is up
	sweep    atomic.Bool           // a sweep of expired messages is due

	expiryTimer atomic.Pointer[time.Timer]

	mu         sync.RWMutex // guards all below, and each group's state
	closed     bool
	channels   map[string]*Channel // this process's own
	relays     map[string]*Channel // by the shared channel that they feed
	groups     map[Subscription]*group
	empty      []emptied // groups without members, in the order in which they emptied
	leaving    bool      // a sweep of empty is due, by leaveTimer
	leaveTimer *time.Timer
	probeTimer *time.Timer // nil without durable groups
	commands   map[string][]*command
	busy       sync.WaitGroup // what Close waits for; see begin
}

// New makes a layer on bus. Close gives up its place; the bus stays open.
func New(bus Bus, opts *Options) (*Layer, error) {
	o, limits, err := opts.resolve()
	if err != nil {
		return nil, err
	}
	if bus == nil {
		return nil, errors.New("layer: New needs a bus; membus.New() makes one inside this process")
	}
	l := &Layer{
		opts:     o,
		limits:   limits,
		process:  "tw" + strings.ToLower(rand.Text()),
		log:      o.Logger,
		start:    time.Now(),
		channels: map[string]*Channel{},
		groups:   map[Subscription]*group{},
		relays:   map[string]*Channel{},
		commands: map[string][]*command{},
	}
	l.lost = &lossLog{log: l.log, losses: map[string]*loss{}}
	l.answerMembership()
	// What arrives before Attach returned finds no channels and no groups.
	ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
	defer cancel()
	if l.link, err = bus.Attach(ctx, l.process, (*receiver)(l)); err != nil {
		return nil, fmt.Errorf("layer: attach to the bus: %w", err)
	}
	if err := l.retain(); err != nil {
		return nil, err
	}
	return l, nil
}

// retain agrees with the network on what is kept.
func (l *Layer) retain() error {
	ctx, cancel := context.WithTimeout(context.Background(), retainTimeout)
	defer cancel()
	policies, err := l.link.Retain(ctx, l.opts.Groups)
	if err != nil {
		_ = l.Close(ctx) // the reason is err
		return fmt.Errorf("layer: Options.Groups: %w", err)
	}
	l.policies = policies // nobody knows l yet, and there are no groups
	l.probeQuiet()
	return nil
}

// retainTimeout leaves the other nodes of a cluster the time to start.
const retainTimeout = 30 * time.Second

const attachTimeout = 10 * time.Second

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
	r.Groups, err = resolvePolicies(r.Groups)
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

// now is the time since the layer was made: half the size of a time.Time.
func (l *Layer) now() time.Duration { return time.Since(l.start) }

// NewChannel makes a channel that only this process can read, with a fresh
// name that any process may send to or add to a group. It has no way to fail
// but ErrClosed.
func (l *Layer) NewChannel(ctx context.Context) (*Channel, error) { return l.Tap(ctx, nil) }

// Tap is [Layer.NewChannel] for a channel whose messages t takes as they
// arrive; Receive of such a channel returns ErrReading. With a nil t it is
// NewChannel.
func (l *Layer) Tap(_ context.Context, t Tap) (*Channel, error) {
	name := l.process + "!" + strconv.FormatUint(l.serial.Add(1), 36)
	c := &Channel{layer: l, name: name, capacity: l.limitsOf(name).Capacity, tap: t}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	l.channels[name] = c
	return c, nil
}

// Listen opens a shared channel for reading: each message that is sent to name,
// by any process, goes to one of its readers. Messages that nobody reads wait
// until they expire. The name holds no "!".
func (l *Layer) Listen(_ context.Context, name string) (*Channel, error) {
	if err := CheckChannel(name); err != nil {
		return nil, err
	}
	if _, owned := owner(name); owned {
		return nil, &NameError{"channel", name, `the part before "!" is the process that alone may read it; Listen is for shared channels`}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	return &Channel{layer: l, name: name, shared: true}, nil
}

// Send sends p to a channel.
//
// A channel with "!" in its name belongs to one process: delivery is at most
// once, the error is [ErrChannelFull] when the owner says so and [ErrNoChannel]
// when it is known to be gone. A shared channel keeps the message until it is
// read or expires; ErrChannelFull means that it holds too many already, and
// that nothing was dropped. Other errors: *[NameError], *[MessageError],
// [ErrTooLarge], [ErrUnavailable], [ErrClosed].
func (l *Layer) Send(ctx context.Context, channel string, p Payload) error {
	if err := CheckChannel(channel); err != nil {
		return err
	}
	pkt, err := l.pack(p, nil)
	if err != nil {
		return err
	}
	process, owned := owner(channel)
	switch {
	case !owned:
		err = l.link.Push(ctx, channel, pkt, l.limitsOf(channel))
	case process == l.process:
		err = l.sendHome(channel, pkt)
	default:
		err = l.link.SendTo(ctx, channel, pkt)
	}
	if err != nil {
		return fmt.Errorf("layer: send to channel %s: %w", channel, err)
	}
	l.stats.sent.Add(1)
	return nil
}

// sendHome sends to a channel of this process. The bytes may be a [Message]'s,
// which stay the sender's.
func (l *Layer) sendHome(channel string, p *Packet) error {
	if errors.Is(l.Err(), ErrClosed) {
		return ErrClosed
	}
	return l.deliverTo(channel, Packet{Data: bytes.Clone(p.Data), Header: p.Header})
}

// GroupSend sends p to every member of a group, in any process; a group that
// nobody joined is no error. nil says that the network took the message:
// delivery is at most once, in order for each group and sender. A member whose
// channel is full misses the message, which is counted and logged there. To a
// durable group it is [Layer.Publish] without options: nil says that the message
// is stored. Errors: *[NameError], *[MessageError], [ErrTooLarge],
// [ErrUnavailable], [ErrClosed]; for a durable group also [ErrUnknown], ctx's.
func (l *Layer) GroupSend(ctx context.Context, group string, p Payload) error {
	_, err := l.Publish(ctx, group, p, nil)
	return err
}

// pack makes p fit for the wire.
func (l *Layer) pack(p Payload, opts *PublishOptions) (*Packet, error) {
	data, err := Encode(p)
	if err != nil {
		return nil, err
	}
	pkt := &Packet{Data: data}
	switch m := p.(type) {
	case Message:
		pkt.Header = m.Header
	case *Message:
		pkt.Header = m.Header
	}
	if opts != nil {
		pkt.Header.ID = cmp.Or(opts.ID, pkt.Header.ID)
		pkt.Header.Sender = cmp.Or(opts.Sender, pkt.Header.Sender)
	}
	if err := pkt.Header.check(); err != nil {
		return nil, err
	}
	if n := len(data) + pkt.Header.size(); n > l.opts.MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes with its headers; %d is the most", ErrTooLarge, n, l.opts.MaxMessage)
	}
	return pkt, nil
}

// begin announces work that Close waits for. It reports false when the layer is
// closed; otherwise busy.Done ends the work.
func (l *Layer) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.busy.Add(1)
	return true
}

// sweepLater makes sure that expired messages are dropped even on channels
// that nobody reads any more. It takes no lock.
func (l *Layer) sweepLater() {
	if l.sweep.CompareAndSwap(false, true) {
		l.expiryTimer.Store(time.AfterFunc(l.opts.Expiry, l.sweepExpired))
	}
}

func (l *Layer) sweepExpired() {
	l.mu.RLock()
	closed, channels := l.closed, make([]*Channel, 0, len(l.channels))
	for _, c := range l.channels {
		channels = append(channels, c)
	}
	l.mu.RUnlock()
	if closed {
		return
	}
	l.sweep.Store(false) // before the walk, so that a push behind it sweeps again
	left := false
	for _, c := range channels {
		c.mu.Lock()
		c.expire()
		left = left || c.queue.len() > 0
		c.mu.Unlock()
	}
	if left {
		l.sweepLater()
	}
}

// Process returns the name of this process in the network: what stands before
// "!" in the names of its channels.
func (l *Layer) Process() string { return l.process }

// Err reports the state of the link to the network: nil while it is up, an
// error that wraps [ErrUnavailable] while the layer tries to come back, and
// [ErrClosed] when it never will: a liveness probe should fail then.
func (l *Layer) Err() error {
	if p := l.linkErr.Load(); p != nil {
		return *p
	}
	return nil
}

// Close closes all channels, so that they leave their groups, and gives up the
// layer's place in the network. Calls that wait return ErrClosed. It waits for
// the network until ctx ends. A second Close does nothing.
func (l *Layer) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	channels := make([]*Channel, 0, len(l.channels))
	for _, c := range l.channels {
		channels = append(channels, c)
	}
	for _, c := range l.relays {
		channels = append(channels, c)
	}
	if l.leaveTimer != nil {
		l.leaveTimer.Stop()
	}
	if l.probeTimer != nil {
		l.probeTimer.Stop()
	}
	l.mu.Unlock()
	if t := l.expiryTimer.Load(); t != nil {
		t.Stop()
	}
	closed := error(ErrClosed)
	l.linkErr.Store(&closed)
	for _, c := range channels {
		c.Close()
	}
	err := l.link.Close(ctx)
	l.busy.Wait()
	l.lost.close()
	l.mu.Lock()
	clear(l.groups)
	clear(l.relays)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("layer: close: %w", err)
	}
	return nil
}
