package layer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// ErrNotDurable is returned for the history of a group that no policy of the
// network makes durable; see [Options].Groups.
var ErrNotDurable = errors.New("layer: the group is not durable")

const (
	// pageMessages is how many messages are read at once.
	pageMessages = 500
	// readPatience is how long a store may lag behind what it has acknowledged.
	readPatience = 10 * time.Second
	readRetry    = 2 * time.Millisecond
)

var errLag = fmt.Errorf("%w: the store does not show what it has acknowledged", ErrUnavailable)

// Position returns the place behind the newest message of a durable group: what
// a page that is rendered now gives to its clients, so that they go on from
// here. It includes every message whose Publish has returned. Errors:
// *[NameError], [ErrNotDurable], [ErrUnavailable], [ErrClosed], ctx's.
func (l *Layer) Position(ctx context.Context, group string) (Position, error) {
	tail, _, err := l.tail(ctx, group)
	if err != nil {
		return Position{}, err
	}
	return tail.position(), nil
}

// Seen returns the place in a durable group that this process has got to: channels
// of this process that are members when Seen is called get every message behind it,
// or are told of a gap. So whoever calls it before others learn of a GroupAdd knows
// from where on the new member has all. It asks nobody and never waits. ok is
// false where the group has no members here or is not durable, and while it is not
// known where the group stood when the first one joined.
func (l *Layer) Seen(group string) (at Position, ok bool) {
	l.mu.RLock()
	g := l.groups[Subscription{Group: group}.key()]
	l.mu.RUnlock()
	if g == nil || g.chain == nil {
		return Position{}, false
	}
	return g.chain.at()
}

// tail returns the stamp of the newest message, and the group's policy.
func (l *Layer) tail(ctx context.Context, group string) (Stamp, *Retention, error) {
	if err := CheckGroup(group); err != nil {
		return Stamp{}, nil, err
	}
	policy := l.policy(group)
	if policy == nil {
		return Stamp{}, nil, fmt.Errorf("layer: group %s: %w", group, ErrNotDurable)
	}
	tail, err := l.shelves.tail(ctx, group)
	if err != nil {
		return Stamp{}, nil, fmt.Errorf("layer: position of group %s: %w", group, err)
	}
	return tail, policy, nil
}

// History returns the messages of a durable group that follow a position, in
// order and without a hole, up to those that were stored when it was called; no
// more than limit, if limit is above 0. From the zero Position it returns all
// that is kept. If what follows the position is not there in full, or goes while
// it is read, the last element is a *[GapError], and nothing comes behind a hole.
// Other errors end it, too: those of [Layer.Position].
//
// Calls for one group that run at the same time share what they read, so the
// bytes of a message must not be modified.
func (l *Layer) History(ctx context.Context, group string, from Position, limit int) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		r, err := l.reader(ctx, group, from)
		for n := 0; err == nil && !r.done(); {
			want := pageMessages
			if limit > 0 {
				want = min(want, limit-n)
			}
			var page []*Message
			page, err = r.next(ctx, want)
			for _, m := range page {
				if !yield(*m, nil) {
					return
				}
			}
			if n += len(page); limit > 0 && n >= limit {
				return
			}
		}
		if err != nil {
			yield(Message{}, err)
		}
	}
}

// reader reads the messages of a group from one to another.
type reader struct {
	layer  *Layer
	group  string
	policy *Retention
	from   Position // where it began
	epoch  uint64
	after  uint64 // the newest message that was read; 0 for none
	target uint64 // the last one to be read
}

