package layer

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// channelName is the rule of channel_layer_spec.rst.
var channelName = regexp.MustCompile(`^[A-Za-z0-9._-]+(![A-Za-z0-9._-]*)?$`)

func FuzzName(f *testing.F) {
	for _, name := range []string{"chat", "chat.lobby", "a!b", "!", "a!!b", "a!", "", "¯\\_(ツ)_/¯", "a b", strings.Repeat("x", 99), strings.Repeat("x", 100), "a\n", "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		valid := channelName.MatchString(name) && len(name) < 100
		for kind, x := range map[string]struct {
			err  error
			want bool
		}{
			"channel": {CheckChannel(name), valid},
			"group":   {CheckGroup(name), valid && !strings.Contains(name, "!")},
		} {
			if (x.err == nil) != x.want {
				t.Errorf("%s %q: got error %v, want valid %t", kind, name, x.err, x.want)
			}
			var bad *NameError
			if x.err != nil && (!errors.As(x.err, &bad) || bad.Kind != kind || bad.Name != name || bad.Why == "") {
				t.Errorf("%s %q: got %#v", kind, name, x.err)
			}
		}
	})
}

// verdict is what encoding/json says about a message.
type verdict struct {
	types []string // the values of the top-level members "type" that are strings
	other int      // the members "type" that are none
	depth int
	valid bool // it is one object in UTF-8
}

func judge(data []byte) (v verdict) {
	v.valid = utf8.Valid(data) && json.Valid(data)
	if !v.valid {
		return v
	}
	var object map[string]any
	if json.Unmarshal(data, &object) != nil || object == nil {
		v.valid = false
		return v
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	key := false // at depth 1, whether a member's name comes next
	name := ""
	for depth := 0; ; {
		tok, err := dec.Token()
		if err != nil {
			return v
		}
		if d, ok := tok.(json.Delim); ok && (d == '}' || d == ']') {
			depth--
			key = depth == 1
			continue
		}
		if depth == 1 && key {
			name, key = tok.(string), false
			continue
		}
		if depth == 1 && name == "type" {
			if s, ok := tok.(string); ok {
				v.types = append(v.types, s)
			} else {
				v.other++
			}
		}
		if _, ok := tok.(json.Delim); ok {
			depth++
			v.depth = max(v.depth, depth)
		}
		key = depth == 1
	}
}

func (v verdict) message() bool {
	return v.valid && v.depth <= maxDepth && v.other == 0 && len(v.types) == 1 && checkType(v.types[0]) == nil
}

// messages are seeds: what is a message and what is not.
var messages = []string{
	`{"type":"a"}`, ` {"x":1,"type":"a.b"} `, `{"\u0074ype":"a"}`, `{"type":"\u0061\n"}`, `{"type":"a","type":"b"}`, `{"type":"a","\u0074ype":"b"}`,
	`{"type":1}`, `{"type":null}`, `{"type":""}`, `{"Type":"a"}`, `{}`, `[]`, `null`, `"type"`, ``, `{"type":"a"`, `{"type":"a"}}`, `{"type":"a",}`,
	`{"o":{"type":"b"},"type":"a"}`, `{"a":[{"type":"b"}]}`, `{"type":"a","n":-0.1e+10}`, `{"type":"a","n":01}`, `{"type":"a","n":+1}`, `{"type":"a","n":1.}`,
	`{"type":"a","n":.5}`, `{"type":"a","n":-}`, `{"type":"a","n":1e}`, `{"type":"a","b":true,"c":false,"d":null}`, `{"type":"a","b":tru}`,
	`{"type":"\ud800"}`, `{"type":"a","s":"\u12"}`, `{"type":"a","s":"\x"}`, "{\"type\":\"a\",\"s\":\"\x01\"}", "{\"type\":\"\xff\"}",
	`{"type":"a","d":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`, `{"type":"a","d":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`,
	`{"type":"a","d":` + strings.Repeat(`{"x":`, 31) + "1" + strings.Repeat("}", 31) + `}`, `{"type":"a","d":` + strings.Repeat(`{"x":`, 32) + "1" + strings.Repeat("}", 32) + `}`,
	`{"type":"` + strings.Repeat("x", 200) + `"}`, `{"type":"` + strings.Repeat("x", 201) + `"}`,
}

// The scanner says of every text what encoding/json says.
func FuzzMessage(f *testing.F) {
	for _, m := range messages {
		f.Add([]byte(m))
	}
	// The scanner takes eight bytes at a time: what is beyond ASCII, or only looks
	// like it, stands at each of their places, and right before what ends them.
	for i := range 18 {
		x := strings.Repeat("x", i)
		for _, s := range []string{"é", "\xff", "é\xff", "\\u00e9\xff", "\xc3", "\xc3\\n", "\x7f", "\x80"} {
			f.Add([]byte(`{"type":"a","s":"` + x + s + `"}`))
			f.Add([]byte(`{"type":"a","s":"` + x + s + `xxxxxxxxx"}`))
			f.Add([]byte(`{"s":"` + x + `","` + s + `":1,"type":"a"}`))
			f.Add([]byte(`{"s":"` + x + `"` + s + `,"type":"a"}`))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMessage(data)
		v := judge(data)
		if (err == nil) != v.message() {
			t.Fatalf("%q: got error %v; encoding/json says %+v", data, err, v)
		}
		var bad *MessageError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("%q: got %#v, want a MessageError", data, err)
		}
		if err == nil && m.Type != v.types[0] {
			t.Fatalf("%q: got type %q, want %q", data, m.Type, v.types[0])
		}
	})
}

// pair is a payload of any text.
type pair struct {
	typ  string
	Text string         `json:"text"`
	More map[string]any `json:"more,omitempty"`
}

func (p pair) MessageType() string { return p.typ }

// What is encoded is a message of that type which decodes to the same.
func FuzzEncode(f *testing.F) {
	f.Add("chat.message", "hello", `{"a":[1,"x",null]}`)
	f.Add(`qu"ote`, "line\nbreak \u2028 </script>", `{}`)
	f.Add("", "", ``)
	f.Add("ü", "\xff", `{"type":1}`)
	f.Fuzz(func(t *testing.T, typ, text, more string) {
		p := pair{typ: typ, Text: text}
		json.Unmarshal([]byte(more), &p.More)
		data, err := Encode(p)
		if err != nil {
			var bad *MessageError
			if !errors.As(err, &bad) {
				t.Fatalf("got %#v, want a MessageError", err)
			}
			if checkType(typ) == nil && judgeDepth(p) <= maxDepth {
				t.Fatalf("%+v: %v", p, err)
			}
			return
		}
		m, err := ParseMessage(data)
		if err != nil || m.Type != typ || !bytes.HasPrefix(data, []byte(`{"type":`)) {
			t.Fatalf("%s: got type %q, want %q first; error %v", data, m.Type, typ, err)
		}
		var got pair
		if err := m.Decode(&got); err != nil {
			t.Fatal(err)
		}
		got.typ = typ
		if p.Text = strings.ToValidUTF8(p.Text, "\ufffd"); utf8.ValidString(text) && !same(got, p) {
			t.Fatalf("got %+v, want %+v", got, p)
		}
	})
}

func judgeDepth(p pair) int {
	data, err := json.Marshal(p)
	if err != nil {
		return 0
	}
	return judge(data).depth
}

func same(a, b pair) bool {
	return a.Text == b.Text && (len(a.More) == 0 && len(b.More) == 0 || reflect.DeepEqual(a.More, b.More))
}
