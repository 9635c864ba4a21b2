package layertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// fault is a way in which a bus may break a promise. Each field, where it is
// set, stands between the layer and a bus that works.
type fault struct {
	name   string
	caught string // the row that has to fail

	inbound    func(*faulty, []layer.Inbound) []layer.Inbound // what a shard delivers
	subscribe  func(*faultyLink, layer.Subscription) error
	unsub      func(*faultyLink, layer.Subscription) error
	publish    func(l *faultyLink, group string, p *layer.Packet) error
	sendTo     func(*faultyLink, string, *layer.Packet) error
	push       func(*faultyLink, string, *layer.Packet, layer.Limits) error
	pull       func(*faultyLink, context.Context, string, layer.Limits) (*layer.Packet, error)
	call       func(*faultyLink, context.Context, string, []byte) ([][]byte, error)
	store      func(*faultyLink, string, *layer.Packet, *layer.Stamp) (layer.Stamp, bool, error)
	state      func(l *faultyLink, key string) ([]byte, uint64, error)
	setState   func(l *faultyLink, key string, value []byte, revision uint64, age time.Duration) (bool, error)
	close      func(*faultyLink, context.Context) error
	oneNetwork bool // all networks are one
}

// faulty is a network with a fault.
type faulty struct {
	fault
	layer.Bus
	count atomic.Int64 // of whatever the fault counts
	late  sync.Map     // subscriptions whose end is yet to come

	mu    sync.Mutex // guards stash
	stash *layer.Packet
}

// Attach implements layer.Bus.
func (f *faulty) Attach(ctx context.Context, process string, r layer.Receiver) (layer.Link, error) {
	l, err := f.Bus.Attach(ctx, process, &faultyReceiver{r, f})
	return &faultyLink{Link: l, f: f, receiver: r}, err
}

type faultyReceiver struct {
	layer.Receiver
	f *faulty
}

// Deliver implements layer.Receiver.
func (r *faultyReceiver) Deliver(in []layer.Inbound) {
	if r.f.inbound != nil {
		in = r.f.inbound(r.f, in)
	}
	r.Receiver.Deliver(in)
}

type faultyLink struct {
	layer.Link
	f        *faulty
	receiver layer.Receiver
}

// Subscribe implements layer.Link.
func (l *faultyLink) Subscribe(ctx context.Context, s layer.Subscription) error {
	if l.f.subscribe != nil {
		return l.f.subscribe(l, s)
	}
	return l.Link.Subscribe(ctx, s)
}

// Unsubscribe implements layer.Link.
func (l *faultyLink) Unsubscribe(s layer.Subscription) error {
	if l.f.unsub != nil {
		return l.f.unsub(l, s)
	}
	return l.Link.Unsubscribe(s)
}

// Publish implements layer.Link.
func (l *faultyLink) Publish(ctx context.Context, group string, p *layer.Packet) error {
	if l.f.publish != nil {
		return l.f.publish(l, group, p)
	}
	return l.Link.Publish(ctx, group, p)
}

// SendTo implements layer.Link.
func (l *faultyLink) SendTo(ctx context.Context, channel string, p *layer.Packet) error {
	if l.f.sendTo != nil {
		return l.f.sendTo(l, channel, p)
	}
	return l.Link.SendTo(ctx, channel, p)
}

// Push implements layer.Link.
func (l *faultyLink) Push(ctx context.Context, channel string, p *layer.Packet, limits layer.Limits) error {
	if l.f.push != nil {
		return l.f.push(l, channel, p, limits)
	}
	return l.Link.Push(ctx, channel, p, limits)
}

// Pull implements layer.Link.
func (l *faultyLink) Pull(ctx context.Context, channel string, limits layer.Limits) (*layer.Packet, error) {
	if l.f.pull != nil {
		return l.f.pull(l, ctx, channel, limits)
	}
	return l.Link.Pull(ctx, channel, limits)
}

