//go:build !linux || 386 || s390x

package socket

import "net"

// descriptor returns -1: a write that is known not to wait is made on Linux only
// (and there not where send is a subcall of socketcall). All
// frames then go through the flush goroutine.
func descriptor(net.Conn) int { return -1 }

func sendNow(int, []byte) int { return 0 }

func keepLess(fd, n int) {}

func recvNow(int, []byte) (n int, wait bool) { return 0, false }

// poller is none: Poll waits, as Read does.
type poller struct{}

func (*poller) arm(*wire) bool { return false }

func (*poller) forget(int) {}

func (*poller) close() {}
