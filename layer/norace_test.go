//go:build !race

package layer

// poolSlack is what sync.Pool costs.
const poolSlack = 0
