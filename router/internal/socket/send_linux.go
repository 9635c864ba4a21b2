//go:build !386 && !s390x

package socket

import (
	"net"
	"syscall"
	"unsafe"
)

// notSentLowat is TCP_NOTSENT_LOWAT, which package syscall does not name.
const notSentLowat = 25

// notSent is how many bytes the kernel keeps for a client beyond what is on its
// way. Without it a client that never reads pins megabytes of kernel memory
// (4.2 MB on loopback; 0.25 MB with it). A small SO_SNDBUF bounds that too, but
// stalls on delayed acknowledgements.
const notSent = 128 << 10

// descriptor returns c's file descriptor for sendNow, or -1 where there is none
// or where it does not carry c's bytes as they are: TLS, a pipe, or a type that
// wraps a socket in ways that this package cannot know.
func descriptor(c net.Conn) int {
	fd := -1
	switch c := c.(type) {
	case *net.TCPConn:
		if rc, err := c.SyscallConn(); err == nil {
			rc.Control(func(d uintptr) {
				fd = int(d)
				// Without it, on a kernel before 3.12, only more memory is used.
				_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, notSentLowat, notSent)
			})
		}
	case *net.UnixConn:
		if rc, err := c.SyscallConn(); err == nil {
			rc.Control(func(d uintptr) { fd = int(d) })
		}
	}
	return fd
}

// keepLess lets the kernel keep n bytes in place of notSent.
func keepLess(fd, n int) {
	if fd >= 0 {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, notSentLowat, n) // fails on a Unix socket
	}
}

// recvNow reads what is there, up to len(p) bytes. wait reports that there is
// nothing yet; 0 without it is the end or an error, which the next Read meets.
func recvNow(fd int, p []byte) (n int, wait bool) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd),
			uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), false
		case syscall.EINTR:
		default:
			return 0, errno == syscall.EAGAIN
		}
	}
}

// sendNow writes as much of p as the socket takes without waiting. An error
// counts as "nothing": the write that follows in the flush goroutine meets it
// again. The call cannot block, so the scheduler is not told about it (5.65 us
// against 6.46 us a delivery), and send(2) does less than write(2) (6.97 us).
func sendNow(fd int, p []byte) int {
	if fd < 0 || len(p) == 0 {
		return 0
	}
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd),
			uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n)
		case syscall.EINTR:
		default:
			return 0
		}
	}
}
