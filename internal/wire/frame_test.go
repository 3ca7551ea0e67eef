package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// borders are the payload lengths where the form of a header changes (RFC 6455
// section 5.2).
var borders = []struct{ length, header int }{
	{0, 2}, {1, 2}, {125, 2}, {126, 4}, {127, 4}, {65535, 4}, {65536, 10},
}

func TestSeal(t *testing.T) {
	for _, tt := range borders {
		b := make([]byte, HeaderRoom+tt.length)
		for i := range b[HeaderRoom:] {
			b[HeaderRoom+i] = byte('a' + i%26)
		}
		payload := bytes.Clone(b[HeaderRoom:])
		f := Seal(b)
		if len(f) != tt.header+tt.length {
			t.Errorf("payload of %d bytes: frame of %d, want a header of %d", tt.length, len(f), tt.header)
		}
		if &f[len(f)-1] != &b[len(b)-1] {
			t.Errorf("payload of %d bytes: the frame is a copy", tt.length)
		}
		got := parseAll(t, f)
		if len(got) != 1 || got[0].op != opText || !bytes.Equal(got[0].payload, payload) {
			t.Errorf("payload of %d bytes: a reader sees %d frames, or others", tt.length, len(got))
		}
		if !bytes.Equal(Payload(f), payload) {
			t.Errorf("payload of %d bytes: Payload returns %d others", tt.length, len(Payload(f)))
		}
	}
}

func TestCloseFrame(t *testing.T) {
	for _, tt := range []struct{ name, reason, want string }{
		{"none", "", ""},
		{"short", "slow consumer", "slow consumer"},
		{"just fits", strings.Repeat("x", 123), strings.Repeat("x", 123)},
		{"too long", strings.Repeat("x", 124), strings.Repeat("x", 123)},
		{"runes of two bytes", strings.Repeat("é", 70), strings.Repeat("é", 61)},
		{"runes of three bytes", strings.Repeat("€", 50), strings.Repeat("€", 41)},
		{"runes of four bytes", strings.Repeat("🙂", 40), strings.Repeat("🙂", 30)},
		{"four bytes that just fit", strings.Repeat("x", 119) + "🙂", strings.Repeat("x", 119) + "🙂"},
		{"four bytes that just do not", strings.Repeat("x", 120) + "🙂", strings.Repeat("x", 120)},
		{"not UTF-8", "a\xffb", "a\uFFFDb"},
		{"long and not UTF-8", "\xff" + strings.Repeat("x", 200), "\uFFFD" + strings.Repeat("x", 120)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := parseAll(t, closeFrame(4001, tt.reason))
			if len(got) != 1 || got[0].op != opClose {
				t.Fatalf("a reader sees %v", got)
			}
			if code := binary.BigEndian.Uint16(got[0].payload); code != 4001 {
				t.Errorf("code %d, want 4001", code)
			}
			if reason := string(got[0].payload[2:]); reason != tt.want || !utf8.ValidString(reason) {
				t.Errorf("reason %q, want %q", reason, tt.want)
			}
		})
	}
}

// The other side of the WebSocket library reads what this package writes.
func TestFramesAgainstAClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := &Upgrade{ResponseWriter: w, Limits: Limits{Outbox: 1 << 20, Grace: closeGrace}}
		ws, err := websocket.Accept(u, r, nil)
		if err != nil {
			answer <- err
			return
		}
		u.Conn.Flush()
		for _, tt := range borders {
			send(u.Conn, Ping)
			send(u.Conn, sealed(strings.Repeat("x", tt.length)))
		}
		if u.Conn.CloseWith(4503, "that was all", false, time.Minute) == Ready {
			u.Conn.Flush()
		}
		_, _, err = ws.Read(ctx)
		answer <- err
	}))
	defer srv.Close()

	pings := 0
	ws, _, err := websocket.Dial(ctx, srv.URL, &websocket.DialOptions{
		OnPingReceived: func(context.Context, []byte) bool { pings++; return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	for _, tt := range borders {
		typ, b, err := ws.Read(ctx)
		if err != nil || typ != websocket.MessageText || len(b) != tt.length {
			t.Fatalf("message of %d bytes: type %v, %d bytes, %v", tt.length, typ, len(b), err)
		}
	}
	_, _, err = ws.Read(ctx)
	ce := websocket.CloseError{}
	if !errors.As(err, &ce) || ce.Code != 4503 || ce.Reason != "that was all" {
		t.Errorf("after the close frame: %v", err)
	}
	if err := <-answer; websocket.CloseStatus(err) != 4503 {
		t.Errorf("the client answers %v", err)
	}
	if pings != len(borders) {
		t.Errorf("%d pings, want %d", pings, len(borders))
	}
}
