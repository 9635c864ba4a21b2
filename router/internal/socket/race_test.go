//go:build race

package socket

// underRace widens bounds on memory: the race detector's share is in the heap
// and on every stack.
const underRace = 2
