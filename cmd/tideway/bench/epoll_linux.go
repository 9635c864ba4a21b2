package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// epoll is the load client on one thread: it waits for all descriptors at once,
// and reads into one buffer. A connection costs it a descriptor and a client.
type epoll struct {
	sink *sink
	opts fleetOptions
	fd   int
	done chan struct{} // closed when the thread has ended
	stop atomic.Bool
	tid  atomic.Int64 // of the thread

	mu      sync.Mutex // guards clients
	clients map[int32]*client
}

func newPoller(s *sink, opts fleetOptions) (poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	p := &epoll{sink: s, opts: opts, fd: fd, done: make(chan struct{}), clients: map[int32]*client{}}
	started := make(chan struct{})
	go p.run(started)
	<-started
	return p, nil
}

// rawWire is a descriptor that no runtime watches.
type rawWire struct {
	mu sync.Mutex // guards fd against reuse, and keeps frames whole
	fd int        // -1 when closed
}

func (w *rawWire) write(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var deadline time.Time
	for len(b) > 0 {
		n, err := writeFD(w.fd, b)
		b = b[n:]
		switch {
		case err == nil:
			continue
		case err != syscall.EAGAIN:
			return os.NewSyscallError("write", err)
		case deadline.IsZero():
			deadline = time.Now().Add(writePatience)
		case time.Now().After(deadline):
			return fmt.Errorf("the server did not read for %v", writePatience)
		}
		time.Sleep(200 * time.Microsecond)
	}
	return nil
}

func writeFD(fd int, b []byte) (int, error) {
	if fd < 0 {
		return 0, syscall.EBADF
	}
	n, err := syscall.Write(fd, b)
	if err == syscall.EINTR {
		err = nil
	}
	return max(n, 0), err
}

func (w *rawWire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd >= 0 {
		syscall.Close(w.fd)
		w.fd = -1
	}
}

func (p *epoll) dial(ctx context.Context, c *client, request []byte) error {
	to := c.target.addr
	family := syscall.AF_INET
	if to.Addr().Is6() {
		family = syscall.AF_INET6
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	w := &rawWire{fd: fd}
	c.wire = w
	if c.part, err = p.shake(ctx, c, fd, request); err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		w.close()
	}
	return err
}

// ipBindAddressNoPort puts off the choice of a port until connect, so that one
// port may serve several destinations (ip(7)).
const ipBindAddressNoPort = 24

// shake connects and makes the handshake. It blocks its thread: dialers are few.
func (p *epoll) shake(ctx context.Context, c *client, fd int, request []byte) (rest []byte, err error) {
	patience := syscall.NsecToTimeval(int64(dialPatience))
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &patience),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &patience))
	if err == nil && c.silent {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, silentBuffer)
	}
	to := c.target.addr
	if from := sourceOf(to.Addr(), c.index); err == nil && from.IsValid() {
		syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1) // a help, no need
		err = os.NewSyscallError("bind", syscall.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0))))
	}
	if err == nil {
		err = connectFD(fd, sockaddr(to))
	}
	if err != nil {
		return nil, err
	}
	for sent := 0; sent < len(request); {
		n, err := writeFD(fd, request[sent:])
		if err != nil {
			return nil, os.NewSyscallError("write", err)
		}
		sent += n
	}
	return readAnswer(ctx, fd)
}

// connectFD connects; a signal may interrupt it, and the kernel goes on.
func connectFD(fd int, to syscall.Sockaddr) error {
	for {
		switch err := syscall.Connect(fd, to); err {
		case syscall.EINTR, syscall.EALREADY:
		case nil, syscall.EISCONN:
			return nil
		default:
			return os.NewSyscallError("connect", err)
		}
	}
}

func readAnswer(ctx context.Context, fd int) (rest []byte, err error) {
	var head []byte
	buf := make([]byte, 2048)
	for {
		n, err := syscall.Read(fd, buf)
		switch {
		case err == syscall.EINTR && ctx.Err() == nil:
			continue
		case err == syscall.EAGAIN:
			return nil, fmt.Errorf("no answer to the handshake within %v", dialPatience)
		case err != nil:
			return nil, os.NewSyscallError("read", err)
		case n == 0:
			return nil, errors.New("the server closed the connection in its handshake")
		}
		head = append(head, buf[:n]...)
		if rest, done, err := parseAnswer(head); done || err != nil {
			return rest, err
		}
	}
}

func sockaddr(a netip.AddrPort) syscall.Sockaddr {
	if a.Addr().Is4() {
		return &syscall.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &syscall.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func (p *epoll) add(c *client) error {
	p.mu.Lock()
	p.clients[int32(c.index)] = c
	p.mu.Unlock()
	w := c.wire.(*rawWire)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd < 0 {
		return nil // it ended meanwhile, which is counted
	}
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.index)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, w.fd, &ev))
}

// run is the thread. Between two polls it naps: without that every delivery
// wakes it up, and the server pays for the wake-up.
func (p *epoll) run(started chan<- struct{}) {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	defer close(p.done)
	p.tid.Store(int64(syscall.Gettid()))
	close(started)
	events := make([]syscall.EpollEvent, 4096)
	buf := make([]byte, 512<<10)
	nap := syscall.NsecToTimespec(int64(p.opts.nap))
	for !p.stop.Load() {
		if p.opts.nap > 0 {
			syscall.Nanosleep(&nap, nil)
		}
		n, err := syscall.EpollWait(p.fd, events, 50)
		if err != nil && err != syscall.EINTR {
			panic(os.NewSyscallError("epoll_wait", err)) // a descriptor that is ours alone
		}
		if n > 0 {
			buf = p.drain(events[:n], buf)
		}
	}
}

// drain reads once from each descriptor that has something; what is left is
// told again.
func (p *epoll) drain(events []syscall.EpollEvent, buf []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sink.mu.Lock()
	defer p.sink.mu.Unlock()
	for _, ev := range events {
		c := p.clients[ev.Fd]
		if c == nil || c.gone {
			continue
		}
		if len(buf) < len(c.part)+64<<10 {
			buf = make([]byte, 2*len(c.part)+64<<10)
		}
		have := copy(buf, c.part)
		n, err := readNow(c.wire.(*rawWire).fd, buf[have:])
		switch {
		case err == syscall.EAGAIN || err == syscall.EINTR:
		case err != 0 || n == 0:
			p.sink.drop(c)
		default:
			p.sink.take(c, buf[:have+n], n)
		}
	}
	return buf
}

// readNow reads from a descriptor that does not block, and so need not tell the
// scheduler.
func readNow(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func (p *epoll) busy() time.Duration {
	d, _ := threadTime(int(p.tid.Load())) // 0 when the thread has ended
	return d
}

func (p *epoll) close() {
	p.stop.Store(true)
	<-p.done
	syscall.Close(p.fd)
}
