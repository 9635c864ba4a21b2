package layer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// maxDepth is how deep a message may be nested, itself included: more is an
// attack on whoever decodes it.
const maxDepth = 32

var errNoType = errors.New(`it has no member "type"`)

// scanMessage proves that data is one JSON object (RFC 8259) in UTF-8, nested
// no deeper than maxDepth, with exactly one member "type", a string, and
// returns that string, which is a part of data unless it holds escapes.
func scanMessage(data []byte) ([]byte, error) {
	typ, err := scanObject(data)
	if err != nil {
		return nil, messageError(err)
	}
	return typ, nil
}

// messageError says that something is no message, for which reason.
func messageError(err error) error {
	var me *MessageError
	if errors.As(err, &me) {
		return err
	}
	return &MessageError{Why: "it is no JSON object with a type", Err: err}
}

// scanObject is scanMessage with its reason alone: errNoType for what is well
// but for the type.
func scanObject(data []byte) ([]byte, error) {
	s := scanner{data: data}
	_, err := s.message()
	// Beyond ASCII there may be something in strings only, so that most messages
	// need no second look. One that failed may hold something anywhere.
	if (s.foreign || err != nil && err != errNoType) && !utf8.Valid(data) {
		return nil, &MessageError{Why: "it is not UTF-8"}
	}
	if err != nil {
		return nil, err
	}
	return s.typ, checkTypeSize(len(s.typ))
}

// scanner walks over a JSON text. Where it is goes from call to call, in a
// register: each method begins at a place and returns the place behind what it
// scanned, or where it failed.
type scanner struct {
	data  []byte
	typ   []byte
	found bool

	foreign bool // a string holds something beyond ASCII
}

func (s *scanner) fail(at int, want string) (int, error) {
	if at >= len(s.data) {
		return at, fmt.Errorf("it ends where %s should follow", want)
	}
	return at, fmt.Errorf("%q at byte %d where %s should stand", s.data[at], at, want)
}

func (s *scanner) message() (int, error) {
	at := s.space(0)
	if !s.is(at, '{') {
		return s.fail(at, `"{"`)
	}
	at, err := s.object(at+1, 1)
	if err != nil {
		return at, err
	}
	if at = s.space(at); at < len(s.data) {
		return s.fail(at, "the end")
	}
	if !s.found {
		return at, errNoType
	}
	return at, nil
}

// object scans what follows "{". Depth 1 is the message itself.
func (s *scanner) object(at, depth int) (int, error) {
	if depth > maxDepth {
		return at, fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	if at = s.space(at); s.is(at, '}') {
		return at + 1, nil
	}
	for {
		key := s.space(at)
		end, err := s.str(key)
		if err != nil {
			return end, err
		}
		if at = s.space(end); !s.is(at, ':') {
			return s.fail(at, `":"`)
		}
		at = s.space(at + 1)
		if depth == 1 && isType(s.data[key:end]) {
			at, err = s.takeType(at)
		} else {
			at, err = s.value(at, depth)
		}
		if err != nil {
			return at, err
		}
		at = s.space(at)
		if s.is(at, '}') {
			return at + 1, nil
		}
		if !s.is(at, ',') {
			return s.fail(at, `"," or "}"`)
		}
		at++
	}
}

// isType reports whether a quoted key is "type", however it is escaped.
func isType(key []byte) bool {
	if string(key) == `"type"` {
		return true
	}
	if len(key) < len(`"type"`)+5 { // one escape makes it 5 longer
		return false
	}
	plain, err := unquote(key)
	return err == nil && string(plain) == "type"
}

// takeType scans the type. Two of them would mean different things to
// different parsers.
func (s *scanner) takeType(at int) (int, error) {
	if s.found {
		return at, errors.New(`it has the member "type" twice`)
	}
	end, err := s.str(at)
	if err != nil {
		return end, fmt.Errorf(`its type is no string: %w`, err)
	}
	s.found = true
	s.typ, err = unquote(s.data[at:end])
	return end, err
}

// unquote returns what a JSON string stands for.
func unquote(quoted []byte) ([]byte, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], nil
	}
	var plain string // not a field of the scanner, which would then live on the heap
	err := json.Unmarshal(quoted, &plain)
	return []byte(plain), err
}

