package wire

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func noise(n int) []byte {
	rng := rand.New(rand.NewPCG(7, 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// packed returns data compressed as a client would.
func packed(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	if err = errors.Join(err, w.Flush()); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte(syncTail))
}

func TestDeflate(t *testing.T) {
	line := `{"type":"room-message","room":"lobby","data":{"text":"as long as it is short"}}` + "\n"
	for _, n := range []int{1, 2, 10, 50, 100, 822, 2000} {
		payload := []byte(strings.Repeat(line, n))
		before := sealed(payload)
		keep := bytes.Clone(before)
		f := Deflate(before)
		if !bytes.Equal(before, keep) {
			t.Fatalf("%d lines: the plain frame was changed", n)
		}
		if f == nil || len(f) >= len(before) {
			t.Fatalf("%d lines: %d bytes of %d", n, len(f), len(before))
		}
		if f[0] != finBit|rsv1|opText {
			t.Errorf("%d lines: the frame begins with %#x", n, f[0])
		}
		if got, err := Inflate(Payload(f), len(payload)); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d lines: %d bytes again, %v", n, len(got), err)
		}
		f[0] &^= rsv1
		if got := parseAll(t, f); len(got) != 1 {
			t.Errorf("%d lines: %d frames", n, len(got))
		}
	}
	for _, payload := range [][]byte{nil, []byte("x"), noise(300), noise(100_000)} {
		if f := Deflate(sealed(payload)); f != nil {
			t.Errorf("%d bytes that cannot be compressed have become %d", len(payload), len(f))
		}
	}
}

// TestDeflateWindow: compressed data refers back by no more than the promised
// window, so noise that is repeated beyond it stays noise.
func TestDeflateWindow(t *testing.T) {
	if f := Deflate(sealed(bytes.Repeat(noise(window/4), 4))); f == nil {
		t.Error("repetitions within the window were not found")
	}
	if f := Deflate(sealed(bytes.Repeat(noise(window+1), 4))); f != nil {
		t.Errorf("repetitions beyond the window were found: %d bytes", len(f))
	}
}

// TestInflate has the examples of RFC 7692 section 7.2.3, and malformed data.
func TestInflate(t *testing.T) {
	for _, tt := range []struct {
		name, payload, want string
		err                 error
	}{
		{"one block", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello", nil},
		{"no compression", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello", nil},
		{"BFINAL", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello", nil},
		{"two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello", nil},
		{"empty", "\x00", "", nil},
		{"nothing, not even an empty block", "", "", ErrDeflate},
		{"BFINAL, then no octet", "\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello", nil},
		{"BFINAL, then another octet", "\xf3\x48\xcd\xc9\xc9\x07\x00\x01", "", ErrDeflate},
		{"BFINAL, then more", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", "", ErrDeflate},
		{"cut off", "\xf2\x48\xcd\xc9", "", ErrDeflate},
		{"a stored block that eats the tail", "\x00\x07\x00\xf8\xffHello", "", ErrDeflate},
		{"a last block that eats the tail", "\x01\x05\x00\xfa\xffHel", "", ErrDeflate},
		{"no such block", "\xff\xff\xff", "", ErrDeflate},
		{"context taken over", "\xf2\x00\x11\x00\x00", "", ErrDeflate},
	} {
		got, err := Inflate([]byte(tt.payload), 100)
		if string(got) != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v; want %q, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}

func TestInflateLimit(t *testing.T) {
	for _, n := range []int{0, 1, 100, 4095, 4096, 4097, 8192, 65_535, 65_536, 65_537, 200_000} {
		payload := packed(t, bytes.Repeat([]byte("x"), n))
		if got, err := Inflate(payload, n); err != nil || len(got) != n {
			t.Errorf("%d bytes with that limit: %d, %v", n, len(got), err)
		}
		if n == 0 {
			continue
		}
		if got, err := Inflate(payload, n-1); !errors.Is(err, ErrMessageTooBig) {
			t.Errorf("%d bytes with one too few: %d, %v", n, len(got), err)
		}
	}
}

// TestInflateBomb: a message that would become huge costs no memory. In all
// there is a buffer for the limit, and before it those of half, a quarter, and
// so on.
func TestInflateBomb(t *testing.T) {
	const limit = 256 << 10
	bomb := packed(t, make([]byte, 16<<20))
	if len(bomb) > limit {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	allocated := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	// Fills the pool. With the race detector, the pool may forget it.
	_, _ = Inflate(bomb, limit)
	before := allocated()
	_, err := Inflate(bomb, limit)
	after := allocated()
	if !errors.Is(err, ErrMessageTooBig) {
		t.Error(err)
	}
	const pooled = 64 << 10
	if spent := after - before; spent > 2*limit+pooled {
		t.Errorf("%d bytes allocated for a limit of %d", spent, limit)
	}
}

// clientMessage is a message of a client: whether it is marked, and its
// fragments.
func clientMessage(op byte, marked bool, fragments ...string) (stream []byte) {
	for i, text := range fragments {
		f := clientFrame(op, i == len(fragments)-1, []byte(text))
		if marked && i == 0 {
			f[0] |= rsv1
		}
		op = opContinuation
		stream = append(stream, f...)
	}
	return stream
}

func TestScannerCompressed(t *testing.T) {
	illegalPing := clientFrame(opPing, true, nil)
	illegalPing[0] |= rsv1
	illegalRest := clientFrame(opContinuation, true, []byte("b"))
	illegalRest[0] |= rsv1
	in := slices.Concat(
		clientMessage(opText, false, "plain"),
		clientMessage(opText, true, "compressed"),
		clientMessage(opBinary, true, "", "in", "", "three"),
		clientFrame(opPing, true, []byte("?")),
		clientMessage(opText, false, "pl", "ain"),
		clientMessage(opText, true, ""),
		illegalPing,
		clientFrame(opText, false, []byte("a")), illegalRest,
	)
	out := slices.Concat(
		clientMessage(opText, false, "plain"),
		clientMessage(opText, false, "compressed"),
		clientMessage(opBinary, false, "", "in", "", "three"),
		clientFrame(opPing, true, []byte("?")),
		clientMessage(opText, false, "pl", "ain"),
		clientMessage(opText, false, ""),
		illegalPing,
		clientFrame(opText, false, []byte("a")), illegalRest,
	)
	want := []bool{false, true, true, false, true, false}
	for piece := 1; piece <= len(in); piece++ {
		s := newScanner(1000)
		s.deflate = true
		stream := bytes.Clone(in)
		for part := range slices.Chunk(stream, piece) {
			if n, err := s.feed(part, 0); n != len(part) || err != nil {
				t.Fatalf("in pieces of %d: %d of %d, %v", piece, n, len(part), err)
			}
		}
		if !bytes.Equal(stream, out) {
			t.Fatalf("in pieces of %d: handed on\n%x, want\n%x", piece, stream, out)
		}
		for i, w := range want {
			if got := s.compressed(); got != w {
				t.Errorf("in pieces of %d: message %d is compressed: %t", piece, i, got)
			}
		}
		if s.compressed() || len(s.marks) != 0 {
			t.Errorf("in pieces of %d: marks are left", piece)
		}
	}
}

// TestScannerCompressedLimit: DEFLATE may make a message longer, but not by
// much.
func TestScannerCompressedLimit(t *testing.T) {
	const limit = 64 << 10
	stored := packed(t, noise(limit))
	if len(stored) <= limit {
		t.Fatalf("noise was compressed to %d bytes", len(stored))
	}
	feed := func(message []byte) error {
		s := newScanner(limit)
		s.deflate = true
		_, err := s.feed(message, 0)
		return err
	}
	if err := feed(clientMessage(opText, true, string(stored))); err != nil {
		t.Errorf("%d bytes for %d: %v", len(stored), limit, err)
	}
	if err := feed(clientMessage(opText, true, string(noise(limit/4*5)))); !errors.Is(err, ErrMessageTooBig) {
		t.Errorf("a quarter more: %v", err)
	}
	if err := feed(clientMessage(opText, false, string(noise(limit+1)))); !errors.Is(err, ErrMessageTooBig) {
		t.Errorf("not compressed, one byte more: %v", err)
	}
}

// TestDiscardCompressed: nobody asks about messages that are discarded, so no
// marks may pile up.
func TestDiscardCompressed(t *testing.T) {
	server, client := net.Pipe()
	defer func() { _ = client.Close() }()
	c := New(server, clientMessage(opText, true, "early"), Limits{Outbox: 1 << 10, Deflate: true})
	go func() {
		for range 100 {
			_, _ = client.Write(clientMessage(opText, true, "late")) // the reader would notice
		}
		_, _ = client.Write(clientFrame(opClose, true, nil))
	}()
	c.Discard()
	if n := len(c.in.scan.marks); n > 0 {
		t.Errorf("%d marks have gathered", n)
	}
}

// FuzzInflate compares with a simple use of compress/flate.
func FuzzInflate(f *testing.F) {
	f.Add([]byte("\xf2\x48\xcd\xc9\xc9\x07\x00"), 5)
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), 4)
	f.Add(packed(f, noise(5000)), 5000)
	f.Add(packed(f, make([]byte, 100_000)), 65_536)
	f.Fuzz(func(t *testing.T, payload []byte, limit int) {
		if limit < 0 || limit > 1<<20 {
			return
		}
		got, err := Inflate(payload, limit)
		r := flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader(syncTail+finalTail)))
		want, refErr := io.ReadAll(io.LimitReader(r, int64(limit)+1))
		switch {
		case err == nil && (refErr != nil || !bytes.Equal(got, want)):
			t.Errorf("%d bytes; compress/flate has %d, %v", len(got), len(want), refErr)
		case errors.Is(err, ErrMessageTooBig) != (len(want) > limit):
			t.Errorf("%v; compress/flate has %d bytes of at most %d", err, len(want), limit)
		}
	})
}

func FuzzDeflate(f *testing.F) {
	f.Add([]byte(`{"type":"room-message"}`), 1)
	f.Add([]byte("abc"), 10_000)
	f.Fuzz(func(t *testing.T, part []byte, times int) {
		if times < 1 || times > 1<<17 || len(part)*times > 1<<17 {
			return
		}
		payload := bytes.Repeat(part, times)
		frame := Deflate(sealed(payload))
		if frame == nil {
			return
		}
		if got, err := Inflate(Payload(frame), len(payload)); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes again of %d, %v", len(got), len(payload), err)
		}
	})
}

func BenchmarkDeflate(b *testing.B) {
	for _, n := range []int{160, 320, 1280, 10_240} {
		frame := sealed(chat(n))
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var small []byte
			for b.Loop() {
				small = Deflate(frame)
			}
			b.ReportMetric(float64(len(small))/float64(len(frame)), "ratio")
		})
	}
}

