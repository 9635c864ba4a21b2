package consumer

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tideway-go/tideway/layer"
)

// Messages says, for each type of layer message, what a consumer does with it.
// The zero Messages takes none. Make one with [Table].
type Messages[C any] struct{ table *table }

// Handler is one line of a [Table]: [On], [Forward], [Render], [Otherwise] or
// [Overflow].
type Handler[C any] struct{ handler *handler }

// handler is what a Handler is under its type parameter.
type handler struct {
	typ string // "" is everything else

	// frame makes what all members send to their clients, once per process. It
	// is nil in a handler that runs for each connection.
	frame func(*layer.Message) (Frame, error)

	call func(state any, ctx context.Context, c *Conn, m *layer.Message) error

	rule *rule // of an Overflow, which handles nothing; else nil
}

// Table makes a consumer's message table. A second handler for one type, or a
// type that is empty, is a mistake of the program: Table panics and says which.
func Table[C any](handlers ...Handler[C]) Messages[C] {
	t := newTable()
	for _, h := range handlers {
		t.handles = t.handles || h.handler != nil && h.handler.frame == nil
		switch {
		case h.handler == nil:
			panic("consumer: Table has a zero Handler; make one with On, Forward, Render, Otherwise or Overflow")
		case h.handler.rule != nil:
			t.addRule(h.handler.rule)
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
// frame closes the connection with 1003; a text that is not JSON, is nested
// deeper than 32, or does not fit into M, with 1007. A client that speaks
// tideway.v1 is told bad_data instead, and stays.
func JSON[C, M any](f func(*C, context.Context, *Conn, M) error) func(*C, context.Context, *Conn, Frame) error {
	return func(state *C, ctx context.Context, c *Conn, frame Frame) error {
		if frame.Type != Text {
			return c.unfit(StatusUnsupportedData, "send JSON in text frames")
		}
		if tooDeep(frame.Data) {
			return c.unfit(StatusInvalidPayload, fmt.Sprintf("JSON may be nested %d deep here", maxDepth))
		}
		var v M
		if err := json.Unmarshal(frame.Data, &v); err != nil {
			c.Logger().Info("consumer: a client's message is not the JSON that is expected", "err", err)
			return c.unfit(StatusInvalidPayload, "this is not the JSON that is expected here")
		}
		return f(state, ctx, c, v)
	}
}

// unfit refuses data that the consumer does not expect.
func (c *Conn) unfit(code StatusCode, reason string) error {
	if c.speaks() {
		return &ReplyError{codeData, reason}
	}
	return &CloseError{code, reason}
}

// maxDepth is how deep objects and arrays of a client may be nested.
const maxDepth = 32

// tooDeep reports whether data, if it is JSON, is nested deeper than maxDepth.
func tooDeep(data []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case b == '"':
			quoted = !quoted
		case quoted && b == '\\':
			i++
		case quoted:
		case b == '{' || b == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return false
}

// undecodable is a layer message that does not fit its handler. It ends nothing:
// whoever sent it is not the client.
type undecodable struct{ err error }

func (e *undecodable) Error() string { return e.err.Error() }