// reader makes a reader up to the newest message.
func (l *Layer) reader(ctx context.Context, group string, from Position) (*reader, error) {
	tail, policy, err := l.tail(ctx, group)
	if err != nil {
		return nil, err
	}
	r := &reader{l, group, policy, from, tail.Epoch, from.sequence, tail.Sequence}
	switch {
	case from.IsZero():
	case from.epoch != tail.Epoch:
		return nil, r.gap(GapReset)
	case from.sequence > tail.Sequence && tail.Sequence > 0:
		l.shelves.forget() // what was lost may have been read
		return nil, r.gap(GapReset)
	case from.sequence > tail.Sequence:
		return nil, r.gap(GapTrimmed)
	case from.sequence == 0 && r.tooOld():
		return nil, r.gap(GapTrimmed)
	}
	return r, nil
}

// tooOld reports whether a position without a message before it was taken so
// long ago that messages may have come and gone since. The clocks of processes
// may differ a little.
func (r *reader) tooOld() bool {
	age := time.Since(time.UnixMilli(r.from.taken))
	return age > surely(r.policy.Age)
}

// surely returns for how long a message is kept that is kept for age, whatever
// the delays and the clocks.
func surely(age time.Duration) time.Duration { return age - min(age/10, time.Minute) }

func (r *reader) done() bool { return r.after >= r.target }

func (r *reader) gap(reason GapReason) error { return &GapError{r.group, r.from, reason} }

// next returns the next messages, at least one. It waits for a store that lags
// behind what it has acknowledged.
func (r *reader) next(ctx context.Context, most int) ([]*Message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readPatience, errLag)
	defer cancel()
	for {
		f := r.layer.shelves.read(ctx, r.group, r.epoch, r.after, most)
		switch {
		case f.err != nil && ctx.Err() != nil:
			return nil, fmt.Errorf("layer: history of group %s: %w", r.group, context.Cause(ctx))
		case f.err != nil:
			return nil, fmt.Errorf("layer: history of group %s: %w", r.group, f.err)
		case f.epoch != r.epoch:
			return nil, r.gap(GapReset)
		case r.after > 0 && !f.anchored:
			return nil, r.gap(GapTrimmed)
		case r.after == 0 && r.from.epoch != 0 && len(f.run)+f.left > r.policy.Messages:
			return nil, r.gap(GapTrimmed) // there was none before, and now there are more than are kept
		}
		if messages := r.take(f.run); len(messages) > 0 || r.done() {
			return messages, nil
		}
		if len(f.run) == 0 && r.after == 0 && f.left == 0 {
			// All of it may have grown too old meanwhile.
			tail, err := r.layer.shelves.tail(ctx, r.group)
			if err == nil && tail.Sequence == 0 {
				r.target = 0
				return nil, nil
			}
		}
		if !pause(ctx, readRetry) {
			return nil, fmt.Errorf("layer: history of group %s: %w", r.group, context.Cause(ctx))
		}
	}
}

// take returns the messages up to the last one to be read, and moves on behind
// them. What is no message reaches nobody, as it does when it arrives.
func (r *reader) take(run []*Message) []*Message {
	var all []*Message
	for _, m := range run {
		if r.after >= r.target {
			break
		}
		r.after = m.Position.sequence
		if m.Type != "" {
			all = append(all, m)
		}
	}
	return all
}

// Behind returns how many messages of a durable group follow a position, as far
// as they are stored when it is called; it reads one of them at most. Errors:
// those of [Layer.Position], and a *[GapError] where [Layer.History] has one.
func (l *Layer) Behind(ctx context.Context, group string, from Position) (int, error) {
	r, err := l.reader(ctx, group, from)
	if err != nil || r.done() {
		return 0, err
	}
	page, err := l.link.Read(ctx, group, r.after, 1)
	if err != nil {
		return 0, fmt.Errorf("layer: history of group %s: %w", group, err)
	}
	n := len(page.Messages) + page.Left
	switch {
	case page.Epoch != r.epoch:
		return 0, r.gap(GapReset)
	case r.after > 0 && !page.Anchored, r.after == 0 && from.epoch != 0 && n > r.policy.Messages:
		return 0, r.gap(GapTrimmed)
	}
	return n, nil
}
