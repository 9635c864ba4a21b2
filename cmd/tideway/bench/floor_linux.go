package bench

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// floor is the least that a server can do: it answers handshakes, and writes a
// prepared frame to each descriptor of a group, one system call each. It reads
// nothing, and hears no other process.
type floor struct {
	listener int
	done     sync.WaitGroup
	ended    atomic.Bool

	mu     sync.Mutex    // guards groups
	groups map[int][]int // descriptors
}

func startFloor() (f *floor, addr string, err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, "", os.NewSyscallError("socket", err)
	}
	f = &floor{listener: fd, groups: map[int][]int{}}
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = syscall.Listen(fd, 1024)
	}
	var name syscall.Sockaddr
	if err == nil {
		name, err = syscall.Getsockname(fd)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, "", fmt.Errorf("the floor's listener: %w", err)
	}
	f.done.Go(f.accept)
	port := name.(*syscall.SockaddrInet4).Port
	return f, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
}

// accept takes connections, one after the other, until close.
func (f *floor) accept() {
	runtime.LockOSThread()
	for !f.ended.Load() {
		fd, _, err := syscall.Accept4(f.listener, syscall.SOCK_CLOEXEC)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || f.ended.Load() {
			return
		}
		if err := f.greet(fd); err != nil {
			syscall.Close(fd)
		}
	}
}

// greet answers a handshake of our own load client.
func (f *floor) greet(fd int) error {
	patience := syscall.NsecToTimeval(int64(dialPatience))
	syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &patience)
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	var head []byte
	buf := make([]byte, 2048)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 || len(head) > maxHead {
			return fmt.Errorf("a handshake of %d bytes: %w", len(head), err)
		}
		head = append(head, buf[:n]...)
	}
	_, rest, _ := strings.Cut(string(head), " ")
	path, _, _ := strings.Cut(rest, " ")
	group, err := strconv.Atoi(path[strings.LastIndexByte(path, '/')+1:])
	if err != nil {
		return err
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + nonceAnswer + "\r\n\r\n"
	if _, err := writeFD(fd, []byte(answer)); err != nil {
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups[group] = append(f.groups[group], fd)
	return nil
}

// send writes a frame to each of a group. One that is not taken whole is lost:
// the floor has no memory of what it owes.
func (f *floor) send(group int, frame []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fd := range f.groups[group] {
		syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&frame[0])), uintptr(len(frame)))
	}
}

// close ends all. A connection of our own wakes the thread that accepts.
func (f *floor) close(addr string) {
	f.ended.Store(true)
	if to, err := netip.ParseAddrPort(addr); err == nil {
		if c, err := net.Dial("tcp", to.String()); err == nil {
			c.Close()
		}
	}
	f.done.Wait()
	syscall.Close(f.listener)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fds := range f.groups {
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}
}
