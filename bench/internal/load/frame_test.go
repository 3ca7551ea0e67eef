package load

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// serverFrame returns an unmasked frame (RFC 6455 section 5.2).
func serverFrame(op byte, payload string) []byte {
	n := len(payload)
	b := []byte{0x80 | op}
	switch {
	case n < 126:
		b = append(b, byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// keeper keeps the frames whose payload has a certain length.
type keeper struct {
	length int
	kept   []string
	ops    []byte
}

func (k *keeper) want(_ byte, n uint64) bool { return int(n) == k.length }

func (k *keeper) frame(op byte, p []byte) {
	k.ops, k.kept = append(k.ops, op), append(k.kept, string(p))
}

func TestStreamCountsMessages(t *testing.T) {
	message := Payload(128, 0)
	tests := map[string]struct {
		frames []string
		want   int
	}{
		"nothing":             {nil, 0},
		"one":                 {[]string{message}, 1},
		"empty frames":        {[]string{"", message, ""}, 1},
		"others between":      {[]string{`{"type":"ack"}`, message, `{}`, message}, 2},
		"joined by lines":     {[]string{message + "\n" + message + "\n" + message}, 3},
		"within an envelope":  {[]string{`{"type":"room-message","data":"` + message + `","seq":7}`}, 1},
		"a length of Markers": {[]string{strings.Repeat("x", Marker), strings.Repeat("x", Marker<<8|Marker)}, 0},
		"a large frame":       {[]string{strings.Repeat(message, 600)}, 600},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var b []byte
			for _, f := range tt.frames {
				b = append(b, serverFrame(opText, f)...)
			}
			for _, step := range []int{1, 2, 3, 7, 130, 4096, len(b) + 1} {
				var st stream
				got := 0
				for p := range slices.Chunk(b, step) {
					got += st.feed(p, &keeper{length: -1})
				}
				if got != tt.want {
					t.Errorf("in steps of %d: %d messages, want %d", step, got, tt.want)
				}
			}
		})
	}
}

// Whatever the lengths of frames and wherever they are cut, every message is
// counted once, and the wanted frames arrive whole.
func TestStreamCutAnywhere(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var b []byte
		messages, pongs := 0, 0
		for range 100 {
			switch rnd.IntN(3) {
			case 0:
				b = append(b, serverFrame(opPong, "ping")...)
				pongs++
			case 1:
				b = append(b, serverFrame(opText, strings.Repeat("-", 5+rnd.IntN(300)))...)
			case 2:
				b = append(b, serverFrame(opText, Payload(17+rnd.IntN(70_000>>rnd.IntN(12)), 1))...)
				messages++
			}
		}
		var st stream
		k := &keeper{length: len("ping")}
		got := 0
		for len(b) > 0 {
			n := min(1+rnd.IntN(5000), len(b))
			got += st.feed(b[:n], k)
			b = b[n:]
		}
		if got != messages || len(k.kept) != pongs {
			t.Fatalf("seed %d: %d messages and %d kept frames, want %d and %d", seed, got, len(k.kept), messages, pongs)
		}
		for i, s := range k.kept {
			if s != "ping" || k.ops[i] != opPong {
				t.Fatalf("seed %d: kept %q with opcode %d", seed, s, k.ops[i])
			}
		}
	}
}

func TestStamps(t *testing.T) {
	sent := []time.Duration{0, 1, 1234567 * time.Microsecond, 1<<62 + 5}
	var text strings.Builder
	for _, at := range sent {
		text.WriteString(Payload(40, at) + "\n")
	}
	var got []time.Duration
	n := stamps([]byte(text.String()), func(at time.Duration) { got = append(got, at) })
	if n != len(sent) {
		t.Errorf("%d messages, want %d", n, len(sent))
	}
	for i, at := range sent {
		if i >= len(got) || got[i] != at {
			t.Fatalf("times are %v, want %v", got, sent)
		}
	}
	if n := stamps([]byte("~short"), func(time.Duration) { t.Error("a time in six bytes") }); n != 1 {
		t.Errorf("a message without its time counts %d, want 1", n)
	}
}

func TestPayloadIsOfItsSize(t *testing.T) {
	for _, size := range []int{17, 128, 4096} {
		p := Payload(size, time.Hour)
		if len(p) != size || strings.Count(p, string(rune(Marker))) != 1 {
			t.Errorf("Payload(%d) has %d bytes: %q", size, len(p), p)
		}
	}
}

// TestStreamCompressed: a compressed frame counts as one message if it is not
// wanted. Otherwise it is decompressed.
func TestStreamCompressed(t *testing.T) {
	d, err := newDeflater()
	if err != nil {
		t.Fatal(err)
	}
	text := Payload(300, time.Second)
	masked := d.frame(text)
	payload := slices.Clone(masked[8:]) // behind a header of four bytes and the mask
	for i := range payload {
		payload[i] ^= masked[4+i%4]
	}
	packed := serverFrame(opText, string(payload))
	packed[0] |= rsv1
	b := slices.Concat(packed, serverFrame(opText, text), packed)
	for step := 1; step <= len(b); step++ {
		var unseen, seen stream
		k := &keeper{length: len(payload)}
		counted, besides := 0, 0
		for p := range slices.Chunk(b, step) {
			counted += unseen.feed(p, &keeper{length: -1})
			besides += seen.feed(p, k)
		}
		if counted != 3 || besides != 1 || len(k.kept) != 2 || k.kept[0] != text || k.kept[1] != text {
			t.Fatalf("in steps of %d: %d messages; %d besides %q", step, counted, besides, k.kept)
		}
	}
}

func TestClientFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		want := strings.Repeat("ab~", n/3+1)[:n]
		b := ClientFrame(opText, want)
		if b[0] != 0x81 || b[1]&0x80 == 0 {
			t.Fatalf("%d bytes: the frame begins with % x", n, b[:2])
		}
		var h [10]byte
		copy(h[:], b)
		at := headerLen(h[1])
		if got := payloadLen(h); got != uint64(n) || len(b) != at+4+n {
			t.Fatalf("%d bytes: length is %d, of %d bytes", n, got, len(b))
		}
		mask, payload := b[at:at+4], b[at+4:]
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
		if string(payload) != want {
			t.Errorf("%d bytes: the payload came out different", n)
		}
	}
}
