package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// table is an untyped message table.
type table struct {
	handlers  map[string]*handler
	otherwise *handler
	handles   bool                   // not all is forwarded
	build     func(*layer.Batch) any // makePlan for plain frames, made a func once
	rules     []*rule                // the most particular first

	mu   sync.Mutex // guards told
	told map[string]time.Time
}

func newTable() *table {
	t := &table{handlers: map[string]*handler{}, told: map[string]time.Time{}}
	t.build = func(b *layer.Batch) any { return t.makePlan(b, nil) }
	return t
}

// noTable is the table of all Types that have none.
var noTable = newTable()

func (t *table) orNone() *table {
	if t == nil {
		return noTable
	}
	return t
}

// plan is what the connections of one table do with a batch.
type plan struct {
	frames  *Prepared // for the client; nil for none
	sender  string    // the channel of whom the frames are not for; "" is nobody's
	unknown int       // messages that nobody handles
	queue   bool      // the messages have to be handled one by one
	rule    *rule     // where the frames do not fit; nil closes the connection
	values  *Values   // frames, where a newer one replaces an older; else nil

	table    *table
	problems []problem // for the log, by whoever comes first
	told     atomic.Bool
	slow     atomic.Bool // the log has it that somebody does not keep up
}

// problem is a message that came to nothing.
type problem struct{ group, typ, why string }

// tell logs the plan's problems, once for all connections.
func (p *plan) tell(log *slog.Logger) {
	if len(p.problems) > 0 && p.told.CompareAndSwap(false, true) {
		for _, x := range p.problems {
			p.table.tell(log, x)
		}
	}
}

const whyUnknown = "nobody handles this type"

// oneByOne is the plan of a batch that cannot be forwarded whole.
var oneByOne = &plan{queue: true}

// forProtocol is the key of what is made for the clients of a table that speak
// tideway.v1.
type forProtocol struct{ *table }

// plan returns what to do with b, for clients that speak plain frames, or with v1
// for those that speak tideway.v1. All connections share it.
func (t *table) plan(b *layer.Batch, v1 func(*layer.Batch) any) *plan {
	if v1 == nil {
		return b.Once(t, t.build).(*plan)
	}
	return b.Once(forProtocol{t}, v1).(*plan)
}

func (t *table) find(typ string) *handler {
	if h := t.handlers[typ]; h != nil {
		return h
	}
	return t.otherwise
}

// makePlan builds one write of all of a batch, if it can be forwarded whole. See
// prepared for signer.
func (t *table) makePlan(b *layer.Batch, signer *layer.Layer) any {
	var frames []*Prepared
	var messages []*layer.Message // of the frames
	p := &plan{table: t}
	for i, m := range b.Messages {
		h := t.find(m.Type)
		switch {
		case h != nil && h.frame == nil, i > 0 && m.Header.Sender != p.sender:
			return oneByOne
		case h == nil:
			p.unknown++
			p.problems = append(p.problems, problem{m.Group, m.Type, whyUnknown})
		default:
			f, err := h.prepared(m, signer)
			if err != nil {
				p.problems = append(p.problems, problem{m.Group, m.Type, err.Error()})
				break
			}
			frames, messages = append(frames, f), append(messages, m)
		}
		p.sender = m.Header.Sender
	}
	p.frames = concat(frames)
	t.rulePlan(p, messages, frames)
	return p
}

// handle does with one message, for one connection, what the table says.
func (t *table) handle(state any, ctx context.Context, c *Conn, m *layer.Message) error {
	h := t.find(m.Type)
	switch {
	case h == nil:
		c.setup.Stats.Unknown.Add(1)
		t.tell(c.setup.Logger, problem{m.Group, m.Type, whyUnknown})
		return nil
	case h.frame != nil:
		var signer *layer.Layer
		if c.speaks() {
			signer = c.setup.Layer
		}
		p, err := h.prepared(m, signer)
		if err != nil {
			t.tell(c.setup.Logger, problem{m.Group, m.Type, err.Error()})
			return nil
		}
		return c.deliverOne(ctx, t, m, p)
	}
	err := h.call(state, ctx, c, m)
	if u, ok := err.(*undecodable); ok {
		t.tell(c.setup.Logger, problem{m.Group, m.Type, u.Error()})
		return nil
	}
	return err
}

// rendition is what a message becomes for clients, in each form made once.
type rendition struct {
	frame Frame
	err   error // why it has none

	plainOnce, v1Once sync.Once
	plain, v1         *Prepared
}

// prepared returns the wire form of a message, which is made once per process
// whether it is forwarded at once or behind others. For clients that speak
// tideway.v1, signer signs its position; without it, the form is the plain one.
func (h *handler) prepared(m *layer.Message, signer *layer.Layer) (*Prepared, error) {
	r := m.Once(h, h.make).(*rendition)
	if r.err != nil {
		return nil, r.err
	}
	if signer == nil {
		r.plainOnce.Do(func() { r.plain = Prepare(r.frame) })
		return r.plain, nil
	}
	r.v1Once.Do(func() { r.v1 = prepareText(groupText(signer, m, r.frame.Data)) })
	return r.v1, nil
}

// groupText is the frame of the protocol for data that is made of m.
func groupText(signer *layer.Layer, m *layer.Message, data []byte) []byte {
	switch {
	case m.Group == "":
		return dataFrame(data)
	case m.Position.IsZero():
		return groupFrame(m.Group, "", data)
	}
	return groupFrame(m.Group, Cursor(signer, m.Group, m.Position), data)
}

// make is frame, with a panic made an error: it runs on a dispatch shard, which
// serves all groups.
func (h *handler) make(m *layer.Message) any {
	r := new(rendition)
	r.err = guard(func() (err error) { r.frame, err = h.frame(m); return err })
	if p, ok := r.err.(*PanicError); ok {
		r.err = fmt.Errorf("%w\n%s", p, p.Stack)
	}
	return r
}

const (
	// tellInterval is the time between two lines about the same type.
	tellInterval = time.Minute

	// maxTold is how many types are told apart: a sender chooses them.
	maxTold = 1000
)

// tell logs a message that came to nothing, not more than once a minute for
// each type.
func (t *table) tell(log *slog.Logger, p problem) {
	if t.due(p.typ, time.Now()) {
		log.Warn("consumer: a layer message came to nothing", "type", p.typ, "group", p.group, "why", p.why)
	}
}

// due reports whether a type may be logged again, and notes that it is.
func (t *table) due(typ string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	recent := func(last time.Time) bool { return now.Sub(last).Abs() < tellInterval }
	last, known := t.told[typ]
	if known && recent(last) {
		return false
	}
	if !known && len(t.told) >= maxTold {
		maps.DeleteFunc(t.told, func(_ string, last time.Time) bool { return !recent(last) })
		if len(t.told) >= maxTold {
			return false
		}
	}
	t.told[typ] = now
	return true
}
