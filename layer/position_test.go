package layer

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestPosition(t *testing.T) {
	for _, c := range []struct {
		position Position
		text     string
	}{
		{Position{}, ""},
		{Position{epoch: 1, sequence: 7}, "1.7"},
		{Position{epoch: 1<<64 - 1, sequence: 1<<64 - 1}, "3w5e11264sgsf.18446744073709551615"},
		{Position{epoch: 36, taken: 1700000000000}, "10.0.1700000000000"},
	} {
		if got := c.position.String(); got != c.text {
			t.Errorf("%#v: got %q, want %q", c.position, got, c.text)
		}
		if got, err := ParsePosition(c.text); err != nil || got != c.position {
			t.Errorf("ParsePosition(%q): got %#v, %v, want %#v", c.text, got, err, c.position)
		}
		var back struct{ At Position }
		data, err := json.Marshal(struct{ At Position }{c.position})
		if err == nil {
			err = json.Unmarshal(data, &back)
		}
		if err != nil || back.At != c.position {
			t.Errorf("%q through JSON: got %#v, %v", c.text, back.At, err)
		}
	}
	for _, text := range []string{
		"1", "1.", ".1", "1.0", "1.0.", "1.7.5", "0.1", "01.1", "1.01", "1.+1", "A.1", "1.1 ", "1.0.-5", "1.0.05",
		"1.18446744073709551616", "3w5e11264sgsg.1", strings.Repeat("9", 1000), "é.1",
	} {
		if p, err := ParsePosition(text); err == nil || len(err.Error()) > 200 {
			t.Errorf("ParsePosition(%.60q): got %#v, %v, want a short error", text, p, err)
		}
	}
}

// What is read as a position is what one said, and nothing else.
func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{"", "1.7", "10.0.1700000000000", "zz.18446744073709551615", "1.0", "-1.1", "1.1.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePosition(s)
		if err == nil && p.String() != s {
			t.Errorf("%q is read as %#v, which says %q", s, p, p.String())
		}
		if err == nil && p.IsZero() != (s == "") {
			t.Errorf("%q is read as %#v", s, p)
		}
	})
}
