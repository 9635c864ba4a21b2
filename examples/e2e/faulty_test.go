package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// faulty is a TCP proxy that fails as networks do.
type faulty struct {
	addr string
	ln   net.Listener
	wg   sync.WaitGroup

	mu    sync.Mutex // guards links
	links []*link
}

// link is one connection through the proxy.
type link struct {
	ends     [2]net.Conn
	silent   chan struct{} // closed when it passes nothing on any more
	goSilent func()
}

func startFaulty(t *testing.T, backend string) *faulty {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{addr: ln.Addr().String(), ln: ln}
	f.wg.Go(func() {
		for {
			from, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", backend)
			if err != nil {
				from.Close()
				continue
			}
			silent := make(chan struct{})
			f.pass(&link{[2]net.Conn{from, to}, silent, sync.OnceFunc(func() { close(silent) })})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		f.cut()
		f.wg.Wait()
	})
	return f
}

func (f *faulty) pass(l *link) {
	f.mu.Lock()
	f.links = append(f.links, l)
	f.mu.Unlock()
	for i := range l.ends {
		f.wg.Go(func() {
			io.Copy(valve{l.ends[1-i], l.silent}, l.ends[i])
			l.close()
		})
	}
}

func (l *link) close() {
	for _, c := range l.ends {
		c.Close()
	}
}

// valve passes bytes on until it is shut; then they vanish.
type valve struct {
	to   io.Writer
	shut chan struct{}
}

func (v valve) Write(p []byte) (int, error) {
	select {
	case <-v.shut:
		return len(p), nil
	default:
		return v.to.Write(p)
	}
}

// each does something with every connection so far.
func (f *faulty) each(do func(*link)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.links {
		do(l)
	}
}

// cut ends every connection.
func (f *faulty) cut() { f.each((*link).close) }

// silence ends none, but none passes anything on any more.
func (f *faulty) silence() { f.each(func(l *link) { l.goSilent() }) }
