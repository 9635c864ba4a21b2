package layer

import (
	"fmt"
	"strings"
)

// A pattern is the name of one group or queue, or the front of names and ">" for
// what follows, as in the subjects of NATS.

func covers(pattern, name string) bool {
	if strings.HasPrefix(name, presenceMark) {
		return false // it is the layer's own
	}
	if front, open := strings.CutSuffix(pattern, ">"); open {
		return strings.HasPrefix(name, front)
	}
	return name == pattern
}

// overlap reports whether a name may exist that both patterns cover.
func overlap(a, b string) bool {
	return covers(a, strings.TrimSuffix(b, ">")) || covers(b, strings.TrimSuffix(a, ">"))
}

// checkPattern says what is wrong with a pattern of names that check accepts.
func checkPattern(option, pattern string, check func(string) error) error {
	front, open := strings.CutSuffix(pattern, ">")
	switch {
	case pattern == ">":
	case open && !strings.HasSuffix(front, "."):
		return fmt.Errorf(`layer: Options.%s has the pattern %q; ">" stands alone or behind a period, as in "job.>"`, option, pattern)
	case check(front) != nil:
		return fmt.Errorf("layer: Options.%s has the pattern %q: %w", option, pattern, check(front))
	}
	return nil
}