func BenchmarkInflate(b *testing.B) {
	for _, n := range []int{160, 1280, 65_536} {
		payload := packed(b, []byte(chat(n)))
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Inflate(payload, n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	hostile := emptyBlocks(64 << 10)
	b.Run("hostile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got, err := Inflate(hostile, 64<<10); err != nil || len(got) > 0 {
				b.Fatalf("%d bytes, %v", len(got), err)
			}
		}
	})
	bomb := packed(b, make([]byte, 16<<20))
	b.Run("bomb", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Inflate(bomb, 64<<10); err == nil {
				b.Fatal("not too big")
			}
		}
	})
}

// emptyBlocks returns size bytes of blocks with Huffman codes of their own that
// encode nothing (RFC 1951 section 3.2.7), so that tables are built again and
// again.
func emptyBlocks(size int) []byte {
	var b []byte
	free := 0 // bits in the last byte
	put := func(value, n int) {
		for ; n > 0; n-- {
			if free == 0 {
				b, free = append(b, 0), 8
			}
			b[len(b)-1] |= byte(value&1) << (8 - free)
			value, free = value>>1, free-1
		}
	}
	for len(b) < size-12 {
		put(0b10_0, 3) // one of several blocks, with its own codes
		put(0, 5)      // 257 literals and lengths
		put(0, 5)      // one distance
		put(14, 4)     // the lengths of 18 codes for lengths follow
		for code := range 18 {
			if code == 2 || code == 17 { // for many zeros, and for the length 1
				put(1, 3)
			} else {
				put(0, 3)
			}
		}
		put(1|(138-11)<<1, 8) // 138 zeros
		put(1|(118-11)<<1, 8) // 118 zeros: no literal has a code,
		put(0, 2)             // the end and the distance have codes of one bit,
		put(0, 1)             // and here is the end
	}
	put(0b01_1, 3) // the last block, with fixed codes,
	put(0, 7)      // and its end
	return b
}

// chat returns JSON of a length, with a text that hardly repeats itself.
func chat(length int) string {
	rng := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not what all were we when your can said there use an each which she do how their if will up other about out many then them these so some her would make like him into time has look two more write go see number no way could people my than first water been call who its now find long down day did get come made may part")
	b := []byte(`{"type":"room-message","id":"m_01f3","room":"general","from":{"id":"u_1829","name":"Ana"},"seq":18273,"ts":1771718400123,"data":{"text":"`)
	for len(b) < length-3 {
		b = append(append(b, words[rng.IntN(len(words))]...), ' ')
	}
	return string(b[:length-3]) + `"}}`
}
