package layer

import (
	"slices"
	"strings"
	"time"
)

// table is what a process that has members in a group with presence knows of all
// that are there. It is a plain data structure: presence.mu guards it, and time
// comes from outside.
type table struct {
	group   string
	policy  *Presence
	own     map[string]*ownUser
	home    *holder            // what this process has told the others, or is about to
	holders map[string]*holder // the other processes, by name
	users   map[string]*attendee

	channel *Channel // takes what the others say; nil while nobody listens
	opening bool
	retry   time.Duration // when to try to open again
	opened  time.Duration // when what the others say began to come
	asked   time.Duration // when this process heard its own first question; 0: not yet
	born    int64         // when the table was made, Unix time in milliseconds

	dirty  map[string]struct{} // own users whose change is yet to be told
	stale  bool                // so is how many channels have no user
	first  bool                // nobody has been told anything
	ask    time.Duration       // when to ask the others for their state; 0 is not at all
	answer bool                // somebody asked
	beaten time.Duration       // when the others were told last

	events map[string]event // what the members are yet to be told, by user
}

type event struct {
	user *attendee
	join bool // else he left
}

// ownUser is a user with channels in this process.
type ownUser struct {
	channels int
	until    time.Duration // when the grace ends, while channels is 0
}

// holder is a process with members in the group.
type holder struct {
	version  uint64
	known    bool // version and seats are the process's
	until    time.Duration
	nobody   int
	seats    map[string]seat
	fetching bool
	pending  []*presenceState // changes that came while the state was being fetched
	missed   bool             // there were too many of them
}

// maxPending is how many changes wait for a state that is being fetched.
const maxPending = 256

// attendee is a user who is present.
type attendee struct {
	holders, connections int
	since                int64 // Unix time in milliseconds
}

func newTable(group string, policy *Presence, born int64) *table {
	return &table{
		group: group, policy: policy, born: born,
		own:     map[string]*ownUser{},
		home:    &holder{seats: map[string]seat{}},
		holders: map[string]*holder{},
		users:   map[string]*attendee{},
		dirty:   map[string]struct{}{},
		events:  map[string]event{},
	}
}

// put changes what a process has of one user.
func (t *table) put(h *holder, s seat) {
	old, had := h.seats[s.User]
	switch {
	case s.N == 0 && !had, s.N > 0 && !had && len(h.seats) >= maxSeated:
		return
	case s.N == 0:
		delete(h.seats, s.User)
	default:
		h.seats[s.User] = s
	}
	u := t.users[s.User]
	if u == nil {
		u = &attendee{since: s.Since}
		t.users[s.User] = u
		t.note(s.User, u, true)
	}
	u.connections += s.N - old.N
	switch {
	case s.N == 0:
		u.holders--
	case !had:
		u.holders++
		u.since = min(u.since, s.Since)
	}
	if u.holders == 0 {
		delete(t.users, s.User)
		t.note(s.User, u, false)
	}
}

// note remembers what the members are to be told. Coming and going, or going and
// coming, is nothing.
func (t *table) note(user string, u *attendee, join bool) {
	switch e, ok := t.events[user]; {
	case t.policy.Quiet:
	case ok && e.join != join:
		delete(t.events, user)
	default:
		t.events[user] = event{u, join}
	}
}

// replace makes seats all that a process has.
func (t *table) replace(h *holder, seats []seat, nobody int, version uint64) {
	stays := make(map[string]bool, len(seats))
	for _, s := range seats {
		stays[s.User] = s.N > 0
		t.put(h, s)
	}
	for user := range h.seats {
		if !stays[user] {
			t.put(h, seat{User: user})
		}
	}
	h.nobody, h.version, h.known = nobody, version, true
}

// change applies a state that follows the one that is known.
func (t *table) change(h *holder, s *presenceState) {
	for _, seat := range s.Seats {
		t.put(h, seat)
	}
	h.nobody, h.version = s.Nobody, s.Version
}

// receive takes what another process says, and returns the holder whose state
// has to be fetched, if any.
func (t *table) receive(s *presenceState, now time.Duration) (fetch *holder) {
	h := t.holders[s.Process]
	if h == nil {
		if len(t.holders) >= maxHolders {
			return nil
		}
		h = &holder{seats: map[string]seat{}}
		t.holders[s.Process] = h
	}
	h.until = now + s.ttl()
	t.answer = t.answer || s.Ask
	switch {
	case h.known && s.Version < h.version: // it was overtaken by a state that was fetched
	case s.Full:
		t.replace(h, s.Seats, s.Nobody, s.Version)
	case h.known && s.Base == h.version:
		t.change(h, s)
	case h.known && s.Version == h.version:
	default:
		h.keep(s)
		if !h.fetching {
			h.fetching = true
			return h
		}
	}
	return nil
}

