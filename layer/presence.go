package layer

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Presence makes the network keep who is in a group: its members can be listed
// by [Layer.Members], and its channels are told who comes and who goes. Who
// stands behind a channel says [Channel.Identify].
type Presence struct {
	// Pattern says which groups, as in [Retention]: "room.>", or one name.
	Pattern string

	// Quiet leaves the messages away: members are listed, but nobody is told.
	Quiet bool

	// Grace is how long a user whose last channel left still counts as present,
	// so that the reload of a page is nobody's business. Default 5 s; a negative
	// value is none.
	Grace time.Duration

	// Lease is how long the users of a process that is not heard of any more, for
	// it was killed, still count as present. Default 25 s; at least 300 ms. Each
	// process says three times in that time, for each such group that it has
	// members in, that it is there.
	Lease time.Duration
}

const (
	defaultGrace = 5 * time.Second
	defaultLease = 25 * time.Second
	leastLease   = 300 * time.Millisecond
	mostLease    = 10 * time.Minute
)

// ErrNoPresence is returned for a group whose members nobody keeps: no policy of
// [Options].Presence covers it, here or elsewhere.
var ErrNoPresence = errors.New("layer: the group has no presence")

// Member is a user who is present in a group.
type Member struct {
	User        string    `json:"user"`
	Since       time.Time `json:"since"`                 // when the user came, to the millisecond, by the clock of that process
	Connections int       `json:"connections,omitempty"` // of all processes; at least 1, also within [Presence].Grace; 0 in a PresenceLeave
}

// MemberCount is how many are present in a group.
type MemberCount struct {
	Users       int `json:"users"`       // each once, however many channels they have
	Connections int `json:"connections"` // the channels of users
	Anonymous   int `json:"anonymous"`   // the channels that nobody identified
}

// PresenceJoin tells a channel that users came into one of its groups. It is
// made by the channel's own process and has no place in the group's order: like
// a message that is sent to the channel it has no Message.Group. A user who is
// present already does not come again by another channel, or another process; one
// who came while its receiver did may be named though it is listed, too.
type PresenceJoin struct {
	Group   string   `json:"group"`
	Members []Member `json:"members"` // at most 100, by name
}

// MessageType returns "presence.join".
func (PresenceJoin) MessageType() string { return presenceJoin }

// PresenceLeave tells a channel that users are no longer in one of its groups.
type PresenceLeave struct {
	Group   string   `json:"group"`
	Members []Member `json:"members"` // at most 100, by name
}

// MessageType returns "presence.leave".
func (PresenceLeave) MessageType() string { return presenceLeave }

const (
	presenceJoin  = "presence.join"
	presenceLeave = "presence.leave"
)

// resolvePresence fills in the defaults and refuses what makes no sense.
func resolvePresence(given []Presence) ([]Presence, error) {
	var all []Presence
	for _, p := range given {
		if err := checkPattern("Presence", p.Pattern, CheckGroup); err != nil {
			return nil, err
		}
		p.Grace = max(orDefault(p.Grace, defaultGrace), 0)
		p.Lease = orDefault(p.Lease, defaultLease)
		switch {
		case p.Lease < leastLease || p.Lease > mostLease:
			return nil, fmt.Errorf("layer: Options.Presence has a Lease of %v for %q; want %v to %v", p.Lease, p.Pattern, leastLease, mostLease)
		case p.Grace > mostLease:
			return nil, fmt.Errorf("layer: Options.Presence has a Grace of %v for %q; %v is the most", p.Grace, p.Pattern, mostLease)
		}
		for _, o := range all {
			if overlap(p.Pattern, o.Pattern) {
				return nil, fmt.Errorf("layer: Options.Presence has both %q and %q, and a group may match both; keep one of them", o.Pattern, p.Pattern)
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// presenceOf returns the policy of a group, nil when it has none.
func (l *Layer) presenceOf(group string) *Presence {
	for i := range l.opts.Presence {
		if covers(l.opts.Presence[i].Pattern, group) {
			return &l.opts.Presence[i]
		}
	}
	return nil
}

// maxUser is the longest name of a user, in bytes.
const maxUser = 256

// Identify says who stands behind a channel of this process, "" for nobody: in
// the groups that it is in and in those that it will join. A user has many
// channels and is one member. The name is UTF-8 and has at most 256 bytes; after
// an error the channel is nobody's. In a process without [Options].Presence it
// does nothing. Other errors: [ErrClosed].
func (c *Channel) Identify(user string) error {
	p := c.layer.presence
	if p == nil {
		return nil
	}
	var err error
	if len(user) > maxUser || !utf8.ValidString(user) {
		err = fmt.Errorf("layer: identify %s: the user %.80q has %d bytes; want UTF-8, at most %d", c.name, user, len(user), maxUser)
		user = ""
	}
	c.layer.mu.Lock()
	defer c.layer.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	p.identify(c, user)
	return err
}

// parse is Message.parse for what arrived: the messages that only this process
// itself may make do not come from others.
func (l *Layer) parse(m *Message) error {
	if err := m.parse(); err != nil {
		return err
	}
	err := l.checkOwn(m.Type)
	if err != nil {
		m.Type = ""
	}
	return err
}

// checkOwn refuses the types that a process with presence makes itself.
func (l *Layer) checkOwn(typ string) error {
	if l.presence == nil || typ != presenceJoin && typ != presenceLeave {
		return nil
	}
	return &MessageError{Why: fmt.Sprintf("the type %q is made by the layer alone, as Options.Presence is set", typ)}
}
