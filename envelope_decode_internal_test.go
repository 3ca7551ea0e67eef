package chathub

import (
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// readEnvelope decodes an envelope in another way, slowly and following
// protocol/README.md, section 1. It returns nil if the envelope must be
// refused.
func readEnvelope(b []byte) *Event {
	// Strict: RFC 8259, unique names, no unpaired surrogates.
	dec := jsontext.NewDecoder(bytes.NewReader(b))
	for {
		if _, err := dec.ReadToken(); err != nil {
			return nil
		}
		if dec.StackDepth() > 64 {
			return nil
		}
		if dec.StackDepth() == 0 {
			break
		}
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil
	}
	var fields map[string]jsontext.Value
	if json.Unmarshal(b, &fields) != nil || fields == nil {
		return nil
	}
	e := &Event{Data: fields["data"]}
	for name, f := range map[string]struct {
		to    *string
		valid func(string) bool
	}{
		"type": {&e.Type, eventName.MatchString},
		"id":   {&e.ID, func(s string) bool { return len(s) <= 64 }},
		"room": {&e.Room, isName},
		"to":   {&e.To, isName},
	} {
		v, ok := fields[name]
		if !ok && name != "type" {
			continue
		}
		if v.Kind() != '"' || json.Unmarshal(v, f.to) != nil || !f.valid(*f.to) {
			return nil
		}
	}
	return e
}

var eventName = regexp.MustCompile(`\A[a-z0-9][a-z0-9:._-]{0,63}\z`)

func isName(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Cc, r) })
}

func sameEvent(a, b *Event) bool {
	return a.Type == b.Type && a.ID == b.ID && a.Room == b.Room && a.To == b.To &&
		bytes.Equal(a.Data, b.Data) && (a.Data == nil) == (b.Data == nil)
}

// FuzzDecodeEvent checks that exactly the envelopes of the protocol are
// accepted. When the server passes one on, a strict decoder reads what was
// sent.
func FuzzDecodeEvent(f *testing.F) {
	golden, err := os.ReadFile("protocol/frames.json")
	if err != nil {
		f.Fatal(err)
	}
	var lists map[string][]struct {
		Frame jsontext.Value `json:"frame"`
		Raw   string         `json:"raw"`
	}
	if err := json.Unmarshal(golden, &lists); err != nil {
		f.Fatal(err)
	}
	for _, g := range slices.Concat(lists["frames"], lists["accepted"], lists["bad"]) {
		f.Add(append([]byte(g.Raw), g.Frame...)) // each entry has one of the two
	}
	f.Add([]byte(`{"type":"message","data":"` + "\u2028\u007f\u00ad" + `","\"id\"":{"id":[]},"id":"\\"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if !utf8.Valid(b) {
			return // this closes the connection before it is decoded
		}
		sent := bytes.Clone(b)
		e, fault := decodeEvent(b)
		if !bytes.Equal(b, sent) {
			t.Fatal("the input was changed")
		}
		want := readEnvelope(b)
		if (fault == nil) != (want != nil) {
			t.Fatalf("%q: decoded to %+v, fault %v, want %+v", b, e, fault, want)
		}
		if fault != nil {
			if e == nil || len(e.ID) > 64 || fault.Code != CodeBadRequest || !utf8.Valid(errorData(fault)) ||
				len(fault.Message) > longestFault || fault.Message == "Not valid JSON" {
				t.Fatalf("%q: refused as %+v of %+v", b, fault, e)
			}
			answer := errorFrame(e.ID, fault)
			if got := readEnvelope(wire.Payload(answer)); got == nil || got.ID != e.ID {
				t.Fatalf("%q: answered with %q", b, answer)
			}
			return
		}
		if !sameEvent(e, want) {
			t.Fatalf("%q: decoded to %+v, want %+v", b, e, want)
		}
		for _, from := range []*User{nil, {ID: e.Type, Name: e.ID}} {
			out := envelope{typ: e.Type, id: e.ID, room: e.Room, to: e.To, from: from, data: e.Data, seq: 1 << 52, ts: 1 << 40, ack: true}
			again, fault := decodeEvent(out.append(nil))
			if fault != nil || !sameEvent(again, e) || !sameEvent(readEnvelope(out.append(nil)), e) {
				t.Fatalf("%q was passed on as %s", b, out.append(nil))
			}
		}
	})
}

// Decoders are used again, but keep nothing of what they read.
func TestDecodeEventReuse(t *testing.T) {
	inputs := []string{
		`{"type":"message","id":"1","room":"r","to":"u","data":[1,{"a":"b"}]}`,
		// Cut off, which leaves the decoder in the middle.
		`{"type":"message","id":"2","data":{"a":1`,
		`{"type":"ping"}`,
		`{"type":"ping","type":"ping"}`,
		`{"type":"ping"} {"type":"second"}`,
		strings.Repeat(`[`, 70),
		`{"type":"ping","data":"` + strings.Repeat("x", 1<<16) + `"}`,
	}
	var kept []*Event
	for range 3 {
		for _, in := range inputs {
			e, fault := decodeEvent([]byte(in))
			if want := readEnvelope([]byte(in)); (fault == nil) != (want != nil) || want != nil && !sameEvent(e, want) {
				t.Errorf("%.40s: decoded to %+v (%v), want %+v", in, e, fault, want)
			}
			kept = append(kept, e)
		}
	}
	if got := string(kept[0].Data); got != `[1,{"a":"b"}]` {
		t.Errorf("an earlier event's data is now %s", got)
	}
}

func TestFrameOf(t *testing.T) {
	for _, size := range []int{0, 50, 200, 1000, 1 << 16} {
		e := envelope{typ: "room-message", data: []byte(`"` + strings.Repeat("x", size) + `"`)}
		for _, tc := range []struct {
			seq  uint64
			ts   int64
			want string
		}{{0, 5, ""}, {1<<53 - 1, 1771718400000, `,"seq":9007199254740991,"ts":1771718400000`}} {
			got := string(wire.Payload(frameOf(e.append(nil), tc.seq, tc.ts)))
			if want := `{"type":"room-message","data":` + string(e.data) + tc.want + `}`; got != want {
				t.Errorf("got %.80s, want %.80s", got, want)
			}
		}
	}
}
