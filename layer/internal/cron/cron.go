// Package cron reads the patterns of messages that come again and again, as
// NATS writes them, and says when they are due.
package cron

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Schedule is a pattern that was read.
type Schedule struct {
	pattern string
	every   time.Duration // 0: by the fields
	fields  [6]field      // second, minute, hour, day of the month, month, weekday
	zone    *time.Location
}

// field holds a bit for each value that matches.
type field struct {
	bits uint64
	any  bool // it began with "*"
}

// words are patterns that have a name.
var words = map[string]string{
	"@yearly": "0 0 0 1 1 *", "@annually": "0 0 0 1 1 *", "@monthly": "0 0 0 1 * *",
	"@weekly": "0 0 0 * * 0", "@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *", "@hourly": "0 0 * * * *",
}

var (
	limits   = [6][2]int{{0, 59}, {0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 6}}
	months   = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	titles   = [6]string{"second", "minute", "hour", "day of the month", "month", "weekday"}
)

// Parse reads "@every 90s", a word such as "@daily", or the fields of crontab(5),
// with or without seconds in front. Fields hold numbers, "*", ranges, steps and
// lists; months and weekdays may be names. A nil zone is UTC; "@every" has none.
func Parse(pattern string, zone *time.Location) (Schedule, error) {
	s := Schedule{pattern: pattern, zone: zone}
	if text, ok := strings.CutPrefix(pattern, "@every "); ok {
		every, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return s, fmt.Errorf("%q: %q is no duration such as 90s or 1h30m", pattern, text)
		case every < time.Second:
			return s, fmt.Errorf("%q: once a second is the most", pattern)
		case zone != nil:
			return s, fmt.Errorf("%q: an interval has no time zone", pattern)
		}
		s.every = every
		return s, nil
	}
	if fields, ok := words[pattern]; ok {
		s.pattern = fields
	}
	fields := strings.Fields(s.pattern)
	if len(fields) == 5 {
		fields = slices.Insert(fields, 0, "0")
	}
	if len(fields) != 6 {
		return s, fmt.Errorf(`%q has %d fields; want 5 or 6, or "@every 90s", "@hourly", "@daily", "@weekly", "@monthly", "@yearly"`, pattern, len(fields))
	}
	for i, text := range fields {
		f, err := parseField(text, i)
		if err != nil {
			return s, fmt.Errorf("%q: the %s %q: %w", pattern, titles[i], text, err)
		}
		s.fields[i] = f
	}
	s.pattern = strings.Join(fields, " ")
	if s.Next(time.Now()).IsZero() {
		return s, fmt.Errorf("%q is never due", pattern)
	}
	return s, nil
}

// String returns the pattern as NATS takes it.
func (s Schedule) String() string { return s.pattern }

func parseField(text string, i int) (f field, err error) {
	for part := range strings.SplitSeq(text, ",") {
		bits, any, err := parseRange(part, i)
		if err != nil {
			return f, err
		}
		f.bits |= bits
		f.any = f.any || any
	}
	return f, nil
}

// parseRange reads "*", "5", "1-5", each perhaps with a step behind a slash.
func parseRange(text string, i int) (bits uint64, any bool, err error) {
	span, stepText, hasStep := strings.Cut(text, "/")
	step := 1
	if hasStep {
		if step, err = strconv.Atoi(stepText); err != nil || step < 1 {
			return 0, false, fmt.Errorf("the step %q is no number above 0", stepText)
		}
	}
	first, last := limits[i][0], limits[i][1]
	low, high, isRange := strings.Cut(span, "-")
	any = span == "*" && step == 1
	if span != "*" {
		if first, err = parseValue(low, i); err != nil {
			return 0, false, err
		}
		if isRange {
			last, err = parseValue(high, i)
		} else if !hasStep {
			last = first
		}
	}
	switch {
	case err != nil:
		return 0, false, err
	case first > last:
		return 0, false, fmt.Errorf("%q begins behind its end", span)
	}
	for v := first; v <= last; v += step {
		bits |= 1 << v
	}
	return bits, any, nil
}

func parseValue(text string, i int) (int, error) {
	names := map[int][]string{4: months, 5: weekdays}[i]
	if at := slices.Index(names, strings.ToLower(text)); at >= 0 {
		return at + limits[i][0], nil
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < limits[i][0] || v > limits[i][1] {
		return 0, fmt.Errorf("%q is not within %d and %d", text, limits[i][0], limits[i][1])
	}
	return v, nil
}

func (f field) has(v int) bool { return f.bits&(1<<v) != 0 }

// Next returns the first time after t at which the schedule is due, the zero
// Time when there is none within five years.
func (s Schedule) Next(t time.Time) time.Time {
	if s.every > 0 {
		return t.Round(time.Second).Add(s.every)
	}
	zone := s.zone
	if zone == nil {
		zone = time.UTC
	}
	t = t.In(zone).Truncate(time.Second).Add(time.Second)
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, zone)
	for range 5 * 366 {
		if s.onDay(day) {
			if due := s.onTime(day, t); !due.IsZero() {
				return due
			}
		}
		day = time.Date(day.Year(), day.Month(), day.Day()+1, 0, 0, 0, 0, zone)
	}
	return time.Time{}
}

// onDay reports whether the schedule is due on a day. As in crontab(5), one of
// the day of the month and the weekday is enough when both are given.
func (s Schedule) onDay(day time.Time) bool {
	date, weekday := s.fields[3].has(day.Day()), s.fields[5].has(int(day.Weekday()))
	switch {
	case !s.fields[4].has(int(day.Month())):
		return false
	case s.fields[3].any || s.fields[5].any:
		return date && weekday
	}
	return date || weekday
}

// onTime returns the first time of a day, from t on, at which the schedule is
// due. An hour that the zone leaves out does not match what it becomes.
func (s Schedule) onTime(day, t time.Time) time.Time {
	for hour := range 24 {
		if !s.fields[2].has(hour) {
			continue
		}
		for minute := range 60 {
			if !s.fields[1].has(minute) {
				continue
			}
			begin := time.Date(day.Year(), day.Month(), day.Day(), hour, minute, 0, 0, day.Location())
			if begin.Hour() != hour || begin.Add(time.Minute).Before(t) {
				continue
			}
			for second := range 60 {
				if due := begin.Add(time.Duration(second) * time.Second); s.fields[0].has(second) && !due.Before(t) {
					return due
				}
			}
		}
	}
	return time.Time{}
}
