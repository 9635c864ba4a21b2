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
	if !utf8.Valid(data) {
		return nil, &MessageError{Why: "it is not UTF-8"}
	}
	s := scanner{data: data}
	if err := s.message(); err != nil {
		var me *MessageError
		if errors.As(err, &me) {
			return nil, err
		}
		return nil, &MessageError{Why: "it is no JSON object with a type", Err: err}
	}
	if err := checkTypeSize(len(s.typ)); err != nil {
		return nil, err
	}
	return s.typ, nil
}

// scanner walks over a JSON text.
type scanner struct {
	data  []byte
	at    int
	typ   []byte
	found bool
}

func (s *scanner) fail(want string) error {
	if s.at >= len(s.data) {
		return fmt.Errorf("it ends where %s should follow", want)
	}
	return fmt.Errorf("%q at byte %d where %s should stand", s.data[s.at], s.at, want)
}

func (s *scanner) message() error {
	s.space()
	if !s.take('{') {
		return s.fail(`"{"`)
	}
	if err := s.object(1); err != nil {
		return err
	}
	if s.space(); s.at < len(s.data) {
		return s.fail("the end")
	}
	if !s.found {
		return errNoType
	}
	return nil
}

// object scans what follows "{". Depth 1 is the message itself.
func (s *scanner) object(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	if s.space(); s.take('}') {
		return nil
	}
	for {
		s.space()
		key, err := s.str()
		if err != nil {
			return err
		}
		if s.space(); !s.take(':') {
			return s.fail(`":"`)
		}
		s.space()
		if depth == 1 && isType(key) {
			err = s.takeType()
		} else {
			err = s.value(depth)
		}
		if err != nil {
			return err
		}
		s.space()
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return s.fail(`"," or "}"`)
		}
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
func (s *scanner) takeType() error {
	if s.found {
		return errors.New(`it has the member "type" twice`)
	}
	quoted, err := s.str()
	if err != nil {
		return fmt.Errorf(`its type is no string: %w`, err)
	}
	s.found = true
	s.typ, err = unquote(quoted)
	return err
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

func (s *scanner) array(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	if s.space(); s.take(']') {
		return nil
	}
	for {
		s.space()
		if err := s.value(depth); err != nil {
			return err
		}
		s.space()
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return s.fail(`"," or "]"`)
		}
	}
}

func (s *scanner) value(depth int) error {
	if s.at >= len(s.data) {
		return s.fail("a value")
	}
	switch c := s.data[s.at]; {
	case c == '"':
		_, err := s.str()
		return err
	case c == '{':
		s.at++
		return s.object(depth + 1)
	case c == '[':
		s.at++
		return s.array(depth + 1)
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if len(s.data)-s.at >= len(word) && string(s.data[s.at:s.at+len(word)]) == word {
			s.at += len(word)
			return nil
		}
	}
	return s.fail("a value")
}

// str scans a string and returns it with its quotes.
func (s *scanner) str() ([]byte, error) {
	start := s.at
	if !s.take('"') {
		return nil, s.fail("a string")
	}
	for {
		s.plain()
		if s.at == len(s.data) {
			return nil, s.fail(`the closing quote`)
		}
		switch c := s.data[s.at]; {
		case c == '"':
			s.at++
			return s.data[start:s.at], nil
		case c < ' ':
			return nil, s.fail("no control character")
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		}
	}
}

// plain passes over bytes that mean nothing special in a string, eight at a
// time: what is in a message is mostly text.
func (s *scanner) plain() {
	d, at := s.data, s.at
	for ; len(d)-at >= 8; at += 8 {
		w := binary.LittleEndian.Uint64(d[at:])
		quote, escape := w^(ones*'"'), w^(ones*'\\')
		// The lowest bit that is set is right; a borrow spoils only those above.
		if special := ((w - ones*' ') | (quote - ones) | (escape - ones)) &^ w & highs; special != 0 {
			s.at = at + bits.TrailingZeros64(special)/8
			return
		}
	}
	for at < len(d) && d[at] >= ' ' && d[at] != '"' && d[at] != '\\' {
		at++
	}
	s.at = at
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

func (s *scanner) escape() error {
	s.at++
	if s.at >= len(s.data) {
		return s.fail("an escape")
	}
	switch s.data[s.at] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.at++
		return nil
	case 'u':
		s.at++
		for range 4 {
			if s.at >= len(s.data) || !isHex(s.data[s.at]) {
				return s.fail("a hexadecimal digit")
			}
			s.at++
		}
		return nil
	}
	return s.fail("an escape")
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (s *scanner) number() error {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return s.fail("a digit")
	}
	if s.take('.') && !s.digits() {
		return s.fail("a digit")
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return s.fail("a digit")
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.data) && '0' <= s.data[s.at] && s.data[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

func (s *scanner) take(c byte) bool {
	if s.at < len(s.data) && s.data[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}
