package wire

import (
	"encoding/binary"
	"errors"
	"time"
)

// What the scanner refuses. The WebSocket library above counts the bytes of a
// message only, and only once they are there.
var (
	// ErrMessageTooBig is a message over the limit, by the lengths it claims.
	ErrMessageTooBig = errors.New("wire: message is too big")
	// ErrFragments is a message of too many fragments.
	ErrFragments = errors.New("wire: too many fragments")
	// ErrControlFlood is too many control frames within a second.
	ErrControlFlood = errors.New("wire: too many control frames")
)

const (
	maxFragments   = 1024
	maxControlRate = 100 // pings, pongs and closes per second
)

// scanner follows the frame headers in the bytes that pass by, to bound what
// the layer above does not: the number of fragments, the rate of control frames, and the
// claimed size of a message before it is there. It does not validate frames. It
// belongs to the reading goroutine.
//
// Where compression was negotiated, it hides that from the layer above, which would
// keep buffers for each connection: it notes which messages are compressed, and takes
// the mark off their first frames. A mark that may not be there it leaves to be refused.
type scanner struct {
	limit     uint64        // bytes of a message; 0: none
	remaining uint64        // bytes of the present frame, mask included, to come
	size      uint64        // bytes of the present message so far
	begun     time.Duration // when the present message, or control frame between two, began
	window    time.Duration // the second in which controls were counted
	controls  int32
	fragments int32    // of the present message
	header    [10]byte // what there is of the present frame's header
	have      uint8    // bytes of header
	open      bool     // within a fragmented message
	failed    bool     // a limit was broken: follow the frames, and count no more
	closed    bool     // a close frame came
	deflate   bool     // messages may be compressed
	packed    bool     // the present one is
	marks     []bool   // for each message that began, and was not asked for: is it?
	asked     int      // of marks
}

// compressed reports whether the next message that began, in order, is compressed.
func (s *scanner) compressed() bool {
	if !s.deflate || s.asked == len(s.marks) {
		return false
	}
	packed := s.marks[s.asked]
	if s.asked++; s.asked == len(s.marks) {
		s.marks, s.asked = s.marks[:0], 0
		if cap(s.marks) > keepMarks {
			s.marks = nil
		}
	}
	return packed
}

// keepMarks is the largest capacity of marks that an idle connection holds on to.
const keepMarks = 16

// feed takes the next bytes of the stream, at the time now of any steady clock; it may
// take marks off them. It
// returns how many of them may be handed on, which is all, or those before the first
// frame that breaks a limit, which it says once.
func (s *scanner) feed(p []byte, now time.Duration) (n int, err error) {
	n = len(p)
	if s.failed {
		n = 0
	}
	start := 0 // where the present frame begins in p, or 0: in what came earlier
	for i := 0; i < len(p); {
		if s.remaining > 0 {
			n := min(s.remaining, uint64(len(p)-i))
			s.remaining -= n
			i += int(n)
			continue
		}
		if s.have == 0 {
			start = i
			if !s.open {
				s.begun = now
			}
			if s.deflate {
				s.unmark(&p[i])
			}
		}
		s.header[s.have] = p[i]
		s.have++
		i++
		if s.have < 2 || int(s.have) < headerLen(s.header[1]) {
			continue
		}
		s.have = 0
		if broken := s.frame(now); broken != nil && !s.failed {
			s.failed = true
			n, err = start, broken
		}
	}
	return n, err
}

// unmark takes the mark of a compressed message off the first byte of a frame (RFC 7692
// section 6: only that of its first frame has one).
func (s *scanner) unmark(b *byte) {
	if op := *b & 0x0f; op != opText && op != opBinary {
		return
	}
	s.packed = *b&rsv1 != 0
	*b &^= rsv1
}

// headerLen is the length of a header without its mask, by its second byte.
func headerLen(b byte) int {
	switch b &^ maskBit {
	case 126:
		return 4
	case 127:
		return 10
	default:
		return 2
	}
}

// isLimit reports whether an error is one of the scanner's.
func isLimit(err error) bool {
	return errors.Is(err, ErrMessageTooBig) || errors.Is(err, ErrFragments) || errors.Is(err, ErrControlFlood)
}

// frame takes note of the frame whose header is complete, and returns what limit it
// breaks.
func (s *scanner) frame(now time.Duration) error {
	op, fin := s.header[0]&0x0f, s.header[0]&finBit != 0
	n := uint64(s.header[1] &^ maskBit)
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(s.header[2:]))
	case 127:
		n = binary.BigEndian.Uint64(s.header[2:])
	}
	s.remaining = n
	if s.header[1]&maskBit != 0 && n <= 1<<63-1 {
		s.remaining += 4
	}
	if op >= opClose {
		s.closed = s.closed || op == opClose
		if sec := now.Truncate(time.Second); sec != s.window {
			s.window, s.controls = sec, 0
		}
		if s.controls++; s.controls > maxControlRate {
			return ErrControlFlood
		}
	} else {
		if !s.open {
			s.size, s.fragments = 0, 0
			if s.deflate && !s.failed {
				s.marks = append(s.marks, s.packed)
			}
		}
		s.fragments++
		if s.fragments > maxFragments {
			return ErrFragments
		}
		if limit := s.bound(); limit > 0 && (n > limit || s.size+n > limit) {
			return ErrMessageTooBig
		}
		s.size += n
		s.open = !fin
	}
	return nil
}

// bound is the limit of the present message. DEFLATE makes some longer; how long they are
// in truth is seen when they are decompressed.
func (s *scanner) bound() uint64 {
	const longer = 64
	if s.packed && s.limit > 0 {
		return s.limit + s.limit/8 + longer
	}
	return s.limit
}

// idle reports whether the stream is between two messages.
func (s *scanner) idle() bool { return s.have == 0 && s.remaining == 0 && !s.open }
