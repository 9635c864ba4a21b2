//go:build !race

package socket

const underRace = 1
