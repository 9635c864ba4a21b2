package natsbus

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/tideway-go/tideway/layer"
)

func TestToJSON(t *testing.T) {
	deep := strings.Repeat("\x81\xa1a", maxDepth-1) + "\x80"
	var times []byte
	times = msgp.AppendMapHeader(times, 1)
	times = msgp.AppendString(times, "t")
	times = msgp.AppendTimeExt(times, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	for _, c := range []struct{ name, in, want string }{
		{"JSON untouched", `{"a": 1 `, `{"a": 1 `},
		{"empty map", "\x80", `{}`},
		{"as channels-nats writes", "\x82\xa4type\xacchat.message\xa4text\xa2hi", `{"type":"chat.message","text":"hi"}`},
		{"map16", "\xde\x00\x01\xa1a\xc0", `{"a":null}`},
		{"map32", "\xdf\x00\x00\x00\x01\xa1a\xc3", `{"a":true}`},
		{"bytes", "\x81\xa1a\xc4\x03\x00\xff\x10", `{"a":"AP8Q"}`},
		{"integers", "\x81\xa1a\x95\x01\xff\xcd\x01\x00\xd3\x80\x00\x00\x00\x00\x00\x00\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff", `{"a":[1,-1,256,-9223372036854775808,18446744073709551615]}`},
		{"floats", "\x81\xa1a\x93\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xca\x3f\x00\x00\x00\xcb\x44\xb5\x2d\x02\xc7\xe1\x4a\xf6", `{"a":[1.0,0.5,1e+23]}`},
		{"escapes", "\x81\xa1a\xa5\"\\\n\x01/", `{"a":"\"\\\u000a\u0001/"}`},
		{"timestamp", string(times), `{"t":"2026-01-02T03:04:05Z"}`},
		{"deepest", deep, strings.Repeat(`{"a":`, maxDepth-1) + "{}" + strings.Repeat("}", maxDepth-1)},
	} {
		got, err := toJSON([]byte(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v; want %s", c.name, got, err, c.want)
		}
	}
	var nan []byte
	nan = msgp.AppendMapHeader(nan, 1)
	nan = msgp.AppendString(nan, "n")
	for name, in := range map[string]string{
		"nothing":         "",
		"text":            "hello",
		"array":           "\x90",
		"nil":             "\xc0",
		"short":           "\x81\xa5ab",
		"missing value":   "\x81\xa1a",
		"more":            "\x80\x80",
		"integer key":     "\x81\x01\x01",
		"bytes key":       "\x81\xc4\x01a\x01",
		"not UTF-8":       "\x81\xa1a\xa1\xff",
		"key not UTF-8":   "\x81\xa1\xff\x01",
		"too deep":        strings.Repeat("\x81\xa1a", maxDepth) + "\x80",
		"deep arrays":     "\x81\xa1a" + strings.Repeat("\x91", 100_000),
		"huge header":     "\xdf\xff\xff\xff\xff",
		"huge array":      "\x81\xa1a\xdd\xff\xff\xff\xff",
		"extension":       "\x81\xa1a\xd4\x07\x00",
		"NaN":             string(msgp.AppendFloat64(bytes.Clone(nan), math.NaN())),
		"infinity":        string(msgp.AppendFloat32(bytes.Clone(nan), float32(math.Inf(-1)))),
		"too long":        "\x81\xa1a\xc6\x00\x70\x00\x00" + strings.Repeat("x", 7<<20),
		"never used 0xc1": "\x81\xa1a\xc1",
	} {
		if name == "too long" {
			in = "\x82\xa1a" + in[3:] + "\xa1b\x01"
		}
		if got, err := toJSON([]byte(in)); err == nil {
			t.Errorf("%s: got %.80s, want an error", name, got)
		}
	}
}

func TestToMsgpack(t *testing.T) {
	for _, in := range []string{
		`{}`,
		`{"type":"a","b":[1,-1,1.5,true,false,null,"é",{"c":{}}]}`,
		`{"i":[9223372036854775807,-9223372036854775808,18446744073709551615,1e+23,1.0]}`,
		`{"z":1,"a":2,"m":3}`,
		`{"a":[` + strings.TrimSuffix(strings.Repeat("1,", 70_000), ",") + `]}`,
		`{"s":"` + strings.Repeat("x", 70_000) + `"}`,
	} {
		packed, err := toMsgpack([]byte(in))
		if err != nil {
			t.Errorf("%.60s: %v", in, err)
			continue
		}
		if got, err := toJSON(packed); err != nil || string(got) != in {
			t.Errorf("there and back: got %.60s, %v; want %.60s", got, err, in)
		}
	}
	wide := "{" + strings.TrimSuffix(strings.Repeat(`"k":0,`, 20), ",") + "}"
	if packed, err := toMsgpack([]byte(wide)); err != nil || packed[0] != 0xde || packed[2] != 20 {
		t.Errorf("20 keys: got %x, %v", packed[:3], err)
	}
	for _, in := range []string{`{"a":1e999}`, `{"a":`, strings.Repeat(`{"a":`, maxDepth+1)} {
		_, err := toMsgpack([]byte(in))
		var m *layer.MessageError
		if !errors.As(err, &m) {
			t.Errorf("%.60s: got %v, want a MessageError", in, err)
		}
	}
}

// FuzzToJSON: whatever arrives, what comes out is JSON.
func FuzzToJSON(f *testing.F) {
	f.Add([]byte("\x82\xa4type\xa1a\xa1b\x93\x01\xc0\xc4\x01x"))
	f.Add([]byte("\xdf\xff\xff\xff\xff"))
	f.Add([]byte("\x81\xa1a\xd6\xff\x00\x00\x00\x00"))
	f.Add([]byte("\x81\xa1a\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := toJSON(data)
		if err != nil || out[0] == '{' && len(data) > 0 && data[0] == '{' {
			return
		}
		if !json.Valid(out) || !utf8.Valid(out) || out[0] != '{' {
			t.Errorf("%x became %s", data, out)
		}
		packed, err := toMsgpack(out)
		if err != nil {
			t.Fatalf("%s does not go back: %v", out, err)
		}
		again, err := toJSON(packed)
		if err != nil || !bytes.Equal(again, out) {
			t.Errorf("%s came back as %s, %v", out, again, err)
		}
	})
}
