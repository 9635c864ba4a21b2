//go:build tideway_hibernate

package socket

// With the build tag tideway_hibernate every connection that can is parked
// whenever its client is silent for a moment: all tests, and the programs that
// they build, then meet that all the time.
const stay = 0

func polling(bool) bool { return true }
