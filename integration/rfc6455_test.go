package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// frameCase is something that a client sends, and what RFC 6455 then requires
// of the server. The witness sees the messages in want as well. If the
// connection is closed, the client itself may miss them.
type frameCase struct {
	section  string // in RFC 6455
	name     string
	send     []frame
	bytewise bool     // with each byte in a packet of its own
	want     []string // see raw.describe
	close    string   // how it ends; "" if the connection stays
}

// maxMessage is the hub's limit in these tests, which is the default.
const maxMessage = 64 << 10

// say returns the JSON of a message to the room of the witness.
func say(data string) string {
	return `{"type":"room-message","room":"lobby","data":"` + data + `"}`
}

// heard returns what a member of the room sees of say.
func heard(data string) string { return `message "` + data + `"` }

// sized returns a message of n bytes, and what a member sees of it.
func sized(n int) (message, seen string) {
	data := strings.Repeat("x", n-len(say("")))
	return say(data), heard(data)
}

// split returns a text message in fragments.
func split(parts ...string) (frames []frame) {
	for i, p := range parts {
		f := frame{op: opContinuation, payload: p, more: i < len(parts)-1}
		if i == 0 {
			f.op = opText
		}
		frames = append(frames, f)
	}
	return frames
}

// singly returns the bytes of s one by one.
func singly(s string) (parts []string) {
	for i := range len(s) {
		parts = append(parts, s[i:i+1])
	}
	return parts
}

// TestRFC6455 sends right and wrong frames to the hub over TCP. A witness in
// the same room sees the messages of the right ones and nothing else. The
// sender sees nothing after a close.
func TestRFC6455(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{
		Rate:             -1,
		UserRate:         -1,
		MaxConnsPerUser:  -1,
		PresenceInterval: -1, // so that the witness sees messages only
		MaxMessageBytes:  maxMessage,
	})
	addr := newServer(t, hub).Listener.Addr().String()
	cases := slices.Concat(
		maskingCases(), reservedCases(), lengthCases(), fragmentCases(),
		controlCases(), closeCases(), utf8Cases())
	for _, c := range cases {
		t.Run(c.section+" "+c.name, func(t *testing.T) { c.run(t, addr) })
	}
}

func (c frameCase) run(t *testing.T, addr string) {
	join := text(`{"type":"join-room","room":"lobby","id":"j"}`)
	witness, subject := connectRaw(t, addr, "witness"), connectRaw(t, addr, "subject")
	for _, r := range []*raw{witness, subject} {
		r.send(join)
		expect(t, "who joins", r.next(), "ack")
	}
	if c.bytewise {
		subject.sendBytewise(c.send...)
	} else {
		subject.send(c.send...)
	}

	var messages []string
	for _, want := range c.want {
		isMessage := strings.HasPrefix(want, "message")
		if isMessage {
			messages = append(messages, want)
		}
		if !isMessage || c.close == "" {
			expect(t, "the client", subject.next(), want)
		}
	}
	if c.close != "" {
		got := subject.next()
		for slices.Contains(messages, got) {
			got = subject.next()
		}
		expect(t, "the client", got, c.close)
	}

	// The witness speaks after the client may have been closed.
	witness.send(text(say("still here")))
	for _, want := range append(messages, heard("still here")) {
		expect(t, "the witness", witness.next(), want)
	}

	switch {
	case c.close == "":
		expect(t, "the client", subject.next(), heard("still here"))
		subject.send(closing(1000, ""))
		expect(t, "the client", subject.next(), "close 1000")
	case slices.ContainsFunc(c.send, func(f frame) bool { return f.claims > 0 }):
		subject.hangUp() // a close would be part of the claimed frame
	case !slices.ContainsFunc(c.send, func(f frame) bool { return f.op == opClose }):
		subject.send(closing(1000, ""))
	}
	expect(t, "the client", subject.next(), "EOF") // section 5.5.1: nothing follows a close
}

// expect compares what a client saw.
func expect(t *testing.T, who, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s saw %.200q, want %.200q", who, got, want)
	}
}

