package layer

import (
	"slices"
	"time"
)

// maxWhole is how many users a state names in full, for those who know nothing
// yet; they fetch larger ones.
const maxWhole = 64

// seatsAtOnce is how many users change with one message.
const seatsAtOnce = 200

// due reports whether there is something to tell the others.
func (t *table) due(now time.Duration) bool {
	return t.open() && (len(t.dirty) > 0 || t.stale || t.answer || t.asks(now) || now >= t.beaten+t.policy.Lease/3)
}

func (t *table) asks(now time.Duration) bool { return t.ask > 0 && now >= t.ask }

// tell returns what the others are to be told now. next makes versions.
func (t *table) tell(now time.Duration, process string, next func() uint64) []*presenceState {
	if !t.due(now) {
		return nil
	}
	told := &teller{table: t, process: process, next: next}
	switch {
	case (t.first || t.answer || t.asks(now)) && len(t.home.seats) <= maxWhole:
		s := told.state(true)
		for _, seat := range t.home.seats {
			s.Seats = append(s.Seats, seat)
		}
		s.Full = true
	case t.first: // all will fetch it
		t.home.version = next()
		told.state(false)
	case len(t.dirty) > 0 || t.stale:
		told.changes()
	default:
		told.state(false)
	}
	told.states[0].Ask = t.asks(now)
	if told.states[0].Ask {
		t.ask = 0
	}
	clear(t.dirty)
	t.stale, t.answer, t.first, t.beaten = false, false, false, now
	return told.states
}

type teller struct {
	*table
	process string
	next    func() uint64
	states  []*presenceState
}

// state adds a state, which changes something or is a heartbeat.
func (t *teller) state(changes bool) *presenceState {
	s := &presenceState{Process: t.process, Base: t.home.version, TTL: t.policy.Lease.Milliseconds(), Nobody: t.home.nobody}
	if changes {
		t.home.version = t.next()
	}
	s.Version = t.home.version
	t.states = append(t.states, s)
	return s
}

// changes adds states with all users that changed.
func (t *teller) changes() {
	s := t.state(true)
	for user := range t.dirty {
		if len(s.Seats) == seatsAtOnce {
			s = t.state(true)
		}
		seat := t.home.seats[user]
		seat.User = user
		s.Seats = append(s.Seats, seat)
	}
}

// farewell is what the others are told when this process ends: its users stay for
// as long as those who left.
func (t *table) farewell(process string) *presenceState {
	return &presenceState{
		Process: process, Base: t.home.version, Version: t.home.version,
		TTL: max(t.policy.Grace.Milliseconds(), 1), Nobody: t.home.nobody,
	}
}

// page returns own users, by name.
func (t *table) page(after string, limit int) *presencePage {
	p := &presencePage{Kept: true, Version: t.home.version, TTL: t.policy.Lease.Milliseconds(), Nobody: t.home.nobody}
	for user, s := range t.home.seats {
		if user > after {
			p.Seats = append(p.Seats, s)
		}
	}
	slices.SortFunc(p.Seats, seatByUser)
	size := 0
	for i, s := range p.Seats {
		if size += len(s.User) + 40; i > 0 && (i == limit || size > snapshotBytes) {
			p.Seats, p.More = p.Seats[:i], true
			break
		}
	}
	return p
}

// members returns those who are present, by name.
func (t *table) members(after string, limit int) []Member {
	var all []Member
	for user, u := range t.users {
		if user > after {
			all = append(all, u.member(user))
		}
	}
	slices.SortFunc(all, byUser)
	return all[:min(limit, len(all))]
}

// count counts those who are present.
func (t *table) count() MemberCount {
	n := MemberCount{Users: len(t.users), Anonymous: t.home.nobody}
	for _, h := range t.holders {
		n.Anonymous += h.nobody
	}
	for _, u := range t.users {
		n.Connections += u.connections
	}
	return n
}
