package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/tideway-go/tideway/layer"
)

const (
	pageMessages = 500       // that a replay has in memory at a time
	pageBytes    = 512 << 10 // and their bytes
	writeBytes   = 64 << 10  // of a page that are written at once

	// While the store does not answer, a replay tries again after these times.
	readRetryFirst = 50 * time.Millisecond
	readRetryMost  = 2 * time.Second
)

// replayOn starts the replayer if there is something to replay. It is a goroutine
// that lives while joins are under way. Mu is held, and the connection accepted.
func (c *Conn) replayOn() {
	f := c.flow
	if f.replaying != nil || len(f.queue) == 0 || c.over != nil {
		return
	}
	ctx, cancel := context.WithCancel(&c.life)
	done := make(chan struct{})
	f.replaying, f.cancel = done, cancel
	go func() {
		defer close(done)
		defer cancel()
		for j := c.nextJoin(); j != nil; j = c.nextJoin() {
			r := replayer{c: c, j: j, layer: c.setup.Layer}
			r.run(ctx)
		}
	}()
}

// settleReplay waits until the replayer has ended, as it does soon when the
// connection has.
func (c *Conn) settleReplay() {
	c.mu.Lock()
	var done chan struct{}
	if c.flow != nil {
		done = c.flow.replaying
	}
	c.mu.Unlock()
	if done != nil {
		<-done
	}
}

// nextJoin returns the next join to work on, nil when there is none: then the
// replayer has ended.
func (c *Conn) nextJoin() *join {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.flow
	for len(f.queue) > 0 && c.over == nil {
		j := f.queue[0]
		f.queue = f.queue[1:]
		if f.joins[j.group] == j {
			return j
		}
	}
	f.queue, f.replaying = nil, nil
	return nil
}

// replayer brings one join from its place to live.
type replayer struct {
	c     *Conn
	j     *join
	layer *layer.Layer
	from  layer.Position // what the client has got
	told  bool           // joined was sent
}

// run reads and sends until what is live can follow. Its failures are the end of
// the connection, of which others know, and that the group was left.
func (r *replayer) run(ctx context.Context) {
	c, group := r.c, r.j.group
	if r.j.opts != nil && c.speaks() {
		c.awaitCursors(ctx)
	}
	if r.j.catchUp { // it was told when it joined
		r.from, r.told = r.j.from, true
	} else if err := r.begin(ctx); r.failed(ctx, err) {
		return
	}
	for {
		messages, done := r.release()
		if done {
			return
		}
		err := r.deliver(ctx, messages)
		if err == nil && messages == nil {
			err = r.page(ctx, r.layer.History(ctx, group, r.from, 0), r.deliver)
		}
		if r.failed(ctx, err) {
			return
		}
	}
}

// release takes what was kept back meanwhile, nil when the store is to be read
// again, or lets live messages flow if there is neither.
func (r *replayer) release() (kept []*layer.Message, done bool) {
	c, j := r.c, r.j
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, j.kept, j.bytes = j.kept, nil, 0
	unread := j.again || !j.missed.IsZero() && !r.from.Reaches(j.missed)
	j.again, j.missed = false, layer.Position{}
	switch {
	case c.flow.joins[j.group] != j || c.over != nil:
		return nil, true
	case unread:
		return nil, false
	case len(kept) > 0:
		return kept, false
	}
	j.held, j.floor = false, r.from
	if c.typ == nil || c.typ.table().handles {
		if c.flow.last == nil {
			c.flow.last = map[string]layer.Position{}
		}
		c.flow.last[j.group] = r.from
	}
	return nil, true
}

// failed takes an error behind joined: a hole is told to the client, for whom
// what is live now follows; while the store does not answer, time passes. It
// reports whether there is no use in going on.
func (r *replayer) failed(ctx context.Context, err error) (ended bool) {
	gap, isGap := errors.AsType[*layer.GapError](err)
	switch {
	case err == nil:
		return false
	case ctx.Err() != nil, errors.Is(err, errLeft), CloseStatus(err) >= 0:
		return true
	case isGap:
		err := r.retry(ctx, func() (err error) {
			r.from, err = r.layer.Position(ctx, r.j.group)
			return err
		})
		r.c.mu.Lock()
		r.c.setup.Stats.Gaps.Add(1)
		if r.c.flow.speaks() {
			r.c.offer(gapFrame(r.j.group, gap.Reason))
		}
		r.c.mu.Unlock()
		return err != nil
	}
	return !rest(ctx, readRetryFirst)
}

// retry calls f until it succeeds, or fails for another reason than that the
// network is out of reach.
func (r *replayer) retry(ctx context.Context, f func() error) error {
	for wait := readRetryFirst; ; wait = min(2*wait, readRetryMost) {
		err := f()
		gap := (*layer.GapError)(nil)
		switch {
		case err == nil, errors.Is(err, errLeft), errors.As(err, &gap), errors.Is(err, layer.ErrClosed), CloseStatus(err) >= 0:
			return err
		case !rest(ctx, wait):
			return ctx.Err()
		}
	}
}

// rest waits for d and reports whether it did so to the end.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
