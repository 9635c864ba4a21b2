package consumer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Messages says, for each type of layer message, what a consumer does with it.
// The zero Messages takes none. Make one with [Table].
type Messages[C any] struct{ table *table }

// Handler is one line of a [Table]: [On], [Forward], [Render] or [Otherwise].
type Handler[C any] struct{ handler *handler }

// handler is what a Handler is under its type parameter.
type handler struct {
	typ string // "" is everything else

	// frame makes what all members send to their clients, once per process. It
	// is nil in a handler that runs for each connection.
	frame func(*layer.Message) (Frame, error)

	call func(state any, ctx context.Context, c *Conn, m *layer.Message) error
}

// Table makes a consumer's message table. A second handler for one type, or a
// type that is empty, is a mistake of the program: Table panics and says which.
func Table[C any](handlers ...Handler[C]) Messages[C] {
	t := &table{handlers: make(map[string]*handler, len(handlers)), told: map[string]time.Time{}}
	t.build = t.makePlan
	for _, h := range handlers {
		switch {
		case h.handler == nil:
			panic("consumer: Table has a zero Handler; make one with On, Forward, Render or Otherwise")
		case h.handler.typ == "" && t.otherwise != nil:
			panic("consumer: Table has two Otherwise handlers")
		case h.handler.typ == "":
			t.otherwise = h.handler
		case t.handlers[h.handler.typ] != nil:
			panic(fmt.Sprintf("consumer: Table has two handlers for the type %q", h.handler.typ))
		default:
			t.handlers[h.handler.typ] = h.handler
		}
	}
	return Messages[C]{t}
}

// typeOf returns the type that M's messages have.
func typeOf[M layer.Payload](what string) string {
	var m M
	typ := m.MessageType()
	if typ == "" {
		panic(fmt.Sprintf("consumer: %s[%T]: MessageType returns \"\" for its zero value; it must not depend on the contents", what, m))
	}
	return typ
}

// On calls f for each message of M's type, once per connection. The message is
// decoded for each of them, so they share nothing.
func On[C any, M layer.Payload](f func(*C, context.Context, *Conn, M) error) Handler[C] {
	return Handler[C]{&handler{
		typ: typeOf[M]("On"),
		call: func(state any, ctx context.Context, c *Conn, m *layer.Message) error {
			var v M
			if err := m.Decode(&v); err != nil {
				return &undecodable{err}
			}
			return f(state.(*C), ctx, c, v)
		},
	}}
}

// Forward sends each message of M's type to the client as it is, byte for byte,
// as a text frame that is made once per process. It goes past handlers of the
// connection that are busy, unless a message of the layer waits for them.
func Forward[C any, M layer.Payload]() Handler[C] {
	return Handler[C]{&handler{
		typ:   typeOf[M]("Forward"),
		frame: func(m *layer.Message) (Frame, error) { return Frame{Text, m.Data}, nil },
	}}
}

// Render sends what f makes of each message of M's type, as JSON; what is a
// [layer.Payload] goes with its type. f runs once per process and message, for
// all connections, so it must not block, and shares nothing with them. An error
// of f drops the message for all, which is logged.
func Render[C any, M layer.Payload](f func(M) (any, error)) Handler[C] {
	return Handler[C]{&handler{
		typ: typeOf[M]("Render"),
		frame: func(m *layer.Message) (Frame, error) {
			var v M
			if err := m.Decode(&v); err != nil {
				return Frame{}, err
			}
			out, err := f(v)
			if err != nil {
				return Frame{}, err
			}
			data, err := marshal(out)
			return Frame{Text, data}, err
		},
	}}
}

// Otherwise calls f for each message whose type no other handler of the table
// takes. Without one such messages are counted and logged, and end nothing.
func Otherwise[C any](f func(*C, context.Context, *Conn, layer.Message) error) Handler[C] {
	return Handler[C]{&handler{
		call: func(state any, ctx context.Context, c *Conn, m *layer.Message) error {
			return f(state.(*C), ctx, c, *m)
		},
	}}
}