func (s *scanner) array(at, depth int) (int, error) {
	if depth > maxDepth {
		return at, fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	if at = s.space(at); s.is(at, ']') {
		return at + 1, nil
	}
	for {
		var err error
		if at, err = s.value(s.space(at), depth); err != nil {
			return at, err
		}
		at = s.space(at)
		if s.is(at, ']') {
			return at + 1, nil
		}
		if !s.is(at, ',') {
			return s.fail(at, `"," or "]"`)
		}
		at++
	}
}

func (s *scanner) value(at, depth int) (int, error) {
	if at >= len(s.data) {
		return s.fail(at, "a value")
	}
	switch c := s.data[at]; {
	case c == '"':
		return s.str(at)
	case c == '{':
		return s.object(at+1, depth+1)
	case c == '[':
		return s.array(at+1, depth+1)
	case c == '-' || isDigit(c):
		return s.number(at)
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if len(s.data)-at >= len(word) && string(s.data[at:at+len(word)]) == word {
			return at + len(word), nil
		}
	}
	return s.fail(at, "a value")
}

// str scans a string with its quotes.
func (s *scanner) str(at int) (int, error) {
	if !s.is(at, '"') {
		return s.fail(at, "a string")
	}
	at++
	for {
		if at = s.plain(at); at == len(s.data) {
			return s.fail(at, `the closing quote`)
		}
		switch c := s.data[at]; {
		case c == '"':
			return at + 1, nil
		case c < ' ':
			return s.fail(at, "no control character")
		}
		var err error
		if at, err = s.escape(at + 1); err != nil {
			return at, err
		}
	}
}

// plain passes over bytes that mean nothing special in a string, eight at a
// time: what is in a message is mostly text.
func (s *scanner) plain(at int) int {
	d, seen := s.data, uint64(0)
	for ; len(d)-at >= 8; at += 8 {
		w := binary.LittleEndian.Uint64(d[at:])
		quote, escape := w^(ones*'"'), w^(ones*'\\')
		// The lowest bit that is set is right; a borrow spoils only those above.
		if special := ((w - ones*' ') | (quote - ones) | (escape - ones)) &^ w & highs; special != 0 {
			n := bits.TrailingZeros64(special)
			s.see(seen | w&(1<<n-1)) // what is in front of the special byte
			return at + n/8
		}
		seen |= w
	}
	for ; at < len(d) && d[at] >= ' ' && d[at] != '"' && d[at] != '\\'; at++ {
		seen |= uint64(d[at])
	}
	s.see(seen)
	return at
}

// see notes whether there is a byte beyond ASCII among those of w.
func (s *scanner) see(w uint64) {
	if w&highs != 0 {
		s.foreign = true
	}
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// escape scans what follows a backslash.
func (s *scanner) escape(at int) (int, error) {
	if at >= len(s.data) {
		return s.fail(at, "an escape")
	}
	switch s.data[at] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return at + 1, nil
	case 'u':
		for range 4 {
			at++
			if at >= len(s.data) || !isHex(s.data[at]) {
				return s.fail(at, "a hexadecimal digit")
			}
		}
		return at + 1, nil
	}
	return s.fail(at, "an escape")
}

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (s *scanner) number(at int) (int, error) {
	if s.is(at, '-') {
		at++
	}
	end := s.digits(at)
	if end == at {
		return s.fail(at, "a digit")
	}
	if s.data[at] == '0' {
		end = at + 1 // whatever follows it is no part of the number
	}
	if s.is(end, '.') {
		at = end + 1
		if end = s.digits(at); end == at {
			return s.fail(at, "a digit")
		}
	}
	if s.is(end, 'e') || s.is(end, 'E') {
		at = end + 1
		if s.is(at, '+') || s.is(at, '-') {
			at++
		}
		if end = s.digits(at); end == at {
			return s.fail(at, "a digit")
		}
	}
	return end, nil
}

func (s *scanner) digits(at int) int {
	for at < len(s.data) && isDigit(s.data[at]) {
		at++
	}
	return at
}

func (s *scanner) is(at int, c byte) bool { return at < len(s.data) && s.data[at] == c }

// space passes over blanks, of which most messages have none.
func (s *scanner) space(at int) int {
	if at < len(s.data) && s.data[at] > ' ' {
		return at
	}
	return s.blanks(at)
}

func (s *scanner) blanks(at int) int {
	for at < len(s.data) {
		switch s.data[at] {
		case ' ', '\t', '\r', '\n':
			at++
		default:
			return at
		}
	}
	return at
}