func maskingCases() []frameCase {
	return []frameCase{
		{"5.1", "unmasked text", []frame{{op: opText, unmasked: true, payload: say("x")}}, false, nil, "close 1002"},
		{"5.1", "unmasked ping", []frame{{op: opPing, unmasked: true}}, false, nil, "close 1002"},
		{"5.1", "unmasked close", []frame{{op: opClose, unmasked: true, payload: "\x03\xe8"}}, false, nil, "close 1002"},
		{"5.1", "unmasked second fragment", []frame{
			{op: opText, more: true, payload: say("x")[:9]},
			{op: opContinuation, unmasked: true, payload: say("x")[9:]},
		}, false, nil, "close 1002"},
		{"5.3", "a key of zeros", []frame{{op: opText, key: "\x00\x00\x00\x00", payload: say("zeros")}}, false, []string{heard("zeros")}, ""},
		{"5.3", "another key for each frame", []frame{
			{op: opText, key: "abcd", more: true, payload: say("keys")[:5]},
			{op: opContinuation, key: "\xff\x00\x80\x7f", more: true, payload: say("keys")[5:6]},
			{op: opContinuation, key: "\x00\x00\x00\x01", payload: say("keys")[6:]},
		}, false, []string{heard("keys")}, ""},
	}
}

func reservedCases() (cases []frameCase) {
	for rsv := byte(1); rsv <= 7; rsv++ {
		for name, op := range map[string]byte{"text": opText, "binary": opBinary, "ping": opPing, "close": opClose} {
			cases = append(cases, frameCase{
				section: "5.2", name: fmt.Sprintf("RSV %03b on a %s", rsv, name),
				send:  []frame{{op: op, rsv: rsv, payload: say("x")}},
				close: "close 1002",
			})
		}
	}
	cases = append(cases, frameCase{
		section: "5.2", name: "RSV1 on a continuation",
		send:  []frame{{op: opText, more: true, payload: say("x")[:9]}, {rsv: 4, payload: say("x")[9:]}},
		close: "close 1002",
	})
	for _, op := range []byte{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		for name, send := range map[string][]frame{
			"":                  {{op: op}},
			" with a payload":   {{op: op, payload: say("x")}},
			" within fragments": {{op: opText, more: true, payload: say("x")[:9]}, {op: op, payload: "x"}},
		} {
			cases = append(cases, frameCase{
				section: "5.2", name: fmt.Sprintf("opcode %X%s", op, name), send: send, close: "close 1002",
			})
		}
	}
	return cases
}

// lengthCases have payloads around the lengths where the header changes, and
// around the hub's limit.
func lengthCases() (cases []frameCase) {
	for _, n := range []int{124, 125, 126, 127, 128, 65534, 65535, 65536} {
		message, seen := sized(n)
		cases = append(cases,
			frameCase{"5.2", fmt.Sprintf("%d bytes", n), []frame{text(message)}, false, []string{seen}, ""},
			frameCase{"5.4", fmt.Sprintf("%d bytes in two fragments", n), split(message[:n/2], message[n/2:]), false, []string{seen}, ""},
		)
	}
	over, _ := sized(maxMessage + 1)
	message, seen := sized(100)
	claim := func(n uint64) []frame { return []frame{{op: opText, claims: n, payload: "{"}} }
	return append(cases,
		frameCase{"7.4.1", "over the limit", []frame{text(over)}, false, nil, "close 1009"},
		frameCase{"7.4.1", "over the limit by a fragment", split(over[:maxMessage], over[maxMessage:]), false, nil, "close 1009"},
		frameCase{"7.4.1", "over the limit in binary", []frame{{op: opBinary, payload: over}}, false, nil, "close 1009"},
		// These are refused before the payload comes.
		frameCase{"10.4", "claims a byte over the limit", claim(maxMessage + 1), false, nil, "close 1009"},
		frameCase{"10.4", "claims 4 GiB", claim(1 << 32), false, nil, "close 1009"},
		frameCase{"10.4", "claims all that is possible", claim(1<<63 - 1), false, nil, "close 1009"},
		frameCase{"5.2", "the length's most significant bit", claim(1 << 63), false, nil, "close 1009"},
		frameCase{"5.2", "a length of 64 ones", claim(1<<64 - 1), false, nil, "close 1009"},
		// A sender must use the fewest bytes. A receiver is not told to refuse
		// more, so it is enough if all agree about where the next frame begins.
		frameCase{"5.2", "100 bytes with a length of 16 bits", []frame{{op: opText, width: 2, payload: message}}, false, []string{seen}, ""},
		frameCase{"5.2", "100 bytes with a length of 64 bits", []frame{{op: opText, width: 8, payload: message}}, false, []string{seen}, ""},
		frameCase{"5.2", "a ping with a length of 16 bits", []frame{{op: opPing, width: 2, payload: "x"}}, false, []string{"pong x"}, ""},
		frameCase{"5.2", "no bytes with a length of 64 bits", []frame{{op: opPing, width: 8}}, false, []string{"pong "}, ""},
	)
}

