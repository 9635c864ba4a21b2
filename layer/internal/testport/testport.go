// Package testport finds addresses for tests that have to know one before
// anything listens on it, such as the nodes of a cluster.
package testport

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The ports that are given out. Systems take theirs, for connections and for
// port 0, from above: a port from there that was free a moment ago may be
// anybody's by now.
const (
	first = 10_000
	last  = 32_000
)

// tries is how many ports are looked at. Tests use a handful.
const tries = 1000

// Free returns a loopback address that nothing listens on, and that no other
// test is given until this one ends, in whatever process: the UDP port of the
// same number is the token.
func Free(t testing.TB) string {
	t.Helper()
	for range tries {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.N(last-first)))
		token, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			token.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { token.Close() })
		return address
	}
	t.Fatalf("testport: none of %d ports between %d and %d is free", tries, first, last)
	return ""
}
