package main

import (
	"io"
	"net"
	"sync"
)

// proxy is a TCP proxy whose network can be cut and mended.
type proxy struct {
	net.Listener
	target  string
	running sync.WaitGroup

	mu    sync.Mutex // guards what follows
	down  bool
	conns []net.Conn
}

func startProxy(target string) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{Listener: ln, target: target}
	p.running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.carry(c) })
		}
	})
	return p, nil
}

// carry connects one client to the target, until either end or cut ends it.
func (p *proxy) carry(c net.Conn) {
	defer c.Close()
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer far.Close()
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	p.conns = append(p.conns, c, far)
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(far, c)
		far.Close()
	}()
	io.Copy(c, far)
	c.Close()
	<-done
}

// cut ends all connections, and each new one at once.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

func (p *proxy) stop() {
	p.Close()
	p.cut()
	p.running.Wait()
}
