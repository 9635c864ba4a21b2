package layer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tideway-go/tideway/layer/internal/cron"
)

// Priority is how urgent a message of a queue is.
type Priority int

// The priorities of messages.
const (
	Low    Priority = -1
	Normal Priority = 0
	High   Priority = 1
)

// String returns "low", "normal" or "high".
func (p Priority) String() string {
	switch p {
	case Low:
		return "low"
	case High:
		return "high"
	}
	return "normal"
}

// EnqueueOptions are the settings of [Layer.Enqueue]. A nil *EnqueueOptions and
// the zero EnqueueOptions mean the defaults. At most one of Priority, Delay, At
// and Every may be set.
type EnqueueOptions struct {
	// ID is the message's key: of those that are put into one queue with the
	// same ID within [QueuePolicy.Window], one is stored; of those that are
	// delayed, one as long as it waits. It is printable ASCII, at most 512 bytes,
	// and does not begin with "~". Default: the message's own Header.ID, or a
	// fresh one for each call.
	ID string

	// Priority: what is High is taken before anything else, what is Low only
	// when there is nothing else. Default Normal.
	Priority Priority

	// Delay and At hold the message back, for a time or until a time, to the
	// second. Default: it is there at once.
	Delay time.Duration
	At    time.Time

	// Every puts a message into the queue again and again: "@every 90s", a word
	// such as "@daily", or the fields of crontab(5), with or without seconds in
	// front. It takes an ID; the next Enqueue with that ID replaces it, so that
	// every process may say it when it starts. See [Layer.Cancel].
	Every string

	// Zone is the time zone of the fields of Every. Default UTC.
	Zone *time.Location
}

// QueueReceipt says what became of a message that was put into a queue.
type QueueReceipt struct {
	// Duplicate says that a message with the same ID was there before, and that
	// this one was not stored.
	Duplicate bool
}

// Enqueue puts p into a durable queue and returns when it is stored: then it is
// handed to workers until one of them is done with it, or it used up its
// attempts. It tries for 30 seconds, under the same ID; without one, on a NATS
// server that stands alone, until the server was asked and did not answer. [ErrChannelFull] says
// that the queue holds as many messages as its capacity allows, and that
// nothing was dropped; [ErrUnknown], that nobody knows whether p is stored; any
// other error, that it is not: *[NameError], *[MessageError], [ErrNotQueue],
// [ErrTooLarge], [ErrUnavailable], [ErrClosed], ctx's.
func (l *Layer) Enqueue(ctx context.Context, queue string, p Payload, opts *EnqueueOptions) (QueueReceipt, error) {
	policy, err := l.queuePolicyOf(queue)
	if err != nil {
		return QueueReceipt{}, err
	}
	if opts == nil {
		opts = &EnqueueOptions{}
	}
	how, err := opts.placing()
	if err != nil {
		return QueueReceipt{}, err
	}
	pkt, err := l.pack(p, &PublishOptions{ID: opts.ID})
	if err != nil {
		return QueueReceipt{}, err
	}
	if how.Every != "" && pkt.Header.ID == "" {
		return QueueReceipt{}, errors.New("layer: EnqueueOptions.Every needs an ID, so that it can be replaced and cancelled")
	}
	return l.enqueue(ctx, policy, queue, pkt, how)
}

// enqueue hands pkt to the network, with a key of its own unless it has one.
func (l *Layer) enqueue(ctx context.Context, policy *QueuePolicy, queue string, pkt *Packet, how Placing) (QueueReceipt, error) {
	switch {
	case pkt.Header.ID == "":
		pkt.Header.ID = l.freshKey()
	case strings.HasPrefix(pkt.Header.ID, ownKey):
		return QueueReceipt{}, &MessageError{Why: fmt.Sprintf("its Header.ID %.60q begins with %q, as only keys that the layer makes do", pkt.Header.ID, ownKey)}
	}
	var r QueueReceipt
	err := insist(ctx, min(storePatience, policy.Window/2), func() (err error) {
		r.Duplicate, err = l.link.Enqueue(ctx, queue, pkt, how)
		return err
	})
	if err != nil {
		return QueueReceipt{}, fmt.Errorf("layer: send to queue %s: %w", queue, err)
	}
	l.stats.sent.Add(1)
	return r, nil
}

// Cancel takes back what [EnqueueOptions].Every, Delay or At put there under
// that ID, and reports whether there was anything. What is due already stays in
// the queue.
func (l *Layer) Cancel(ctx context.Context, queue, id string) (bool, error) {
	policy, err := l.queuePolicyOf(queue)
	if err != nil {
		return false, err
	}
	pkt := &Packet{Header: Header{ID: id}}
	if err := pkt.Header.check(); err != nil {
		return false, err
	}
	if id == "" {
		return false, errors.New("layer: Cancel needs the ID that was given to Enqueue")
	}
	found := false
	err = insist(ctx, min(storePatience, policy.Window/2), func() error {
		had, err := l.link.Enqueue(ctx, queue, pkt, Placing{Cancel: true})
		found = found || had
		return err
	})
	if err != nil {
		return false, fmt.Errorf("layer: cancel %s of queue %s: %w", id, queue, err)
	}
	return found, nil
}

// placing checks what the options say about where the message goes.
func (o *EnqueueOptions) placing() (Placing, error) {
	how := Placing{Priority: o.Priority, At: o.At}
	set := 0
	for _, is := range []bool{o.Priority != Normal, o.Delay != 0, !o.At.IsZero(), o.Every != ""} {
		if is {
			set++
		}
	}
	switch {
	case set > 1:
		return how, errors.New("layer: EnqueueOptions has more than one of Priority, Delay, At and Every; keep one")
	case o.Priority < Low || o.Priority > High:
		return how, fmt.Errorf("layer: EnqueueOptions.Priority is %d; want Low, Normal or High", int(o.Priority))
	case o.Delay < 0:
		return how, fmt.Errorf("layer: EnqueueOptions.Delay is %v, less than 0", o.Delay)
	case o.Zone != nil && o.Every == "":
		return how, errors.New("layer: EnqueueOptions.Zone is for Every, which is empty")
	case o.Delay > 0:
		how.At = time.Now().Add(o.Delay)
	case o.Every != "":
		s, err := cron.Parse(o.Every, o.Zone)
		if err != nil {
			return how, fmt.Errorf("layer: EnqueueOptions.Every: %w", err)
		}
		how.Every, how.Zone = s.String(), o.Zone
	}
	return how, nil
}
