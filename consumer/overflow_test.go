package consumer

import (
	"strings"
	"testing"

	"github.com/tideway-go/tideway/layer"
)

type ticker struct {
	Symbol string `json:"symbol"`
}

func (ticker) MessageType() string { return "ticker" }

// The longest pattern that covers a group says what happens.
func TestOverflowRules(t *testing.T) {
	table := Table(
		Overflow[struct{}](">", Gap()),
		Overflow[struct{}]("p.q.>", Latest(func(ticker) string { return "" })),
		Overflow[struct{}]("p.>", Drop()),
		Overflow[struct{}]("p.q.close", CloseSlow()),
	).table
	for group, want := range map[string]string{"x": "gap", "p": "gap", "p.x": "drop", "p.q": "drop", "p.q.x": "latest", "p.q.close": ""} {
		got := ""
		if r := table.rule(group); r != nil {
			got = r.name
		}
		if got != want {
			t.Errorf("group %s: got %q, want %q", group, got, want)
		}
	}
	if r := Table(Forward[struct{}, ticker]()).table.rule("x"); r != nil {
		t.Errorf("without a line the rule is %v, want none", r)
	}
}

func TestOverflowMistakes(t *testing.T) {
	for want, f := range map[string]func(){
		`behind a period`:            func() { Overflow[struct{}]("p>", Drop()) },
		`the pattern "a b"`:          func() { Overflow[struct{}]("a b", Drop()) },
		`the pattern ""`:             func() { Overflow[struct{}]("", Drop()) },
		`two Overflows for the patt`: func() { Table(Overflow[struct{}]("p", Drop()), Overflow[struct{}]("p", Gap())) },
	} {
		func() {
			defer func() {
				if v, _ := recover().(string); !strings.Contains(v, want) {
					t.Errorf("panicked with %q, want %q", v, want)
				}
			}()
			f()
		}()
	}
}

// The key is a value's alone; what has none is never replaced, also when the
// key function panics.
func TestLatestKey(t *testing.T) {
	r := &rule{Policy: Latest(func(v ticker) string {
		if v.Symbol == "panic" {
			panic("key")
		}
		return v.Symbol
	})}
	message := func(group, data string) *layer.Message {
		m, err := layer.ParseMessage([]byte(data))
		if err != nil {
			t.Fatal(err)
		}
		m.Group = group
		return &m
	}
	a := r.key(message("g", `{"type":"ticker","symbol":"A"}`))
	for _, c := range []struct {
		group, data string
		same, none  bool
	}{
		{"g", `{"type":"ticker","symbol":"A","price":2}`, true, false},
		{"g", `{"type":"ticker","symbol":"B"}`, false, false},
		{"g", `{"type":"ticker"}`, false, false},
		{"h", `{"type":"ticker","symbol":"A"}`, false, false},
		{"g", `{"type":"other","symbol":"A"}`, false, true},
		{"g", `{"type":"ticker","symbol":1}`, false, true},
		{"g", `{"type":"ticker","symbol":"panic"}`, false, true},
	} {
		got := r.key(message(c.group, c.data))
		if (got == a) != c.same || (got == "") != c.none {
			t.Errorf("%s in %s has the key %q, and %q is that of A in g", c.data, c.group, got, a)
		}
	}
}
