package natsbus

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/tideway-go/tideway/layer"
)

// Bounds of a transcoded message, whoever wrote it.
const (
	maxDepth = 32      // maps and arrays within each other
	maxJSON  = 8 << 20 // bytes of the JSON form
)

// toJSON returns the JSON form of a message as it arrived. A JSON object, told
// by its first byte, is returned as it is, unread: the layer checks it. A
// MessagePack map is transcoded. Anything else is an error.
func toJSON(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, errors.New("the message is empty")
	}
	switch first := data[0]; {
	case first == '{':
		return data, nil
	case first&0xf0 == 0x80, first == 0xde, first == 0xdf:
		return fromMsgpack(data)
	default:
		return nil, fmt.Errorf("byte 0x%02x begins neither a JSON object nor a MessagePack map", first)
	}
}

// fromMsgpack transcodes one MessagePack map. Bytes become base64 (RFC 4648,
// section 4), a timestamp an RFC 3339 string. What JSON cannot say is an error:
// NaN, an infinity, a key that is no string, another extension type.
func fromMsgpack(data []byte) ([]byte, error) {
	out, rest, err := appendValue(make([]byte, 0, len(data)+len(data)/4+16), data, 0)
	if err != nil {
		return nil, fmt.Errorf("MessagePack: %w", err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("MessagePack: %d bytes follow the map", len(rest))
	}
	return out, nil
}

// appendValue appends the JSON form of the first value in in, and returns what
// follows it.
func appendValue(out, in []byte, depth int) (_, rest []byte, err error) {
	if len(out) > maxJSON {
		return nil, nil, fmt.Errorf("longer than %d bytes as JSON", maxJSON)
	}
	switch t := msgp.NextType(in); t {
	case msgp.MapType:
		return appendMap(out, in, depth)
	case msgp.ArrayType:
		return appendArray(out, in, depth)
	case msgp.StrType:
		return appendString(out, in)
	case msgp.BinType:
		b, rest, err := msgp.ReadBytesZC(in)
		out = append(out, '"')
		out = base64.StdEncoding.AppendEncode(out, b)
		return append(out, '"'), rest, err
	case msgp.NilType:
		rest, err := msgp.ReadNilBytes(in)
		return append(out, "null"...), rest, err
	case msgp.BoolType:
		v, rest, err := msgp.ReadBoolBytes(in)
		return strconv.AppendBool(out, v), rest, err
	case msgp.IntType, msgp.UintType, msgp.Float32Type, msgp.Float64Type:
		return appendNumber(out, in, t)
	case msgp.TimeType, msgp.ExtensionType: // NextType misses a timestamp at the very end
		return appendTime(out, in)
	case msgp.InvalidType:
		if len(in) == 0 {
			return nil, nil, io.ErrUnexpectedEOF
		}
		return nil, nil, fmt.Errorf("byte 0x%02x begins no value", in[0])
	default:
		return nil, nil, fmt.Errorf("type %v has no JSON form", t)
	}
}

func appendMap(out, in []byte, depth int) (_, rest []byte, err error) {
	n, in, err := msgp.ReadMapHeaderBytes(in)
	if err == nil && depth >= maxDepth {
		err = errTooDeep
	}
	out = append(out, '{')
	for i := uint32(0); i < n && err == nil; i++ {
		if i > 0 {
			out = append(out, ',')
		}
		if t := msgp.NextType(in); t != msgp.StrType {
			return nil, nil, fmt.Errorf("a map key is of type %v, not a string", t)
		}
		if out, in, err = appendString(out, in); err != nil {
			return nil, nil, err
		}
		out, in, err = appendValue(append(out, ':'), in, depth+1)
	}
	return append(out, '}'), in, err
}

func appendArray(out, in []byte, depth int) (_, rest []byte, err error) {
	n, in, err := msgp.ReadArrayHeaderBytes(in)
	if err == nil && depth >= maxDepth {
		err = errTooDeep
	}
	out = append(out, '[')
	for i := uint32(0); i < n && err == nil; i++ {
		if i > 0 {
			out = append(out, ',')
		}
		out, in, err = appendValue(out, in, depth+1)
	}
	return append(out, ']'), in, err
}

var errTooDeep = fmt.Errorf("more than %d maps and arrays within each other", maxDepth)

// appendNumber keeps whole floats apart from integers (1.0), as Python does.
func appendNumber(out, in []byte, t msgp.Type) (_, rest []byte, err error) {
	switch t {
	case msgp.IntType:
		v, rest, err := msgp.ReadInt64Bytes(in)
		return strconv.AppendInt(out, v, 10), rest, err
	case msgp.UintType:
		v, rest, err := msgp.ReadUint64Bytes(in)
		return strconv.AppendUint(out, v, 10), rest, err
	}
	bits, v := 64, 0.0
	if t == msgp.Float32Type {
		var f float32
		f, rest, err = msgp.ReadFloat32Bytes(in)
		bits, v = 32, float64(f)
	} else {
		v, rest, err = msgp.ReadFloat64Bytes(in)
	}
	if err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
		err = fmt.Errorf("the number %v has no JSON form", v)
	}
	if err != nil {
		return nil, nil, err
	}
	from := len(out)
	out = strconv.AppendFloat(out, v, 'g', -1, bits)
	if !bytes.ContainsAny(out[from:], ".e") {
		out = append(out, ".0"...)
	}
	return out, rest, nil
}

