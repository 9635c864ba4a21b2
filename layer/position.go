package layer

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Position is a place in the messages of a durable group, between two of them.
// Positions of one group may be compared with ==, and nothing else can be read
// from them. The zero Position is the place before the oldest message that is
// kept, whichever that is.
type Position struct {
	epoch    uint64 // of the store that the sequence is of; never 0 but in the zero Position
	sequence uint64 // of the message before the place; 0 when there was none
	taken    int64  // with sequence 0: when, in milliseconds since 1970
}

// IsZero reports whether p is the zero Position.
func (p Position) IsZero() bool { return p == Position{} }

// Reaches reports whether p is q or a later place in the same store: whoever is
// at p has all that whoever is at q has. Both are of one group.
func (p Position) Reaches(q Position) bool {
	return p.epoch == q.epoch && p.sequence >= q.sequence
}

// String returns p as [ParsePosition] reads it: letters, digits and periods,
// "" for the zero Position. It is neither secret nor signed.
func (p Position) String() string {
	text, _ := p.AppendText(nil) // it has no way to fail
	return string(text)
}

// AppendText implements encoding.TextAppender.
func (p Position) AppendText(b []byte) ([]byte, error) {
	if p.IsZero() {
		return b, nil
	}
	b = strconv.AppendUint(b, p.epoch, 36)
	b = append(b, '.')
	b = strconv.AppendUint(b, p.sequence, 10)
	if p.sequence == 0 {
		b = append(b, '.')
		b = strconv.AppendInt(b, p.taken, 10)
	}
	return b, nil
}

// MarshalText implements encoding.TextMarshaler, so that a Position may be a
// part of a message or of a page's data.
func (p Position) MarshalText() ([]byte, error) { return p.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Position) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePosition(string(text))
	return err
}

// ParsePosition reads what [Position.String] returned. What it cannot have
// returned is an error, which shows the first 60 bytes.
func ParsePosition(s string) (Position, error) {
	if s == "" {
		return Position{}, nil
	}
	if p, ok := parsePosition(s); ok && p.String() == s {
		return p, nil
	}
	return Position{}, fmt.Errorf("layer: %.60q is no position; want the text that Position.String returned", s)
}

func parsePosition(s string) (p Position, ok bool) {
	epoch, rest, _ := strings.Cut(s, ".")
	sequence, taken, hasTaken := strings.Cut(rest, ".")
	var err error
	if p.epoch, err = strconv.ParseUint(epoch, 36, 64); err != nil || p.epoch == 0 {
		return p, false
	}
	if p.sequence, err = strconv.ParseUint(sequence, 10, 64); err != nil {
		return p, false
	}
	if hasTaken {
		if p.taken, err = strconv.ParseInt(taken, 10, 64); err != nil || p.taken < 0 {
			return p, false
		}
	}
	return p, hasTaken == (p.sequence == 0)
}

// position returns the place behind the message with that stamp.
func (s Stamp) position() Position {
	switch {
	case s.Epoch == 0:
		return Position{}
	case s.Sequence == 0:
		return Position{epoch: s.Epoch, taken: time.Now().UnixMilli()}
	}
	return Position{epoch: s.Epoch, sequence: s.Sequence}
}
