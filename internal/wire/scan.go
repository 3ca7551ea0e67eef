package wire

import (
	"encoding/binary"
	"errors"
	"time"
)

// The errors of the scanner. The WebSocket library counts only the bytes of a
// message, and only after they came.
var (
	// ErrMessageTooBig means that a message is longer than the limit, by the
	// lengths that it claims.
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

// scanner follows the headers of frames in the bytes that pass by. It bounds
// what the WebSocket library does not: the number of fragments, the rate of
// control frames, and the claimed size of a message before it came. It does not
// validate frames. It belongs to the reading goroutine.
//
// If compression was negotiated, the scanner hides that from the library, which
// would keep buffers for each connection. It notes which messages are
// compressed, and removes the mark from their first frames. It leaves a mark in
// a wrong place for the library to refuse.
type scanner struct {
	limit     uint64        // bytes of a message; 0 for no limit
	remaining uint64        // bytes of the current frame, with its mask, to come
	size      uint64        // bytes of the current message so far
	begun     time.Duration // of the current message, or a control frame between two
	window    time.Duration // the second in which control frames are counted
	controls  int32
	fragments int32    // of the current message
	header    [10]byte // of the current frame, as far as it came
	have      uint8    // bytes in header
	open      bool     // in a fragmented message
	failed    bool     // a limit was broken: follow frames, but count no more
	closed    bool     // a close frame came
	deflate   bool     // messages may be compressed
	packed    bool     // the current message is compressed
	marks     []bool   // of messages not asked about: whether they are compressed
	asked     int      // how many of marks were returned
}

// compressed reports whether the next message that began is compressed.
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

// feed takes the next bytes of the stream, at the time now of any steady clock,
// and may remove marks from them. It returns how many of them may be handed on:
// all of them, or those before the first frame that breaks a limit. It returns
// that error once.
func (s *scanner) feed(p []byte, now time.Duration) (n int, err error) {
	n = len(p)
	if s.failed {
		n = 0
	}
	start := 0 // where the current frame begins in p, or 0 if it began earlier
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

// headerLen returns the length of a header without its mask, by its second
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

// isLimit reports whether an error is one of the scanner's.
func isLimit(err error) bool {
	return errors.Is(err, ErrMessageTooBig) || errors.Is(err, ErrFragments) || errors.Is(err, ErrControlFlood)
}

// frame takes a frame whose header is complete, and returns the limit that it
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

// bound returns the limit of the current message. DEFLATE makes some messages
// longer. Their true length is known after decompression.
func (s *scanner) bound() uint64 {
	const longer = 64
	if s.packed && s.limit > 0 {
		return s.limit + s.limit/8 + longer
	}
	return s.limit
}

// idle reports whether the stream is between two messages.
func (s *scanner) idle() bool { return s.have == 0 && s.remaining == 0 && !s.open }
