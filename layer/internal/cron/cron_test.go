package cron

import (
	"strings"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pattern string
		zone    *time.Location
		from    string
		want    string
	}{
		{"@every 90s", nil, "2026-03-01T10:00:00Z", "2026-03-01T10:01:30Z"},
		{"@hourly", nil, "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"},
		{"@daily", nil, "2026-03-01T10:00:00Z", "2026-03-02T00:00:00Z"},
		{"@weekly", nil, "2026-03-02T10:00:00Z", "2026-03-08T00:00:00Z"},
		{"@monthly", nil, "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"},
		{"@yearly", nil, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"30 9 * * mon-fri", nil, "2026-03-06T09:30:00Z", "2026-03-09T09:30:00Z"},
		{"15 30 9 * * *", nil, "2026-03-06T09:30:15Z", "2026-03-07T09:30:15Z"},
		{"*/20 * * * * *", nil, "2026-03-06T09:30:19.5Z", "2026-03-06T09:30:20Z"},
		{"0 10/25 8,20 * * *", nil, "2026-03-06T08:36:00Z", "2026-03-06T20:10:00Z"},
		{"0 0 13 * fri", nil, "2026-03-07T00:00:00Z", "2026-03-13T00:00:00Z"},
		{"0 0 14 * fri", nil, "2026-03-13T00:00:00Z", "2026-03-14T00:00:00Z"},
		{"0 0 29 feb *", nil, "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"0 9 * * *", berlin, "2026-03-28T12:00:00Z", "2026-03-29T07:00:00Z"},
		{"30 2 * * *", berlin, "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"}, // the 29th has no 02:30
	} {
		s, err := Parse(c.pattern, c.zone)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		from, err := time.Parse(time.RFC3339, c.from)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Next(from).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%q after %s: got %s, want %s", c.pattern, c.from, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for pattern, want := range map[string]string{
		"":               "0 fields",
		"* * *":          "3 fields",
		"@every 10ms":    "once a second",
		"@every soon":    "no duration",
		"60 * * * *":     `the minute "60"`,
		"* * * * 7":      `the weekday "7"`,
		"* 5-2 * * *":    "begins behind its end",
		"*/0 * * * *":    "the step",
		"0 0 30 feb *":   "never due",
		"0 0 * foo *":    `the month "foo"`,
		"@fortnightly":   "1 fields",
		"1,,2 * * * * *": `the second "1,,2"`,
	} {
		if _, err := Parse(pattern, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want one that says %q", pattern, err, want)
		}
	}
	if _, err := Parse("@every 5s", time.UTC); err == nil {
		t.Error("an interval with a time zone: got no error")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"@every 90s", "0 0 29 feb *", "*/5 1-3 2,4 * jan mon", "@daily"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, pattern string) {
		s, err := Parse(pattern, nil)
		if err != nil {
			return
		}
		now := time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC)
		if next := s.Next(now); !next.IsZero() && !next.After(now) {
			t.Errorf("%q is due at %v, which is not after %v", pattern, next, now)
		}
		again, err := Parse(s.String(), nil)
		if err != nil || again.Next(now) != s.Next(now) {
			t.Errorf("%q becomes %q, which is another", pattern, s)
		}
	})
}