// keep holds a change back until the state that it changes is here.
func (h *holder) keep(s *presenceState) {
	if len(h.pending) < maxPending {
		h.pending = append(h.pending, s)
	} else {
		h.missed = true
	}
}

// fetched takes the state of a process, as it was asked for, and reports whether
// it has to be asked for again.
func (t *table) fetched(h *holder, page *presencePage) (again bool) {
	if !h.known || page.Version >= h.version {
		t.replace(h, page.Seats, page.Nobody, page.Version)
	}
	for _, s := range h.pending {
		switch {
		case s.Version <= h.version:
		case s.Base == h.version:
			t.change(h, s)
		default:
			again = true
		}
	}
	again = again || h.missed
	h.pending, h.missed, h.fetching = nil, false, again
	return again
}

// expire drops the processes that were not heard of in time.
func (t *table) expire(now time.Duration) {
	for process, h := range t.holders {
		if now >= h.until {
			t.replace(h, nil, 0, h.version)
			delete(t.holders, process)
		}
	}
}

// came and left count the channels of this process.
func (t *table) came(user string, clock int64) {
	if user == "" {
		t.home.nobody++
		t.stale = true
		return
	}
	o := t.own[user]
	if o == nil {
		o = &ownUser{}
		t.own[user] = o
	}
	o.channels++
	t.sit(user, o, clock)
}

func (t *table) left(user string, now time.Duration, clock int64) {
	if user == "" {
		t.home.nobody--
		t.stale = true
		return
	}
	o := t.own[user]
	o.channels--
	if o.channels == 0 {
		o.until = now + t.policy.Grace
		if t.policy.Grace == 0 {
			t.rise(user)
			return
		}
	}
	t.sit(user, o, clock)
}

// sit says that a user of this process is present; without a channel, for a while.
func (t *table) sit(user string, o *ownUser, clock int64) {
	s, had := t.home.seats[user]
	if n := max(o.channels, 1); !had || s.N != n {
		if !had {
			s = seat{User: user, Since: clock}
			if u := t.users[user]; u != nil {
				s.Since = min(u.since, clock)
			}
		}
		s.N = n
		t.put(t.home, s)
		t.dirty[user] = struct{}{}
	}
}

// rise says that a user of this process is not present any more.
func (t *table) rise(user string) {
	delete(t.own, user)
	t.put(t.home, seat{User: user})
	t.dirty[user] = struct{}{}
}

// endGrace takes away the users whose last channel left some time ago.
func (t *table) endGrace(now time.Duration) {
	for user, o := range t.own {
		if o.channels == 0 && now >= o.until {
			t.rise(user)
		}
	}
}

// idle reports whether nobody here has to do with the group any more.
func (t *table) idle() bool {
	return len(t.own) == 0 && t.home.nobody == 0 && len(t.dirty) == 0 && !t.stale
}

// open reports whether the table hears the others.
func (t *table) open() bool { return t.channel != nil }

// settled reports whether the others had the time to say what they have, since
// the question for it went round.
func (t *table) settled(now time.Duration) bool {
	if t.asked == 0 || now < t.asked+settleTime {
		return false
	}
	for _, h := range t.holders {
		if !h.known {
			return false
		}
	}
	return true
}

const (
	settleTime = 500 * time.Millisecond

	// newTime is how long what is learned of the others may be older than the
	// table, and therefore no news; clockSkew is what clocks may differ by.
	newTime   = 5 * time.Second
	clockSkew = 2 * time.Second
)

// news returns what the members are to be told now, by name.
func (t *table) news(now time.Duration) (joined, left []Member) {
	if len(t.events) == 0 || !t.open() || now < t.opened+settleTime {
		return nil, nil
	}
	fresh := now < t.opened+newTime
	for user, e := range t.events {
		switch {
		case !e.join:
			left = append(left, e.user.member(user))
		case !fresh || e.user.since >= t.born-clockSkew.Milliseconds():
			joined = append(joined, e.user.member(user))
		}
	}
	clear(t.events)
	slices.SortFunc(joined, byUser)
	slices.SortFunc(left, byUser)
	return joined, left
}

func (u *attendee) member(user string) Member {
	return Member{User: user, Since: time.UnixMilli(u.since).UTC(), Connections: u.connections}
}

func byUser(a, b Member) int   { return strings.Compare(a.User, b.User) }
func seatByUser(a, b seat) int { return strings.Compare(a.User, b.User) }
