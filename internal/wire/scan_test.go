package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// lying returns the header of a client's frame that claims n bytes, in the
// longest form.
func lying(op byte, n uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{finBit | op, maskBit | 127}, n)
	return append(b, 1, 2, 3, 4)
}

func repeat(f []byte, n int) []byte { return bytes.Repeat(f, n) }

// fragmented returns a message in as many frames as there are parts.
func fragmented(parts ...string) (b []byte) {
	for i, p := range parts {
		op := byte(opContinuation)
		if i == 0 {
			op = opText
		}
		b = append(b, clientFrame(op, i == len(parts)-1, []byte(p))...)
	}
	return b
}

// scans are streams, which end in a refused frame if err is set.
var scans = []struct {
	name  string
	limit int
	good  []byte // frames before the refused one
	bad   []byte
	err   error
}{
	{"nothing", 10, nil, nil, nil},
	{"messages at the limit", 10, repeat(text("0123456789"), 3), nil, nil},
	{"over the limit", 10, text("0123456789"), text("01234567890"), ErrMessageTooBig},
	{"no limit", 0, repeat(text(string(make([]byte, 70000))), 2), nil, nil},
	{"limit over fragments", 10, fragmented("01234", "", "56789"), nil, nil},
	{"over the limit in fragments", 10, fragmented("01234", "5678", "")[:6+5+6+4], clientFrame(opContinuation, true, []byte("90")), ErrMessageTooBig},
	{"a new message counts anew", 10, slices.Concat(fragmented("01234", "56789"), fragmented("01234", "56789")), nil, nil},
	{"controls count for no message", 10, slices.Concat(clientFrame(opText, false, []byte("01234")),
		clientFrame(opPing, true, make([]byte, 125)), clientFrame(opContinuation, true, []byte("56789"))), nil, nil},
	{"claims much", 10, text("ok"), lying(opText, 1<<40), ErrMessageTooBig},
	{"claims the most", 10, nil, lying(opBinary, math.MaxUint64), ErrMessageTooBig},
	{"claims the most in a continuation", 10, clientFrame(opText, false, []byte("0123456789")), lying(opContinuation, math.MaxUint64), ErrMessageTooBig},
	{"claims the most in a control frame", 10, slices.Concat(lying(opPing, math.MaxUint64), repeat(Ping, 200)), nil, nil},
	{"claims much within the limit", 1 << 50, lying(opText, 1<<40), nil, nil},
	{"most fragments", 10, slices.Concat(clientFrame(opText, false, nil), repeat(clientFrame(opContinuation, false, nil), 1022), clientFrame(opContinuation, true, nil)), nil, nil},
	{"too many fragments", 10, slices.Concat(clientFrame(opText, false, nil), repeat(clientFrame(opContinuation, false, nil), 1023)), clientFrame(opContinuation, true, nil), ErrFragments},
	{"too many fragments among controls", 10, slices.Concat(clientFrame(opText, false, nil), repeat(slices.Concat(clientFrame(opContinuation, false, nil), repeat(clientFrame(opPing, true, nil), 2)), 50), repeat(clientFrame(opContinuation, false, nil), 973)),
		clientFrame(opContinuation, false, nil), ErrFragments},
	{"most controls", 10, slices.Concat(repeat(clientFrame(opPing, true, []byte("?")), 50), repeat(clientFrame(opPong, true, nil), 50), text("ok")), nil, nil},
	{"too many controls", 10, repeat(clientFrame(opPing, true, []byte("?")), 100), clientFrame(opClose, true, nil), ErrControlFlood},
	{"too many controls, without masks", 10, repeat(Ping, 100), Ping, ErrControlFlood},
	{"too many controls in a message", 10, slices.Concat(clientFrame(opText, false, nil), repeat(clientFrame(opPong, true, nil), 100)), clientFrame(opPong, true, nil), ErrControlFlood},
}

func newScanner(limit int) *scanner { return &scanner{limit: uint64(limit)} }

