package chathub_test

import (
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/coder/websocket"
)

// Input that RFC 6455 forbids ends the connection with 1002, and nobody else
// notices.
func TestProtocolErrors(t *testing.T) {
	ping := []byte(`{"type":"ping"}`)
	unmasked := append([]byte{0x80 | opText, byte(len(ping))}, ping...)
	reserved := maskedFrame(opText, true, ping)
	reserved[0] |= 0x40 // RSV1, but no compression was negotiated
	for name, sent := range map[string][]byte{
		"not masked":                     unmasked,
		"reserved bit":                   reserved,
		"reserved opcode":                maskedFrame(0x3, true, ping),
		"reserved control opcode":        maskedFrame(0xb, true, nil),
		"control frame in fragments":     maskedFrame(opPing, false, nil),
		"control frame of 126 bytes":     maskedFrame(opPing, true, make([]byte, 126)),
		"continuation of nothing":        maskedFrame(opContinuation, true, ping),
		"a message within a message":     append(maskedFrame(opText, false, ping[:5]), maskedFrame(opText, true, ping)...),
		"close frame of one byte":        maskedFrame(opClose, true, []byte{3}),
		"close code that cannot be sent": maskedFrame(opClose, true, []byte{0x03, 0xee}), // 1006
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
				witness := hubtest.Dial(t, hub, "witness")
				p := peerOf(t, hub, "ana")
				p.write(sent)
				if code, _ := p.closed(); code != 1002 {
					t.Errorf("closed with %d", code)
				}
				expectNothing(t, witness)
			})
		})
	}
}

// A close is answered with the same code, and the connection ends (RFC 6455
// section 5.5.1).
func TestCloseHandshake(t *testing.T) {
	for _, code := range []uint16{1000, 1001, 4321} {
		synctest.Test(t, func(t *testing.T) {
			ended := make(chan chathub.Disconnect, 1)
			hub := hubtest.New(t, chathub.Config{OnDisconnect: func(_ *chathub.Client, d chathub.Disconnect) { ended <- d }})
			p := peerOf(t, hub, "ana")
			start := time.Now()
			p.write(maskedFrame(opClose, true, append(binary.BigEndian.AppendUint16(nil, code), "bye"...)))
			if got, at := p.closed(); got != int(code) || !at.Equal(start) {
				t.Errorf("close code %d was answered with %d after %v", code, got, at.Sub(start))
			}
			if d := <-ended; d != (chathub.Disconnect{Code: int(code), Reason: "bye", Remote: true}) {
				t.Errorf("ended with %+v", d)
			}
		})
	}
}

// 50 violations a minute are tolerated. A well-formed event is not a violation.
func TestViolationsTolerated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hubtest.Dial(t, hubtest.New(t, chathub.Config{PresenceInterval: -1, Rate: -1}), "ana")
		for range 3 {
			for range 50 {
				c.SendText("nonsense")
				c.SendText(`{"type":"join-room"}`)
				c.SendText(`{"type":"nonsense"}`)
				c.SendText(`{"type":"room-message","room":"elsewhere"}`)
			}
			if got := len(ofType(arrived(c), "error")); got != 200 {
				t.Errorf("%d errors, want 200", got)
			}
			time.Sleep(time.Minute)
		}
		for range 50 {
			c.SendRaw(true, []byte(`{"type":"ping"}`))
		}
		c.Must(hubtest.Frame{Type: "ping"})
		c.SendText("one too many")
		if code, _ := c.Closed(); code != 4501 {
			t.Errorf("closed with %d", code)
		}
	})
}

