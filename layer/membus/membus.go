// Package membus is a [layer.Bus] inside one process: for tests, and for a site
// that runs as a single program. It keeps every promise of package layer; what
// it holds is lost with the process.
//
// # Delivery
//
// Publishing puts a message into the mailbox of each layer that is subscribed;
// each layer has a few goroutines, the shards, that empty them. A mailbox holds
// 65,536 messages: a layer that lags further misses messages, which it counts
// and logs as lost. Shared channels are queues of the bus itself, and so are the
// messages of durable groups and of durable queues, which outlive the layers but
// not the Bus.
package membus

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tideway-go/tideway/layer"
)

// Bus is a network inside one process. Every layer that is made on it is a
// process of that network. Its zero value is not usable; call New.
type Bus struct {
	mu        sync.RWMutex // guards all below
	links     map[string]*link
	groups    map[string]*audience
	queues    map[string]*queue
	histories []*history
	states    states

	work work
}

var _ layer.Bus = (*Bus)(nil)

// New makes an empty network.
func New() *Bus {
	return &Bus{links: map[string]*link{}, groups: map[string]*audience{}, queues: map[string]*queue{}}
}

// audience is who gets a group's messages.
type audience struct {
	links  []*link
	relays map[string]*relay
}

// relay is the processes of which one gets each message.
type relay struct {
	links []*link
	next  uint64
}

// Attach adds a process to the network.
func (b *Bus) Attach(_ context.Context, process string, r layer.Receiver) (layer.Link, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.links[process] != nil {
		return nil, fmt.Errorf("membus: a process named %s is attached already", process)
	}
	l := newLink(b, process, r)
	b.links[process] = l
	return l, nil
}

func (b *Bus) subscribe(l *link, s layer.Subscription) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.links[l.process] != l { // it was closed meanwhile
		return layer.ErrClosed
	}
	a := b.groups[s.Group]
	if a == nil {
		a = &audience{relays: map[string]*relay{}}
		b.groups[s.Group] = a
	}
	if s.Relay == "" {
		a.links = with(a.links, l)
		return nil
	}
	r := a.relays[s.Relay]
	if r == nil {
		r = &relay{}
		a.relays[s.Relay] = r
	}
	r.links = with(r.links, l)
	return nil
}

func with(links []*link, l *link) []*link {
	if slices.Contains(links, l) {
		return links
	}
	return append(links, l)
}

func without(links []*link, l *link) []*link {
	return slices.DeleteFunc(links, func(o *link) bool { return o == l })
}

func (b *Bus) unsubscribe(l *link, s layer.Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.groups[s.Group]
	if a == nil {
		return
	}
	if s.Relay == "" {
		a.links = without(a.links, l)
	} else if r := a.relays[s.Relay]; r != nil {
		if r.links = without(r.links, l); len(r.links) == 0 {
			delete(a.relays, s.Relay)
		}
	}
	if len(a.links) == 0 && len(a.relays) == 0 {
		delete(b.groups, s.Group)
	}
}

// detach takes a process out of the network.
func (b *Bus) detach(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.links, l.process)
	for group, a := range b.groups {
		a.links = without(a.links, l)
		for name, r := range a.relays {
			if r.links = without(r.links, l); len(r.links) == 0 {
				delete(a.relays, name)
			}
		}
		if len(a.links) == 0 && len(a.relays) == 0 {
			delete(b.groups, group)
		}
	}
}

// publish puts p into the mailboxes of a group's audience, after it is stored if
// the group is durable. The bytes are copied once, as they are the publisher's.
// It returns the links whose mailbox is full.
func (b *Bus) publish(group string, p *layer.Packet, after *layer.Stamp) (stamp layer.Stamp, duplicate bool, full []*link, err error) {
	b.mu.Lock() // the relays' turns are written
	defer b.mu.Unlock()
	a, h := b.groups[group], b.history(group)
	if a == nil && h == nil {
		return stamp, false, nil, nil
	}
	in := layer.Inbound{Subscription: layer.Subscription{Group: group}, Packet: *p}
	in.Packet.Data = bytes.Clone(p.Data)
	if h != nil {
		in.Stamp, duplicate, err = h.add(group, in.Packet, after)
	}
	if a == nil || duplicate || err != nil {
		return in.Stamp, duplicate, nil, err
	}
	for _, l := range a.links {
		if !l.put(in) {
			full = append(full, l)
		}
	}
	for name, r := range a.relays {
		in.Subscription.Relay = name
		l := r.links[r.next%uint64(len(r.links))]
		r.next++
		if !l.put(in) {
			full = append(full, l)
		}
	}
	return in.Stamp, false, full, nil
}

// owner returns the link of the process that owns a channel.
func (b *Bus) owner(channel string) *link {
	process, _, _ := strings.Cut(channel, "!")
	return b.link(process)
}

func (b *Bus) link(process string) *link {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.links[process]
}

func (b *Bus) everybody() []*link {
	b.mu.RLock()
	defer b.mu.RUnlock()
	all := make([]*link, 0, len(b.links))
	for _, l := range b.links {
		all = append(all, l)
	}
	return all
}
