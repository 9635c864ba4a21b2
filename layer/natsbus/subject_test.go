package natsbus

import (
	"strconv"
	"strings"
	"testing"
)

// fromTokens returns the name that has the given subject tokens, and false when
// there is none.
func fromTokens(tokens string) (string, bool) {
	if hasEmptyToken(tokens) {
		return "", false
	}
	if !strings.Contains(tokens, emptyToken) {
		return tokens, true
	}
	parts := strings.Split(tokens, ".")
	for i, t := range parts {
		switch {
		case t == emptyToken:
			parts[i] = ""
		case strings.Contains(t, emptyToken):
			return "", false
		}
	}
	name := strings.Join(parts, ".")
	return name, name != ""
}

func TestTokens(t *testing.T) {
	for _, c := range []struct{ name, tokens string }{
		{"chat", "chat"},
		{"chat.lobby", "chat.lobby"},
		{"a..b", "a.~.b"},
		{".a", "~.a"},
		{"a.", "a.~"},
		{".", "~.~"},
		{"...", "~.~.~.~"},
		{"a-b_c.D9", "a-b_c.D9"},
	} {
		if got := toTokens(c.name); got != c.tokens {
			t.Errorf("toTokens(%q): got %q, want %q", c.name, got, c.tokens)
		}
		if got, ok := fromTokens(c.tokens); got != c.name || !ok {
			t.Errorf("fromTokens(%q): got %q, %v, want %q", c.tokens, got, ok, c.name)
		}
	}
	for _, tokens := range []string{"", ".", "a..b", ".a", "a.", "~", "a~", "a.~b", "~~.a"} {
		if got, ok := fromTokens(tokens); ok {
			t.Errorf("fromTokens(%q): got %q, want none", tokens, got)
		}
	}
}

// FuzzSubject: names and subjects are one to one, and no name makes a subject
// that NATS reads otherwise.
func FuzzSubject(f *testing.F) {
	for _, s := range []string{"chat.lobby", "a..b", ".", "~", "a.~", "..a..", "*", ">", "a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, ok := fromTokens(s); ok {
			if got := toTokens(name); got != s {
				t.Errorf("tokens %q are name %q, which has tokens %q", s, name, got)
			}
		}
		if s == "" || len(s) > 99 || strings.ContainsFunc(s, func(r rune) bool { return !isNameRune(r) }) {
			return // no name
		}
		tokens := toTokens(s)
		if hasEmptyToken(tokens) || strings.ContainsAny(tokens, " *>\t\r\n") || len(tokens) > 2*len(s)+1 {
			t.Errorf("name %q has tokens %q", s, tokens)
		}
		if name, ok := fromTokens(tokens); name != s || !ok {
			t.Errorf("name %q has tokens %q, which are name %q, %v", s, tokens, name, ok)
		}
	})
}

func TestGroupCache(t *testing.T) {
	s := &subjects{prefix: "p"}
	for i := range 2 * len(s.groups) { // so that some take the place of others
		name := "g" + strconv.Itoa(i)
		if i%2 == 0 {
			name += "."
		}
		want := "p.grp." + toTokens(name)
		for range 2 {
			if got := s.group(name); got != want {
				t.Fatalf("group %q has the subject %q, want %q", name, got, want)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.group("chat.lobby") }); n != 0 {
		t.Errorf("%v allocations for a subject, want 0", n)
	}
}