func TestScanner(t *testing.T) {
	for _, tt := range scans {
		t.Run(tt.name, func(t *testing.T) {
			stream := slices.Concat(tt.good, tt.bad)
			s := newScanner(tt.limit)
			n, err := s.feed(stream, time.Second)
			if !errors.Is(err, tt.err) || n != len(tt.good) {
				t.Errorf("at once: %d bytes, %v; want %d, %v", n, err, len(tt.good), tt.err)
			}
			checkPieces(t, stream, tt.limit, func(int) int { return 1 })
		})
	}
}

// checkPieces feeds stream in pieces, and requires the same result as from one
// piece. cut returns the length of the next piece, given how many bytes are
// left.
func checkPieces(t *testing.T, stream []byte, limit int, cut func(left int) int) {
	t.Helper()
	whole := newScanner(limit)
	wantN, wantErr := whole.feed(stream, time.Second)

	pieces := newScanner(limit)
	handedOn, broken := 0, error(nil)
	for at := 0; at < len(stream); {
		end := at + cut(len(stream)-at)
		n, err := pieces.feed(stream[at:end], time.Second)
		switch {
		case broken != nil && (n > 0 || err != nil):
			t.Fatalf("after %v: %d bytes, %v", broken, n, err)
		case broken == nil && err == nil && n != end-at:
			t.Fatalf("%d bytes of %d handed on, and no error", n, end-at)
		case err != nil:
			broken = err
		}
		handedOn += n
		at = end
	}
	// The beginning of the refused header may be handed on.
	most := wantN
	if wantErr != nil {
		most += len(whole.header) - 1
	}
	if !errors.Is(broken, wantErr) || handedOn < wantN || handedOn > most {
		t.Fatalf("in pieces: %d bytes, %v; at once: %d, %v", handedOn, broken, wantN, wantErr)
	}
	if !reflect.DeepEqual(pieces, whole) {
		t.Fatalf("in pieces: %+v; at once: %+v", *pieces, *whole)
	}
}

// checkReference compares feed with a simple parser of the whole stream.
func checkReference(t *testing.T, stream []byte, limit int) {
	t.Helper()
	s := newScanner(limit)
	n, err := s.feed(stream, time.Second)
	wantN, closed, wantErr := reference(stream, uint64(limit))
	if n != wantN || s.closed != closed || !errors.Is(err, wantErr) {
		t.Fatalf("%d bytes, closed: %t, %v; want %d, %t, %v", n, s.closed, err, wantN, closed, wantErr)
	}
}

// reference returns how much of stream comes before a frame that breaks a
// limit, the limit, and whether there is a close frame anywhere in the stream.
func reference(stream []byte, limit uint64) (good int, closed bool, err error) {
	var size, fragments, controls uint64
	breaks := func(at int, limit error) {
		if err == nil {
			good, err = at, limit
		}
	}
	for at := 0; ; {
		n, rest, ok := parseHeader(stream[at:])
		if !ok {
			break
		}
		first := stream[at]
		switch {
		case first&8 != 0:
			closed = closed || first&0xf == opClose
			if controls++; controls > 100 {
				breaks(at, ErrControlFlood)
			}
		case err == nil: // nothing counts after the first error
			fragments++
			switch {
			case fragments > 1024:
				breaks(at, ErrFragments)
			case limit > 0 && (n > limit || n > limit-size):
				breaks(at, ErrMessageTooBig)
			}
			if size += n; first&finBit != 0 {
				size, fragments = 0, 0
			}
		}
		if stream[at+1]&maskBit != 0 && n < math.MaxUint64-4 {
			n += 4
		}
		if uint64(len(rest)) < n {
			break
		}
		at = len(stream) - len(rest[n:])
	}
	if err == nil {
		good = len(stream)
	}
	return good, closed, err
}

// parseHeader returns the length that a frame claims, and the bytes after it.
func parseHeader(b []byte) (n uint64, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	n, rest = uint64(b[1]&0x7f), b[2:]
	switch {
	case n == 126 && len(rest) >= 2:
		return uint64(binary.BigEndian.Uint16(rest)), rest[2:], true
	case n == 127 && len(rest) >= 8:
		return binary.BigEndian.Uint64(rest), rest[8:], true
	}
	return n, rest, n < 126
}

