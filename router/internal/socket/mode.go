//go:build !tideway_hibernate && !tideway_goroutines

package socket

import "time"

// stay is how long a client that has sent a message is waited for before its
// connection is parked, on the goroutine that read it. It is shorter than
// lendTime, or readers would hardly be used again.
const stay = 3 * time.Second

// polling is Options.Polling.
func polling(asked bool) bool { return asked }
