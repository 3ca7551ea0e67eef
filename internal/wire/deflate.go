package wire

import (
	"compress/flate"
	"errors"
	"io"
	"slices"
	"sync"
)

// ErrDeflate means that a compressed message cannot be decompressed.
var ErrDeflate = errors.New("wire: not DEFLATE data")

// Messages are compressed as in RFC 7692 without context takeover. Each message
// stands alone, so one compressed frame serves any number of connections, and
// no connection keeps a window.

const (
	rsv1 = 0x40 // marks a compressed message (RFC 7692 section 6)

	// window is how far back compressed messages of this side refer. A longer
	// payload is compressed in parts. So every client is served that grants
	// this much; Python's websockets grants no more.
	windowBits = 12
	window     = 1 << windowBits
)

// A sender leaves out syncTail and a receiver adds it (RFC 7692 section 7.2.1).
// finalTail is an empty last block, after which a flate reader ends.
const (
	syncTail  = "\x00\x00\xff\xff"
	finalTail = "\x01\x00\x00\xff\xff"
)

// deflater holds the state to compress messages, about 1.2 MB, most of which is
// compress/flate's.
type deflater struct {
	w   *flate.Writer
	out []byte
}

func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

var deflaters = sync.Pool{New: func() any {
	// The higher levels gain little on messages without context, and each
	// message would clear their tables.
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is valid
	}
	return &deflater{w: w}
}}

// maxKept is the size of the largest buffer, in bytes, that goes back into a
// pool.
const maxKept = 64 << 10

// Deflate returns a frame made by [Seal] with its payload compressed, in memory
// of its own. It returns nil if the result would not be shorter.
func Deflate(frame []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out = append(d.out[:0], make([]byte, HeaderRoom)...)
	for part := range slices.Chunk(Payload(frame), window) {
		d.w.Reset(d)
		_, err := d.w.Write(part)
		if err = errors.Join(err, d.w.Flush()); err != nil {
			panic(err) // d's Write never fails
		}
	}
	sealed := Seal(d.out[:max(len(d.out)-len(syncTail), HeaderRoom)])
	if cap(d.out) > maxKept {
		d.out = nil
	}
	if len(sealed) >= len(frame) {
		return nil
	}
	sealed[0] |= rsv1
	return slices.Clone(sealed)
}

// inflater holds the state to decompress messages, about 45 kB.
type inflater struct {
	r    io.ReadCloser // also a flate.Resetter
	data []byte        // to read first
	rest string        // to read after data
	buf  [4 << 10]byte // enough for most messages
}

var inflaters = sync.Pool{New: func() any {
	i := new(inflater)
	i.r = flate.NewReader(i)
	return i
}}

// ReadByte implements io.ByteReader, so that compress/flate reads no more than
// it needs.
func (i *inflater) ReadByte() (b byte, err error) {
	switch {
	case len(i.data) > 0:
		b, i.data = i.data[0], i.data[1:]
	case len(i.rest) > 0:
		b, i.rest = i.rest[0], i.rest[1:]
	default:
		err = io.EOF
	}
	return b, err
}

// Read implements io.Reader.
func (i *inflater) Read(p []byte) (n int, err error) {
	if len(i.data) > 0 {
		n = copy(p, i.data)
		i.data = i.data[n:]
		return n, nil
	}
	n = copy(p, i.rest)
	if i.rest = i.rest[n:]; n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// Inflate returns the payload of a compressed message decompressed, in memory
// of its own and of its size. If that is longer than limit bytes, the error is
// [ErrMessageTooBig]. Any other error is [ErrDeflate].
func Inflate(payload []byte, limit int) ([]byte, error) {
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	defer func() { i.data = nil }()
	i.data, i.rest = payload, syncTail+finalTail
	if err := i.r.(flate.Resetter).Reset(i, nil); err != nil {
		return nil, ErrDeflate
	}
	out := i.buf[:0]
	for {
		n, err := i.r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out) > limit:
			return nil, ErrMessageTooBig
		case errors.Is(err, io.EOF):
			if !i.ended() {
				return nil, ErrDeflate
			}
			return slices.Clone(out), nil
		case err != nil:
			return nil, ErrDeflate
		case len(out) == cap(out):
			size := 2 * len(out)
			if size >= limit {
				size = limit + 1 // enough to see that a message is too big
			}
			out = append(make([]byte, 0, size), out...)
		}
	}
}

// ended reports whether the message ended with its last block. That is
// finalTail, or a block that the peer has marked as the last. The octet 0x00 of
// an empty block may follow it (RFC 7692 section 7.2.3.4). Anything else would
// be lost data.
func (i *inflater) ended() bool {
	switch {
	case len(i.rest) == 0:
		return true
	case i.rest != syncTail+finalTail:
		return false
	}
	return len(i.data) == 0 || len(i.data) == 1 && i.data[0] == 0
}