// JSON makes a Receive of a function that takes a message decoded. A binary
// frame closes the connection with 1003; a text that is not JSON, or does not
// fit into M, with 1007.
func JSON[C, M any](f func(*C, context.Context, *Conn, M) error) func(*C, context.Context, *Conn, Frame) error {
	return func(state *C, ctx context.Context, c *Conn, frame Frame) error {
		if frame.Type != Text {
			return &CloseError{StatusUnsupportedData, "send JSON in text frames"}
		}
		var v M
		if err := json.Unmarshal(frame.Data, &v); err != nil {
			c.Logger().Info("consumer: a client's message is not the JSON that is expected", "err", err)
			return &CloseError{StatusInvalidPayload, "this is not the JSON that is expected here"}
		}
		return f(state, ctx, c, v)
	}
}

// undecodable is a layer message that does not fit its handler. It ends nothing:
// whoever sent it is not the client.
type undecodable struct{ err error }

func (e *undecodable) Error() string { return e.err.Error() }

// table is an untyped message table.
type table struct {
	handlers  map[string]*handler
	otherwise *handler
	build     func(*layer.Batch) any // makePlan, made a func once

	mu   sync.Mutex // guards told
	told map[string]time.Time
}

// plan is what the connections of one table do with a batch.
type plan struct {
	frames  *Prepared // for the client; nil for none
	unknown int       // messages that nobody handles
	queue   bool      // the messages have to be handled one by one

	table    *table
	problems []problem // for the log, by whoever comes first
	told     atomic.Bool
}

// problem is a message that came to nothing.
type problem struct{ typ, why string }

// tell logs the plan's problems, once for all connections.
func (p *plan) tell(log *slog.Logger) {
	if len(p.problems) > 0 && p.told.CompareAndSwap(false, true) {
		for _, x := range p.problems {
			p.table.tell(log, x.typ, x.why)
		}
	}
}

const whyUnknown = "nobody handles this type"

var nothing = &plan{queue: true}

// plan returns what to do with b. All connections share it.
func (t *table) plan(b *layer.Batch) *plan {
	if t == nil {
		return nothing
	}
	return b.Once(t, t.build).(*plan)
}

func (t *table) find(typ string) *handler {
	if h := t.handlers[typ]; h != nil {
		return h
	}
	return t.otherwise
}

// makePlan builds one write of all of a batch, if it can be forwarded whole.
func (t *table) makePlan(b *layer.Batch) any {
	var frames []Frame
	p := &plan{table: t}
	for _, m := range b.Messages {
		h := t.find(m.Type)
		switch {
		case h != nil && h.frame == nil, m.Header.Sender != "":
			return nothing
		case h == nil:
			p.unknown++
			p.problems = append(p.problems, problem{m.Type, whyUnknown})
			continue
		}
		f, err := h.frame(m)
		if err != nil {
			p.problems = append(p.problems, problem{m.Type, err.Error()})
			continue
		}
		frames = append(frames, f)
	}
	if len(frames) > 0 {
		p.frames = Prepare(frames...)
	}
	return p
}

// handle does with one message, for one connection, what the table says.
func (t *table) handle(state any, ctx context.Context, c *Conn, m *layer.Message) error {
	if t == nil || t.find(m.Type) == nil {
		c.setup.Stats.Unknown.Add(1)
		t.tell(c.Logger(), m.Type, whyUnknown)
		return nil
	}
	if m.Header.Sender != "" && m.Header.Sender == c.ChannelName() {
		return nil
	}
	h := t.find(m.Type)
	if h.frame != nil {
		switch p := m.Once(h, h.prepare).(type) {
		case *Prepared:
			return c.setup.Socket.Send(ctx, p)
		case error:
			t.tell(c.Logger(), m.Type, p.Error())
		}
		return nil
	}
	err := h.call(state, ctx, c, m)
	if u, ok := err.(*undecodable); ok {
		t.tell(c.Logger(), m.Type, u.Error())
		return nil
	}
	return err
}

// prepare makes the *Prepared of one message that queued, or the error that it
// has none.
func (h *handler) prepare(m *layer.Message) any {
	f, err := h.frame(m)
	if err != nil {
		return err
	}
	return Prepare(f)
}

// tellInterval is the time between two lines about the same type.
const tellInterval = time.Minute

// tell logs a message that came to nothing, not more than once a minute for
// each type.
func (t *table) tell(log *slog.Logger, typ, why string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	last, known := t.told[typ]
	again := known && time.Since(last) < tellInterval || !known && len(t.told) >= 1000
	if !again {
		t.told[typ] = time.Now()
	}
	t.mu.Unlock()
	if !again {
		log.Warn("consumer: a layer message came to nothing", "type", typ, "why", why)
	}
}
