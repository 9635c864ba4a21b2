//go:build race

package layer

// poolSlack is what sync.Pool costs: the race detector has it lose things.
const poolSlack = 3
