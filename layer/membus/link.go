package membus

import (
	"bytes"
	"context"
	"hash/maphash"
	"runtime"
	"sync"

	"github.com/tideway-go/tideway/layer"
)

const (
	// mailboxSize is how far a layer may lag behind.
	mailboxSize = 1 << 16
	// maxIdle is the room that an empty mailbox keeps.
	maxIdle = 1 << 10
)

// link is one process's end of the network.
type link struct {
	bus      *Bus
	process  string
	receiver layer.Receiver
	shards   []*shard
	done     chan struct{} // closed by Close

	mu     sync.Mutex // guards closed and that busy grows no more after it
	closed bool
	busy   sync.WaitGroup // calls of the receiver, and the shards
}

var (
	_    layer.Link = (*link)(nil)
	seed            = maphash.MakeSeed()
)

func newLink(b *Bus, process string, r layer.Receiver) *link {
	l := &link{bus: b, process: process, receiver: r, done: make(chan struct{})}
	for range min(runtime.GOMAXPROCS(0), 4) {
		s := &shard{filled: make(chan struct{}, 1)}
		l.shards = append(l.shards, s)
		l.busy.Go(func() { s.run(r, l.done) })
	}
	return l
}

// shard is a mailbox and the goroutine that empties it.
type shard struct {
	filled chan struct{} // capacity 1

	mu  sync.Mutex // guards box
	box []layer.Inbound
}

func (s *shard) run(r layer.Receiver, done chan struct{}) {
	var batch []layer.Inbound
	for {
		select {
		case <-s.filled:
		case <-done:
			return
		}
		s.mu.Lock()
		batch, s.box = s.box, batch[:0]
		s.mu.Unlock()
		r.Deliver(batch)
		clear(batch)
		if cap(batch) > maxIdle {
			batch = nil
		}
	}
}

// put never waits: whoever publishes must not depend on who listens. It reports
// false when the mailbox is full.
func (l *link) put(in layer.Inbound) bool {
	s := l.shards[maphash.String(seed, in.Subscription.Group)%uint64(len(l.shards))]
	s.mu.Lock()
	full := len(s.box) >= mailboxSize
	if !full {
		s.box = append(s.box, in)
	}
	s.mu.Unlock()
	if full {
		return false
	}
	select {
	case s.filled <- struct{}{}:
	default:
	}
	return true
}

// overrun tells the layer that it missed a message of group.
func (l *link) overrun(group string) {
	if l.begin() {
		defer l.busy.Done()
		l.receiver.Report(layer.LinkEvent{Kind: layer.Dropped, Group: group, Count: 1})
	}
}

// begin announces a call of the receiver; false says that the link is closed.
func (l *link) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.busy.Add(1)
	return true
}

func (l *link) open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return layer.ErrClosed
	}
	return nil
}

// Subscribe implements layer.Link.
func (l *link) Subscribe(_ context.Context, s layer.Subscription) error {
	if err := l.open(); err != nil {
		return err
	}
	return l.bus.subscribe(l, s)
}

// Unsubscribe implements layer.Link.
func (l *link) Unsubscribe(s layer.Subscription) error {
	l.bus.unsubscribe(l, s)
	return nil
}

// Publish implements layer.Link.
func (l *link) Publish(_ context.Context, group string, p *layer.Packet) error {
	if err := l.open(); err != nil {
		return err
	}
	_, _, full, err := l.bus.publish(group, p, nil)
	if err != nil {
		return err
	}
	for _, o := range full {
		o.overrun(group)
	}
	return nil
}

// SendTo implements layer.Link.
func (l *link) SendTo(_ context.Context, channel string, p *layer.Packet) error {
	if err := l.open(); err != nil {
		return err
	}
	to := l.bus.owner(channel)
	if to == nil || !to.begin() {
		return layer.ErrNoChannel
	}
	defer to.busy.Done()
	return to.receiver.DeliverTo(channel, layer.Packet{Data: bytes.Clone(p.Data), Header: p.Header})
}

// Push implements layer.Link.
func (l *link) Push(_ context.Context, channel string, p *layer.Packet, limits layer.Limits) error {
	if err := l.open(); err != nil {
		return err
	}
	return l.bus.push(channel, layer.Packet{Data: bytes.Clone(p.Data), Header: p.Header}, limits)
}

// Pull implements layer.Link.
func (l *link) Pull(ctx context.Context, channel string, limits layer.Limits) (*layer.Packet, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	return l.bus.pull(ctx, l.done, channel, limits)
}

// Call implements layer.Link.
func (l *link) Call(ctx context.Context, process string, request []byte) ([][]byte, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	to := l.bus.everybody()
	if process != "" {
		one := l.bus.link(process)
		if one == nil {
			return nil, layer.ErrNoChannel
		}
		to = []*link{one}
	}
	answers := make(chan []byte, len(to))
	asked := 0
	for _, o := range to {
		if o.begin() {
			asked++
			go func() {
				defer o.busy.Done()
				answers <- o.call(ctx, request)
			}()
		}
	}
	var all [][]byte
	for range asked {
		select {
		case a := <-answers:
			all = append(all, a)
		case <-ctx.Done():
			if process != "" {
				return nil, ctx.Err()
			}
			return all, nil
		case <-l.done:
			return nil, layer.ErrClosed
		}
	}
	if asked == 0 && process != "" {
		return nil, layer.ErrNoChannel
	}
	return all, nil
}

// call has the receiver answer a request. It ends early when the link closes,
// so that an answer that waits for something does not hold up Close.
func (l *link) call(ctx context.Context, request []byte) []byte {
	ctx, cancel := context.WithCancel(ctx)
	answered := make(chan struct{})
	defer cancel()
	defer close(answered)
	go func() {
		select {
		case <-answered:
		case <-l.done:
			cancel()
		}
	}()
	return l.receiver.Call(ctx, request)
}

// Close implements layer.Link.
func (l *link) Close(context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	l.bus.detach(l)
	close(l.done)
	l.busy.Wait()
	return nil
}