func fragmentCases() []frameCase {
	m := say("parts")
	seen := []string{heard("parts")}
	return []frameCase{
		{"5.4", "two fragments", split(m[:7], m[7:]), false, seen, ""},
		{"5.4", "a fragment for each byte", split(singly(m)...), false, seen, ""},
		{"5.4", "each byte in a packet of its own", split(m[:7], m[7:]), true, seen, ""},
		{"5.4", "empty fragments", split("", m[:7], "", "", m[7:], ""), false, seen, ""},
		{"5.4", "several messages in a packet", []frame{text(say("1")), text(say("2")), text(say("3"))}, false, []string{heard("1"), heard("2"), heard("3")}, ""},
		{"5.4", "fragmented message after another", append(split(say("1")[:7], say("1")[7:]), split(say("2")[:9], say("2")[9:])...), false, []string{heard("1"), heard("2")}, ""},
		{"5.4", "ping within fragments", []frame{
			{op: opText, more: true, payload: m[:7]}, {op: opPing, payload: "in between"}, {payload: m[7:]},
		}, false, []string{"pong in between", heard("parts")}, ""},
		{"5.4", "pong within fragments", []frame{
			{op: opText, more: true, payload: m[:7]}, {op: opPong, payload: "unasked"}, {payload: m[7:]},
		}, false, seen, ""},
		{"5.4", "close within fragments", []frame{{op: opText, more: true, payload: m[:7]}, closing(1001, "")}, false, nil, "close 1001"},
		{"5.4", "continuation of nothing", []frame{{op: opContinuation, payload: m}}, false, nil, "close 1002"},
		{"5.4", "unfinished continuation of nothing", []frame{{op: opContinuation, more: true, payload: m}}, false, nil, "close 1002"},
		{"5.4", "continuation of a finished message", append([]frame{text(m)}, frame{op: opContinuation, payload: "x"}), false, seen, "close 1002"},
		{"5.4", "continuation of finished fragments", append(split(m[:7], m[7:]), frame{op: opContinuation}), false, seen, "close 1002"},
		{"5.4", "text within fragments", []frame{{op: opText, more: true, payload: m[:7]}, text(m)}, false, nil, "close 1002"},
		{"5.4", "binary within fragments", []frame{{op: opText, more: true, payload: m[:7]}, {op: opBinary, payload: m[7:]}}, false, nil, "close 1002"},
		{"5.4", "text within fragments of binary", []frame{{op: opBinary, more: true, payload: m[:7]}, text(m)}, false, nil, "close 1002"},
		{"5.6", "empty text", []frame{text("")}, false, []string{"error bad_request"}, ""},
		{"5.6", "empty text in fragments", split("", "", ""), false, []string{"error bad_request"}, ""},
		{"5.6", "binary", []frame{{op: opBinary, payload: m}}, false, []string{"error bad_request"}, ""},
		{"5.6", "binary in fragments", []frame{{op: opBinary, more: true, payload: "\xff"}, {payload: "\xfe"}}, false, []string{"error bad_request"}, ""},
		{"5.6", "empty binary", []frame{{op: opBinary}}, false, []string{"error bad_request"}, ""},
	}
}

