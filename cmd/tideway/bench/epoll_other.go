//go:build !linux

package bench

func newPoller(s *sink, opts fleetOptions) (poller, error) { return newGoPoller(s, opts), nil }
