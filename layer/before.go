package layer

import (
	"context"
	"errors"
	"fmt"
)

// Before returns the place before the newest n messages of a durable group: what
// [Layer.History] takes to return these. If there are no more than n it is the
// zero Position, and with n below 1 the place behind the newest. However long the
// group is, it costs a few reads, of one message each, and then those of about n
// messages, which a History that follows shares. Errors: those of [Layer.Position].
func (l *Layer) Before(ctx context.Context, group string, n int) (Position, error) {
	if n < 1 {
		return l.Position(ctx, group)
	}
	for want := n; ; {
		tail, _, err := l.tail(ctx, group)
		if err != nil || tail.Sequence == 0 {
			return Position{}, err
		}
		begin, err := l.seek(ctx, group, tail, want)
		if err != nil {
			return Position{}, err
		}
		places, kept, err := l.places(ctx, group, tail, begin)
		switch {
		case errors.Is(err, errMoved):
			continue
		case err != nil:
			return Position{}, fmt.Errorf("layer: history of group %s: %w", group, err)
		case len(places) > n:
			return places[len(places)-n-1], nil
		case !begin.IsZero() && len(places) == n:
			return begin, nil
		case begin.IsZero() && kept <= n:
			return Position{}, nil
		}
		// Some of those that were counted are no messages, or came and went since.
		want += 2 * max(n-len(places), 1)
	}
}

var errMoved = errors.New("the group has moved on")

// places returns the places behind the messages that follow begin, at least up to
// the tail; and, if begin is the zero place, how many were kept when the first of
// them was read. The error is errMoved where begin is no longer kept.
func (l *Layer) places(ctx context.Context, group string, tail Stamp, begin Position) (all []Position, kept int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readPatience, errLag)
	defer cancel()
	for after := begin.sequence; ; {
		f := l.shelves.read(ctx, group, tail.Epoch, after, pageMessages)
		switch {
		case f.err != nil && ctx.Err() != nil:
			return nil, 0, context.Cause(ctx)
		case f.err != nil:
			return nil, 0, f.err
		case f.epoch != tail.Epoch, after > 0 && !f.anchored:
			return nil, 0, errMoved
		case after == 0:
			kept = len(f.run) + f.left
		}
		for _, m := range f.run {
			if after = m.Position.sequence; m.Type != "" {
				all = append(all, m.Position)
			}
		}
		switch {
		case after >= tail.Sequence:
			return all, kept, nil
		case len(f.run) > 0:
		case after == 0:
			return nil, 0, errMoved // all of them may have grown too old
		case !pause(ctx, readRetry):
			return nil, 0, context.Cause(ctx)
		}
	}
}

// seek returns a place that want messages follow, or some more, but not many if
// that can be helped. Each page says how many follow it, so the place can be
// searched for like a word in a dictionary. Pages may lag, and messages come and
// go while it searches: so the answer is a good place to begin to read, and what
// is read tells.
func (l *Layer) seek(ctx context.Context, group string, tail Stamp, want int) (Position, error) {
	most := 2*want + 16
	first, left, err := l.look(ctx, group, 0)
	if err != nil || first == 0 || left < most {
		return Position{}, err
	}
	low, high := mark{first, left}, mark{tail.Sequence, 0}
	// Where the group's messages are crowded in few places, guesses by proportion
	// gain little: then the rest is halved, until it looks even.
	for even := true; low.sequence < high.sequence; {
		gap, span := high.sequence-low.sequence, low.left-high.left
		at := low.sequence + gap/2
		if even {
			at = low.between(high, (want+most)/2)
		}
		first, left, err := l.look(ctx, group, at)
		switch {
		case err != nil:
			return Position{}, err
		case first == 0:
			high = mark{at, 0}
		case left < want:
			high = mark{at, left + 1}
		case left > most:
			low = mark{first, left}
		default:
			return Position{epoch: tail.Epoch, sequence: first}, nil
		}
		if even {
			even = high.sequence < low.sequence+gap/2
		} else {
			middle := high.left + span/2
			even = span > 0 && max(left-middle, middle-left) < span/8
		}
	}
	return Position{epoch: tail.Epoch, sequence: low.sequence}, nil
}

// mark is a place in a group, and how many messages follow it.
type mark struct {
	sequence uint64
	left     int
}

// between returns the place between two marks that so many would follow if all
// lay at equal distances.
func (low mark) between(high mark, left int) uint64 {
	part := float64(low.left-left) / float64(max(low.left-high.left, 1))
	gap := high.sequence - low.sequence
	return low.sequence + min(uint64(float64(gap)*max(part, 0)), gap-1)
}

// look returns the first message behind a place, and how many follow it.
func (l *Layer) look(ctx context.Context, group string, after uint64) (first uint64, left int, err error) {
	page, err := l.link.Read(ctx, group, after, 1)
	switch {
	case err != nil:
		return 0, 0, fmt.Errorf("layer: history of group %s: %w", group, err)
	case len(page.Messages) == 0:
		return 0, 0, nil
	}
	return page.Messages[0].Stamp.Sequence, page.Left, nil
}
