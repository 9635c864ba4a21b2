package layer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A group's life in one process, and the two races that it has to win.
//
//	joining -> live -> (empty for Linger) -> leaving -> gone
//
// The first member to come subscribes, the last one to go unsubscribes, and
// both are calls to the bus, over which no lock is held. So the state says what
// is under way, and everybody who cannot use it waits at settled:
//
//   - First in: members that come while the first one subscribes enter the
//     roster at once but return only when the subscription is live: GroupAdd
//     promises that later messages arrive. If it fails, it fails for all of
//     them, and the group is gone. Two calls may join the same channel, and one
//     of them may give up: so a call that waited looks again whether its
//     channel is a member, and one that gives up takes it out only while
//     nobody can have been told that it is in.
//   - Last out: a group that emptied stays subscribed for Linger. Once leaving
//     has begun, whoever comes waits until it ended and begins anew. Otherwise
//     the new subscription could overtake the old one's end on the bus, which
//     may know them by the same name.
type group struct {
	sub    Subscription
	roster roster
	chain  *chain // of a durable group's members, else nil

	// In a group without a chain:
	turn   sync.Mutex  // held while its members get a batch, or are told of a gap
	missed atomic.Bool // messages may be lost; its members are yet to be told

	// Guarded by Layer.mu.
	state   groupState
	watched bool          // never changes: the group has presence
	settled chan struct{} // closed when joining or leaving is over; nil while live
	err     error         // why joining failed
	emptied time.Duration // when the last member left, see Layer.now
}

// key is the subscription in one string, which takes half of the room: mostly
// there is no relay. No name holds a space.
func (s Subscription) key() string {
	if s.Relay == "" {
		return s.Group
	}
	return s.Group + " " + s.Relay
}

// emptied is an entry in the line of groups that lost their last member. One
// that filled and emptied again has a later entry, which counts: if the entry
// took its time from the group, a group that is joined and left all the time
// would hold up all behind it for ever.
type emptied struct {
	group *group
	at    time.Duration
}

type groupState uint8

const (
	joining groupState = iota
	live
	leaving
)

// subscribeTimeout bounds the wait for the network: who joins may leave
// earlier, by its context.
const subscribeTimeout = 10 * time.Second

// GroupAdd makes a channel a member of a group. When it returns nil, every
// message that is sent to the group from then on, anywhere in the network,
// reaches the channel. Adding a member again does nothing.
//
// The channel may be this process's, another Tideway process's, or a shared one.
// A shared channel gets each message of the group once, whichever processes
// added it, and is a member for as long as one of these processes lives. Errors:
// *[NameError], [ErrNoChannel], [ErrTooManyGroups], [ErrUnavailable], [ErrClosed],
// ctx's.
//
// A connection whose channel is added is a member until it ends, as if its consumer
// had added it. A client that speaks tideway.v1 hears that it joined before the
// group's first message, and that it left; one that comes back over another
// connection, whose channel is another, is told that it is not in the group any
// more, until somebody adds that channel: a durable group then goes on from where
// the client was.
func (l *Layer) GroupAdd(ctx context.Context, group, channel string) error {
	return l.membership(ctx, "add", group, channel)
}

// GroupDiscard takes a channel out of a group; one that is no member is no
// error, nor is a channel whose process is gone. Nothing that is sent to the group
// after the return reaches the channel; what was sent before may still be under
// way to it. A shared channel is taken out in all processes.
func (l *Layer) GroupDiscard(ctx context.Context, group, channel string) error {
	return l.membership(ctx, "discard", group, channel)
}

// membership does what GroupAdd and GroupDiscard have in common.
func (l *Layer) membership(ctx context.Context, verb, group, channel string) error {
	if err := CheckGroup(group); err != nil {
		return err
	}
	if err := CheckChannel(channel); err != nil {
		return err
	}
	err := l.route(ctx, verb, group, channel)
	if err != nil {
		return fmt.Errorf("layer: group %s, %s %s: %w", group, verb, channel, err)
	}
	return nil
}

func (l *Layer) route(ctx context.Context, verb, group, channel string) error {
	process, owned := owner(channel)
	switch {
	case !owned && verb == "add":
		return l.join(ctx, Subscription{Group: group, Relay: channel}, nil)
	case !owned:
		_, err := l.Command(ctx, "", "discard", memberArgs{group, channel})
		return err
	case process == l.process:
		return l.local(ctx, verb, group, channel)
	case !strings.HasPrefix(process, "tw"):
		return fmt.Errorf("%w: it belongs to a program that is not Tideway; only its own process can do that", ErrNoChannel)
	}
	_, err := l.Command(ctx, process, verb, memberArgs{group, channel})
	if verb == "discard" && errors.Is(err, ErrNoChannel) {
		return nil // what is gone is no member
	}
	return err
}

