package consumer

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
)

// inflated takes frames apart and inflates those that are marked.
func inflated(t *testing.T, wire []byte) (frames []Frame, compressed int) {
	t.Helper()
	for len(wire) > 0 {
		var first byte
		var data []byte
		first, data, wire = cutPayload(wire)
		if first&rsv1 != 0 {
			compressed++
			p, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(data), strings.NewReader("\x00\x00\xff\xff"))))
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("inflate: %v", err)
			}
			data = p
		}
		frames = append(frames, Frame{FrameType(first & 0x0f), data})
	}
	return frames, compressed
}

func TestDeflated(t *testing.T) {
	text := func(n int) Frame { return TextFrame(strings.Repeat("tide ", n)[:n]) }
	noise := make([]byte, 600)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	for _, c := range []struct {
		name       string
		frames     []Frame
		threshold  int
		compressed int
	}{
		{"nothing", nil, 1, 0},
		{"an empty message", []Frame{text(0)}, 1, 0},
		{"below the threshold", []Frame{text(511)}, 512, 0},
		{"at the threshold", []Frame{text(512)}, 512, 1},
		{"does not get smaller", []Frame{BinaryFrame(noise)}, 512, 0},
		{"each for itself", []Frame{text(600), text(10), text(600), text(70_000), BinaryFrame(noise)}, 512, 3},
		{"small ones together", []Frame{text(300), text(300)}, 512, 0},
	} {
		p := Prepare(c.frames...)
		got, compressed := inflated(t, p.Deflated(c.threshold))
		if compressed != c.compressed {
			t.Errorf("%s: %d frames compressed, want %d", c.name, compressed, c.compressed)
		}
		if len(got) != len(c.frames) {
			t.Errorf("%s: %d frames, want %d", c.name, len(got), len(c.frames))
			continue
		}
		for i, f := range got {
			if want := c.frames[i]; f.Type != want.Type || !bytes.Equal(f.Data, want.Data) {
				t.Errorf("%s: frame %d is %v with %d bytes, want %v with %d", c.name, i, f.Type, len(f.Data), want.Type, len(want.Data))
			}
		}
		if c.compressed == 0 && !bytes.Equal(p.Deflated(c.threshold), p.Bytes()) {
			t.Errorf("%s: the frames changed", c.name)
		}
	}
}

// All receivers share one result, whoever is first; a joined Prepared has its
// own; another threshold is another result.
func TestDeflatedOnce(t *testing.T) {
	one, two := Prepare(TextFrame(strings.Repeat("a", 1000))), Prepare(TextFrame(strings.Repeat("b", 1000)))
	p := concat([]*Prepared{one, two})
	results := make([][]byte, 8)
	var work sync.WaitGroup
	for i := range results {
		work.Go(func() { results[i] = p.Deflated(512) })
	}
	work.Wait()
	for i, r := range results {
		if &r[0] != &results[0][0] {
			t.Errorf("receiver %d got other bytes than receiver 0", i)
		}
	}
	if n := testing.AllocsPerRun(100, func() { p.Deflated(512) }); n != 0 {
		t.Errorf("%v allocations for each further receiver, want 0", n)
	}
	if got, n := inflated(t, p.Deflated(512)); len(got) != 2 || n != 2 {
		t.Errorf("joined: %d frames, %d of them compressed, want 2 and 2", len(got), n)
	}
	if _, n := inflated(t, p.Deflated(1001)); n != 0 {
		t.Errorf("with a higher threshold %d frames are compressed, want none", n)
	}
	if _, n := inflated(t, p.Deflated(512)); n != 2 {
		t.Errorf("the lower threshold again: %d frames compressed, want 2", n)
	}
}

func BenchmarkDeflated(b *testing.B) {
	f := TextFrame(strings.Repeat(`{"id":123,"name":"tide"},`, 40))
	b.SetBytes(int64(len(f.Data)))
	b.ReportAllocs()
	for b.Loop() {
		Prepare(f).Deflated(512)
	}
}
