package natsbus

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// A name's dots separate the tokens of its NATS subject, so that a policy or a
// watcher may say job.>. Channels allows names with empty tokens (a..b, .a, a.),
// which NATS does not: such a token is written "~", which no name contains.
// The mapping is one to one in both directions.

// emptyToken stands for an empty token of a name.
const emptyToken = "~"

// toTokens returns the subject tokens of a group or channel name.
func toTokens(name string) string {
	if !hasEmptyToken(name) {
		return name
	}
	tokens := strings.Split(name, ".")
	for i, t := range tokens {
		if t == "" {
			tokens[i] = emptyToken
		}
	}
	return strings.Join(tokens, ".")
}

func hasEmptyToken(s string) bool {
	return s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..")
}

// subjects are the subjects of one prefix.
type subjects struct {
	prefix string
	groups [1 << 14]atomic.Pointer[groupSubject]
}

type groupSubject struct{ name, subject string }

var subjectSeed = maphash.MakeSeed()

// group returns the subject of a group. A publish in a loop must not allocate
// it each time, so it is kept, until another with the same hash takes its place:
// no lock, and no more room however many groups there are.
func (s *subjects) group(name string) string {
	p := &s.groups[maphash.String(subjectSeed, name)%uint64(len(s.groups))]
	if g := p.Load(); g != nil && g.name == name {
		return g.subject
	}
	subject := s.newGroup(name)
	p.Store(&groupSubject{strings.Clone(name), subject}) // the name may be a part of something large
	return subject
}

// newGroup is group for who keeps the subject.
func (s *subjects) newGroup(name string) string {
	if own, ok := strings.CutPrefix(name, "="); ok {
		return s.prefix + ".presence." + toTokens(own)
	}
	return s.prefix + ".grp." + toTokens(name)
}

// patternOf returns the pattern whose tokens are those.
func patternOf(tokens string) string {
	if !strings.Contains(tokens, emptyToken) {
		return tokens
	}
	all := strings.Split(tokens, ".")
	for i, t := range all {
		if t == emptyToken {
			all[i] = ""
		}
	}
	return strings.Join(all, ".")
}

// log returns the subject of a durable group's messages after they were stored.
func (s *subjects) log(name string) string { return s.prefix + ".log." + toTokens(name) }

// epoch returns the subject of the epoch of a policy's stream.
func (s *subjects) epoch(pattern string) string { return s.prefix + ".epoch." + patternToken(pattern) }

// history returns the name of a policy's stream.
func (s *subjects) history(pattern string) string {
	return s.upper() + "_log_" + patternToken(pattern)
}

// patternToken makes one token of a pattern. No name holds a "=" or a "+".
func patternToken(pattern string) string {
	return strings.NewReplacer(".", "=", ">", "+").Replace(pattern)
}

// channel returns the subject of a shared channel.
func (s *subjects) channel(name string) string { return s.prefix + ".ch." + toTokens(name) }

// queue returns the subject of a durable queue, given its tokens; urgent, idle
// and due are those of messages with a high or low priority, and of messages
// that were due later.
func (s *subjects) queue(tokens string) string  { return s.prefix + ".q." + tokens }
func (s *subjects) urgent(tokens string) string { return s.prefix + ".qp.high." + tokens }
func (s *subjects) idle(tokens string) string   { return s.prefix + ".qp.low." + tokens }
func (s *subjects) due(tokens string) string    { return s.prefix + ".qdue." + tokens }

// wake returns the subject that tells of messages with another subject than
// queue's.
func (s *subjects) wake(tokens string) string { return s.prefix + ".qwake.*." + tokens }

// later returns the subject of a message that will come to a queue. No name has
// a token with "=".
func (s *subjects) later(tokens, key string) string { return s.prefix + ".qat." + tokens + ".=" + key }

// spent returns the subject that says what became of a message's attempts.
func (s *subjects) spent(tokens, stream string, sequence uint64) string {
	return fmt.Sprintf("%s.qspent.%s.=%s.%d", s.prefix, tokens, stream, sequence)
}

// dead returns the subject of a queue's dead letters, given its tokens.
func (s *subjects) dead(tokens string) string { return s.prefix + ".dead." + tokens }

func (s *subjects) queueStream(pattern string) string {
	return s.upper() + "_queue_" + patternToken(pattern)
}
func (s *subjects) laterStream() string { return s.upper() + "_later" }
func (s *subjects) deadStream() string  { return s.upper() + "_dead" }

// upper begins the names of streams.
func (s *subjects) upper() string { return strings.ReplaceAll(strings.ToUpper(s.prefix), ".", "_") }

// process returns the subject of all channels of one process.
func (s *subjects) process(name string) string { return s.prefix + ".pc." + toTokens(name) }

// control returns the subject of calls to one process, or to all.
func (s *subjects) control(process string) string {
	if process == "" {
		return s.prefix + ".ctl"
	}
	return s.prefix + ".ctl." + toTokens(process)
}

// barrier returns the subject that processes on one server answer.
func (s *subjects) barrier(server string) string { return s.prefix + ".sync." + server }

func (s *subjects) heartbeat() string { return s.prefix + ".hb" }

// stream returns the name of the stream that holds the shared channels.
func (s *subjects) stream() string {
	return s.upper() + "_channels"
}

// bucket returns the name of the key-value bucket that holds small shared state.
func (s *subjects) bucket() string {
	return strings.ReplaceAll(strings.ToUpper(s.prefix), ".", "_") + "_state"
}

// consumerName returns the name of a shared channel's consumer: dots are not
// allowed there, and no name holds a "=".
func consumerName(channel string) string { return "ch_" + strings.ReplaceAll(channel, ".", "=") }

// maxPrefix keeps every subject far below the 4,096 bytes after which a NATS
// server closes the connection for good.
const maxPrefix = 64

// checkPrefix says what is wrong with a prefix.
func checkPrefix(prefix string) error {
	why := ""
	switch {
	case len(prefix) > maxPrefix:
		why = fmt.Sprintf("it is longer than %d bytes", maxPrefix)
	case hasEmptyToken(prefix):
		why = "it has an empty token"
	case strings.ContainsFunc(prefix, func(r rune) bool { return !isNameRune(r) }):
		why = "only ASCII letters, digits, hyphens, underscores and periods are allowed"
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("natsbus: Options.Prefix %.80q is not valid: %s", prefix, why)
}

func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		r == '-' || r == '_' || r == '.'
}
