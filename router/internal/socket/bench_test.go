package socket

import (
	"io"
	"testing"

	"github.com/tideway-go/tideway/consumer"
)

// BenchmarkOffer is one delivery to a client that reads, its own read included.
func BenchmarkOffer(b *testing.B) {
	s := newServer(b, nil, echo)
	cl := dial(b, s)
	cl.SetDeadline(noDeadline)
	sock := s.socket(b)
	p := textOf(128)
	got := make([]byte, len(p.Bytes()))
	b.SetBytes(int64(len(got)))
	b.ReportAllocs()
	for b.Loop() {
		if err := sock.Offer(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(cl.Conn, got); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEcho is a message there and back.
func BenchmarkEcho(b *testing.B) {
	s := newServer(b, &Options{MessageRate: -1, FrameRate: -1, ByteRate: -1}, func(s *Socket) error {
		for {
			f, err := s.Read()
			if err != nil {
				return err
			}
			s.Offer(consumer.Prepare(f))
		}
	})
	cl := dial(b, s)
	cl.SetDeadline(noDeadline)
	msg := []byte(text(string(make([]byte, 100))))
	got := make([]byte, 102)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cl.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(cl.Conn, got); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInbound is the scanner alone, on small messages.
func BenchmarkInbound(b *testing.B) {
	msg := []byte(text(string(make([]byte, 100))))
	lim := limits{message: 64 << 10}
	var in inbound
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		in.feed(msg, 1, &lim)
	}
}
