package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// stranger is a client that keeps no rule: raw bytes on a TCP connection.
type stranger struct {
	net.Conn
	in *bufio.Reader
}

// intrude completes a handshake and returns the bare connection, or the answer
// that refused it.
func intrude(t *testing.T, addr, path string) (*stranger, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path, addr)
	in := bufio.NewReader(c)
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, response
	}
	return &stranger{c, in}, nil
}

// masked is a client's frame (RFC 6455, section 5.2) under a mask of zeros.
func masked(head byte, payload string) []byte {
	f := []byte{head}
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	default:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	}
	return append(append(f, 0, 0, 0, 0), payload...)
}

// flood writes the same frame until the server has had enough.
func (s *stranger) flood(frame []byte) {
	s.SetWriteDeadline(time.Now().Add(20 * time.Second))
	batch := bytes.Repeat(frame, 100)
	for range 1000 {
		if _, err := s.Write(batch); err != nil {
			return
		}
	}
}

// closeCode reads to the server's close frame and returns its code and reason,
// or 0 when there is none.
func (s *stranger) closeCode() (int, string) {
	s.SetReadDeadline(time.Now().Add(40 * time.Second))
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(s.in, head); err != nil {
			return 0, err.Error()
		}
		size := int(head[1])
		if size == 126 {
			more := make([]byte, 2)
			if _, err := io.ReadFull(s.in, more); err != nil {
				return 0, err.Error()
			}
			size = int(binary.BigEndian.Uint16(more))
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(s.in, payload); err != nil {
			return 0, err.Error()
		}
		if head[0] == 0x88 && size >= 2 {
			return int(binary.BigEndian.Uint16(payload)), string(payload[2:])
		}
	}
}

// Each stranger ends as the limits say, and whoever else is in the room notices
// nothing.
func TestStrangers(t *testing.T) {
	t.Parallel() // most of it waits
	d := startDemo(t)
	honest := dial(t, d.room("lobby"))
	n := 0
	unharmed := func(t *testing.T) {
		t.Helper()
		n++
		m := says("honest", fmt.Sprint("still here ", n))
		honest.say(t, m)
		honest.next(t, m)
	}
	for _, c := range []struct {
		name string
		act  func(s *stranger)
		code int
		says string
	}{
		{"floods with empty fragments", func(s *stranger) {
			s.Write(masked(0x01, "a"))
			s.flood(masked(0x00, ""))
		}, 4129, "frames"},
		{"floods with pings", func(s *stranger) { s.flood(masked(0x89, "x")) }, 4129, "ping"},
		{"floods with messages", func(s *stranger) { s.flood(masked(0x81, `{"type":"chat.message","user":"s","text":""}`)) }, 4129, "messages"},
		{"sends what is not UTF-8", func(s *stranger) { s.Write(masked(0x81, "\xff\xfe")) }, 1007, "UTF-8"},
		{"sends what is not JSON", func(s *stranger) { s.Write(masked(0x81, "hello")) }, 1007, "JSON"},
		{"sends binary", func(s *stranger) { s.Write(masked(0x82, "{}")) }, 1003, "text"},
		{"sends without a mask", func(s *stranger) { s.Write([]byte{0x81, 1, 'a'}) }, 1002, "mask"},
		{"sends more than a message may hold", func(s *stranger) {
			s.Write([]byte{0x81, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0})
		}, 1009, "65536"},
		{"dribbles a message", func(s *stranger) {
			s.Write([]byte{0x81}) // one byte of a frame, and then nothing
		}, 1008, "30s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, refused := intrude(t, d.addr, "/ws/chat/lobby/")
			if refused != nil {
				t.Fatalf("refused with %s", refused.Status)
			}
			done := make(chan struct{})
			go func() { defer close(done); c.act(s) }()
			code, reason := s.closeCode()
			if code != c.code || !strings.Contains(reason, c.says) {
				t.Errorf("closed with %d %q, want %d and a word of %q", code, reason, c.code, c.says)
			}
			unharmed(t)
			s.Close()
			<-done
		})
	}
	t.Run("says close", func(t *testing.T) {
		s, _ := intrude(t, d.addr, "/ws/chat/lobby/")
		s.Write(masked(0x81, `{"type":"close"}`))
		s.SetReadDeadline(time.Now().Add(20 * time.Second))
		head := make([]byte, 2)
		if _, err := io.ReadFull(s.in, head); err != nil || head[0] != 0x81 {
			t.Errorf("got frame %x, %v; want a text that refuses the message", head, err)
		}
		unharmed(t)
	})
	t.Run("asks for a room of 5,000 letters", func(t *testing.T) {
		_, refused := intrude(t, d.addr, "/ws/chat/"+strings.Repeat("x", 5000)+"/")
		if refused == nil || refused.StatusCode != http.StatusBadRequest {
			t.Errorf("got %+v, want 400", refused)
		}
		unharmed(t)
	})
	t.Run("never reads", func(t *testing.T) {
		s, _ := intrude(t, d.addr, "/ws/chat/lobby/")
		nc, err := nats.Connect("nats://"+d.nats, nats.Timeout(20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		text := strings.Repeat("x", 8000)
		for i := range 1500 { // 12 MB, more than its queue and the kernel hold
			m := says("loud", fmt.Sprint(i, text))
			if err := nc.Publish("channels.grp.chat.lobby", []byte(m.json())); err != nil {
				t.Fatal(err)
			}
			honest.next(t, m)
		}
		if code, reason := s.closeCode(); code != 4108 {
			t.Errorf("closed with %d %q, want 4108", code, reason)
		}
		unharmed(t)
	})
	d.stop()
}
