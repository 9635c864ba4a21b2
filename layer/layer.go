package layer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Layer is one process's place in the channel layer. All its methods may be
// called from many goroutines.
type Layer struct {
	opts     Options
	limits   Limits // of a channel that no pattern matches
	link     Link
	process  string
	log      *slog.Logger
	lost     *lossLog
	shelves  *shelves
	policies []Retention   // of the whole network, fixed by New
	queues   []QueuePolicy // the same
	start    time.Time
	serial   atomic.Uint64 // of the newest channel
	keys     atomic.Uint64 // idempotency keys that were made
	stats    counters
	ring     keyring
	linkErr  atomic.Pointer[error] // nil while the link is up
	sweep    atomic.Bool           // a sweep of expired messages is due

	expiryTimer atomic.Pointer[time.Timer]
	departures  departures
	presence    *presences // nil without Options.Presence

	mu         sync.RWMutex // guards all below, and each group's state
	closed     bool
	channels   map[string]*Channel // this process's own
	relays     map[string]*Channel // by the shared channel that they feed
	groups     map[string]*group   // by Subscription.key
	empty      []emptied           // groups without members, in the order in which they emptied
	leaving    bool                // a sweep of empty is due, by leaveTimer
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
		groups:   map[string]*group{},
		relays:   map[string]*Channel{},
		commands: map[string][]*command{},
	}
	l.lost = &lossLog{log: l.log, losses: map[string]*loss{}}
	l.shelves = newShelves(l)
	l.answerMembership()
	l.presence = newPresences(l)
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
	if err := l.openKeys(ctx); err != nil {
		_ = l.Close(ctx)
		return err
	}
	queues, err := l.link.Govern(ctx, l.opts.Queues)
	if err != nil {
		_ = l.Close(ctx) // the reason is err
		return fmt.Errorf("layer: Options.Queues: %w", err)
	}
	l.queues = queues
	l.probeQuiet()
	return nil
}

// retainTimeout leaves the other nodes of a cluster the time to start.
const retainTimeout = 30 * time.Second

const attachTimeout = 10 * time.Second

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
	c := &Channel{layer: l, name: name, capacity: l.capacityOf(name), tap: t}
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
// until they expire. The name holds no "!", and is not that of a durable queue.
func (l *Layer) Listen(_ context.Context, name string) (*Channel, error) {
	if err := CheckChannel(name); err != nil {
		return nil, err
	}
	if _, owned := owner(name); owned {
		return nil, &NameError{"channel", name, `the part before "!" is the process that alone may read it; Listen is for shared channels`}
	}
	if l.queuePolicy(name) != nil {
		return nil, fmt.Errorf("layer: listen: %s %w", name, errQueueListen)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	return &Channel{layer: l, name: name, shared: true}, nil
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
	if l.ring.timer != nil {
		l.ring.timer.Stop()
	}
	l.mu.Unlock()
	if t := l.expiryTimer.Load(); t != nil {
		t.Stop()
	}
	if l.presence != nil {
		l.presence.close(ctx)
	}
	closed := error(ErrClosed)
	l.linkErr.Store(&closed)
	for _, c := range channels {
		c.Close()
	}
	err := l.link.Close(ctx)
	l.busy.Wait()
	l.lost.close()
	l.shelves.close()
	l.mu.Lock()
	clear(l.groups)
	clear(l.relays)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("layer: close: %w", err)
	}
	return nil
}
