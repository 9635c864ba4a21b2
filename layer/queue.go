package layer

import (
	"errors"
	"fmt"
	"time"
)

// QueuePolicy makes shared channels durable queues: a message stays until a
// worker has dealt with it, or lies with the dead letters. See [Layer.Enqueue]
// and [Layer.Take].
type QueuePolicy struct {
	// Pattern says which: the name of one queue, or the front of names and ">",
	// as in [Retention].
	Pattern string

	// Capacity is how many messages of one queue may wait or be in work, for
	// each priority. Default 10,000, at most 1,000,000. Messages that are delayed
	// are counted apart.
	Capacity int

	// Attempts is how often a message is handed to a worker before it goes to
	// the dead letters. Default 5, at most 1,000.
	Attempts int

	// AckWait is how long a worker may be silent about a message before another
	// gets it; see [Delivery.Extend]. Default 30 s, 1 s to 1 hour.
	AckWait time.Duration

	// Backoff is the pause after the first attempt that failed. Each further one
	// doubles it, up to BackoffMax. What is waited is drawn from the upper half.
	// Defaults 2 s and 5 min; BackoffMax is 24 h at most.
	Backoff    time.Duration
	BackoffMax time.Duration

	// Window is how long an [EnqueueOptions].ID is remembered. Default 2 min, 1 s
	// to 24 h. Each ID takes about 120 bytes meanwhile.
	Window time.Duration

	// Age is how long a message may wait; then it is gone without a trace.
	// Default 0: for ever. At least 1 s.
	Age time.Duration
}

const (
	defaultQueueCapacity = 10_000
	defaultAttempts      = 5
	defaultAckWait       = 30 * time.Second
	defaultBackoff       = 2 * time.Second
	defaultBackoffMax    = 5 * time.Minute
	defaultWindow        = 2 * time.Minute

	mostAttempts = 1000
	mostAckWait  = time.Hour
	longest      = 24 * time.Hour // of a pause, and of a window
)

var (
	// ErrNotQueue is returned for a name that no queue policy of the network
	// covers; see [Options].Queues.
	ErrNotQueue = errors.New("layer: not a durable queue")

	// ErrStale is returned by the methods of a [Delivery] whose lease is over:
	// another worker has the message or may have it soon, or it was dealt with.
	// Nothing was done.
	ErrStale = errors.New("layer: the lease of the message is over")

	// ErrNoID comes with [ErrUnknown] for a message of a queue that had no ID, on a
	// network where such messages are not remembered: it may be stored twice if it
	// is put in again.
	ErrNoID = errors.New("layer: the message has no ID by which it would be stored once")

	// ErrNoDeadLetter is returned when there is no dead letter of that ID.
	ErrNoDeadLetter = errors.New("layer: no such dead letter")
)

// Covers reports whether the policy is about queue.
func (q QueuePolicy) Covers(queue string) bool { return covers(q.Pattern, queue) }

// Overlaps reports whether a queue may exist that both policies are about.
func (q QueuePolicy) Overlaps(o QueuePolicy) bool { return overlap(q.Pattern, o.Pattern) }

// String returns the policy in words, as errors state it.
func (q QueuePolicy) String() string {
	s := fmt.Sprintf("%q (capacity %d, %d attempts, AckWait %v, Backoff %v to %v, Window %v",
		q.Pattern, q.Capacity, q.Attempts, q.AckWait, q.Backoff, q.BackoffMax, q.Window)
	if q.Age > 0 {
		s += fmt.Sprintf(", Age %v", q.Age)
	}
	return s + ")"
}

// resolve fills in the defaults.
func (q QueuePolicy) resolve() QueuePolicy {
	q.Capacity = orDefault(q.Capacity, defaultQueueCapacity)
	q.Attempts = orDefault(q.Attempts, defaultAttempts)
	q.AckWait = orDefault(q.AckWait, defaultAckWait)
	q.Backoff = orDefault(q.Backoff, defaultBackoff)
	q.BackoffMax = orDefault(q.BackoffMax, max(defaultBackoffMax, q.Backoff))
	q.Window = orDefault(q.Window, defaultWindow)
	if q.Age > 0 { // no server remembers longer than it keeps
		q.Window = min(q.Window, q.Age)
	}
	return q
}

// check says what is wrong with a policy whose defaults are filled in.
func (q QueuePolicy) check() error {
	if err := checkPattern("Queues", q.Pattern, checkQueue); err != nil {
		return err
	}
	why := ""
	switch {
	case q.Capacity < 1 || q.Capacity > mostMessages:
		why = fmt.Sprintf("a Capacity of %d; want 1 to %d", q.Capacity, mostMessages)
	case q.Attempts < 1 || q.Attempts > mostAttempts:
		why = fmt.Sprintf("%d Attempts; want 1 to %d", q.Attempts, mostAttempts)
	case q.AckWait < time.Second || q.AckWait > mostAckWait:
		why = fmt.Sprintf("an AckWait of %v; want 1s to %v", q.AckWait, mostAckWait)
	case q.Backoff < time.Millisecond || q.BackoffMax < q.Backoff || q.BackoffMax > longest:
		why = fmt.Sprintf("a Backoff of %v and a BackoffMax of %v; want 1ms or more, and the second from the first up to %v", q.Backoff, q.BackoffMax, longest)
	case q.Window < time.Second || q.Window > longest:
		why = fmt.Sprintf("a Window of %v; want 1s to %v", q.Window, longest)
	case q.Age != 0 && q.Age < leastAge:
		why = fmt.Sprintf("an Age of %v; %v is the least, and 0 is for ever", q.Age, leastAge)
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("layer: Options.Queues gives %q %s", q.Pattern, why)
}

// checkQueue says what is wrong with a queue's name. It is that of a shared
// channel.
func checkQueue(name string) error { return checkName("queue", name, 0) }

// resolveQueues fills in the defaults and refuses policies that contradict each
// other.
func resolveQueues(given []QueuePolicy) ([]QueuePolicy, error) {
	var all []QueuePolicy
	for _, q := range given {
		q = q.resolve()
		if err := q.check(); err != nil {
			return nil, err
		}
		for _, o := range all {
			if q.Overlaps(o) {
				return nil, fmt.Errorf("layer: Options.Queues has both %v and %v, and a queue may match both; keep one of them", o, q)
			}
		}
		all = append(all, q)
	}
	return all, nil
}

// queuePolicy returns the policy that makes a channel a durable queue, nil when
// it is none.
func (l *Layer) queuePolicy(channel string) *QueuePolicy {
	for i := range l.queues {
		if l.queues[i].Covers(channel) {
			return &l.queues[i]
		}
	}
	return nil
}

// QueuePolicy returns the policy that makes a channel a durable queue. Errors:
// *[NameError], [ErrNotQueue].
func (l *Layer) QueuePolicy(queue string) (QueuePolicy, error) {
	q, err := l.queuePolicyOf(queue)
	if err != nil {
		return QueuePolicy{}, err
	}
	return *q, nil
}

// queuePolicyOf returns the policy of a queue that a caller named.
func (l *Layer) queuePolicyOf(queue string) (*QueuePolicy, error) {
	if err := checkQueue(queue); err != nil {
		return nil, err
	}
	if q := l.queuePolicy(queue); q != nil {
		return q, nil
	}
	return nil, fmt.Errorf("%w: %s; name it in Options.Queues", ErrNotQueue, queue)
}
