package load

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Marker is the first byte of the payload of every measured message. A server
// sends it nowhere else, so counting it counts messages, even if the server
// joins several into one frame. JSON does not escape it.
const Marker = '~'

// stampLen is the length of the time after a Marker: nanoseconds in
// hexadecimal.
const stampLen = 16

// words are common English words. A text of them compresses about as well as a
// real one.
var words = strings.Fields("the of and to in is you that it he was for on are as with his they at be this have from " +
	"or one had by word but not what all were we when your can said there use an each which she do how their if will up " +
	"other about out many then them these so some her would make like him into time has look two more write go see number " +
	"no way could people my than first water been call who its now find long down day did get come made may part " +
	"tomorrow seven station train thanks really sounds good waiting message picture please maybe sorry again never")

// MinPayload is the smallest size of a payload in bytes: a Marker and a time.
const MinPayload = 1 + stampLen

// Payload returns a payload of size bytes, at least MinPayload, that carries a
// time. The rest is a text that depends on the time.
func Payload(size int, at time.Duration) string {
	b := make([]byte, 0, size+16)
	b = fmt.Appendf(b, "%c%0*x", Marker, stampLen, uint64(at))
	rnd := rand.NewPCG(uint64(at), 0)
	for len(b) < size {
		b = append(append(b, ' '), words[rnd.Uint64()%uint64(len(words))]...)
	}
	return string(b[:size])
}

// stamps calls f with the time of each message in a payload, and returns the
// number of messages.
func stamps(p []byte, f func(time.Duration)) (n int) {
	for {
		i := bytes.IndexByte(p, Marker)
		if i < 0 {
			return n
		}
		n++
		p = p[i+1:]
		if len(p) < stampLen {
			return n
		}
		if ns, err := strconv.ParseUint(string(p[:stampLen]), 16, 64); err == nil {
			f(time.Duration(ns))
		}
	}
}

// Opcodes of RFC 6455 section 5.2.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa
)

// ClientFrame returns a masked frame (RFC 6455 section 5.3). All frames have
// the same mask, since no proxy here needs protection.
func ClientFrame(op byte, payload string) []byte {
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	n := len(payload)
	b := make([]byte, 0, n+14)
	b = append(b, 0x80|op)
	switch {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, mask[:]...)
	for i := range n {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// rsv1 is the bit of a compressed message (RFC 7692 section 6).
const rsv1 = 0x40

// deflater compresses messages of clients, each on its own (RFC 7692 section
// 7.2.1).
type deflater struct {
	w   *flate.Writer
	out bytes.Buffer
}

func newDeflater() (*deflater, error) {
	d := &deflater{}
	var err error
	d.w, err = flate.NewWriter(&d.out, flate.BestSpeed)
	return d, err
}

// frame returns text as a compressed frame.
func (d *deflater) frame(text string) []byte {
	d.out.Reset()
	d.w.Reset(&d.out)
	_, _ = io.WriteString(d.w, text) // a Buffer never fails
	_ = d.w.Flush()
	b := ClientFrame(opText, strings.TrimSuffix(d.out.String(), "\x00\x00\xff\xff"))
	b[0] |= rsv1
	return b
}

var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

// inflate returns a payload decompressed, or less if it is malformed. It may
// write behind the payload.
func inflate(p []byte) []byte {
	r := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(r)
	whole := bytes.NewReader(append(p, "\x00\x00\xff\xff\x01\x00\x00\xff\xff"...))
	if r.(flate.Resetter).Reset(whole, nil) != nil {
		return nil
	}
	b, _ := io.ReadAll(r) // a missing message is noticed when they are counted
	return b
}

// sink receives the frames of a stream.
type sink interface {
	// want reports whether to keep a frame and pass it to frame. Markers are
	// counted in the others.
	want(op byte, n uint64) bool
	frame(op byte, payload []byte)
}

// stream parses the frames in the bytes from a server, which may be cut
// anywhere. It parses no more than is needed to count messages.
type stream struct {
	head   [10]byte
	have   int
	op     byte
	packed bool // compressed
	keep   bool
	left   uint64 // of the current frame's payload
	within bool   // the header of a frame is complete
	kept   []byte
}

// feed takes the next bytes. It returns how many messages began in frames that
// s does not want.
func (st *stream) feed(p []byte, s sink) (messages int) {
	for len(p) > 0 {
		if !st.within {
			n, ok := st.header(p)
			p = p[n:]
			if !ok {
				return messages
			}
			if st.keep = s.want(st.op, st.left); st.packed && !st.keep {
				messages++ // once a client has settled, servers compress nothing else
			}
		}
		part := p[:min(uint64(len(p)), st.left)]
		if st.keep {
			st.kept = append(st.kept, part...)
		} else if !st.packed {
			messages += bytes.Count(part, []byte{Marker})
		}
		p = p[len(part):]
		st.left -= uint64(len(part))
		st.within = st.left > 0
		if st.keep && !st.within {
			p := st.kept
			if st.packed {
				p = inflate(p)
			}
			s.frame(st.op, p)
			st.kept = st.kept[:0]
		}
	}
	return messages
}

// header takes the bytes of a frame's header from p, and reports whether the
// header is complete.
func (st *stream) header(p []byte) (n int, ok bool) {
	for n < len(p) {
		st.head[st.have] = p[n]
		st.have++
		n++
		if st.have >= 2 && st.have == headerLen(st.head[1]) {
			st.have = 0
			st.op, st.packed = st.head[0]&0x0f, st.head[0]&rsv1 != 0
			st.left = payloadLen(st.head)
			st.within = true
			return n, true
		}
	}
	return n, false
}

func headerLen(b byte) int {
	switch b & 0x7f {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}

func payloadLen(h [10]byte) uint64 {
	switch n := h[1] & 0x7f; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		return binary.BigEndian.Uint64(h[2:])
	default:
		return uint64(n)
	}
}
