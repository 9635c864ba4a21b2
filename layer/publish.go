package layer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// PublishOptions are the settings of [Layer.Publish]. A nil *PublishOptions and
// the zero PublishOptions mean the defaults.
type PublishOptions struct {
	// ID is the idempotency key: of the messages that are published to one
	// durable group with the same ID within a minute, one is stored. It is
	// printable ASCII, at most 512 bytes, and does not begin with "~". Default:
	// the message's own Header.ID, or a fresh one for each call.
	ID string

	// Sender is the session that does not want to hear itself. Default: the
	// message's own Header.Sender.
	Sender string

	// After makes the message conditional: it is stored only if the group's
	// newest message is the one right before that place, and the error is a
	// *[ConflictError] otherwise. The zero Position asks for a group that holds
	// nothing. Of many who write after the same place one succeeds, which is how
	// they take turns, and how one that was away learns that others went on.
	// Default nil: no condition. It is an error for a group that is not durable.
	After *Position
}

// Receipt says what became of a message that was published.
type Receipt struct {
	// Position is the place right behind the message. It is zero for a group
	// that is not durable.
	Position Position

	// Duplicate says that the message had been stored before, with the same ID;
	// Position is then that one's.
	Duplicate bool
}

// Publish is [Layer.GroupSend] with options and a receipt. To a durable group it
// waits until the message is stored and tries again for 30 seconds, under the
// same idempotency key; a nil error says that it is stored, once. [ErrUnknown]
// says that nobody knows; any other error, that it is not. To an ordinary group
// nil says what it says there, and the receipt is empty.
func (l *Layer) Publish(ctx context.Context, group string, p Payload, opts *PublishOptions) (Receipt, error) {
	if err := CheckGroup(group); err != nil {
		return Receipt{}, err
	}
	pkt, err := l.pack(p, opts)
	if err != nil {
		return Receipt{}, err
	}
	defer pkt.free()
	var after *Stamp
	if opts != nil && opts.After != nil {
		after = &Stamp{Epoch: opts.After.epoch, Sequence: opts.After.sequence}
	}
	r, err := l.publish(ctx, group, pkt, after)
	if err != nil {
		return Receipt{}, fmt.Errorf("layer: send to group %s: %w", group, err)
	}
	l.stats.sent.Add(1)
	return r, nil
}

// publish hands pkt to the network, which stores it if the group is durable.
func (l *Layer) publish(ctx context.Context, group string, pkt *Packet, after *Stamp) (Receipt, error) {
	policy := l.policy(group)
	switch {
	case policy == nil && after != nil:
		return Receipt{}, fmt.Errorf("%w, so nothing can be published after a position of it", ErrNotDurable)
	case policy == nil:
		return Receipt{}, l.link.Publish(ctx, group, pkt)
	}
	switch {
	case pkt.Header.ID == "":
		pkt.Header.ID = l.freshKey()
	case strings.HasPrefix(pkt.Header.ID, ownKey):
		return Receipt{}, &MessageError{Why: fmt.Sprintf("its Header.ID %.60q begins with %q, as only keys that the layer makes do", pkt.Header.ID, ownKey)}
	}
	r, err := l.store(ctx, group, pkt, after, min(storePatience, policy.Window()/2))
	if after != nil && errors.Is(err, ErrConflict) {
		return Receipt{}, l.conflict(ctx, group, after)
	}
	return r, err
}

// freshKey returns a key that nobody else has, for the minute and the network
// in which keys are compared. It is short: servers keep it for each message.
func (l *Layer) freshKey() string {
	const random = 13 // characters of the process's name, 65 bits
	var room [32]byte
	key := append(append(room[:0], ownKey...), l.process[len(l.process)-random:]...)
	return string(strconv.AppendUint(append(key, '.'), l.keys.Add(1), 36))
}

// conflict says where the group is now.
func (l *Layer) conflict(ctx context.Context, group string, after *Stamp) error {
	tail, err := l.link.Last(ctx, group)
	if err != nil {
		return err
	}
	return &ConflictError{Group: group, After: after.position(), Position: tail.position()}
}

const (
	// ownKey begins the keys that the layer makes. They end with the delivery:
	// a message that is passed on must not count as stored already.
	ownKey = "~"

	storePatience = 30 * time.Second
	storeRetry    = 10 * time.Millisecond // at first
	storeRetryMax = 500 * time.Millisecond
)

// store tries until pkt is stored, or the patience or ctx ends.
func (l *Layer) store(ctx context.Context, group string, pkt *Packet, after *Stamp, patience time.Duration) (Receipt, error) {
	var r Receipt
	err := insist(ctx, patience, func() error {
		s, duplicate, err := l.link.Store(ctx, group, pkt, after)
		if err == nil {
			r = Receipt{s.position(), duplicate}
		}
		return err
	})
	return r, err
}

// insist calls f until it does not fail for reasons that pass, or the patience
// or ctx ends. Once an outcome is unknown it stays so.
func insist(ctx context.Context, patience time.Duration, f func() error) error {
	deadline := time.Now().Add(patience)
	unknown := false
	for wait := storeRetry; ; wait = min(2*wait, storeRetryMax) {
		err := f()
		if err == nil {
			return nil
		}
		again := (errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown)) && !errors.Is(err, ErrNoID)
		unknown = unknown || errors.Is(err, ErrUnknown)
		if again && time.Until(deadline) > wait && pause(ctx, wait/2+rand.N(wait/2)) {
			continue
		}
		// After a conflict none of the attempts can be stored any more.
		if unknown && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrConflict) {
			err = fmt.Errorf("%w (an attempt had no answer; the last one: %w)", ErrUnknown, err)
		}
		return err
	}
}

// pause waits for d and reports whether it did so to the end.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
