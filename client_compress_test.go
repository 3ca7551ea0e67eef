package chathub_test

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

const compressFrom = 200

// dialCompressed connects a client that compresses what it sends, and offers to
// receive compressed messages.
func dialCompressed(t testing.TB, h http.Handler, token string) *hubtest.Client {
	t.Helper()
	c, err := hubtest.DialHeader(t, h, http.Header{
		"Authorization":            {"Bearer " + token},
		"Sec-Websocket-Extensions": {"permessage-deflate"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Welcome = c.Next(); c.Welcome.Type != "welcome" {
		t.Fatalf("first frame is %s %s", c.Welcome.Type, c.Welcome.Data)
	}
	return c
}

// deflatingPeer is a rawPeer that has agreed on compression.
func deflatingPeer(t testing.TB, h http.Handler, token string) *rawPeer {
	t.Helper()
	r := handshake(t, "chathub.v1, chathub.bearer."+token)
	r.Header.Set("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
	p := dialPeer(t, h, r)
	if p.envelope().Type != "welcome" || p.response.Get("Sec-WebSocket-Extensions") == "" {
		t.Fatalf("compression was not accepted: %v", p.response)
	}
	return p
}

// deflated returns data compressed without context, as described in RFC 7692
// section 7.2.1.
func deflated(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// inflated is the opposite of deflated.
func inflated(t testing.TB, b []byte) []byte {
	t.Helper()
	r := flate.NewReader(io.MultiReader(bytes.NewReader(b), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// packedFrame returns a frame from a client that begins a compressed message.
func packedFrame(op byte, fin bool, payload []byte) []byte {
	f := maskedFrame(op, fin, payload)
	f[0] |= 0x40
	return f
}

// Compression is off unless it is turned on. A client that does not offer it,
// or only in a form that cannot be accepted, is served without it.
func TestCompressionNegotiation(t *testing.T) {
	const agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for _, tt := range []struct {
		name, offer, want string
		from              int
	}{
		{"off", "permessage-deflate", "", 0},
		{"negative", "permessage-deflate", "", -1},
		{"on", "permessage-deflate; client_max_window_bits", agreed, compressFrom},
		{"on, and not offered", "", "", compressFrom},
		{"a window that is too small", "permessage-deflate; server_max_window_bits=9", "", compressFrom},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{CompressFrom: tt.from})
				r := handshake(t, "chathub.v1, chathub.bearer.ana")
				if tt.offer != "" {
					r.Header.Set("Sec-WebSocket-Extensions", tt.offer)
				}
				p := dialPeer(t, hub, r)
				if got := p.response.Get("Sec-WebSocket-Extensions"); got != tt.want {
					t.Errorf("the extension is %q, want %q", got, tt.want)
				}
				if f := p.envelope(); f.Type != "welcome" {
					t.Errorf("got %s", f.Type)
				}
				p.open()
			})
		})
	}
}

// A message that is long enough is compressed for clients that accept it, even
// a message for a single client. Nothing else is compressed.
func TestCompressedFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{CompressFrom: compressFrom, PresenceInterval: -1})
		text := strings.Repeat("again and ", 30)
		chathub.OnAck(hub, "echo", func(_ context.Context, _ *chathub.Client, s string) (string, error) { return s, nil })
		p := deflatingPeer(t, hub, "ana")
		plain := peerOf(t, hub, "ben")
		for _, c := range []*rawPeer{p, plain} {
			c.send(`{"type":"join-room","id":"j","room":"lobby"}`)
			if f := c.next(opText); f.packed {
				t.Error("a short ack was compressed")
			}
		}
		expect := func(what string, c *rawPeer, packed bool) {
			t.Helper()
			f := c.next(opText)
			if f.packed != packed {
				t.Errorf("%s: compressed: %t", what, f.packed)
			}
			if f.packed {
				f.data = inflated(t, f.data)
			}
			var e hubtest.Frame
			if err := json.Unmarshal(f.data, &e); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			var s string
			if err := json.Unmarshal(e.Data, &s); err != nil || !strings.HasPrefix(text, s) {
				t.Errorf("%s: got %s", what, e.Data)
			}
		}
		ctx := t.Context()
		emit := func(target chathub.Target, text string) {
			t.Helper()
			if err := target.Emit(ctx, "news", text); err != nil {
				t.Fatal(err)
			}
		}
		emit(hub.To("lobby"), text)
		expect("to a room", p, true)
		expect("to a room", plain, false)
		emit(hub.To("lobby").Volatile(), text)
		expect("volatile", p, true)
		expect("volatile", plain, false)
		emit(hub.To("lobby"), text[:20])
		expect("short", p, false)
		expect("short", plain, false)
		emit(hub.ToUser("ana", "ben"), text)
		expect("to users", p, true)
		expect("to users", plain, false)
		for _, c := range []*rawPeer{p, plain} {
			c.send(`{"type":"echo","id":"e","data":"` + text + `"}`)
			expect("an ack", c, c == p)
		}
		plain.send(`{"type":"room-message","room":"lobby","data":"` + text + `"}`)
		for _, c := range []*rawPeer{p, plain} {
			expect("live", c, c == p)
			c.send(`{"type":"resume","id":"r","data":{"rooms":{` +
				`"lobby":{"epoch":"-","seq":0},"b":{"epoch":"-","seq":0},"c":{"epoch":"-","seq":0}}}}`)
			if f := c.next(opText); f.packed != (c == p) {
				t.Errorf("the answer to resume is compressed: %t", f.packed)
			}
			expect("missed", c, c == p)
		}
	})
}