// Call implements layer.Link.
func (l *faultyLink) Call(ctx context.Context, process string, request []byte) ([][]byte, error) {
	if l.f.call != nil {
		return l.f.call(l, ctx, process, request)
	}
	return l.Link.Call(ctx, process, request)
}

// Store implements layer.Link.
func (l *faultyLink) Store(ctx context.Context, group string, p *layer.Packet, after *layer.Stamp) (layer.Stamp, bool, error) {
	if l.f.store != nil {
		return l.f.store(l, group, p, after)
	}
	return l.Link.Store(ctx, group, p, after)
}

// State implements layer.Link.
func (l *faultyLink) State(ctx context.Context, key string) ([]byte, uint64, error) {
	if l.f.state != nil {
		return l.f.state(l, key)
	}
	return l.Link.State(ctx, key)
}

// SetState implements layer.Link.
func (l *faultyLink) SetState(ctx context.Context, key string, value []byte, revision uint64, age time.Duration) (bool, error) {
	if l.f.setState != nil {
		return l.f.setState(l, key, value, revision, age)
	}
	return l.Link.SetState(ctx, key, value, revision, age)
}

// Close implements layer.Link.
func (l *faultyLink) Close(ctx context.Context) error {
	if l.f.close != nil {
		return l.f.close(l, ctx)
	}
	return l.Link.Close(ctx)
}

var bg = context.Background()