// randomStream returns frames as they come, some of them wrong.
func randomStream(rng *rand.Rand) (b []byte) {
	ops := []byte{opText, opBinary, opContinuation, opContinuation, opContinuation, opPing, opPong, opClose}
	for range rng.IntN(400) {
		n := rng.IntN(8)
		switch rng.IntN(60) {
		case 0:
			n = 100 + rng.IntN(60)
		case 1:
			n = 65530 + rng.IntN(12)
		}
		op, fin := ops[rng.IntN(len(ops))], rng.IntN(8) == 0
		f := clientFrame(op, fin, make([]byte, n))
		if rng.IntN(100) == 0 {
			f = slices.Concat([]byte{op | finBit, 0}) // no mask, no payload
		}
		b = append(b, f...)
	}
	return b[:len(b)-rng.IntN(min(len(b), 10)+1)]
}

func TestScannerInPieces(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			stream, limit := randomStream(rng), []int{0, 20, 200, 1 << 20}[rng.IntN(4)]
			checkReference(t, stream, limit)
			checkPieces(t, stream, limit, func(int) int { return 1 })
			checkPieces(t, stream, limit, func(left int) int { return 1 + rng.IntN(min(left, 40)) })
			checkPieces(t, stream, limit, func(left int) int { return 1 + rng.IntN(left) })
		})
	}
}

func FuzzScanner(f *testing.F) {
	for _, tt := range scans {
		if stream := slices.Concat(tt.good, tt.bad); len(stream) < 4<<10 {
			f.Add(stream, tt.limit, uint64(len(stream)))
		}
	}
	for seed := range uint64(3) {
		f.Add(randomStream(rand.New(rand.NewPCG(seed, 1)))[:100], 20, seed)
	}
	f.Fuzz(func(t *testing.T, stream []byte, limit int, cuts uint64) {
		if limit < 0 {
			return
		}
		rng := rand.New(rand.NewPCG(cuts, 0))
		checkPieces(t, stream, limit, func(left int) int { return 1 + rng.IntN(left) })
		checkReference(t, stream, limit)
	})
}

func TestScannerControlRate(t *testing.T) {
	s := newScanner(10)
	second := repeat(clientFrame(opPing, true, nil), maxControlRate)
	for i := range 5 {
		now := time.Duration(i) * time.Second
		for j := range second {
			if _, err := s.feed(second[j:j+1], now); err != nil {
				t.Fatalf("second %d, byte %d: %v", i, j, err)
			}
		}
	}
	over := clientFrame(opPing, true, nil)
	if _, err := s.feed(over, 5*time.Second-1); !errors.Is(err, ErrControlFlood) {
		t.Errorf("one more within the last second: %v", err)
	}
}

func TestScannerIdle(t *testing.T) {
	s := newScanner(0)
	at := time.Duration(0)
	feed := func(b []byte, idle bool, begun time.Duration) {
		t.Helper()
		for i := range b {
			if _, err := s.feed(b[i:i+1], at); err != nil {
				t.Fatal(err)
			}
			if last := i == len(b)-1; s.idle() != (last && idle) {
				t.Errorf("at %v, after byte %d of %d: idle is %t", at, i, len(b), s.idle())
			}
			if s.begun != begun {
				t.Errorf("at %v: a message that began at %v, want %v", at, s.begun, begun)
			}
		}
		at++
	}
	if !s.idle() {
		t.Error("a new one is not idle")
	}
	feed(text("whole"), true, 0)
	feed(clientFrame(opText, false, []byte("in parts")), false, 1)
	feed(clientFrame(opPing, true, []byte("between")), false, 1)
	feed(clientFrame(opContinuation, true, nil), true, 1)
	feed(clientFrame(opPong, true, nil), true, 4)
	feed(text("again"), true, 5)
}

// A peer that sends without a pause is not in one message all the time.
func TestScannerBegunInAStream(t *testing.T) {
	s := newScanner(0)
	stream := repeat(text("0123456789"), 100)
	const step = 7 // does not divide a frame: most ends are in one
	for at := 0; at+step <= len(stream); at += step {
		now := time.Duration(at)
		if _, err := s.feed(stream[at:at+step], now); err != nil {
			t.Fatal(err)
		}
		if !s.idle() && now-s.begun > 3*step {
			t.Fatalf("at %d: the message began at %d", now, s.begun)
		}
	}
}
