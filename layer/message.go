package layer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// Payload is what one sends: a value that encoding/json makes a JSON object of,
// and that knows its message's type, such as "chat.message". The type is said
// here and nowhere else; on the wire it is the object's first member, "type".
//
// MessageType is called on a zero value when a program starts, so it must not
// depend on the value's contents.
type Payload interface{ MessageType() string }

// Message is a message that arrived. It is a [Payload] itself, so that it can
// be passed on as it is.
type Message struct {
	// Type is the message's type, e.g. "chat.message".
	Type string

	// Data is the whole message as a JSON object, with its type, byte for byte
	// as the sender wrote it.
	Data []byte

	// Group is the group that the message was sent to; "" when it was sent to
	// the channel.
	Group string

	// Header is what travelled beside the data.
	Header Header

	// Position is the place right behind the message in its group; it is zero
	// when the group is not durable.
	Position Position

	previous uint64 // the sequence of the group's message before this one
	cache    *cache
}

// MessageType returns m.Type.
func (m Message) MessageType() string { return m.Type }

// Decode unmarshals the message into v, a pointer, by the rules of
// encoding/json. The member "type" is part of the data.
func (m Message) Decode(v any) error {
	if err := json.Unmarshal(m.Data, v); err != nil {
		return &MessageError{Why: fmt.Sprintf("%s does not fit into %T", m.Type, v), Err: err}
	}
	return nil
}

// Once returns what build made of the message for key, calling it if nobody in
// this process has before. It is how the members of a group share one encoded
// form. It may be called from many goroutines; build runs once, must not call
// Once of the same message, and what it returns is shared.
func (m *Message) Once(key any, build func(*Message) any) any {
	if m.cache == nil {
		return build(m)
	}
	return once(m.cache, key, build, m)
}

// cache holds the values that Once and Batch.Once built: a few, mostly one. Who
// finds his value takes no lock, since all members of a group ask at once.
type cache struct {
	built atomic.Pointer[built] // the newest, before the others
	mu    sync.Mutex            // held while a value is built
}

type built struct {
	key, value any
	next       *built
}

func (c *cache) get(key any) *built {
	for b := c.built.Load(); b != nil; b = b.next {
		if b.key == key {
			return b
		}
	}
	return nil
}

// once is Message.Once and Batch.Once.
func once[T any](c *cache, key any, build func(T) any, of T) any {
	if b := c.get(key); b != nil {
		return b.value
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.get(key); b != nil { // meanwhile
		return b.value
	}
	b := &built{key, build(of), c.built.Load()}
	c.built.Store(b)
	return b.value
}

// ParseMessage makes a message of a JSON object with a string "type": what a
// script hands over. It returns a *[MessageError] that says what is wrong: no
// object, no type, two types, not UTF-8, nested deeper than 32.
func ParseMessage(data []byte) (Message, error) {
	m := Message{Data: data}
	err := m.parse()
	return m, err
}

// parse fills m.Type from m.Data and proves that the whole of it is JSON: what
// is forwarded to browsers must not be able to end their connections.
func (m *Message) parse() error {
	typ, err := scanMessage(m.Data)
	if err != nil {
		return err
	}
	m.Type = types.name(typ)
	return nil
}

// Encode returns p as it travels: a JSON object whose member "type" is p's
// type. It returns a *[MessageError] when p becomes no object, or one with a
// "type" of its own that differs.
func Encode(p Payload) (data []byte, err error) {
	switch m := p.(type) {
	case nil:
		return nil, &MessageError{Why: "the payload is nil"}
	case Message:
		return encoded(m)
	case *Message:
		if m == nil {
			return nil, &MessageError{Why: "the payload is a nil *Message"}
		}
		return encoded(*m)
	}
	typ := p.MessageType()
	if err := checkType(typ); err != nil {
		return nil, err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, &MessageError{Why: fmt.Sprintf("%T (type %q)", p, typ), Err: err}
	}
	if len(body) == 0 || body[0] != '{' {
		return nil, &MessageError{Why: fmt.Sprintf("%T becomes %.20s in JSON; a payload must become an object", p, body)}
	}
	return withType(typ, body)
}

// encoded returns the bytes of a message that is passed on.
func encoded(m Message) ([]byte, error) {
	typ, err := scanMessage(m.Data)
	if err != nil {
		return nil, err
	}
	if m.Type != "" && m.Type != string(typ) {
		return nil, &MessageError{Why: fmt.Sprintf("its Type is %q but its data say %q", m.Type, typ)}
	}
	return m.Data, nil
}

// withType puts the type in front of an object's members. A Go type may have a
// field of its own for it, which must then agree.
func withType(typ string, body []byte) ([]byte, error) {
	own, err := scanObject(body)
	switch {
	case err == nil && string(own) == typ:
		return body, nil
	case err == nil:
		return nil, &MessageError{Why: fmt.Sprintf("MessageType says %q but the member \"type\" says %q", typ, own)}
	case err != errNoType:
		return nil, messageError(err)
	}
	out := make([]byte, 0, len(body)+len(typ)+12)
	out = append(out, `{"type":`...)
	out = appendString(out, typ)
	if rest := bytes.TrimLeft(body[1:], " \t\r\n"); rest[0] != '}' {
		out = append(out, ',')
	}
	return append(out, body[1:]...), nil
}

// appendString appends s, which checkType passed, as a JSON string.
func appendString(b []byte, s string) []byte {
	if plainName(s) { // as most types are
		return append(append(append(b, '"'), s...), '"')
	}
	q, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return append(b, q...)
}

// maxType is the longest type: it is a name for programs, not a place for data.
const maxType = 200

// checkType says what is wrong with a message's type.
func checkType(typ string) error {
	if !utf8.ValidString(typ) {
		return &MessageError{Why: fmt.Sprintf("its type %q is not UTF-8", typ)}
	}
	return checkTypeSize(len(typ))
}

func checkTypeSize(n int) error {
	switch {
	case n == 0:
		return &MessageError{Why: "its type is empty"}
	case n > maxType:
		return &MessageError{Why: fmt.Sprintf("its type has %d bytes; %d is the most", n, maxType)}
	}
	return nil
}
