package layertest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tideway-go/tideway/layer"
)

// A record is worth what its check catches.
func TestRecordCatches(t *testing.T) {
	at := func(i int) layer.Position {
		p, err := layer.ParsePosition(fmt.Sprintf("abc.%d", 10+3*i))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var stored []layer.Message
	var whole record
	for i := range 6 {
		stored = append(stored, layer.Message{Position: at(i)})
		whole = append(whole, at(i))
	}
	strange, err := layer.ParsePosition("xyz.13")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		got  record
		want string // "" for a whole record
	}{
		{"whole", whole, ""},
		{"a loss", record{at(0), at(1), at(3), at(4), at(5)}, "missing before"},
		{"the first lost", whole[1:], "missing before"},
		{"the last lost", whole[:5], "1 messages are missing at the end"},
		{"all lost", nil, "6 messages are missing at the end"},
		{"a double", record{at(0), at(1), at(1), at(2), at(3), at(4), at(5)}, "twice"},
		{"a late double", append(append(record{}, whole...), at(2)), "twice"},
		{"a swap", record{at(0), at(2), at(1), at(3), at(4), at(5)}, "missing before"},
		{"a stranger", record{at(0), strange, at(2)}, "not stored"},
	} {
		got := c.got.check(stored)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