func controlCases() []frameCase {
	longest := strings.Repeat("p", 125)
	return []frameCase{
		{"5.5.2", "ping", []frame{{op: opPing}}, false, []string{"pong "}, ""},
		{"5.5.2", "ping with a payload", []frame{{op: opPing, payload: "\x00\xff\xfe payload"}}, false, []string{"pong \x00\xff\xfe payload"}, ""},
		{"5.5.2", "the longest ping", []frame{{op: opPing, payload: longest}}, false, []string{"pong " + longest}, ""},
		{"5.5.2", "ping, bytewise", []frame{{op: opPing, payload: longest}}, true, []string{"pong " + longest}, ""},
		{"5.5.3", "several pings", []frame{{op: opPing, payload: "1"}, {op: opPing, payload: "2"}, {op: opPing, payload: "3"}}, false, []string{"pong 1", "pong 2", "pong 3"}, ""},
		{"5.5.3", "unasked pong", []frame{{op: opPong}, {op: opPong, payload: longest}}, false, nil, ""},
		{"5.5", "ping over 125 bytes", []frame{{op: opPing, payload: longest + "p"}}, false, nil, "close 1002"},
		{"5.5", "pong over 125 bytes", []frame{{op: opPong, payload: longest + "p"}}, false, nil, "close 1002"},
		{"5.5", "close over 125 bytes", []frame{closing(1000, longest)}, false, nil, "close 1002"},
		{"5.5", "ping that claims 64 KiB", []frame{{op: opPing, claims: 64 << 10}}, false, nil, "close 1002"},
		{"5.5", "ping that claims all that is possible", []frame{{op: opPing, claims: 1<<63 - 1}}, false, nil, "close 1002"},
		{"5.5", "ping with a length of 64 ones", []frame{{op: opPing, claims: 1<<64 - 1}}, false, nil, "close 1002"},
		{"5.5", "ping without FIN", []frame{{op: opPing, more: true, payload: "x"}}, false, nil, "close 1002"},
		{"5.5", "pong without FIN", []frame{{op: opPong, more: true}}, false, nil, "close 1002"},
		{"5.5", "close without FIN", []frame{{op: opClose, more: true, payload: "\x03\xe8"}}, false, nil, "close 1002"},
		{"5.4", "ping in two fragments", []frame{{op: opPing, more: true, payload: "a"}, {payload: "b"}}, false, nil, "close 1002"},
	}
}

func closeCases() (cases []frameCase) {
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		cases = append(cases, frameCase{
			section: "7.4", name: fmt.Sprintf("close %d", code),
			send:  []frame{closing(code, "bye")},
			close: fmt.Sprintf("close %d", code),
		})
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases, frameCase{
			section: "7.4", name: fmt.Sprintf("close %d, which nobody may send", code),
			send:  []frame{closing(code, "bye")},
			close: "close 1002",
		})
	}
	longest := strings.Repeat("r", 123)
	return append(cases,
		frameCase{"5.5.1", "close without a code", []frame{{op: opClose}}, false, nil, "close"},
		frameCase{"5.5.1", "close of one byte", []frame{{op: opClose, payload: "\x03"}}, false, nil, "close 1002"},
		frameCase{"5.5.1", "close with the longest reason", []frame{closing(1000, longest)}, false, nil, "close 1000"},
		frameCase{"5.5.1", "close with a reason of several bytes a character", []frame{closing(1000, "κόσμε 🌍")}, false, nil, "close 1000"},
		frameCase{"8.1", "close with a reason that is not UTF-8", []frame{closing(1000, "\xce\xba\xe1\xbd")}, false, nil, "close 1007"},
		frameCase{"8.1", "close with a reason of a surrogate", []frame{closing(4000, "\xed\xa0\x80")}, false, nil, "close 1007"},
		frameCase{"5.5.1", "close, bytewise", []frame{closing(1000, longest)}, true, nil, "close 1000"},
		frameCase{"5.5.1", "message behind a close", []frame{closing(1000, ""), text(say("late"))}, false, nil, "close 1000"},
		frameCase{"5.5.1", "ping behind a close", []frame{closing(1000, ""), {op: opPing}}, false, nil, "close 1000"},
		frameCase{"5.5.1", "close behind a close", []frame{closing(1000, ""), closing(1001, "")}, false, nil, "close 1000"},
		frameCase{"5.5.1", "message before a close", []frame{{op: opPing, payload: "1"}, closing(1000, "")}, false, []string{"pong 1"}, "close 1000"},
		// Frames after a violation are not read, and do not hinder the close.
		frameCase{"7.1.7", "message behind a violation", []frame{{op: 3}, text(say("late"))}, false, nil, "close 1002"},
		frameCase{"7.1.7", "much behind a violation", []frame{{op: 3}, text(strings.Repeat("x", 1<<20))}, false, nil, "close 1002"},
		frameCase{"7.1.7", "much behind an unmasked frame", []frame{{op: opPing, unmasked: true}, text(strings.Repeat("x", 1<<20))}, false, nil, "close 1002"},
		frameCase{"7.1.7", "garbage", []frame{{op: 0xf, rsv: 7, unmasked: true, payload: "GET / HTTP/1.1\r\n\r\n"}}, false, nil, "close 1002"},
	)
}

