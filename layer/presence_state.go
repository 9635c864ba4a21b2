package layer

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// What processes tell each other of presence. There is one kind of message, to
// all who have members in a group. Each says for how long what is known of its
// sender stays true, and by two numbers which state it changes into which: a
// heartbeat is one that changes nothing. Whoever sees that it missed something
// asks the sender for its state.

// presenceMark begins the names of the groups in which processes talk about the
// presence of a group. No name that a program can give has it.
const presenceMark = "="

const (
	maxSeats   = 1000    // users in one message
	maxSeated  = 200_000 // users of one process in one group that are believed
	maxHolders = 4096    // processes of one group that are believed
	maxTally   = 1 << 30 // any count that is believed

	snapshotBytes = 256 << 10 // of users in one answer
	snapshotSeats = 5000
)

// presenceState is that message.
type presenceState struct {
	Process string `json:"p"`
	Base    uint64 `json:"b"`           // the version that it changes
	Version uint64 `json:"v"`           // the version after it; a process never uses one twice
	TTL     int64  `json:"t"`           // how long it stays true, in milliseconds
	Full    bool   `json:"f,omitempty"` // Seats are all there are
	Ask     bool   `json:"q,omitempty"` // the sender wants to hear from all others
	Nobody  int    `json:"a,omitempty"` // how many channels have no user
	Seats   []seat `json:"s,omitempty"`
}

// MessageType makes a state a [Payload].
func (*presenceState) MessageType() string { return "presence.state" }

// seat is a user in a process.
type seat struct {
	User  string `json:"u"`
	N     int    `json:"n,omitempty"` // channels; 0: the user has left
	Since int64  `json:"s,omitempty"` // Unix time in milliseconds
}

func (s *presenceState) ttl() time.Duration { return time.Duration(s.TTL) * time.Millisecond }

// parsePresence reads a state, which may be a stranger's.
func parsePresence(data []byte) (*presenceState, error) {
	var s presenceState
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	return &s, s.check()
}

func (s *presenceState) check() error {
	switch {
	case !strings.HasPrefix(s.Process, "tw") || CheckGroup(s.Process) != nil:
		return fmt.Errorf("presence of a process %.80q", s.Process)
	case s.Version < s.Base:
		return fmt.Errorf("presence goes from %d back to %d", s.Base, s.Version)
	case s.TTL < 0 || s.TTL > mostLease.Milliseconds():
		return fmt.Errorf("presence for %d ms", s.TTL)
	case s.Nobody < 0 || s.Nobody > maxTally:
		return fmt.Errorf("presence of %d without a user", s.Nobody)
	case len(s.Seats) > maxSeats:
		return fmt.Errorf("presence of %d users at once", len(s.Seats))
	}
	return checkSeats(s.Seats)
}

func checkSeats(seats []seat) error {
	for _, s := range seats {
		if s.User == "" || len(s.User) > maxUser || !utf8.ValidString(s.User) || s.N < 0 || s.N > maxTally {
			return fmt.Errorf("presence of a user %.80q, %d times", s.User, s.N)
		}
	}
	return nil
}

// The command "presence" asks a process for its own members of a group, by name.
type (
	presenceArgs struct {
		Group string `json:"group"`
		After string `json:"after,omitempty"` // the last user of the page before
		Limit int    `json:"limit,omitempty"`
	}
	presencePage struct {
		Kept    bool   `json:"kept"` // a policy of that process covers the group
		Version uint64 `json:"v"`
		TTL     int64  `json:"t"`
		Nobody  int    `json:"a,omitempty"`
		Seats   []seat `json:"s,omitempty"`
		More    bool   `json:"more,omitempty"` // users follow these
	}
)

func parsePage(data []byte) (*presencePage, error) {
	var p presencePage
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, err
	}
	if p.Nobody < 0 || p.Nobody > maxTally || p.More && len(p.Seats) == 0 {
		return nil, fmt.Errorf("presence of %d without a user, %d with one", p.Nobody, len(p.Seats))
	}
	return &p, checkSeats(p.Seats)
}