// faults are the broken buses, and the row that catches each.
var faults = []fault{
	{name: "drops one group message in seven", caught: "order holds for each group and sender",
		inbound: func(f *faulty, in []layer.Inbound) (out []layer.Inbound) {
			for _, i := range in {
				if f.count.Add(1)%7 != 0 {
					out = append(out, i)
				}
			}
			return out
		}},
	{name: "doubles one group message in seven", caught: "order holds for each group and sender",
		inbound: func(f *faulty, in []layer.Inbound) (out []layer.Inbound) {
			for _, i := range in {
				if out = append(out, i); f.count.Add(1)%7 == 0 {
					out = append(out, i)
				}
			}
			return out
		}},
	{name: "lets one group message in seven overtake the one before it", caught: "order holds for each group and sender",
		publish: func(l *faultyLink, group string, p *layer.Packet) error {
			f := l.f
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.count.Add(1)%7 == 0 {
				f.stash = &layer.Packet{Data: bytes.Clone(p.Data), Header: p.Header}
				return nil
			}
			err := l.Link.Publish(bg, group, p)
			if f.stash != nil {
				err = errors.Join(err, l.Link.Publish(bg, group, f.stash))
				f.stash = nil
			}
			return err
		}},
	{name: "subscribes a moment after it said so", caught: "the next GroupSend from anywhere reaches who joined",
		subscribe: func(l *faultyLink, s layer.Subscription) error {
			time.AfterFunc(5*time.Millisecond, func() { l.Link.Subscribe(bg, s) })
			return nil
		}},
	{name: "ends a subscription late, and with it the next one", caught: "the next GroupSend from anywhere reaches who joined",
		unsub: func(l *faultyLink, s layer.Subscription) error {
			l.f.late.Store(s, true)
			return nil
		},
		subscribe: func(l *faultyLink, s layer.Subscription) error {
			err := l.Link.Subscribe(bg, s)
			if _, late := l.f.late.LoadAndDelete(s); late {
				err = errors.Join(err, l.Link.Unsubscribe(s))
			}
			return err
		}},
	{name: "has all processes feed a shared channel", caught: "workers get each message of a group once",
		subscribe: func(l *faultyLink, s layer.Subscription) error {
			if s.Relay == "" {
				return l.Link.Subscribe(bg, s)
			}
			return l.relayForItself(s)
		}},
	{name: "takes groups for others whose names differ by a dot", caught: "odd names work and differ",
		publish: func(l *faultyLink, group string, p *layer.Packet) error {
			return l.Link.Publish(bg, string(bytes.TrimRight([]byte(group), ".")), p)
		}},
	{name: "loses headers", caught: "headers travel beside the data",
		publish: func(l *faultyLink, group string, p *layer.Packet) error {
			return l.Link.Publish(bg, group, &layer.Packet{Data: p.Data})
		}},
	{name: "uses a message's bytes again", caught: "members do not share bytes",
		publish: func(l *faultyLink, group string, p *layer.Packet) error {
			return l.reuse(group, p)
		}},
	{name: "loses messages over 8000 bytes", caught: "large messages arrive",
		publish: func(l *faultyLink, group string, p *layer.Packet) error {
			if len(p.Data) > 8000 {
				return nil
			}
			return l.Link.Publish(bg, group, p)
		}},
	{name: "does not tell that a channel is full", caught: "a full channel refuses",
		sendTo: func(l *faultyLink, channel string, p *layer.Packet) error {
			if err := l.Link.SendTo(bg, channel, p); !errors.Is(err, layer.ErrChannelFull) {
				return err
			}
			return nil
		}},
	{name: "does not tell that a channel is gone", caught: "a channel that is gone is an error",
		sendTo: func(l *faultyLink, channel string, p *layer.Packet) error {
			if err := l.Link.SendTo(bg, channel, p); !errors.Is(err, layer.ErrNoChannel) {
				return err
			}
			return nil
		}},
	{name: "sends directly in the background", caught: "a channel is first in, first out",
		sendTo: func(l *faultyLink, channel string, p *layer.Packet) error {
			later := layer.Packet{Data: bytes.Clone(p.Data), Header: p.Header}
			delay := time.Duration(l.f.count.Add(1)%3) * time.Millisecond
			time.AfterFunc(delay, func() { l.Link.SendTo(bg, channel, &later) })
			return nil
		}},
	{name: "drops the oldest of a full shared channel", caught: "a full shared channel refuses",
		push: func(l *faultyLink, channel string, p *layer.Packet, limits layer.Limits) error {
			err := l.Link.Push(bg, channel, p, limits)
			if errors.Is(err, layer.ErrChannelFull) {
				l.Link.Pull(bg, channel, limits)
				err = l.Link.Push(bg, channel, p, limits)
			}
			return err
		}},
	{name: "knows no capacity of shared channels", caught: "a full shared channel refuses",
		push: func(l *faultyLink, channel string, p *layer.Packet, limits layer.Limits) error {
			limits.Capacity = roomy
			return l.Link.Push(bg, channel, p, limits)
		}},
	{name: "lets expired messages take room", caught: "an expired message of a shared channel takes no room",
		push: func(l *faultyLink, channel string, p *layer.Packet, limits layer.Limits) error {
			if l.f.count.Add(1) > int64(limits.Capacity) {
				return layer.ErrChannelFull
			}
			return l.Link.Push(bg, channel, p, limits)
		}},
	{name: "delivers what has expired", caught: "what nobody read in time is never delivered, on a shared channel",
		push: func(l *faultyLink, channel string, p *layer.Packet, limits layer.Limits) error {
			limits.Expiry = time.Hour
			return l.Link.Push(bg, channel, p, limits)
		}},
	{name: "throws a shared message away without a reader", caught: "a shared channel keeps messages until they are read",
		push: func(l *faultyLink, _ string, p *layer.Packet, limits layer.Limits) error {
			return l.Link.Push(bg, "elsewhere", p, limits)
		}},
	{name: "hands each shared message to two readers", caught: "each message of a shared channel goes to one reader",
		push: func(l *faultyLink, channel string, p *layer.Packet, limits layer.Limits) error {
			return errors.Join(l.Link.Push(bg, channel, p, limits), l.Link.Push(bg, channel, p, limits))
		}},
	{name: "loses what it pulled when the reader is cancelled", caught: "cancelling Receive of a shared channel loses nothing",
		pull: func(l *faultyLink, ctx context.Context, channel string, limits layer.Limits) (*layer.Packet, error) {
			p, err := l.Link.Pull(ctx, channel, limits)
			if err != nil && ctx.Err() != nil {
				late, cancel := context.WithTimeout(bg, 5*time.Millisecond)
				defer cancel()
				l.Link.Pull(late, channel, limits)
			}
			return p, err
		}},
	{name: "asks one process of all", caught: "a command reaches one process or all",
		call: func(l *faultyLink, ctx context.Context, process string, request []byte) ([][]byte, error) {
			answers, err := l.Link.Call(ctx, process, request)
			return answers[:min(len(answers), 1)], err
		}},
	{name: "discards a shared channel in one process only", caught: "a shared channel is discarded everywhere",
		call: func(l *faultyLink, ctx context.Context, process string, request []byte) ([][]byte, error) {
			if process == "" {
				return [][]byte{l.receiver.Call(ctx, request)}, nil
			}
			return l.Link.Call(ctx, process, request)
		}},
	{name: "looks where a group is and stores a moment later", caught: "of those who write after the same place one succeeds",
		store: func(l *faultyLink, group string, p *layer.Packet, after *layer.Stamp) (layer.Stamp, bool, error) {
			if last, err := l.Link.Last(bg, group); after != nil && (err != nil || last.Sequence != after.Sequence) {
				return layer.Stamp{}, false, errors.Join(err, layer.ErrConflict)
			}
			time.Sleep(time.Millisecond)
			return l.Link.Store(bg, group, p, nil)
		}},
	{name: "takes a retry for a conflict", caught: "a conditional publish may be tried again",
		store: func(l *faultyLink, group string, p *layer.Packet, after *layer.Stamp) (layer.Stamp, bool, error) {
			s, duplicate, err := l.Link.Store(bg, group, p, after)
			if after != nil && duplicate {
				return layer.Stamp{}, false, layer.ErrConflict
			}
			return s, duplicate, err
		}},
	{name: "compares a state and sets it a moment later", caught: "one of those who change a state succeeds",
		setState: func(l *faultyLink, key string, value []byte, revision uint64, age time.Duration) (bool, error) {
			_, now, err := l.Link.State(bg, key)
			if err != nil || now != revision {
				return false, err
			}
			time.Sleep(time.Millisecond)
			if _, now, err = l.Link.State(bg, key); err != nil {
				return false, err
			}
			return l.Link.SetState(bg, key, value, now, age)
		}},
	{name: "says that it set a state, though another was faster", caught: "one of those who change a state succeeds",
		setState: func(l *faultyLink, key string, value []byte, revision uint64, age time.Duration) (bool, error) {
			_, err := l.Link.SetState(bg, key, value, revision, age)
			return true, err
		}},
	{name: "does not compare states", caught: "a state is what was set last",
		setState: func(l *faultyLink, key string, value []byte, _ uint64, age time.Duration) (bool, error) {
			_, now, err := l.Link.State(bg, key)
			if err != nil {
				return false, err
			}
			return l.Link.SetState(bg, key, value, now, age)
		}},
	{name: "keeps one state for all", caught: "a state is what was set last",
		state: func(l *faultyLink, _ string) ([]byte, uint64, error) { return l.Link.State(bg, "all") },
		setState: func(l *faultyLink, _ string, value []byte, revision uint64, age time.Duration) (bool, error) {
			return l.Link.SetState(bg, "all", value, revision, age)
		}},
	{name: "shows a state as it was a moment ago", caught: "a state is what was set last",
		setState: func(l *faultyLink, key string, value []byte, revision uint64, age time.Duration) (bool, error) {
			old, was, err := l.Link.State(bg, key)
			if err != nil {
				return false, err
			}
			set, err := l.Link.SetState(bg, key, value, revision, age)
			if set {
				l.f.late.Store(key, func() ([]byte, uint64, error) { return old, was, nil })
			}
			return set, err
		},
		state: func(l *faultyLink, key string) ([]byte, uint64, error) {
			if was, ok := l.f.late.LoadAndDelete(key); ok {
				return was.(func() ([]byte, uint64, error))()
			}
			return l.Link.State(bg, key)
		}},
	{name: "keeps a state for ever", caught: "a state ends with its time",
		setState: func(l *faultyLink, key string, value []byte, revision uint64, _ time.Duration) (bool, error) {
			return l.Link.SetState(bg, key, value, revision, 0)
		}},
	{name: "takes a state away twice", caught: "one of those who take a state away succeeds",
		setState: func(l *faultyLink, key string, value []byte, revision uint64, age time.Duration) (bool, error) {
			set, err := l.Link.SetState(bg, key, value, revision, age)
			return set || value == nil, err
		}},
	{name: "leaves a state that was taken away", caught: "one of those who take a state away succeeds",
		setState: func(l *faultyLink, key string, value []byte, revision uint64, age time.Duration) (bool, error) {
			if value == nil {
				_, now, err := l.Link.State(bg, key)
				return now == revision, err
			}
			return l.Link.SetState(bg, key, value, revision, age)
		}},
	{name: "delivers after Close", caught: "nothing is delivered after Close",
		close: func(l *faultyLink, ctx context.Context) error {
			in := []layer.Inbound{{Subscription: layer.Subscription{Group: "g"}, Packet: layer.Packet{Data: []byte(`{"type":"late"}`)}}}
			time.AfterFunc(200*time.Microsecond, func() { l.receiver.Deliver(in) })
			return l.Link.Close(ctx)
		}},
	{name: "still serves who is closed", caught: "a closed layer ends all calls",
		close: func(*faultyLink, context.Context) error { return nil }},
	{name: "does not carry what processes tell each other", caught: "who comes and goes is told",
		publish: func(l *faultyLink, group string, p *layer.Packet) error {
			if strings.HasPrefix(group, "=") {
				return nil
			}
			return l.Link.Publish(bg, group, p)
		}},
	{name: "takes the layer's own groups for those of programs", caught: "who comes and goes is told",
		publish: func(l *faultyLink, group string, p *layer.Packet) error {
			return l.Link.Publish(bg, strings.TrimPrefix(group, "="), p)
		}},
	{name: "loses what a process says last", caught: "the users of a process that ends leave",
		publish: func(l *faultyLink, group string, p *layer.Packet) error {
			var s struct{ T int }
			if err := json.Unmarshal(p.Data, &s); err != nil || s.T < 10_000 { // a farewell is true for a short time
				return err
			}
			return l.Link.Publish(bg, group, p)
		}},
	{name: "asks only itself who is in a group", caught: "who is in a group is known everywhere",
		call: func(l *faultyLink, ctx context.Context, process string, request []byte) ([][]byte, error) {
			if process == "" {
				return [][]byte{l.receiver.Call(ctx, request)}, nil
			}
			return l.Link.Call(ctx, process, request)
		}},
	{name: "mixes two networks", caught: "networks do not hear each other", oneNetwork: true},
}

// relayForItself joins the group alone, instead of in line with the others.
func (l *faultyLink) relayForItself(s layer.Subscription) error {
	own, err := l.f.Bus.Attach(bg, "tw"+string(rune('a'+l.f.count.Add(1))), &lonely{mute{}, l.receiver, s})
	if err != nil {
		return err
	}
	return own.Subscribe(bg, layer.Subscription{Group: s.Group})
}

// lonely hands on a group's messages as those of a relay.
type lonely struct {
	mute
	to  layer.Receiver
	sub layer.Subscription
}

// Deliver implements layer.Receiver.
func (x *lonely) Deliver(in []layer.Inbound) {
	for i := range in {
		in[i].Subscription = x.sub
	}
	x.to.Deliver(in)
}

// reuse delivers to this process the caller's own bytes.
func (l *faultyLink) reuse(group string, p *layer.Packet) error {
	l.receiver.Deliver([]layer.Inbound{{Subscription: layer.Subscription{Group: group}, Packet: *p}})
	return nil
}