// utf8Cases have text that is or is not UTF-8 (RFC 3629), whole and cut within
// a character.
func utf8Cases() (cases []frameCase) {
	add := func(valid bool, name, s string) {
		m := say(s)
		cut := strings.Index(m, s) + 1
		for form, send := range map[string][]frame{
			"":                          {text(m)},
			", in fragments":            split(m[:cut], m[cut:]),
			", a fragment of each byte": split(singly(m)...),
		} {
			c := frameCase{section: "8.1", name: name + form, send: send, close: "close 1007"}
			if valid {
				c.want, c.close = []string{heard(s)}, ""
			}
			cases = append(cases, c)
		}
	}
	add(true, "two bytes", "\u0080\u07ff")
	add(true, "three bytes", "\u0800\ud7ff\ue000\uffff")
	add(true, "four bytes", "\U00010000\U0010ffff")
	add(true, "noncharacters", "\ufdd0\ufffe\U0001fffe")
	add(true, "words", "κόσμε 世界 🌍")
	add(false, "a continuation byte alone", "\x80")
	add(false, "two bytes, the second missing", "\xc3")
	add(false, "three bytes, the third missing", "\xe4\xb8")
	add(false, "four bytes, the fourth missing", "\xf0\x9f\x8c")
	add(false, "a character too early", "\xe4\xb8\xc3\xa4")
	add(false, "overlong slash in two bytes", "\xc0\xaf")
	add(false, "overlong slash in three bytes", "\xe0\x80\xaf")
	add(false, "overlong slash in four bytes", "\xf0\x80\x80\xaf")
	add(false, "overlong NUL", "\xc0\x80")
	add(false, "the greatest overlong of three bytes", "\xe0\x9f\xbf")
	add(false, "the greatest overlong of four bytes", "\xf0\x8f\xbf\xbf")
	add(false, "the first surrogate", "\xed\xa0\x80")
	add(false, "the last surrogate", "\xed\xbf\xbf")
	add(false, "a pair of surrogates", "\xed\xa0\xbd\xed\xb8\x80")
	add(false, "above U+10FFFF", "\xf4\x90\x80\x80")
	add(false, "five bytes", "\xf8\x88\x80\x80\x80")
	add(false, "six bytes", "\xfc\x84\x80\x80\x80\x80")
	add(false, "FE", "\xfe")
	add(false, "FF", "\xff")
	add(false, "Latin-1", "caf\xe9")
	return append(cases,
		frameCase{"8.1", "a character over two fragments", split(say("\u4e16")[:len(say(""))-1], say("\u4e16")[len(say(""))-1:]), false, []string{heard("\u4e16")}, ""},
		frameCase{"8.1", "cut off at the end of the message", []frame{text(`{"type":"ping"}` + "\xf0\x9f")}, false, nil, "close 1007"},
		frameCase{"8.1", "binary need not be UTF-8", []frame{{op: opBinary, payload: "\xff\xfe"}}, false, []string{"error bad_request"}, ""},
		frameCase{"8.1", "a ping need not be UTF-8", []frame{{op: opPing, payload: "\xff"}}, false, []string{"pong \xff"}, ""},
	)
}
