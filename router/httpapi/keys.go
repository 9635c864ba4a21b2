package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Action is something that a key may be allowed to do.
type Action string

// The actions. Each but Disconnect is about names, which a scope may narrow.
const (
	ReadGroups   Action = "groups.read"   // history, events and members of groups; tokens for them
	WriteGroups  Action = "groups.write"  // messages to groups
	SendChannels Action = "channels.send" // messages to channels and queues
	ReadJobs     Action = "jobs.read"     // jobs of queues: their state and events
	WriteJobs    Action = "jobs.write"    // submitting, cancelling and retrying jobs of queues
	WorkJobs     Action = "jobs.work"     // taking jobs, and reporting about them
	Disconnect   Action = "disconnect"    // closing the connections of users and sessions
)

var actions = []Action{ReadGroups, WriteGroups, SendChannels, ReadJobs, WriteJobs, WorkJobs, Disconnect}

// Key is a credential: whoever shows the secret may do what the scopes say.
type Key struct {
	// Name says whose key it is, in the log. Names are unique.
	Name string

	// Secret is what a request shows. It has at least 16 bytes, and should be
	// random: crypto/rand.Text makes a good one. SHA256 is its hash in
	// hexadecimal, for settings that shall not hold the secret. One of the two is
	// given.
	Secret, SHA256 string

	// Scopes are what the key may do: an [Action] for all names, or an action, a
	// colon and a pattern: "groups.write:chat.lobby", "groups.read:job.>". A
	// pattern is a name, or the front of names and ">" as in [layer.Retention].
	// "*" is everything. Default: nothing.
	Scopes []string
}

// leastSecret is how many bytes a secret has at least: nobody guesses 16.
const leastSecret = 16

// scope is one line of Key.Scopes, taken apart.
type scope struct {
	action Action
	names  layer.Retention // for its pattern
}

// Caller is who makes a request: the holder of a key, of a token, or anybody
// where the API is open.
type Caller struct {
	name   string
	all    bool
	scopes []scope
	until  time.Time // when the credentials expire; zero is never
	usage  *usage
}

// Name returns the name of the key, for logs. That of a token's holder is
// "token", and that of anybody is "anybody".
func (c *Caller) Name() string { return c.name }

// May returns nil if the caller may do that to the group, channel, queue or kind of
// job with that name, or to all if it is "", else an [Error] of 403 that says what
// is missing.
func (c *Caller) May(do Action, name string) error {
	if c.all || slices.ContainsFunc(c.scopes, func(s scope) bool { return s.action == do && s.covers(name) }) {
		return nil
	}
	if name == "" {
		return Errorf(http.StatusForbidden, "forbidden", "these credentials do not have the scope %s", do)
	}
	return Errorf(http.StatusForbidden, "forbidden", "these credentials do not have the scope %s:%s", do, name)
}

// covers reports whether the scope is about name, or for "" about all names.
func (s *scope) covers(name string) bool {
	return name == "" && s.names.Pattern == ">" || name != "" && s.names.Covers(name)
}

// readScope takes a scope apart. The error says what is wrong.
func readScope(text string) (s scope, err error) {
	action, pattern, narrow := strings.Cut(text, ":")
	s = scope{action: Action(action), names: layer.Retention{Pattern: ">"}}
	if !slices.Contains(actions, s.action) {
		return s, fmt.Errorf("the scope %q; want * or one of %q, perhaps with a colon and a pattern", text, actions)
	}
	if !narrow {
		return s, nil
	}
	s.names.Pattern = pattern
	front, open := strings.CutSuffix(pattern, ">")
	switch {
	case pattern == ">":
	case open && !strings.HasSuffix(front, "."):
		return s, fmt.Errorf(`the scope %q; ">" stands alone or behind a period, as in "job.>"`, text)
	case layer.CheckChannel(front) != nil:
		return s, fmt.Errorf("the scope %q: %s", text, bare(layer.CheckChannel(front)))
	}
	return s, nil
}

// keyRing is the keys as requests are compared with.
type keyRing struct {
	hashes  [][sha256.Size]byte
	callers []*Caller // of the same index
}

// newKeyRing reads keys. Its error names the one that is wrong, and no secret.
func newKeyRing(keys []Key, o *Options) (*keyRing, error) {
	ring := &keyRing{}
	names := map[string]bool{}
	for i, k := range keys {
		if k.Name == "" || names[k.Name] {
			return nil, fmt.Errorf("httpapi: Options.Keys[%d] has the name %q; want one that no other key has", i, k.Name)
		}
		names[k.Name] = true
		hash, err := k.hash()
		if err == nil && slices.Contains(ring.hashes, hash) {
			err = errors.New("a secret that another key has")
		}
		c := &Caller{name: k.Name, usage: newUsage(o.Rate, o.Burst, o.MaxStreamsPerKey)}
		for _, text := range k.Scopes {
			if text == "*" {
				c.all = true
				continue
			}
			s, bad := readScope(text)
			err = errors.Join(err, bad)
			c.scopes = append(c.scopes, s)
		}
		if err != nil {
			return nil, fmt.Errorf("httpapi: Options.Keys: the key %q has %w", k.Name, err)
		}
		ring.hashes, ring.callers = append(ring.hashes, hash), append(ring.callers, c)
	}
	return ring, nil
}

func (k *Key) hash() (h [sha256.Size]byte, err error) {
	switch {
	case (k.Secret == "") == (k.SHA256 == ""):
		return h, errors.New("to have either a Secret or a SHA256")
	case k.Secret != "" && len(k.Secret) < leastSecret:
		return h, fmt.Errorf("a Secret of %d bytes; want at least %d", len(k.Secret), leastSecret)
	case k.Secret != "":
		return sha256.Sum256([]byte(k.Secret)), nil
	}
	b, err := hex.DecodeString(k.SHA256)
	if err != nil || len(b) != len(h) {
		return h, errors.New("a SHA256 that is not 64 hexadecimal digits")
	}
	return [sha256.Size]byte(b), nil
}

// find returns the caller of a secret, nil for nobody. It takes the same time
// whichever key it is, or none.
func (r *keyRing) find(secret string) *Caller {
	hash, found := sha256.Sum256([]byte(secret)), -1
	for i := range r.hashes {
		equal := subtle.ConstantTimeCompare(hash[:], r.hashes[i][:])
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	if found < 0 {
		return nil
	}
	return r.callers[found]
}

// maxSecret is the length from which a secret is refused unread.
const maxSecret = 4 << 10

// secretOf returns what a request shows: the token of the Authorization header
// (RFC 6750, section 2.1), or X-API-Key. It is "" if there is none.
func secretOf(r *http.Request) (string, error) {
	var shown []string
	for _, value := range r.Header.Values("Authorization") {
		scheme, token, _ := strings.Cut(value, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", Errorf(http.StatusUnauthorized, "unauthorized", `the Authorization header is not "Bearer" and a key`)
		}
		shown = append(shown, strings.Trim(token, " "))
	}
	shown = append(shown, r.Header.Values("X-API-Key")...)
	switch {
	case len(shown) == 0:
		return "", nil
	case len(shown) > 1:
		return "", Errorf(http.StatusBadRequest, "credentials", "there is more than one key in the request; show one, as Authorization: Bearer or as X-API-Key")
	case shown[0] == "" || len(shown[0]) > maxSecret:
		return "", Errorf(http.StatusUnauthorized, "unauthorized", "the key is empty or too long")
	}
	return shown[0], nil
}
