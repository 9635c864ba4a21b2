package consumer

import (
	"context"

	"github.com/tideway-go/tideway/layer"
)

// deliver sends messages to the client, or hands them to the handlers, as the
// consumer's table says, and returns when they are sent and handled. Those that
// the client has already, and its own, are left out.
func (r *replayer) deliver(ctx context.Context, page []*layer.Message) error {
	var w writer
	for _, m := range page {
		if r.from.Reaches(m.Position) {
			continue
		}
		if err := r.one(ctx, m, &w); err != nil {
			return err
		}
		if w.bytes >= writeBytes {
			if err := r.flush(ctx, &w); err != nil {
				return err
			}
		}
	}
	return r.flush(ctx, &w)
}

// writer collects what goes out together: frames, or messages for handlers.
type writer struct {
	frames   []*Prepared
	bytes    int
	toHandle []*layer.Message
	last     layer.Position
}

// one adds a message to what goes out, and sends first what cannot go with it.
func (r *replayer) one(ctx context.Context, m *layer.Message, w *writer) error {
	p, handle := r.c.shape(m)
	if handle && w.frames != nil || p != nil && w.toHandle != nil {
		if err := r.flush(ctx, w); err != nil {
			return err
		}
	}
	w.last = m.Position
	switch {
	case handle:
		w.toHandle = append(w.toHandle, m)
	case p != nil:
		w.frames = append(w.frames, p)
		w.bytes += len(p.wire)
	}
	return nil
}

// flush sends what was collected. The client has it when flush returns nil.
func (r *replayer) flush(ctx context.Context, w *writer) error {
	if err := r.check(); err != nil {
		return err
	}
	var err error
	switch {
	case w.frames != nil:
		err = r.c.setup.Socket.Send(ctx, concat(w.frames))
	case w.toHandle != nil:
		err = r.c.handOver(ctx, w.toHandle)
	}
	if err == nil && !w.last.IsZero() {
		r.from = w.last
	}
	*w = writer{}
	return err
}

// check returns why there is nobody to send to.
func (r *replayer) check() error {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	switch {
	case r.c.over != nil:
		return r.c.over
	case r.c.flow.joins[r.j.group] != r.j:
		return errLeft
	}
	return nil
}

// shape returns what a message is for the client, nil for nothing, or that it is
// a handler's.
func (c *Conn) shape(m *layer.Message) (p *Prepared, handle bool) {
	c.mu.Lock()
	typ, v1, own := c.typ, c.flow.speaks(), c.isOwn(m.Header.Sender)
	c.mu.Unlock()
	switch {
	case own:
		return nil, false
	case typ == nil:
		return nil, true // a Func's
	}
	t := typ.table()
	h := t.find(m.Type)
	switch {
	case h != nil && h.frame == nil:
		return nil, true
	case h == nil:
		c.setup.Stats.Unknown.Add(1)
		t.tell(c.setup.Logger, problem{m.Group, m.Type, whyUnknown})
		return nil, false
	}
	var signer *layer.Layer
	if v1 {
		signer = c.setup.Layer
	}
	p, err := h.prepared(m, signer)
	if err != nil {
		t.tell(c.setup.Logger, problem{m.Group, m.Type, err.Error()})
	}
	return p, false
}

// handOver has messages handled, and waits until they are.
func (c *Conn) handOver(ctx context.Context, messages []*layer.Message) error {
	emptied := make(chan struct{})
	c.mu.Lock()
	if over := c.over; over != nil {
		c.mu.Unlock()
		return over
	}
	c.flow.replayed, c.flow.emptied = messages, emptied
	c.start()
	c.mu.Unlock()
	select {
	case <-emptied:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nextReplayed takes the next message of a replay that is to be handled. Mu is
// held.
func (f *flow) nextReplayed() *layer.Message {
	if len(f.replayed) > 0 {
		m := f.replayed[0]
		f.replayed[0] = nil
		f.replayed = f.replayed[1:]
		return m
	}
	if f.emptied != nil { // the last one has been handled
		close(f.emptied)
		f.emptied = nil
	}
	return nil
}
