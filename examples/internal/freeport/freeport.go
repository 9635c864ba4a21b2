// Package freeport finds addresses for the examples' tests.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Addr returns an address of this machine that nobody listens on. Its port is not
// one of those from which systems take theirs for connections and for port 0:
// such a port might be somebody's before the test listens there.
func Addr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.N(22_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("none of 1,000 ports is free")
	return ""
}
