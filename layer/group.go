package layer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

	// Guarded by Layer.mu.
	state   groupState
	settled chan struct{} // closed when joining or leaving is over
	err     error         // why joining failed
	emptied time.Duration // when the last member left, see Layer.now
}

// emptied is an entry in the line of groups that lost their last member. One
// that filled and emptied again has a later entry, which counts: if the entry
// took its time from the group, a group that is joined and left all the time
// would hold up all behind it for ever.
type emptied struct {
	group *group
	at    time.Duration
}

type groupState int

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
// *[NameError], [ErrNoChannel], [ErrUnavailable], [ErrClosed], ctx's.
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

// local adds or discards a channel of this process.
func (l *Layer) local(ctx context.Context, verb, group, channel string) error {
	l.mu.Lock()
	c, closed := l.channels[channel], l.closed
	l.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case verb == "discard":
		if c != nil {
			l.leave(Subscription{Group: group}, c)
		}
		return nil
	case c == nil:
		return ErrNoChannel
	}
	return l.join(ctx, Subscription{Group: group}, c)
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
	g := l.groups[sub]
	if g != nil && g.state == leaving {
		return entry{settled: g.settled}, nil
	}
	if c == nil {
		c = l.relay(sub.Relay)
	}
	begin := g == nil
	if begin {
		g = &group{sub: sub, settled: make(chan struct{})}
	}
	fresh, err := c.remember(g)
	if err != nil {
		return entry{}, err
	}
	if begin {
		l.groups[sub] = g
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
	l.subscribed(g, l.link.Subscribe(ctx, g.sub))
	if g.sub.Relay != "" {
		l.leaveNow(g.sub) // if it was discarded meanwhile
	}
}

func (l *Layer) subscribed(g *group, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		g.err = err
		delete(l.groups, g.sub)
		for c := range g.roster.all() {
			l.remove(g, c)
		}
	} else {
		g.state = live
		l.checkEmpty(g)
	}
	close(g.settled)
}

// leave takes c, or with nil every member, out of a group.
func (l *Layer) leave(sub Subscription, c *Channel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[sub]
	switch {
	case g == nil:
	case c != nil:
		l.remove(g, c)
	default:
		for m := range g.roster.all() {
			l.remove(g, m)
		}
	}
}

// remove takes c out of g, if it is in. Mu is held.
func (l *Layer) remove(g *group, c *Channel) {
	if !c.leave(g) {
		return
	}
	if g.sub.Relay != "" {
		l.retire(c)
	}
	l.checkEmpty(g)
}

// forget takes a channel that was closed out of the layer and its groups.
func (l *Layer) forget(c *Channel, groups []membership) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.channels, c.name)
	for _, m := range groups {
		m.group.roster.remove(m.page, c)
		l.checkEmpty(m.group)
	}
}

// checkEmpty lets a live group without members leave after Linger. Mu is held.
func (l *Layer) checkEmpty(g *group) {
	if g.state != live || g.roster.size > 0 || l.closed {
		return
	}
	g.emptied = l.now()
	l.empty = append(l.empty, emptied{g, g.emptied})
	l.leaveLater()
}

// leaveLater arms the sweep of empty groups. Mu is held.
func (l *Layer) leaveLater() {
	if l.leaving || len(l.empty) == 0 || l.closed {
		return
	}
	l.leaving = true
	linger := max(l.opts.Linger, 0)
	l.leaveTimer = time.AfterFunc(l.empty[0].at+linger-l.now(), func() {
		l.leaveEmpty(linger)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leaving = false
		l.leaveLater()
	})
}

// leaveEmpty unsubscribes from the groups that have been empty for linger.
func (l *Layer) leaveEmpty(linger time.Duration) {
	if !l.begin() {
		return
	}
	defer l.busy.Done()
	for _, g := range l.beginLeaving(linger) {
		l.endLeaving(g)
	}
}

// endLeaving ends the subscription of a group whose leaving has begun.
func (l *Layer) endLeaving(g *group) {
	l.link.Unsubscribe(g.sub) // it fails when the link is down, which ends it too
	l.mu.Lock()
	delete(l.groups, g.sub)
	l.mu.Unlock()
	close(g.settled)
}

// leaveNow unsubscribes from a relay's group without lingering: as long as this
// process is subscribed, the bus gives it messages that are then missed by the
// relay of another process. The sweep of empty groups passes over it.
func (l *Layer) leaveNow(sub Subscription) {
	if !l.begin() {
		return
	}
	defer l.busy.Done()
	l.mu.Lock()
	g := l.groups[sub]
	if g == nil || g.state != live || g.roster.size > 0 {
		l.mu.Unlock()
		return
	}
	g.state, g.settled = leaving, make(chan struct{})
	l.mu.Unlock()
	l.endLeaving(g)
}

func (l *Layer) beginLeaving(linger time.Duration) (due []*group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.now() - linger
	for len(l.empty) > 0 && l.empty[0].at <= limit {
		g, at := l.empty[0].group, l.empty[0].at
		l.empty = l.empty[1:]
		if g.state == live && g.roster.size == 0 && g.emptied == at {
			g.state, g.settled = leaving, make(chan struct{})
			due = append(due, g)
		}
	}
	if len(l.empty) == 0 {
		l.empty = nil
	}
	return due
}
