package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// socket is a WebSocket client of a few lines (RFC 6455), so that what the demo
// sends is read by other eyes than the library's.
type socket struct {
	net.Conn
	in *bufio.Reader

	mu sync.Mutex // guards writes: answers come from the reading goroutine
}

// dialSocket opens a socket at a ws URL, with the headers that a program sends.
func dialSocket(address string) (*socket, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	c, err := net.DialTimeout("tcp", u.Host, patience)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(3 * patience))
	s := &socket{Conn: c, in: bufio.NewReader(c)}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", u.RequestURI(), u.Host)
	res, err := http.ReadResponse(s.in, nil)
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("the handshake at %s got %s", address, res.Status)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return s, nil
}

const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// next returns the next text message, or "close CODE REASON" and io.EOF. It
// answers pings and the close.
func (s *socket) next() (string, error) {
	for {
		op, data, err := s.readFrame()
		if err != nil {
			return "", err
		}
		switch op {
		case opText:
			return string(data), nil
		case opPing:
			err = s.write(opPong, data)
		case opClose:
			if err := s.write(opClose, data[:2]); err != nil {
				return "", err
			}
			return fmt.Sprintf("close %d %s", binary.BigEndian.Uint16(data), data[2:]), io.EOF
		default:
			err = fmt.Errorf("unexpected frame with opcode %d", op)
		}
		if err != nil {
			return "", err
		}
	}
}

// readFrame reads a whole frame, which a server neither masks nor splits here.
func (s *socket) readFrame() (op byte, data []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(head[1])
	if n == 126 {
		var long [2]byte
		if _, err := io.ReadFull(s.in, long[:]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint16(long[:]))
	}
	if head[0]&0xf0 != 0x80 || n > 1<<16 {
		return 0, nil, fmt.Errorf("unexpected frame header %x", head)
	}
	data = make([]byte, n)
	_, err = io.ReadFull(s.in, data)
	return head[0] & 0xf, data, err
}

// write sends a frame of at most 125 bytes, masked with zeros.
func (s *socket) write(op byte, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	frame := append([]byte{0x80 | op, 0x80 | byte(len(data)), 0, 0, 0, 0}, data...)
	_, err := s.Write(frame)
	return err
}

// say sends a text message.
func (s *socket) say(text string) error { return s.write(opText, []byte(text)) }
