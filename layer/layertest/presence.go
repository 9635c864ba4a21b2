package layertest

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// presenceRows are about who is in a group.
var presenceRows = []row{
	{"who is in a group is known everywhere", "A process with members in the group knows them all; any other asks those that have some.", membersEverywhere},
	{"who comes and goes is told", "A group's channels are told who comes and who goes", comingAndGoing},
	{"the users of a process that ends leave", "those of a process that ends have the grace, too", endOfAProcess},
}

// presence is a policy for "room.>", and one that keeps the messages of all groups.
func presence(t *trial) func(*layer.Options) {
	return func(o *layer.Options) {
		o.Presence = []layer.Presence{{Pattern: "room.>", Grace: t.quiet, Lease: 10 * time.Minute}}
		o.Groups = []layer.Retention{{Pattern: ">", Messages: 10}}
	}
}

// enter makes a channel of user a member.
func (t *trial) enter(l *layer.Layer, group, user string) *layer.Channel {
	t.Helper()
	c := t.channel(l)
	t.must(c.Identify(user))
	t.must(l.GroupAdd(t.ctx, group, c.Name()))
	return c
}

// present waits until l knows exactly these members, with their connections.
func (t *trial) present(l *layer.Layer, group string, want map[string]int) {
	t.Helper()
	t.until(fmt.Sprintf("%s knows that %v are in %s", l.Process(), want, group), func() bool {
		all, err := l.Members(t.ctx, group, nil)
		t.must(err)
		got := map[string]int{}
		for _, m := range all {
			got[m.User] = m.Connections
		}
		return maps.Equal(got, want)
	})
}

func membersEverywhere(t *trial) {
	a, b := t.pair(presence(t))
	far, stranger := t.layer(presence(t)), t.layer(nil)
	t.enter(a, "room.1", "ann")
	t.enter(b, "room.1", "ann")
	bob := t.enter(b, "room.1", "bob")
	t.enter(b, "room..1", "eve") // an odd name, and another room
	for _, l := range []*layer.Layer{a, b, far, stranger} {
		t.present(l, "room.1", map[string]int{"ann": 2, "bob": 1})
		t.until(fmt.Sprintf("%s counts two users with three connections", l.Process()), func() bool {
			n, err := l.CountMembers(t.ctx, "room.1")
			t.must(err)
			return n == layer.MemberCount{Users: 2, Connections: 3}
		})
	}
	bob.Close()
	for _, l := range []*layer.Layer{a, b, far, stranger} {
		t.present(l, "room.1", map[string]int{"ann": 2})
		t.present(l, "room..1", map[string]int{"eve": 1})
	}
}

// told takes the next message, which has to be that.
func (t *trial) told(c *layer.Channel, want layer.Payload) {
	t.Helper()
	m, err := c.Receive(t.ctx)
	t.must(err)
	var p layer.PresenceJoin // a leave has the same members
	t.must(m.Decode(&p))
	for i := range p.Members {
		p.Members[i].Since, p.Members[i].Connections = time.Time{}, 0
	}
	if got := fmt.Sprint(m.Type, p); got != fmt.Sprint(want.MessageType(), want) || m.Group != "" {
		t.Fatalf("told %s, as a message to group %q; want %s %v", got, m.Group, want.MessageType(), want)
	}
}

func comingAndGoing(t *trial) {
	a, b := t.pair(presence(t))
	c := t.enter(a, "room.1", "ann")
	t.told(c, layer.PresenceJoin{Group: "room.1", Members: one("ann")})
	d := t.enter(b, "room.1", "bob")
	t.told(c, layer.PresenceJoin{Group: "room.1", Members: one("bob")})
	t.nothing(c) // of what the processes told each other
	d.Close()
	t.told(c, layer.PresenceLeave{Group: "room.1", Members: one("bob")})
}

func one(user string) []layer.Member { return []layer.Member{{User: user}} }

// endOfAProcess has a lease that outlasts the row.
func endOfAProcess(t *trial) {
	a, b := t.pair(presence(t))
	c := t.enter(a, "room.1", "ann")
	t.told(c, layer.PresenceJoin{Group: "room.1", Members: one("ann")})
	t.enter(b, "room.1", "bob")
	t.told(c, layer.PresenceJoin{Group: "room.1", Members: one("bob")})
	t.must(b.Close(context.WithoutCancel(t.ctx)))
	t.told(c, layer.PresenceLeave{Group: "room.1", Members: one("bob")})
}
