//go:build !386 && !s390x

package socket

import (
	"os"
	"runtime"
	"sync"
	"syscall"
)

// poller wakes connections for which bytes have arrived: one goroutine, which
// waits at an epoll descriptor that Go's own poller watches, for all that are
// parked. The zero poller is ready for use and starts with the first of them.
//
// A word of it that comes too late, for a descriptor that was closed and used
// again, wakes a reader that finds nothing and parks again.
type poller struct {
	mu      sync.Mutex // guards what follows; never held while a wire's is taken
	started bool
	file    *os.File // of the epoll descriptor; nil before the start, where that failed, and after close
	epfd    int      // its number; constant while a wire is parked
	ended   chan struct{}
	wires   []*wire // by descriptor
}

// epollOneShot is EPOLLONESHOT: after one event a descriptor is deaf until it is
// armed again.
const epollOneShot = 1 << 30

// arm has the poller wake w once. w.mu is held, and w has no verdict, so that
// the engine is not through with Close.
func (p *poller) arm(w *wire) bool {
	op := syscall.EPOLL_CTL_MOD
	if !w.polled {
		if !p.admit(w) {
			return false
		}
		op = syscall.EPOLL_CTL_ADD
	}
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | epollOneShot, Fd: w.fd}
	if syscall.EpollCtl(p.epfd, op, int(w.fd), &ev) != nil {
		return false
	}
	w.polled = true
	return true
}

// admit notes w, and starts the poller with the first.
func (p *poller) admit(w *wire) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started {
		p.started = true
		p.start()
	}
	if p.file == nil {
		return false
	}
	for len(p.wires) <= int(w.fd) {
		p.wires = append(p.wires, nil)
	}
	p.wires[w.fd] = w
	return true
}

// start makes the epoll descriptor and its goroutine. mu is held.
func (p *poller) start() {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return // out of descriptors: connections wait on goroutines instead
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return
	}
	file := os.NewFile(uintptr(fd), "epoll")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return
	}
	p.file, p.epfd, p.ended = file, fd, make(chan struct{})
	go p.run(conn)
}

// wakeBatch is how many connections are woken before others get their turn. When
// thousands send or end at once, those who are woken run first, so that whoever
// has to deliver a message waits for some of them, and not for all.
const wakeBatch = 32

// run wakes whom the kernel names, until close.
func (p *poller) run(conn syscall.RawConn) {
	defer close(p.ended)
	events := make([]syscall.EpollEvent, wakeBatch)
	for {
		n := 0
		err := conn.Read(func(fd uintptr) bool {
			for {
				var err error
				if n, err = syscall.EpollWait(int(fd), events, 0); err != syscall.EINTR {
					return n > 0
				}
			}
		})
		if err != nil {
			return
		}
		for _, ev := range events[:n] {
			if w := p.find(int(ev.Fd)); w != nil {
				w.wake()
			}
		}
		if n == len(events) {
			runtime.Gosched()
		}
	}
}

func (p *poller) find(fd int) *wire {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wires[fd]
}

// forget is called before a descriptor is closed that was armed.
func (p *poller) forget(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wires[fd] = nil
	if p.file != nil {
		// A closed descriptor leaves by itself, but for a child process that
		// has a copy of it for a moment.
		_ = syscall.EpollCtl(p.epfd, syscall.EPOLL_CTL_DEL, fd, nil)
	}
}

// close ends the poller's goroutine. Nobody is parked any more.
func (p *poller) close() {
	p.mu.Lock()
	file := p.file
	p.file, p.started = nil, true
	p.mu.Unlock()
	if file != nil {
		file.Close()
		<-p.ended
	}
}
