package socket

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// What the engine relies on inside the library, and its documentation does not
// promise. A new version that changes it fails here.

// counted notes each Write that reaches the transport.
type counted struct {
	net.Conn
	mu     sync.Mutex
	writes [][]byte
}

func (c *counted) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, bytes.Clone(p))
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// given is a ResponseWriter over a connection that is there already.
type given struct {
	http.ResponseWriter
	conn   net.Conn
	writer int // size of its buffer
}

func (g given) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return g.conn, bufio.NewReadWriter(bufio.NewReaderSize(g.conn, 16), bufio.NewWriterSize(g.conn, g.writer)), nil
}

func accepted(t testing.TB, c net.Conn, writer int) *websocket.Conn {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake)))
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.Accept(given{httptest.NewRecorder(), c, writer}, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestControlFramesAreOneWrite(t *testing.T) {
	mine, peer := net.Pipe()
	c := &counted{Conn: mine}
	ws := accepted(t, c, writeBuffer)
	read := make(chan error, 1)
	go func() {
		_, _, err := ws.Read(context.Background())
		read <- err
	}()
	long := strings.Repeat("p", maxControl)
	go io.WriteString(peer, ping(long)+ping("")+closing(4000, long[2:]))
	io.Copy(io.Discard, peer)
	if err := <-read; websocket.CloseStatus(err) != 4000 {
		t.Fatalf("Read = %v, want close code 4000", err)
	}
	var sizes []int
	for _, w := range c.writes {
		sizes = append(sizes, len(w))
	}
	if want := []int{127, 2, 127}; !slices.Equal(sizes, want) {
		t.Errorf("the pongs and the close frame were writes of %v bytes, want %v", sizes, want)
	}
}

// Why no data message may go through the library.
func TestLargeMessagesAreSplit(t *testing.T) {
	mine, peer := net.Pipe()
	go io.Copy(io.Discard, peer)
	c := &counted{Conn: mine}
	ws := accepted(t, c, writeBuffer)
	defer ws.CloseNow()
	if err := ws.Write(context.Background(), websocket.MessageBinary, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if len(c.writes) < 2 {
		t.Errorf("a message of 1,000 bytes was %d write, want more: has the library changed?", len(c.writes))
	}
}

// nowhere is a transport of no bytes.
type nowhere struct{ net.Conn }

func (nowhere) Read([]byte) (int, error)    { return 0, io.EOF }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Close() error                { return nil }

// CloseNow frees a Conn, and nothing else does: so Release always calls it.
func TestCloseNowFrees(t *testing.T) {
	const n = 1000
	per := func(end func(*websocket.Conn)) int64 {
		before := heap()
		for range n {
			end(accepted(t, nowhere{}, writeBuffer))
		}
		return (heap() - before) / n
	}
	if got := per(func(ws *websocket.Conn) { ws.CloseNow() }); got > 200 {
		t.Errorf("a Conn after CloseNow holds %d bytes, want about none", got)
	}
	if got := per(func(*websocket.Conn) {}); got < 1000 {
		t.Errorf("an abandoned Conn holds %d bytes, where it used to hold over 1,000: is CloseNow still needed?", got)
	}
}

// After the peer's close frame, and after CloseNow, the library closes what it
// was given exactly once and waits for nobody.
func TestPeersCloseEndsRead(t *testing.T) {
	mine, peer := net.Pipe()
	ws := accepted(t, mine, writeBuffer)
	go func() {
		io.WriteString(peer, closing(1000, "done"))
		io.Copy(io.Discard, peer)
	}()
	_, _, err := ws.Read(context.Background())
	if websocket.CloseStatus(err) != 1000 {
		t.Errorf("Read = %v, want close code 1000", err)
	}
	ws.CloseNow()
	if _, err := mine.Write([]byte("x")); err == nil {
		t.Error("the transport is still open after the close handshake")
	}
}
