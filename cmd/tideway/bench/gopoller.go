package bench

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// goPoller is the load client on a goroutine for each connection: for wss, and
// where there is no epoll. Its own cost is higher, and so is what a connection
// weighs here; the server does not notice.
type goPoller struct {
	sink  *sink
	opts  fleetOptions
	files sync.WaitGroup // readers
}

func newGoPoller(s *sink, opts fleetOptions) *goPoller { return &goPoller{sink: s, opts: opts} }

// netWire is a connection of the net package.
type netWire struct {
	net.Conn
	mu sync.Mutex // keeps frames whole
}

func (w *netWire) write(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.SetWriteDeadline(time.Now().Add(writePatience))
	_, err := w.Write(b)
	return err
}

func (w *netWire) close() { w.Conn.Close() }

// dialPatience is how long a handshake may take, and writePatience how long a
// server may refuse to read before a client gives up.
const (
	dialPatience  = 30 * time.Second
	writePatience = 10 * time.Second
)

func (p *goPoller) dial(ctx context.Context, c *client, request []byte) error {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	t := c.target
	d := &net.Dialer{}
	if from := sourceOf(t.addr.Addr(), c.index); from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", t.addr.String())
	if err != nil {
		return err
	}
	if tcp, ok := conn.(*net.TCPConn); ok && c.silent {
		tcp.SetReadBuffer(silentBuffer) // the server may not choose; a larger buffer only fills later
	}
	if t.secure {
		host, _, err := net.SplitHostPort(t.host)
		if err != nil {
			host = t.host
		}
		// What is measured is a server that the user named; who certified it is
		// no matter here.
		conn = tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true})
	}
	c.wire = &netWire{Conn: conn}
	if err := p.shake(c, conn, request); err != nil {
		conn.Close()
		return err
	}
	return nil
}

// silentBuffer is the receive buffer of a client that never reads, so that the
// server feels it soon.
const silentBuffer = 4096

func (p *goPoller) shake(c *client, conn net.Conn, request []byte) error {
	conn.SetDeadline(time.Now().Add(dialPatience))
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var head []byte
	buf := make([]byte, 2048)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		head = append(head, buf[:n]...)
		rest, done, err := parseAnswer(head)
		if err != nil {
			return err
		}
		if done {
			c.part = rest
			return conn.SetDeadline(time.Time{})
		}
	}
}

func (p *goPoller) add(c *client) error {
	p.files.Go(func() { p.read(c, c.wire.(*netWire)) })
	return nil
}

func (p *goPoller) read(c *client, conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		p.sink.mu.Lock()
		if n > 0 && !c.gone {
			c.part = append(c.part, buf[:n]...)
			p.sink.take(c, c.part, n)
		}
		if err != nil {
			p.sink.drop(c)
		}
		p.sink.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *goPoller) busy() time.Duration { return 0 }

func (p *goPoller) close() { p.files.Wait() }

// sources is over how many addresses of this machine connections are spread: a
// server may count those of one address, and one address has 28,000 ports.
const sources = 32

// sourceOf returns the address from which client i connects; an invalid one is
// the system's choice. Linux has all of 127.0.0.0/8, others have 127.0.0.1.
func sourceOf(to netip.Addr, i int) netip.Addr {
	if runtime.GOOS != "linux" || !to.Is4() || !to.IsLoopback() {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i%sources)})
}
