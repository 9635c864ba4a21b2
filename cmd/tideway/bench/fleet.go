package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// fleetOptions describe the connections of a load client.
type fleetOptions struct {
	targets []*target // servers, over which the members of each group are spread
	base    int       // the number of the first group
	groups  int       // client i is in the group base + i mod groups
	silent  int       // the last of them never read
	dialers int       // handshakes at the same time
	nap     time.Duration
	hello   string // a text message behind each handshake; %d is the group
	replies int    // messages that answer it

	first func(*client) []byte       // in place of hello, if it is set
	begin func(i int, due time.Time) // called before a client's handshake, if it is set
}

// fleet is the load client: many connections, and what arrives on them.
type fleet struct {
	opts    fleetOptions
	sink    sink
	poller  poller
	clients []*client // nil where there is no connection
	round   int       // how often all went on to the next server
}

// poller reads what arrives for clients.
type poller interface {
	dial(ctx context.Context, c *client, request []byte) error // sets c.wire and c.part
	add(c *client) error                                       // begins to read
	busy() time.Duration                                       // CPU time of the reading thread, 0 when there is no single one
	close()
}

// newFleet makes a fleet of n clients, which are not connected yet.
func newFleet(n int, opts fleetOptions) (*fleet, error) {
	if err := checkDescriptors(n); err != nil {
		return nil, err
	}
	f := &fleet{opts: opts, clients: make([]*client, n)}
	var err error
	if opts.targets[0].secure {
		f.poller = newGoPoller(&f.sink, opts)
	} else {
		f.poller, err = newPoller(&f.sink, opts)
	}
	return f, err
}

// group returns the group of a client.
func (f *fleet) group(i int) int { return f.opts.base + i%f.opts.groups }

// target returns the server of a client: each group has members on all.
func (f *fleet) target(i int) *target {
	return f.opts.targets[(i%f.opts.groups+i/f.opts.groups+f.round)%len(f.opts.targets)]
}

// readers returns how many clients of a group read.
func (f *fleet) readers(group int) int {
	n := len(f.clients) - f.opts.silent
	return (n - group + f.opts.groups - 1) / f.opts.groups
}

// expected returns how many deliveries messages make, the first of which goes
// to group 0, the next to group 1 and so on.
func (f *fleet) expected(messages int) int64 {
	total := int64(0)
	for g := range f.opts.groups {
		total += int64((messages-g+f.opts.groups-1)/f.opts.groups) * int64(f.readers(g))
	}
	return total
}

// dialed is what opening connections took.
type dialed struct {
	elapsed   time.Duration
	handshake Histogram // of those that succeeded, refused tries included
	refused   int64     // tries that were told to come later
}

// dial opens the connections [from, to), and begins to read from them. A server
// that says "later" (503, 429) is tried again, as its clients would. The first
// other error ends it. With a rate above zero, dial i is due i/rate seconds
// after the first.
func (f *fleet) dial(ctx context.Context, from, to, rate int) (*dialed, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	d, start := &dialed{}, time.Now()
	var mu sync.Mutex // guards d.handshake and failed
	var failed error
	var next, refused atomic.Int64
	var wg sync.WaitGroup
	for range min(f.opts.dialers, to-from) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := from + int(next.Add(1)) - 1
				if i >= to {
					return
				}
				due := time.Now()
				if rate > 0 {
					due = start.Add(time.Duration(i-from) * time.Second / time.Duration(rate))
					sleep(ctx, time.Until(due))
				}
				if f.opts.begin != nil {
					f.opts.begin(i, due)
				}
				err := f.open(ctx, i, &refused)
				mu.Lock()
				if err != nil && failed == nil {
					failed = fmt.Errorf("connection %d: %w", i+1, err)
					cancel()
				} else if err == nil {
					d.handshake.Add(int64(time.Since(due)))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	d.elapsed, d.refused = time.Since(start), refused.Load()
	if failed == nil {
		failed = ctx.Err()
	}
	return d, failed
}

// open opens connection i, as often as the server asks to try again.
func (f *fleet) open(ctx context.Context, i int, refused *atomic.Int64) error {
	for {
		c := &client{index: i, target: f.target(i), silent: i >= len(f.clients)-f.opts.silent}
		err := f.poller.dial(ctx, c, c.target.request(f.group(i)))
		var r *refusal
		if errors.As(err, &r) && r.again() && ctx.Err() == nil {
			refused.Add(1)
			wait := min(max(r.retry, 50*time.Millisecond), 5*time.Second)
			sleep(ctx, wait/2+rand.N(wait))
			continue
		}
		if err != nil {
			return err
		}
		return f.enter(c)
	}
}

// enter takes a connection that was opened into the fleet.
func (f *fleet) enter(c *client) error {
	f.sink.mu.Lock()
	if len(c.part) > 0 { // came with the answer to the handshake
		f.sink.take(c, append([]byte(nil), c.part...), len(c.part))
	}
	f.clients[c.index] = c
	f.sink.mu.Unlock()
	if text := f.hello(c); text != nil {
		if err := c.wire.write(appendFrame(nil, opText, text)); err != nil {
			return err
		}
	}
	if c.silent {
		return nil
	}
	return f.poller.add(c)
}

// hello returns the text behind a client's handshake, if there is one.
func (f *fleet) hello(c *client) []byte {
	switch {
	case f.opts.first != nil:
		return f.opts.first(c)
	case f.opts.hello != "":
		return []byte(withGroup(f.opts.hello, f.group(c.index)))
	}
	return nil
}

// greeted waits for the replies to the hellos of clients.
func (f *fleet) greeted(ctx context.Context, clients int) error {
	if f.opts.hello == "" || f.opts.replies == 0 {
		return nil
	}
	want := int64(f.opts.replies * (clients - f.opts.silent))
	for deadline := time.Now().Add(30 * time.Second); f.sink.frames.Load() < want; sleep(ctx, 5*time.Millisecond) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d replies to --hello came within 30 s", f.sink.frames.Load(), want)
		}
	}
	return nil
}

// connect opens all connections and waits until they take part.
func (f *fleet) connect(ctx context.Context) error {
	if _, err := f.dial(ctx, 0, len(f.clients), 0); err != nil {
		return err
	}
	return f.greeted(ctx, len(f.clients))
}

// lose breaks all connections, without a word.
func (f *fleet) lose() {
	for i, c := range f.clients {
		if c != nil {
			f.sink.leave(c)
			f.clients[i] = nil
		}
	}
}

// arrived waits until so many messages have arrived, or none has for quiet.
func (f *fleet) arrived(ctx context.Context, want int64, quiet time.Duration) {
	last, since := int64(-1), time.Now()
	for ctx.Err() == nil {
		got := f.sink.received.Load()
		if got >= want || got == last && time.Since(since) > quiet {
			return
		}
		if got != last {
			last, since = got, time.Now()
		}
		sleep(ctx, time.Millisecond)
	}
}

// close ends all connections, without a word.
func (f *fleet) close() {
	f.lose()
	f.poller.close()
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
