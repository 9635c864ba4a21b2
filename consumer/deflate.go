package consumer

import (
	"bytes"
	"compress/flate"
	"sync"
)

// twin is a Prepared's compressed form, made once.
type twin struct {
	threshold int
	once      sync.Once
	wire      []byte
}

// Deflated returns the frames as they go to a client that agreed to
// permessage-deflate (RFC 7692): those with at least threshold bytes of payload
// are compressed, each for itself, so that they inflate whatever went before and
// whatever window was agreed on. A frame that would not get smaller stays as it
// is. The first call does the work, and all that follow share its result, as
// long as they ask for the same threshold. The bytes must not be modified.
func (p *Prepared) Deflated(threshold int) []byte {
	if len(p.wire) < threshold {
		return p.wire
	}
	t := p.twin.Load()
	if t == nil {
		p.twin.CompareAndSwap(nil, &twin{threshold: threshold})
		t = p.twin.Load()
	}
	if t.threshold != threshold {
		return deflate(p.wire, threshold)
	}
	t.once.Do(func() { t.wire = deflate(p.wire, threshold) })
	return t.wire
}

// deflater is what compressing needs, which is too much (over a megabyte) to
// have one for each message.
type deflater struct {
	w      *flate.Writer
	frame  bytes.Buffer // one payload, compressed
	frames []byte
}

var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return &deflater{w: w}
}}

// maxKept is the largest buffer that is kept for the next message.
const maxKept = 1 << 20

// deflate returns wire with its larger frames compressed.
func deflate(wire []byte, threshold int) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.frames = d.frames[:0]
	smaller := false
	for rest := wire; len(rest) > 0; {
		var first byte
		var data []byte
		first, data, rest = cutPayload(rest)
		if len(data) >= threshold {
			if z := d.deflate(data); len(z) < len(data) {
				first, data, smaller = first|rsv1, z, true
			}
		}
		d.frames = appendPayload(d.frames, first, data)
	}
	if smaller {
		wire = bytes.Clone(d.frames)
	}
	if cap(d.frames)+d.frame.Cap() > maxKept {
		d.frames, d.frame = nil, bytes.Buffer{}
	}
	return wire
}

// rsv1 marks a compressed message (RFC 7692, section 6).
const rsv1 = 0x40

// deflate compresses one payload as RFC 7692, section 7.2.1, has it. The result
// holds until the next call.
func (d *deflater) deflate(data []byte) []byte {
	d.frame.Reset()
	d.w.Reset(&d.frame)
	d.w.Write(data) // a bytes.Buffer takes everything
	d.w.Flush()
	return bytes.TrimSuffix(d.frame.Bytes(), []byte{0, 0, 0xff, 0xff})
}
