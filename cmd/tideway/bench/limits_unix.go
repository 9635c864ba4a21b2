//go:build !windows

package bench

import (
	"fmt"
	"syscall"
)

// checkDescriptors finds out before the first connection whether there can be n.
func checkDescriptors(n int) error {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return nil // nobody knows: try
	}
	if room := int64(r.Cur) - 100; int64(n) > room {
		return fmt.Errorf("%d connections need more descriptors than the %d that this process may have; see ulimit -n", n, r.Cur)
	}
	return nil
}