// Members get the same messages in the same order, whether they accept
// compressed frames or not, and whichever way the messages take.
func TestCompressionMixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{CompressFrom: compressFrom, PresenceInterval: -1, Rate: -1, UserRate: -1})
		var clients []*hubtest.Client
		for i := range 6 {
			dial := hubtest.Dial
			if i%2 == 1 {
				dial = dialCompressed
			}
			c := dial(t, hub, fmt.Sprint("user", i))
			enter(c, "lobby")
			clients = append(clients, c)
		}
		_ = arrived(clients[0])
		const each = 60
		for n := range each {
			for i, c := range clients {
				// Texts of all lengths: plain ones, compressed ones, and some
				// of several windows.
				text := fmt.Sprint(i, "/", n, " ") + strings.Repeat("all the same ", n*n/4)
				typ := "room-message"
				if n%5 == 4 {
					typ = "typing"
				}
				c.Send(hubtest.Frame{Type: typ, Room: "lobby", Data: hubtest.Data(text)})
			}
			if n%7 == 0 {
				synctest.Wait() // or too many wait together
			}
		}
		heard := make([][]string, len(clients))
		for i, c := range clients {
			heard[i] = texts(ofType(arrived(c), "room-message"))
			if len(heard[i]) != each*len(clients)*4/5 {
				t.Errorf("client %d heard %d messages", i, len(heard[i]))
			}
			if !slices.Equal(heard[i], heard[0]) {
				t.Errorf("client %d heard other messages, or another order", i)
			}
		}
	})
}

// What is sent to one client alone, a page of history or missed messages, is
// the same as without compression. Live messages follow it.
func TestCompressionMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{CompressFrom: compressFrom, PresenceInterval: -1, Rate: -1, UserRate: -1})
		writer := dialCompressed(t, hub, "writer")
		pos := position(t, enter(writer, "lobby"))
		for n := range 50 {
			say(writer, "lobby", fmt.Sprint(n, " ")+strings.Repeat("lorem ipsum ", n))
		}
		reader, plain := dialCompressed(t, hub, "reader"), hubtest.Dial(t, hub, "plain")
		got := make([][]string, 0, 2)
		pages := make([]string, 0, 2)
		for _, c := range []*hubtest.Client{reader, plain} {
			if a := resume(t, c, resumeRequest{Rooms: map[string]chathub.Position{"lobby": pos}}); !a.Rooms["lobby"].Recovered {
				t.Fatalf("resume: %+v", a)
			}
			got = append(got, texts(ofType(arrived(c), "room-message")))
			pages = append(pages, string(c.Must(hubtest.Frame{Type: "history", Room: "lobby"}).Data))
		}
		if len(got[0]) != 50 || !slices.Equal(got[0], got[1]) {
			t.Errorf("%d messages compressed, %d plain, or different ones", len(got[0]), len(got[1]))
		}
		if pages[0] != pages[1] || len(pages[0]) < 10_000 {
			t.Errorf("pages of history of %d and %d bytes", len(pages[0]), len(pages[1]))
		}
		say(writer, "lobby", strings.Repeat("at last ", 100))
		for _, c := range []*hubtest.Client{reader, plain} {
			if all := texts(ofType(arrived(c), "room-message")); len(all) != 1 || !strings.HasPrefix(all[0], "at last") {
				t.Errorf("then: %d messages", len(all))
			}
		}
	})
}

