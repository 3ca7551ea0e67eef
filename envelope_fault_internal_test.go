package chathub

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A client is told which rule its message breaks, and where.
func TestDecodeEventSaysWhy(t *testing.T) {
	const (
		empty       = "Empty message"
		notObject   = "Not a JSON object"
		cutOff      = "Cut off: the JSON object does not end"
		deep        = "Nested deeper than 64 levels"
		duplicate   = "Duplicate name at byte "
		surrogate   = "Unpaired surrogate at byte "
		escape      = "Unknown escape at byte "
		control     = "Unescaped control character at byte "
		number      = "Not a JSON number at byte "
		unexpected  = "Unexpected character at byte "
		textBehind  = "Text after the JSON object at byte "
		typePattern = "type must match [a-z0-9][a-z0-9:._-]{0,63}"
	)
	for _, tc := range []struct{ raw, want string }{
		{"", empty},
		{" \r\n\t", empty},
		{`hello`, notObject},
		{`[{"type":"ping"}]`, notObject},
		{`"ping"`, notObject},
		{`null`, notObject},
		{`}`, notObject},
		{"\ufeff" + `{"type":"ping"}`, "Byte order mark before the JSON object"},
		{"\u00a0" + `{"type":"ping"}`, notObject},

		{`{`, cutOff},
		{`{"type"`, cutOff},
		{`{"type":`, cutOff},
		{`{"type":"ping"`, cutOff},
		{`{"type":"ping",`, cutOff},
		{`{"type":"pi`, cutOff},
		{`{"type":"\`, cutOff},
		{`{"type":"\ud8`, cutOff},
		{`{"type":"\ud83d`, cutOff},
		{`{"x":[tru`, cutOff},
		{`{"x":-`, cutOff},
		{`{"type":"ping"}}`, textBehind + "15"},
		{`{"type":"ping"} {"type":"ping"}`, textBehind + "15"},
		{`{"type":"ping"}` + "\x00", textBehind + "15"},

		{`{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, deep},
		{`{"type":"ping","type":"pong"}`, duplicate + "15"},
		{`{"id":"1","\u0069d":"2"}`, duplicate + "10"},
		{`{"data":[{"a":1,"b":{},"a":2}]}`, duplicate + "23"},
		{`{"` + strings.Repeat("long", 1000) + `":1,"` + strings.Repeat("long", 1000) + `":1}`, duplicate + "4006"},

		{`{"data":"ab\ud83d"}`, surrogate + "11"},
		{`{"data":"ab\uD83Dcd"}`, surrogate + "11"},
		{`{"data":"😀\udc00"}`, surrogate + "13"},
		{`{"data":"\ud83d\ud83d\ude00"}`, surrogate + "9"},
		{`{"data":"\ud83d\n"}`, surrogate + "9"},
		{`{"data":"\ud83d\u00e9"}`, surrogate + "9"},
		{`{"data":"\\\ud83d"}`, surrogate + "11"},
		{`{"\udfff":1}`, surrogate + "2"},
		{`{"room":"\udfff","id":"1"}`, surrogate + "9"},

		{`{"data":"\x41"}`, escape + "9"},
		{`{"data":"\'"}`, escape + "9"},
		{`{"data":"\U0041"}`, escape + "9"},
		{`{"data":"\u12g4"}`, escape + "9"},
		{`{"data":"\u+123"}`, escape + "9"},
		{`{"data":"\u1_23"}`, escape + "9"},
		{`{"data":"\u"}`, escape + "9"},
		{"{\"data\":\"\\\n\"}", escape + "9"},
		{"{\"data\":\"a\nb\"}", control + "10"},
		{"{\"data\":\"\\\"\t\"}", control + "11"},
		{"{\"da\x00ta\":1}", control + "4"},

		{`{"data":01}`, number + "9"},
		{`{"data":-01}`, number + "10"},
		{`{"data":+1}`, number + "8"},
		{`{"data":.5}`, number + "8"},
		{`{"data":1.}`, number + "10"},
		{`{"data":[1.,2]}`, number + "11"},
		{`{"data":1e}`, number + "10"},
		{`{"data":1e+ }`, number + "11"},
		{`{"data":-}`, number + "9"},
		{`{"data":--1}`, number + "9"},
		{`{"data":0x1F}`, number + "9"},
		{`{"data":1_000}`, number + "9"},
		{`{"data":1.5.5}`, number + "11"},
		{`{"data":12px}`, number + "10"},
		{`{"data":NaN}`, number + "8"},
		{`{"data":Infinity}`, number + "8"},
		{`{"data":-Infinity}`, number + "9"},

		{`{"type":"ping",}`, unexpected + "14"},
		{`{,"type":"ping"}`, unexpected + "1"},
		{`{"type":"ping"]`, unexpected + "14"},
		{`{"type":"ping"/**/}`, unexpected + "14"},
		{`{"type" "ping"}`, unexpected + "8"},
		{`{"type"}`, unexpected + "7"},
		{`{"type":"ping" "id":"1"}`, unexpected + "15"},
		{`{'type':"ping"}`, unexpected + "1"},
		{`{type:"ping"}`, unexpected + "2"},
		{`{1:2}`, unexpected + "1"},
		{`{null:2}`, unexpected + "1"},
		{`{[]:2}`, unexpected + "1"},
		{`{"data":[1,]}`, unexpected + "11"},
		{`{"data":[1 2]}`, unexpected + "11"},
		{`{"data":[1}}`, unexpected + "10"},
		{`{"data":1"a"}`, unexpected + "9"},
		{`{"data":True}`, unexpected + "8"},
		{`{"data":nul}`, unexpected + "11"},
		{`{"data":undefined}`, unexpected + "8"},
		{`{"data":}`, unexpected + "8"},
		{`{"data":1` + "\u00a0" + `}`, number + "9"},
		{"{\x01}", unexpected + "1"},

		{`{}`, "type is missing"},
		{`{"type":1}`, "type must be a string"},
		{`{"type":"Ping"}`, typePattern},
		{`{"type":"ping","id":null}`, "id must be a string"},
		{`{"type":"ping","id":"` + strings.Repeat("i", 65) + `"}`, "id is over 64 bytes"},
		{`{"type":"ping","room":""}`, "room must be 1 to 128 bytes without control characters"},
		{`{"type":"ping","to":"\u0000"}`, "to must be 1 to 128 bytes without control characters"},
	} {
		_, fault := decodeEvent([]byte(tc.raw))
		switch {
		case fault == nil:
			t.Errorf("%.60q is accepted, want %q", tc.raw, tc.want)
		case fault.Message != tc.want:
			t.Errorf("%.60q: %q, want %q (%v)", tc.raw, fault.Message, tc.want, fault.Err)
		}
	}
}

// What is wrong is found from the place of the fault alone, so no place may be
// too much.
func FuzzBrokenRule(f *testing.F) {
	f.Add([]byte(`{"a":"\ud800"}`), 6)
	f.Add([]byte(`{"a":1.}`), 7)
	f.Add([]byte("\u00a0\xff"), 0)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		cause := &jsontext.SyntacticError{ByteOffset: int64(at)}
		if at < 0 {
			return
		}
		if m := syntaxError(b, cause).Message; m == "" || len(m) > longestFault || !utf8.ValidString(m) {
			t.Fatalf("%q at %d: %q", b, at, m)
		}
		if m := notObject(b).Message; m == "" || len(m) > longestFault {
			t.Fatalf("%q: %q", b, m)
		}
	})
}

// longestFault is longer than the message of every fault.
const longestFault = 80
