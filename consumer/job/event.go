package job

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tideway-go/tideway/layer"
)

// EventType is the message type of every event of a job.
const EventType = "job.event"

// EventName says what happened to a job.
type EventName string

// The events of a job, in the order in which they may come: first Queued, and
// last Ended, behind which there may be Retried alone.
const (
	Queued     EventName = "queued"     // it was submitted: Job
	Started    EventName = "started"    // an attempt began: Attempt, Worker
	Logged     EventName = "log"        // a line: Text, perhaps Target
	Progressed EventName = "progress"   // Done of Total, perhaps of a Target
	Checkpoint EventName = "checkpoint" // Value, perhaps of a Target: where the next attempt goes on
	Targeted   EventName = "target"     // a Target's State changed, perhaps with an Error
	Alive      EventName = "alive"      // the attempt goes on
	Retrying   EventName = "retrying"   // the attempt failed with Error, and another follows after Wait
	Released   EventName = "released"   // the worker had to stop, and hands the job back
	Requeued   EventName = "requeued"   // nothing was heard of it: it is in the queue anew
	Cancelling EventName = "cancelling" // By asked the attempt to end
	Ended      EventName = "ended"      // State, Error, Result: the verdict
	Retried    EventName = "retried"    // By submitted what failed again, as the job Next
)

// Event is one entry in the log of a job, which is the durable group that
// [Group] names. Its JSON form is the wire: docs/reference/jobs.md.
type Event struct {
	Event EventName `json:"event"`

	// At is the writer's clock: to be shown, not to be relied upon. The order of
	// events is the group's.
	At time.Time `json:"at"`

	// Attempt is the attempt that wrote the event; 0 is nobody's.
	Attempt int `json:"attempt,omitempty"`

	Job    *Submission     `json:"job,omitempty"`
	Target string          `json:"target,omitempty"`
	State  State           `json:"state,omitempty"`
	Text   string          `json:"text,omitempty"`
	Error  string          `json:"error,omitempty"`
	Done   int64           `json:"done,omitempty"`
	Total  int64           `json:"total,omitempty"`
	Value  json.RawMessage `json:"value,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	By     string          `json:"by,omitempty"`
	Worker string          `json:"worker,omitempty"`
	Wait   int64           `json:"wait,omitempty"` // milliseconds
	Ticket int             `json:"ticket,omitempty"`

	// Delivery is how often the job's message had been handed to a worker when
	// the attempt began.
	Delivery int `json:"delivery,omitempty"`

	Token string `json:"token,omitempty"` // hash of the secret of an attempt that is made over HTTP
	Next  string `json:"next,omitempty"`

	// Position is the place right behind the event.
	Position layer.Position `json:"-"`
}

// MessageType returns [EventType].
func (Event) MessageType() string { return EventType }

// ParseEvent makes an event of a message of a job's group.
func ParseEvent(m layer.Message) (Event, error) {
	if m.Type != EventType {
		return Event{}, fmt.Errorf("job: a message of type %.60q in group %s is no event of a job", m.Type, m.Group)
	}
	var e Event
	if err := m.Decode(&e); err != nil {
		return Event{}, fmt.Errorf("job: an event in group %s: %w", m.Group, err)
	}
	e.Position = m.Position
	return e, nil
}

// Bounds of what is written down.
const (
	maxText    = 4 << 10  // of a line, and of an error
	maxValue   = 64 << 10 // of a checkpoint, and of a result
	maxPayload = 256 << 10
	maxTargets = 1000
	maxName    = 255 // of targets, keys, people

	// maxEvents is how many events a job keeps: what Groups says.
	maxEvents = 10_000
	// fullEvents is when lines and progress are no longer written, and
	// checkpoints refused: what follows is for the verdicts.
	fullEvents = 8_000
)

// clip shortens a text to what is kept of it, and makes it UTF-8.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	s = s[:most-len("…")]
	for len(s) > 0 && !utf8.ValidString(s[len(s)-min(len(s), utf8.UTFMax):]) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// raw encodes a value that is kept with an event.
func raw(what string, v any, most int) (json.RawMessage, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("job: %s: %w", what, err)
	}
	if len(data) > most {
		return nil, fmt.Errorf("job: %s has %d bytes as JSON; %d is the most: keep what is large elsewhere, and its name here", what, len(data), most)
	}
	return data, nil
}