// A compressed message is read as its original, in fragments too. A faulty one
// ends only its own connection, with the right reason.
func TestCompressedInput(t *testing.T) {
	const limit = 4 << 10
	envelope := func(size int) []byte {
		const rest = len(`{"type":"room-message","room":"lobby","id":"m","data":""}`)
		return []byte(`{"type":"room-message","room":"lobby","id":"m","data":"` + strings.Repeat("x", size-rest) + `"}`)
	}
	fits := deflated(t, envelope(limit))
	rest := packedFrame(opContinuation, true, fits[5:])
	bad := bytes.Clone(fits)
	bad[0] = 0xff
	for _, tt := range []struct {
		name string
		sent []byte
		code int // 0: the message is accepted
	}{
		{"as long as can be", packedFrame(opText, true, fits), 0},
		{"in fragments", slices.Concat(packedFrame(opText, false, fits[:5]), maskedFrame(opPing, true, nil), maskedFrame(opContinuation, true, fits[5:])), 0},
		{"not compressed", maskedFrame(opText, true, envelope(limit)), 0},
		{"one byte longer", packedFrame(opText, true, deflated(t, envelope(limit+1))), 1009},
		{"a bomb", packedFrame(opText, true, deflated(t, envelope(1<<20))), 1009},
		{"a bomb in fragments", slices.Concat(packedFrame(opText, false, nil), maskedFrame(opContinuation, true, deflated(t, envelope(1<<20)))), 1009},
		{"too long before", packedFrame(opText, true, make([]byte, 2*limit)), 1009},
		{"no DEFLATE", packedFrame(opText, true, bad), 1007},
		{"cut off", packedFrame(opText, true, []byte("\xf2\x48\xcd\xc9")), 1007},
		{"not UTF-8", packedFrame(opText, true, deflated(t, []byte("\"\xff\""))), 1007},
		{"a marked continuation", slices.Concat(packedFrame(opText, false, fits[:5]), rest), 1002},
		{"a marked control frame", packedFrame(opPing, true, nil), 1002},
		{"a marked continuation of nothing", rest, 1002},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{CompressFrom: compressFrom, PresenceInterval: -1, MaxMessageBytes: limit})
				witness := hubtest.Dial(t, hub, "witness")
				enter(witness, "lobby")
				p := deflatingPeer(t, hub, "ana")
				p.send(`{"type":"join-room","id":"j","room":"lobby"}`)
				_ = p.next(opText)
				p.write(tt.sent)
				if tt.code == 0 {
					if f := witness.Wait("room-message"); len(texts([]hubtest.Frame{f})[0]) < limit-100 {
						t.Errorf("heard %d bytes", len(f.Data))
					}
					p.write(maskedFrame(opText, true, []byte(`{"type":"room-message","room":"lobby","data":"and on"}`)))
					if f := witness.Wait("room-message"); string(f.Data) != `"and on"` {
						t.Errorf("then %s", f.Data)
					}
					return
				}
				if code, _ := p.closed(); code != tt.code {
					t.Errorf("closed with %d, want %d", code, tt.code)
				}
				expectNothing(t, witness)
			})
		})
	}
}

