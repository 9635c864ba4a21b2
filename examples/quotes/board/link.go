package board

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"time"
)

// linkSpeed is what a slow link carries, in bytes a second: a phone at the edge of
// its cell. All prices together need about fifteen times as much.
const linkSpeed = 8 << 10

// SlowLinks makes the connections slow whose path ends with /slow/: what the
// server sends leaves no faster than over a bad radio link.
func SlowLinks(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow/") {
			w = slowWriter{w}
		}
		next.ServeHTTP(w, r)
	})
}

// slowWriter hands out the connection as a slow one.
type slowWriter struct{ http.ResponseWriter }

// Unwrap is for http.ResponseController.
func (w slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w slowWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		c = slowConn{c}
	}
	return c, rw, err
}

// slowConn is a slow link. It keeps nothing back: a write returns when all of it
// has left.
type slowConn struct{ net.Conn }

// Write implements net.Conn.
func (c slowConn) Write(p []byte) (n int, err error) {
	const packet = 512
	for n < len(p) && err == nil {
		var k int
		k, err = c.Conn.Write(p[n:min(n+packet, len(p))])
		n += k
		time.Sleep(time.Duration(k) * time.Second / linkSpeed)
	}
	return n, err
}
