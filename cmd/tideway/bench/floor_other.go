//go:build !linux

package bench

import "errors"

// floor is measured on Linux only.
type floor struct{}

// startFloor says what this system cannot do.
func startFloor() (*floor, string, error) {
	return nil, "", errors.New("--floor is measured on Linux only")
}

func (f *floor) send(int, []byte) {}
func (f *floor) close(string)     {}
