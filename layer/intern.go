package layer

import (
	"hash/maphash"
	"sync/atomic"
)

// types are the types of messages as strings. A program has few of them, and
// they come again with every message.
var types interned

var typesSeed = maphash.MakeSeed()

// interned remembers strings, so that each is allocated once. It is bounded
// whatever strangers send: a string takes the place of another with the same
// hash. It may be used from many goroutines.
type interned [256]atomic.Pointer[string]

// name returns b as a string.
func (t *interned) name(b []byte) string {
	p := &t[maphash.Bytes(typesSeed, b)%uint64(len(t))]
	if s := p.Load(); s != nil && *s == string(b) {
		return *s
	}
	s := string(b)
	p.Store(&s)
	return s
}