// memberArgs are the arguments of the commands "add" and "discard".
type memberArgs struct {
	Group   string `json:"group"`
	Channel string `json:"channel"`
}

// remote carries out another process's "add" or "discard".
func (l *Layer) remote(ctx context.Context, verb string, raw json.RawMessage) error {
	var args memberArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return &MessageError{Why: "the arguments of the command " + verb, Err: err}
	}
	if err := CheckGroup(args.Group); err != nil {
		return err
	}
	if err := CheckChannel(args.Channel); err != nil {
		return err
	}
	if _, owned := owner(args.Channel); owned {
		return l.local(ctx, verb, args.Group, args.Channel)
	}
	if verb == "add" {
		return fmt.Errorf("layer: %s is a shared channel, which every process adds for itself", args.Channel)
	}
	sub := Subscription{Group: args.Group, Relay: args.Channel}
	l.leave(sub, nil)
	l.leaveNow(sub)
	return nil
}

// join makes c, or with nil the relay of sub, a member and returns once its
// subscription is live.
func (l *Layer) join(ctx context.Context, sub Subscription, c *Channel) error {
	for {
		e, err := l.enter(sub, c)
		if err != nil || e.settled == nil {
			return err
		}
		select {
		case <-e.settled:
			if err := l.failure(e.group); err != nil {
				return err
			}
		case <-ctx.Done():
			if !l.retract(e) {
				continue
			}
			return ctx.Err()
		}
	}
}

// entry is what became of an attempt to enter a group.
type entry struct {
	group   *group        // nil while the former one of that name leaves
	channel *Channel      // who entered
	fresh   bool          // it was no member before
	settled chan struct{} // what to wait for before looking again, nil for nothing
}

// enter puts c on the roster of a group, which it begins if need be.
func (l *Layer) enter(sub Subscription, c *Channel) (entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return entry{}, ErrClosed
	}
	g := l.groups[sub.key()]
	if g != nil && g.state == leaving {
		return entry{settled: g.settled}, nil
	}
	if c == nil {
		c = l.relay(sub.Relay)
	}
	begin := g == nil
	if begin {
		g = &group{sub: sub, settled: make(chan struct{})}
		g.watched = sub.Relay == "" && l.presenceOf(sub.Group) != nil
		if policy := l.policy(sub.Group); policy != nil && sub.Relay == "" {
			g.chain = &chain{age: policy.Age}
		}
	}
	fresh, err := c.remember(g)
	if err != nil {
		return entry{}, err
	}
	if begin {
		l.groups[sub.key()] = g
		l.busy.Add(1)
		go l.subscribe(g)
	}
	if g.state == live {
		return entry{group: g, channel: c, fresh: fresh}, nil
	}
	return entry{g, c, fresh, g.settled}, nil
}

// failure returns why g could not be joined, nil when it could.
func (l *Layer) failure(g *group) error {
	if g == nil {
		return nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return g.err
}

// retract takes back an entry whose caller gives up. It reports false when the
// group became live meanwhile: another call may have returned nil for the same
// channel, which is a member then.
func (l *Layer) retract(e entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case e.group == nil || e.group.err != nil:
		return true
	case e.group.state != joining:
		return false
	}
	if e.fresh {
		l.remove(e.group, e.channel)
	}
	return true
}

// subscribe makes g live, or fails it for all who wait.
func (l *Layer) subscribe(g *group) {
	defer l.busy.Done()
	ctx, cancel := context.WithTimeout(context.Background(), subscribeTimeout)
	defer cancel()
	err := l.link.Subscribe(ctx, g.sub)
	if err == nil && g.chain != nil {
		l.anchor(ctx, g)
	}
	l.subscribed(g, err)
	if g.sub.Relay != "" {
		l.leaveNow(g.sub) // if it was discarded meanwhile
	}
}

func (l *Layer) subscribed(g *group, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		g.err = err
		delete(l.groups, g.sub.key())
		for c := range g.roster.all() {
			l.remove(g, c)
		}
	} else {
		g.state = live
		l.checkEmpty(g)
	}
	close(g.settled)
	g.settled = nil
}
