package consumer

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/tideway-go/tideway/layer"
)

// begin finds out from where the client goes on, tells it, and replays what it
// missed up to the newest message. It tries again while the store does not answer.
func (r *replayer) begin(ctx context.Context) error {
	if r.j.behind != nil {
		return r.resume(ctx)
	}
	cursor := ""
	if r.j.opts != nil {
		cursor = r.c.takeCursor(r.j.group)
	}
	return r.retry(ctx, func() error {
		switch {
		case r.told: // the first part was sent
			return r.page(ctx, r.layer.History(ctx, r.j.group, r.from, 0), r.deliver)
		case cursor != "":
			return r.comeBack(ctx, cursor)
		}
		err := r.newcomer(ctx)
		if gap, ok := errors.AsType[*layer.GapError](err); ok && !r.told {
			err = fmt.Errorf("consumer: what is to be replayed has just been trimmed: %v", gap) // look again
		}
		return err
	})
}

// comeBack resumes from a client's cursor, or tells it why it cannot.
func (r *replayer) comeBack(ctx context.Context, cursor string) error {
	from, err := OpenCursor(ctx, r.layer, r.j.group, cursor)
	if errors.Is(err, layer.ErrForged) {
		r.c.tell(errorFrame(codeCursor, "the position for "+r.j.group+" is not one that this server gave for it, or too old"))
		return r.jump(ctx, layer.GapReset)
	}
	if err != nil {
		return err
	}
	err = r.replay(ctx, from, outcomeResumed)
	gap, isGap := errors.AsType[*layer.GapError](err)
	switch {
	case isGap && !r.told:
		return r.jump(ctx, gap.Reason)
	case errors.Is(err, errFar):
		return r.jump(ctx, GapFar)
	}
	return err
}

var errFar = errors.New("consumer: too much to replay")

// jump tells of a gap, behind which the client goes on with what comes now.
func (r *replayer) jump(ctx context.Context, reason layer.GapReason) error {
	at, err := r.layer.Position(ctx, r.j.group)
	if err == nil {
		r.c.setup.Stats.Gaps.Add(1)
		r.joined(joinedFrame{Outcome: outcomeGap, Reason: reason}, at)
	}
	return err
}

// newcomer begins where the options say, but never behind a message that came
// since it is a member: whoever waited for the join counts on those.
func (r *replayer) newcomer(ctx context.Context) error {
	o, began := r.j.opts, r.j.began
	switch {
	case o != nil && o.FromStart:
		return r.replay(ctx, layer.Position{}, outcomeLive)
	case o != nil && o.Last > 0:
		from, err := r.layer.Before(ctx, r.j.group, o.Last)
		if err != nil {
			return err
		}
		if began.IsZero() || !from.Reaches(began) {
			return r.replay(ctx, from, outcomeLive)
		}
		err = r.replay(ctx, began, outcomeLive)
		if gap, ok := errors.AsType[*layer.GapError](err); ok && !r.told {
			return r.jump(ctx, gap.Reason)
		}
		return err
	case began.IsZero():
		return r.jump(ctx, layer.GapLink)
	}
	r.joined(joinedFrame{Outcome: outcomeLive}, began)
	return nil
}

// replay tells the client what follows from, and sends it.
func (r *replayer) replay(ctx context.Context, from layer.Position, outcome string) error {
	first := true
	begin := func(ctx context.Context, page []*layer.Message) error {
		if first {
			first = false
			n, err := r.count(ctx, from, page, outcome)
			if err != nil {
				return err
			}
			r.joined(joinedFrame{Outcome: outcome, Replayed: n}, from)
		}
		return r.deliver(ctx, page)
	}
	err := r.page(ctx, r.layer.History(ctx, r.j.group, from, 0), begin)
	if err == nil && first {
		err = begin(ctx, nil)
	}
	return err
}

// count returns how many messages follow from, of which page is the first part,
// or errFar for one that comes back for too many.
func (r *replayer) count(ctx context.Context, from layer.Position, page []*layer.Message, outcome string) (n int, err error) {
	if n = len(page); n >= pageMessages || size(page) >= pageBytes {
		if n, err = r.layer.Behind(ctx, r.j.group, from); err != nil {
			return 0, err
		}
	}
	if outcome == outcomeResumed && n > r.j.opts.Most {
		return 0, errFar
	}
	return n, nil
}

func size(page []*layer.Message) (n int) {
	for _, m := range page {
		n += len(m.Data)
	}
	return n
}

// joined tells a client that speaks tideway.v1 what became of its join, and where
// the messages begin that follow.
func (r *replayer) joined(f joinedFrame, at layer.Position) {
	r.from, r.told = at, true
	if r.c.speaks() {
		f.Group, f.At = r.j.group, Cursor(r.layer, r.j.group, at)
		r.c.tell(f.bytes())
		r.c.told(r.j)
	}
}

// told notes that the client has heard of a join; that it was taken out of the
// group meanwhile it hears behind that.
func (c *Conn) told(j *join) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j.untold = false; !c.isIn(j.group) {
		c.announce(leftFrame(j.group))
	}
}

// page hands messages on in parts that fit into memory.
func (r *replayer) page(ctx context.Context, all iter.Seq2[layer.Message, error], to func(context.Context, []*layer.Message) error) error {
	var page []*layer.Message
	bytes := 0
	for m, err := range all {
		switch {
		case err != nil && !r.told:
			return err // a resume is whole, or it is a gap
		case err != nil:
			return errors.Join(err, r.rest(ctx, page, to))
		}
		page = append(page, &m)
		if bytes += len(m.Data); len(page) < pageMessages && bytes < pageBytes {
			continue
		}
		if err := to(ctx, page); err != nil {
			return err
		}
		page, bytes = nil, 0
	}
	return r.rest(ctx, page, to)
}

func (r *replayer) rest(ctx context.Context, page []*layer.Message, to func(context.Context, []*layer.Message) error) error {
	if len(page) == 0 {
		return nil
	}
	return to(ctx, page)
}
