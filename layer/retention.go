package layer

import (
	"fmt"
	"time"
)

// Retention makes groups durable: the network keeps their messages, in one
// order, for who comes later or comes back.
type Retention struct {
	// Pattern says which groups: the name of one group, or the front of names
	// and ">" for what follows, as in the subjects of NATS. "job.>" is every
	// group whose name begins with "job."; "job" is not one of them. ">" alone is
	// every group.
	Pattern string

	// Messages is how many messages of each group are kept. Default 1,000, at
	// most 1,000,000.
	Messages int

	// Age is how long a message is kept. Default 24 hours; at least 1 s.
	Age time.Duration
}

const (
	defaultMessages = 1000
	mostMessages    = 1_000_000
	defaultAge      = 24 * time.Hour
	leastAge        = time.Second
)

// String returns the policy in words, as errors state it.
func (r Retention) String() string {
	return fmt.Sprintf("%q (%d messages of each group, for %v)", r.Pattern, r.Messages, r.Age)
}

// Covers reports whether the policy is about group.
func (r Retention) Covers(group string) bool { return covers(r.Pattern, group) }

// Overlaps reports whether a group may exist that both policies are about.
func (r Retention) Overlaps(o Retention) bool { return overlap(r.Pattern, o.Pattern) }

// Window is how long an idempotency key is remembered: a minute, or as long as
// the messages are.
func (r Retention) Window() time.Duration { return min(time.Minute, r.Age) }

// check says what is wrong with a policy whose defaults are filled in.
func (r Retention) check() error {
	if err := checkPattern("Groups", r.Pattern, CheckGroup); err != nil {
		return err
	}
	switch {
	case r.Messages < 1 || r.Messages > mostMessages:
		return fmt.Errorf("layer: Options.Groups keeps %d messages of %q; want 1 to %d", r.Messages, r.Pattern, mostMessages)
	case r.Age < leastAge:
		return fmt.Errorf("layer: Options.Groups keeps messages of %q for %v; %v is the least", r.Pattern, r.Age, leastAge)
	}
	return nil
}

// resolvePolicies fills in the defaults and refuses policies that contradict
// each other.
func resolvePolicies(given []Retention) ([]Retention, error) {
	var all []Retention
	for _, r := range given {
		r.Messages = orDefault(r.Messages, defaultMessages)
		r.Age = orDefault(r.Age, defaultAge)
		if err := r.check(); err != nil {
			return nil, err
		}
		for _, o := range all {
			if r.Overlaps(o) {
				return nil, fmt.Errorf("layer: Options.Groups has both %v and %v, and a group may match both; keep one of them", o, r)
			}
		}
		all = append(all, r)
	}
	return all, nil
}

// Durable reports whether a policy of the network covers group, so that its
// messages are kept.
func (l *Layer) Durable(group string) bool { return l.policy(group) != nil }

// policy returns the policy that makes group durable, nil when it is an
// ordinary one.
func (l *Layer) policy(group string) *Retention {
	for i := range l.policies {
		if l.policies[i].Covers(group) {
			return &l.policies[i]
		}
	}
	return nil
}