// appendTime writes a timestamp, the only extension that has a JSON form.
func appendTime(out, in []byte) (_, rest []byte, err error) {
	v, rest, err := msgp.ReadTimeUTCBytes(in)
	if err != nil {
		return nil, nil, fmt.Errorf("an extension that is no timestamp: %w", err)
	}
	if y := v.Year(); y < 0 || y > 9999 {
		return nil, nil, errors.New("a timestamp outside the years 0 to 9999")
	}
	out = append(out, '"')
	out = v.AppendFormat(out, time.RFC3339Nano)
	return append(out, '"'), rest, nil
}

const hexDigits = "0123456789abcdef"

// appendString escapes no more than RFC 8259, section 7, asks for.
func appendString(out, in []byte) (_, rest []byte, err error) {
	s, rest, err := msgp.ReadStringZC(in)
	if err != nil {
		return nil, nil, err
	}
	if !utf8.Valid(s) {
		return nil, nil, errors.New("a string is not UTF-8")
	}
	out = append(out, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20:
			out = append(out, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			out = append(out, c)
		}
	}
	return append(out, '"'), rest, nil
}

// toMsgpack transcodes a JSON object. The order of keys stays; whole numbers
// that fit 64 bits become integers, all others doubles.
func toMsgpack(data []byte) ([]byte, error) {
	e := &msgpackWriter{out: make([]byte, 0, len(data))}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err == io.EOF && len(e.open) == 0 {
			return e.out, nil
		}
		if err == nil {
			err = e.write(token)
		}
		if err != nil {
			return nil, &layer.MessageError{Why: "it cannot be written as MessagePack", Err: err}
		}
	}
}

// msgpackWriter writes a stream of JSON tokens as MessagePack.
type msgpackWriter struct {
	out  []byte
	open []container // the maps and arrays that are not complete
}

type container struct {
	at    int // where its header stands in out: one byte until it is closed
	items int // keys and values both count
	isMap bool
}

func (e *msgpackWriter) write(token json.Token) error {
	if d, ok := token.(json.Delim); ok && (d == '}' || d == ']') {
		e.close()
		return nil
	}
	if n := len(e.open); n > 0 {
		e.open[n-1].items++
	}
	switch v := token.(type) {
	case json.Delim:
		if len(e.open) >= maxDepth {
			return errTooDeep
		}
		e.open = append(e.open, container{at: len(e.out), isMap: v == '{'})
		e.out = append(e.out, 0)
	case string:
		e.out = msgp.AppendString(e.out, v)
	case bool:
		e.out = msgp.AppendBool(e.out, v)
	case nil:
		e.out = msgp.AppendNil(e.out)
	case json.Number:
		return e.number(v.String())
	}
	return nil
}

// close writes the header of the innermost container, whose size is known only
// now. Most have fewer than 16 items and need no more than the reserved byte.
func (e *msgpackWriter) close() {
	c := e.open[len(e.open)-1]
	e.open = e.open[:len(e.open)-1]
	var header []byte
	if c.isMap {
		header = msgp.AppendMapHeader(make([]byte, 0, 5), uint32(c.items/2))
	} else {
		header = msgp.AppendArrayHeader(make([]byte, 0, 5), uint32(c.items))
	}
	e.out = slices.Replace(e.out, c.at, c.at+1, header...)
}

func (e *msgpackWriter) number(s string) error {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		e.out = msgp.AppendInt64(e.out, i)
		return nil
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		e.out = msgp.AppendUint64(e.out, u)
		return nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Errorf("the number %.40s is out of range", s)
	}
	e.out = msgp.AppendFloat64(e.out, f)
	return nil
}
