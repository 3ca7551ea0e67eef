package wire

import (
	"encoding/binary"
	"errors"
	"time"
)

// The limits that the scanner enforces. The WebSocket library above only counts
// the bytes of a message, and only once they have arrived.
var (
	// ErrMessageTooBig means that a message is over the limit, by the lengths
	// in its headers.
	ErrMessageTooBig = errors.New("wire: message is too big")
	// ErrFragments means that a message has too many fragments.
	ErrFragments = errors.New("wire: too many fragments")
	// ErrControlFlood means that there were too many control frames within a
	// second.
	ErrControlFlood = errors.New("wire: too many control frames")
)

const (
	maxFragments   = 1024
	maxControlRate = 100 // pings, pongs and closes per second
)

// scanner follows the frame headers in the bytes that pass through. It bounds
// what the layer above does not: the number of fragments, the rate of control
// frames, and the size of a message before it has arrived. It does not validate
// frames. It belongs to the goroutine that reads.
//
// If compression was negotiated, the scanner hides it from the layer above,
// which would keep buffers for each connection. It notes which messages are
// compressed, and removes the mark from their first frames. A mark in the wrong
// place stays there for the layer above to refuse.
type scanner struct {
	limit     uint64        // of a message, in bytes; 0: none
	remaining uint64        // bytes of the present frame that are to come, mask included
	size      uint64        // bytes of the present message until now
	begun     time.Duration // when the present message began, or a control frame between two
	window    time.Duration // the second that controls belong to
	controls  int32
	fragments int32    // of the present message
	header    [10]byte // the present frame's header, as far as it has arrived
	have      uint8    // bytes in header
	open      bool     // within a fragmented message
	failed    bool     // a limit was broken: nothing more is handed on
	closed    bool     // a close frame has come
	deflate   bool     // messages may be compressed
	packed    bool     // the present message is compressed
	marks     []bool   // of messages that have begun: whether they are compressed
	asked     int      // number of marks that were asked for
}

// compressed reports whether the next message is compressed. Each call is about
// one message, in the order in which they began.
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

// keepMarks is the largest capacity of marks that an idle connection keeps.
const keepMarks = 16

// feed takes the next bytes of the stream, and may remove marks from them. now
// is the time of any steady clock. It returns the number of bytes that may be
// handed on: all, or those before the first frame that breaks a limit. It
// returns the error of that frame once.
func (s *scanner) feed(p []byte, now time.Duration) (n int, err error) {
	n = len(p)
	if s.failed {
		n = 0
	}
	start := 0 // of the present frame in p; 0 if it began earlier
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

// unmark removes the mark of a compressed message from the first byte of a
// frame. Only the first frame of a message has one (RFC 7692 section 6).
func (s *scanner) unmark(b *byte) {
	if op := *b & 0x0f; op != opText && op != opBinary {
		return
	}
	s.packed = *b&rsv1 != 0
	*b &^= rsv1
}

// headerLen returns the length of a header without its mask, given its second
// byte.
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

// isLimit reports whether err is one of the scanner's.
func isLimit(err error) bool {
	return errors.Is(err, ErrMessageTooBig) || errors.Is(err, ErrFragments) || errors.Is(err, ErrControlFlood)
}

// frame counts a frame whose header is complete, and returns the error of the
// limit that it breaks.
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

// bound returns the limit for the present message. DEFLATE makes some messages
// longer; decompression checks their real size.
func (s *scanner) bound() uint64 {
	const longer = 64
	if s.packed && s.limit > 0 {
		return s.limit + s.limit/8 + longer
	}
	return s.limit
}

// idle reports whether the stream is between two messages.
func (s *scanner) idle() bool { return s.have == 0 && s.remaining == 0 && !s.open }