func TestMaxMessage(t *testing.T) {
	const most = 2000
	text := func(n int) string { // a message of n bytes
		const around = `{"type":"message","id":"m","data":""}`
		return `{"type":"message","id":"m","data":"` + strings.Repeat("x", n-len(around)) + `"}`
	}
	// Only the header of a large message.
	claim := maskedFrame(opText, true, make([]byte, 1<<16))[:14]
	claim[2] = 0x7f // almost 2^63 bytes
	for _, tc := range []struct {
		name  string
		parts [][]byte
		fits  bool
	}{
		{"exactly", [][]byte{maskedFrame(opText, true, []byte(text(most)))}, true},
		{"exactly, in fragments", [][]byte{
			maskedFrame(opText, false, []byte(text(most)[:1500])), maskedFrame(opContinuation, true, []byte(text(most)[1500:])),
		}, true},
		{"one byte more", [][]byte{maskedFrame(opText, true, []byte(text(most+1)))}, false},
		{"one byte more, in fragments", [][]byte{
			maskedFrame(opText, false, []byte(text(most)[:1500])), maskedFrame(opContinuation, true, []byte(text(most + 1)[1500:])),
		}, false},
		{"claimed only", [][]byte{claim}, false},
		{"in fragments without end", [][]byte{
			maskedFrame(opText, false, make([]byte, 1500)), maskedFrame(opContinuation, false, make([]byte, 501)),
		}, false},
		{"binary", [][]byte{maskedFrame(0x2, true, make([]byte, most+1))}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{MaxMessageBytes: most, PresenceInterval: -1})
				witness := hubtest.Dial(t, hub, "witness")
				p := peerOf(t, hub, "ana")
				for _, part := range tc.parts {
					p.write(part)
				}
				if !tc.fits {
					if code, _ := p.closed(); code != 1009 {
						t.Errorf("closed with %d", code)
					}
					expectNothing(t, witness)
					return
				}
				if f := p.envelope(); f.Type != "ack" {
					t.Errorf("got %s %s", f.Type, f.Data)
				}
				p.open()
			})
		})
	}
}

// The peer sees why it was closed, however much it had sent. A server that
// closes with unread input would reset the connection.
func TestTooBigOverTCP(t *testing.T) {
	srv := httptest.NewServer(hubtest.New(t, chathub.Config{}))
	defer srv.Close()
	for range 8 {
		c, _, err := websocket.Dial(t.Context(), srv.URL, &websocket.DialOptions{
			Subprotocols: []string{"chathub.v1"},
			HTTPHeader:   http.Header{"Authorization": {"Bearer ana"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Write(t.Context(), websocket.MessageText, make([]byte, 4<<20)); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, _, err = c.Read(t.Context())
		}
		if websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
			t.Errorf("closed with %v", err)
		}
		_ = c.CloseNow()
	}
}

func TestFragmentFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := peerOf(t, hubtest.New(t, chathub.Config{}), "ana")
		p.write(maskedFrame(opText, false, []byte(`{"type":`)))
		for range 100 { // odd, but not a flood
			p.write(maskedFrame(opContinuation, false, nil))
		}
		p.write(maskedFrame(opContinuation, true, []byte(`"ping"}`)))
		if f := p.next(opText); !strings.Contains(string(f.data), "online-users") {
			t.Errorf("got %s", f.data)
		}
		if f := p.envelope(); f.Type != "pong" {
			t.Errorf("got %s %s", f.Type, f.Data)
		}
		p.write(maskedFrame(opText, false, nil))
		for range 5000 {
			p.write(maskedFrame(opContinuation, false, nil))
		}
		if code, _ := p.closed(); code != 4501 {
			t.Errorf("closed with %d", code)
		}
	})
}

func TestControlFlood(t *testing.T) {
	for name, frame := range map[string][]byte{
		"ping": maskedFrame(opPing, true, []byte("x")),
		"pong": maskedFrame(opPong, true, nil),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := peerOf(t, hubtest.New(t, chathub.Config{}), "ana")
				for range 10 { // 50 a second are many, but not a flood
					for range 50 {
						p.write(frame)
					}
					time.Sleep(time.Second)
				}
				p.open()
				for range 1000 {
					p.write(frame)
				}
				if code, _ := p.closed(); code != 4005 {
					t.Errorf("closed with %d", code)
				}
			})
		})
	}
}
