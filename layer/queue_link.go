package layer

import (
	"context"
	"strings"
	"time"
)

// QueueLink is the part of a [Link] that carries durable queues. Its errors are
// those of a Link.
type QueueLink interface {
	// Govern makes the shared channels that the policies cover durable queues,
	// and returns the policies of the whole network, these included. It keeps
	// the rules of [Link].Retain.
	Govern(ctx context.Context, policies []QueuePolicy) ([]QueuePolicy, error)

	// Enqueue returns when p is stored. One with the same Header.ID that was
	// stored in that queue within [QueuePolicy.Window] makes it a duplicate,
	// which is not stored. An error that wraps ErrUnknown says that p may be
	// stored or not; every other, that it is not. An ID that begins with "~" is the
	// layer's, for trying again: a Link may ignore it, and then wraps ErrNoID
	// beside ErrUnknown, so that the layer does not.
	Enqueue(ctx context.Context, queue string, p *Packet, how Placing) (duplicate bool, err error)

	// Take waits for a message and leases it to the caller for the policy's
	// AckWait. High ones come first, low ones last; those of one priority in
	// their order. When ctx ends first nothing is taken, and no attempt counts.
	Take(ctx context.Context, queue string) (*Taken, error)

	// Queues returns the queues of the network that hold something.
	Queues(ctx context.Context) ([]QueueState, error)

	// DeadLetters returns the oldest dead letters with an ID above after, of one
	// queue or with "" of all, at most limit; none is the end.
	DeadLetters(ctx context.Context, queue string, after uint64, limit int) ([]DeadLetter, error)

	// Replay puts a dead letter back into its queue, with all its attempts, and
	// then drops it. Twice at the same time it is stored once.
	Replay(ctx context.Context, id uint64) error

	// Drop removes a dead letter for good.
	Drop(ctx context.Context, id uint64) error
}

// Placing says where in a queue a message goes. At most one of Priority, At and
// Every is set.
type Placing struct {
	Priority Priority
	At       time.Time // not before then

	// Every is when it comes again and again, as NATS takes it: "@every 90s" or
	// six fields. The message replaces the one with the same Header.ID, which is
	// required then.
	Every string
	Zone  *time.Location // of the fields; nil is UTC

	// Cancel removes what At or Every put there under the Header.ID. It reports
	// a duplicate when there was something.
	Cancel bool
}

// Taken is a message with its lease.
type Taken struct {
	Packet   Packet // its Data may be no message
	Attempt  int    // 1 is the first; attempts that were released do not count
	Lost     int    // of the attempts before, how many ended because the lease did
	Stored   time.Time
	Priority Priority
	Lease    Lease
}

// Lease is the right to deal with a message. All its methods return [ErrStale]
// when it is known to be over.
type Lease interface {
	// Done removes the message. nil says that the word is on its way: if it is
	// lost, the message comes again.
	Done(ctx context.Context) error

	// Return gives the message back, for after the pause: the attempt failed.
	// Release does so and takes the attempt back.
	Return(ctx context.Context, pause time.Duration) error
	Release(ctx context.Context, pause time.Duration) error

	// Bury moves the message to the dead letters, so that it is in one of the
	// two places at any time.
	Bury(ctx context.Context, reason string, attempts int) error

	// Extend renews the lease for the policy's AckWait from now.
	Extend(ctx context.Context) error
}

// QueueState is what a queue holds.
type QueueState struct {
	Name    string
	Policy  QueuePolicy
	Ready   int // messages that wait for a worker
	Working int // messages that a worker has, or that wait for their next attempt
	Delayed int // messages that will come later, or again and again
	Dead    int // dead letters
}

// CutReason returns what of a reason is kept: its first 1,000 bytes, on one line.
func CutReason(reason string) string {
	const most = 1000
	if len(reason) > most {
		reason = reason[:most]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(reason, ""))
}

// DeadLetter is a message that used up its attempts, or was buried.
type DeadLetter struct {
	ID       uint64  // names it, in the whole network
	Queue    string  // where it was
	Message  Message // as it was; what is no message has no Type
	Priority Priority
	Reason   string // of the last failure
	Attempts int
	Stored   time.Time // when it was enqueued
	Died     time.Time
}
