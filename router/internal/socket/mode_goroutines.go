//go:build tideway_goroutines && !tideway_hibernate

package socket

// With the build tag tideway_goroutines every connection has its goroutine, as on
// systems other than Linux.
const stay = 0

func polling(bool) bool { return false }
