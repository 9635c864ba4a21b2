package job

import (
	"encoding/json"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// State is where a job, or one of its targets, stands.
type State string

// A job begins as StateQueued and reaches exactly one of the last four. A target
// has no state until its turn comes, and ends as StateSucceeded, StateFailed or
// StateSkipped.
const (
	StateQueued     State = "queued"     // it waits for a worker, at first or again
	StateRunning    State = "running"    // an attempt is under way
	StateCancelling State = "cancelling" // the attempt was asked to end
	StateSkipped    State = "skipped"    // of a target: the job ended without it

	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"    // the job's own verdict
	StateCancelled State = "cancelled" // somebody cancelled it
	StateDead      State = "dead"      // its attempts are used up
)

// Terminal reports whether s is one of the four in which a job ends.
func (s State) Terminal() bool {
	return s == StateSucceeded || s == StateFailed || s == StateCancelled || s == StateDead
}

// Status is what the events of a job add up to.
type Status struct {
	Submission

	State   State  `json:"state"`
	Attempt int    `json:"attempt"`          // the newest, from 1; 0 before the first
	Worker  string `json:"worker,omitempty"` // who makes or made it

	// Done and Total are the job's own progress, or without it how many of its
	// targets have ended.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`

	// Progress has the job's targets, in the order of the submission.
	Progress []TargetStatus `json:"progress,omitempty"`

	Error       string          `json:"error,omitempty"` // of the verdict, or of the attempt before
	Result      json.RawMessage `json:"result,omitempty"`
	CancelledBy string          `json:"cancelled_by,omitempty"`
	RetriedBy   string          `json:"retried_by,omitempty"`
	RetriedAs   string          `json:"retried_as,omitempty"` // the job that does again what failed

	Started time.Time `json:"started,omitzero"` // the first attempt
	Ended   time.Time `json:"ended,omitzero"`
	Last    time.Time `json:"last"` // the newest event

	// Position is the place behind the newest event: to watch from.
	Position layer.Position `json:"position"`

	Events int `json:"events"`

	checkpoints map[string]json.RawMessage // by target; "" is the job's
	index       map[string]int             // of targets in Progress
	open        bool                       // the newest attempt may write
	tries       int                        // attempts since the job last got on
	deaths      int                        // of these, how many ended without a word
	own         bool                       // Done and Total were said by the job
	due         time.Time                  // when the next attempt may begin
	ticket      int                        // of the message in the queue that counts
	delivery    int                        // the newest of that message
	token       string
}

// TargetStatus is one target of a job.
type TargetStatus struct {
	Name  string `json:"name"`
	State State  `json:"state,omitempty"` // "" before its turn
	Tries int    `json:"tries,omitempty"`
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`
	Error string `json:"error,omitempty"`

	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
}

// ended reports whether the target has a verdict.
func (t *TargetStatus) ended() bool { return t.State == StateSucceeded || t.State == StateFailed }

// Fold adds up events, in their order. What a stranger wrote into the group
// against the rules has no effect: the first verdict counts, and only the newest
// attempt is heard.
func Fold(events []Event) Status {
	var s Status
	for _, e := range events {
		s.apply(e)
	}
	return s
}

// apply adds an event and reports whether it was one by the rules.
func (s *Status) apply(e Event) bool {
	s.Position = e.Position
	s.Events++
	if !s.allows(&e) {
		return false
	}
	s.Last = e.At
	switch e.Event {
	case Queued:
		s.queue(e)
	case Started:
		s.deaths = s.died()
		s.Attempt, s.Worker, s.State, s.open = e.Attempt, e.Worker, StateRunning, true
		s.tries++
		s.token, s.delivery = e.Token, max(e.Delivery, s.delivery)
		if s.Started.IsZero() {
			s.Started = e.At
		}
	case Progressed:
		s.progress(e)
	case Checkpoint:
		s.checkpoints[e.Target] = e.Value
		s.tries, s.deaths = 0, 0
	case Targeted:
		s.target(e)
	case Retrying:
		s.State, s.open, s.Error = s.rest(), false, e.Error
		s.due = e.At.Add(time.Duration(e.Wait) * time.Millisecond)
	case Released:
		s.State, s.open = s.rest(), false
		s.tries = max(s.tries-1, 0)
	case Requeued:
		s.deaths = s.died()
		s.State, s.open, s.ticket = s.rest(), false, e.Ticket
		s.delivery = 0
	case Cancelling:
		s.State, s.CancelledBy = StateCancelling, e.By
	case Ended:
		s.end(e)
	case Retried:
		s.RetriedBy, s.RetriedAs = e.By, e.Next
	}
	return true
}

// died is how many attempts since the job last got on ended without a word, one
// that is open among them.
func (s *Status) died() int {
	if s.open {
		return s.deaths + 1
	}
	return s.deaths
}

// suspect reports whether the job may be what kills its workers. To be asked by
// who has its message, when no attempt is under way.
func (s *Status) suspect() bool { return s.died() >= suspectAfter }

// rest is the state of a job without an attempt: one that is being cancelled
// stays so, and the next who has it ends it.
func (s *Status) rest() State {
	if s.State == StateCancelling {
		return StateCancelling
	}
	return StateQueued
}

// allows reports whether an event may follow what there is.
func (s *Status) allows(e *Event) bool {
	switch {
	case e.Event == Queued:
		return s.State == "" && e.Job != nil && e.Attempt == 0
	case s.State == "":
		return false
	case s.State.Terminal():
		return e.Event == Retried && e.Attempt == 0 && s.RetriedAs == "" && s.State != StateSucceeded && e.Next != ""
	}
	mine := s.open && e.Attempt == s.Attempt
	switch e.Event {
	case Started:
		return e.Attempt == s.Attempt+1 && s.State != StateCancelling
	case Logged, Alive, Retrying, Released:
		return mine
	case Progressed, Checkpoint:
		return mine && (e.Target == "" || s.known(e.Target))
	case Targeted:
		return mine && s.known(e.Target) && !s.Progress[s.index[e.Target]].ended() &&
			(e.State == StateRunning || e.State == StateSucceeded || e.State == StateFailed)
	case Requeued:
		return e.Attempt == 0 && e.Ticket == s.ticket+1
	case Cancelling:
		return e.Attempt == 0 && s.open && s.State == StateRunning
	case Ended:
		return s.mayEnd(e, mine)
	}
	return false
}

// mayEnd reports whether a verdict is by the rules: the attempt's own, or one
// that needs no attempt.
func (s *Status) mayEnd(e *Event, mine bool) bool {
	switch e.State {
	case StateSucceeded, StateFailed:
		return mine && s.State == StateRunning
	case StateCancelled:
		return s.State == StateCancelling && (mine || e.Attempt == 0) || !s.open && e.Attempt == 0
	case StateDead:
		return (mine || e.Attempt == 0) && s.State != StateCancelling
	}
	return false
}

func (s *Status) known(target string) bool { _, ok := s.index[target]; return ok }

func (s *Status) queue(e Event) {
	s.Submission, s.State, s.ticket, s.due = *e.Job, StateQueued, e.Ticket, e.Job.NotBefore
	s.checkpoints, s.index = map[string]json.RawMessage{}, map[string]int{}
	for _, name := range s.Targets {
		if !s.known(name) {
			s.index[name] = len(s.Progress)
			s.Progress = append(s.Progress, TargetStatus{Name: name})
		}
	}
	s.Total = int64(len(s.Progress))
}

func (s *Status) progress(e Event) {
	if e.Target == "" {
		s.Done, s.Total, s.own = e.Done, e.Total, true
		return
	}
	t := &s.Progress[s.index[e.Target]]
	t.Done, t.Total = e.Done, e.Total
}

func (s *Status) target(e Event) {
	t := &s.Progress[s.index[e.Target]]
	t.State, t.Error = e.State, e.Error
	if e.State == StateRunning {
		t.Tries++
		if t.Started.IsZero() {
			t.Started = e.At
		}
		return
	}
	t.Ended = e.At
	s.tries, s.deaths = 0, 0
	if !s.own {
		s.Done++
	}
}

func (s *Status) end(e Event) {
	s.State, s.open, s.Error, s.Result, s.Ended = e.State, false, e.Error, e.Result, e.At
	if e.State == StateCancelled && e.By != "" {
		s.CancelledBy = e.By
	}
	for i := range s.Progress {
		if t := &s.Progress[i]; !t.ended() {
			t.State = StateSkipped
		}
	}
}

// clone returns a copy that shares nothing that changes.
func (s *Status) clone() Status {
	c := *s
	c.Progress = append([]TargetStatus(nil), s.Progress...)
	c.checkpoints, c.index = nil, nil
	return c
}

// Folder adds up events as they come. The zero Folder is a job without events.
type Folder struct{ s Status }

// Add adds an event and reports whether it was one by the rules.
func (f *Folder) Add(e Event) bool { return f.s.apply(e) }

// Status returns what the events add up to. It changes with the next Add.
func (f *Folder) Status() *Status { return &f.s }