// A compressed binary message is refused like any other binary message.
func TestCompressedBinary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := deflatingPeer(t, hubtest.New(t, chathub.Config{CompressFrom: compressFrom, PresenceInterval: -1}), "ana")
		p.write(packedFrame(0x2, true, deflated(t, []byte(`{"type":"ping"}`))))
		if f := p.envelope(); f.Code() != chathub.CodeBadRequest {
			t.Errorf("got %s %s", f.Type, f.Data)
		}
		p.open()
	})
}

// A client that compresses without an agreement breaks the protocol.
func TestCompressionOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := peerOf(t, hubtest.New(t, chathub.Config{CompressFrom: compressFrom}), "ana")
		p.write(packedFrame(opText, true, deflated(t, []byte(`{"type":"ping"}`))))
		if code, _ := p.closed(); code != 1002 {
			t.Errorf("closed with %d", code)
		}
	})
}

func TestCompressionNeedsLimit(t *testing.T) {
	_, err := chathub.New(chathub.Config{Auth: chathub.Anonymous{}, CompressFrom: 256, MaxMessageBytes: -1})
	if err == nil || !strings.Contains(err.Error(), "MaxMessageBytes") {
		t.Errorf("got %v", err)
	}
}

// An outbox counts the bytes that are sent. A client that does not take them is
// closed, while others go on.
func TestCompressedSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{CompressFrom: compressFrom, PresenceInterval: -1, MaxMessageBytes: 8 << 10, MaxOutboxBytes: 32 << 10})
		slow, calm := dialCompressed(t, hub, "slow"), dialCompressed(t, hub, "calm")
		enter(slow, "lobby")
		enter(calm, "lobby")
		slow.Pause()
		text := strings.Repeat("much of a muchness ", 400)
		const many = 1000
		for range many {
			if err := hub.To("lobby").Emit(t.Context(), "news", text); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if f := calm.Wait("news"); len(f.Data) < len(text) {
				t.Fatalf("got %d bytes", len(f.Data))
			}
		}
		slow.Resume()
		if code, _ := slow.Closed(); code != 4001 {
			t.Errorf("closed with %d", code)
		}
		if kept := len(ofType(slow.Pending(), "news")); kept == 0 || kept > many/2 {
			t.Errorf("the slow client got %d messages", kept)
		}
	})
}

// The bytes that are decompressed for a user in a second are bounded, over all
// of its connections. If a user sends more, they are read more slowly, and
// nothing is lost. Others notice nothing.
func TestCompressedFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{CompressFrom: compressFrom, PresenceInterval: -1})
		chathub.OnAck(hub, "length", func(_ context.Context, _ *chathub.Client, s string) (int, error) { return len(s), nil })
		noise := make([]byte, 24<<10)
		_, _ = rand.Read(noise)
		text := hex.EncodeToString(noise)
		packed := packedFrame(opText, true, deflated(t, []byte(`{"type":"length","id":"x","data":"`+text+`"}`)))
		const perSecond = 256 << 10
		begin := time.Now()
		peers := []*rawPeer{deflatingPeer(t, hub, "ana"), deflatingPeer(t, hub, "ana")}
		const each = 20
		for _, p := range peers {
			go func() {
				for range each {
					p.write(packed)
				}
			}()
		}
		synctest.Wait()
		other := deflatingPeer(t, hub, "ben")
		other.write(packed)
		if f := other.envelope(); f.Type != "ack" || time.Since(begin) > 0 {
			t.Errorf("%s after %v", f.Type, time.Since(begin))
		}
		for _, p := range peers {
			for range each {
				if f := p.envelope(); f.Type != "ack" || string(f.Data) != fmt.Sprint(len(text)) {
					t.Fatalf("got %s %s", f.Type, f.Data)
				}
			}
		}
		want := time.Duration(len(peers)*each*len(packed)-perSecond) * time.Second / perSecond
		if took := time.Since(begin); took < want*9/10 || took > want*11/10 {
			t.Errorf("it took %v, want about %v", took, want)
		}
	})
}
