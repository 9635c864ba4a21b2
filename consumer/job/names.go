package job

import (
	"errors"
	"fmt"
	"time"

	"github.com/tideway-go/tideway/layer"
)

var (
	// ErrStale is returned to an attempt that is no longer the newest, or whose
	// job has ended: nothing was written. It is also the cause of its context's
	// end.
	ErrStale = errors.New("job: the attempt is over")

	// ErrCancelled is the cause of the end of an attempt's context when somebody
	// cancelled the job.
	ErrCancelled = errors.New("job: cancelled")

	// ErrStopping is the cause of the end of an attempt's context when its
	// worker has to stop. The job goes on elsewhere, from its last checkpoint.
	ErrStopping = errors.New("job: the worker stops")

	// ErrNoJob is returned for an id that no job has, or whose events are no
	// longer kept.
	ErrNoJob = errors.New("job: no such job")

	// ErrFull is returned for a checkpoint when a job has written as many events
	// as are kept of it, less those that its end needs.
	ErrFull = errors.New("job: the log of the job is full")
)

// EndedError is returned by [Cancel] for a job that has ended, and by [Retry]
// for one that has not, or has succeeded.
type EndedError struct {
	ID    string
	State State
}

func (e *EndedError) Error() string {
	return fmt.Sprintf("job: %s is %s", e.ID, e.State)
}

// OptionError reports a field of [SubmitOptions], or a payload, that cannot be.
type OptionError struct{ Why string }

func (e *OptionError) Error() string { return "job: " + e.Why }

func badOption(format string, args ...any) error {
	return &OptionError{"SubmitOptions." + fmt.Sprintf(format, args...)}
}

// NameError reports the name of a kind of job, of a lock, or a job's id that
// breaks the rules.
type NameError struct {
	What string // "kind", "id" or "lock"
	Name string
	Why  string
}

func (e *NameError) Error() string { return fmt.Sprintf("job: %s %.120q: %s", e.What, e.Name, e.Why) }

const (
	groupPrefix = "job."
	lockPrefix  = "joblock."
	maxKind     = 60
	maxLock     = 90

	// IndexGroup is the durable group in which the coming and the end of every
	// job is told, as messages of type "job.index".
	IndexGroup = "jobs"
)

// Group returns the name of the durable group that is a job's log.
func Group(id string) string { return groupPrefix + id }

func queueOf(kind string) string { return groupPrefix + kind }

// CheckKind checks the name of a kind of job: letters, digits, hyphens,
// underscores and periods, 1 to 60 characters.
func CheckKind(kind string) error { return checkName("kind", kind, maxKind) }

// CheckID checks that text may be the id of a job: what [Submit] returns, or
// letters, digits, hyphens and underscores, 1 to 60 characters.
func CheckID(id string) error { return checkName("id", id, maxKind) }

func checkName(what, name string, most int) error {
	if name == "" || len(name) > most {
		return &NameError{what, name, fmt.Sprintf("it has %d characters; want 1 to %d", len(name), most)}
	}
	if err := layer.CheckGroup(name); err != nil {
		return &NameError{what, name, "want letters, digits, hyphens, underscores and periods"}
	}
	return nil
}

// Groups are the retention policies that jobs need, for [layer.Options].Groups:
// each job's log, 10,000 events, and the index, both for 7 days; the newest
// holder of each lock. Ages may be changed, in all programs of the network alike.
// A job has to end within the age of its log.
func Groups() []layer.Retention {
	const week = 7 * 24 * time.Hour
	return []layer.Retention{
		{Pattern: groupPrefix + ">", Messages: maxEvents, Age: week},
		{Pattern: IndexGroup, Messages: 20_000, Age: week},
		{Pattern: lockPrefix + ">", Messages: 1, Age: week},
	}
}

// Queues are the policies of the queues that jobs wait in, one queue for each
// kind, for [layer.Options].Queues. AckWait is how soon a job whose worker died
// goes on: 30 s. How often a job is tried is its own matter, so the queue's
// Attempts are many.
func Queues() []layer.QueuePolicy {
	return []layer.QueuePolicy{{
		Pattern: groupPrefix + ">", Attempts: 1000, Window: 10 * time.Minute,
	}}
}
