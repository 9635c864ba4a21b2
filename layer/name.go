package layer

import (
	"fmt"
	"strings"
)

// maxName is the length that no name reaches: Channels asserts len(name) < 100
// (channels/layers.py).
const maxName = 100

// CheckGroup returns nil when name is a valid group name, else a *[NameError].
// The rule is that of Channels (channel_layer_spec.rst): 1 to 99 of the
// characters A-Z a-z 0-9 . _ -
func CheckGroup(name string) error { return checkName("group", name, 0) }

// CheckChannel returns nil when name is a valid channel name, else a
// *[NameError]. On top of the rule for groups a channel name may hold one "!",
// not at its front: what stands before it is the process that owns the channel.
func CheckChannel(name string) error { return checkName("channel", name, 1) }

func checkName(kind, name string, bangs int) error {
	why := ""
	switch {
	case name == "":
		why = "it is empty; give it 1 to 99 characters"
	case len(name) >= maxName:
		why = fmt.Sprintf("it has %d bytes; 99 is the most", len(name))
	default:
		why = badCharacter(kind, name, bangs)
	}
	if why == "" {
		return nil
	}
	return &NameError{Kind: kind, Name: name, Why: why}
}

// badCharacter says which is the first character that breaks the rule, "" when
// none does.
func badCharacter(kind, name string, bangs int) string {
	if plainName(name) {
		return ""
	}
	for i, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
			continue
		case r == '!' && bangs > 0 && i > 0:
			bangs--
			continue
		case r == '!' && kind == "group":
			return fmt.Sprintf(`%q at byte %d is for channels only; use letters, digits, ".", "_" and "-"`, r, i)
		case r == '!' && i == 0:
			return `"!" is the first character; the name of a process belongs in front of it`
		case r == '!':
			return fmt.Sprintf(`%q at byte %d is the second one; one is the most`, r, i)
		}
		return fmt.Sprintf(`%q at byte %d is not allowed; use letters, digits, ".", "_" and "-"`, r, i)
	}
	return ""
}

// nameBytes are those that a name may hold anywhere.
var nameBytes = func() (t [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-" {
		t[c] = true
	}
	return t
}()

// plainName reports whether s has no other bytes than nameBytes.
func plainName(s string) bool {
	for i := range len(s) {
		if !nameBytes[s[i]] {
			return false
		}
	}
	return true
}

// owner splits the name of a process's own channel at "!". A shared channel has
// no owner.
func owner(channel string) (process string, owned bool) {
	process, _, owned = strings.Cut(channel, "!")
	return process, owned
}
