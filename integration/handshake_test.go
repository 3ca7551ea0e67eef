package integration

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// change returns the lines of a correct handshake, in which lines replace the
// one that begins with prefix.
func change(prefix string, lines ...string) string {
	all := strings.Split(strings.TrimSuffix(upgradeRequest("ana"), "\r\n\r\n"), "\r\n")
	i := slices.IndexFunc(all, func(s string) bool { return strings.HasPrefix(s, prefix) })
	return strings.Join(slices.Replace(all, i, i+1, lines...), "\r\n") + "\r\n\r\n"
}

// TestRFC6455Handshake sends requests that are a handshake, or almost one.
func TestRFC6455Handshake(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{})
	addr := newServer(t, hub).Listener.Addr().String()
	for _, c := range []struct {
		section string // in RFC 6455
		name    string
		request string
		status  int
		header  map[string]string // headers of the answer; "" means none
	}{
		{"1.3", "a right one", upgradeRequest("ana"), 101, map[string]string{
			"Upgrade":                  "websocket",
			"Connection":               "Upgrade",
			"Sec-Websocket-Accept":     sampleAccept,
			"Sec-Websocket-Protocol":   "chathub.v1",
			"Sec-Websocket-Extensions": "",
			"Content-Length":           "",
			"Transfer-Encoding":        "",
		}},
		{"4.2.2", "another key", change("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA=="), 101, map[string]string{
			"Sec-Websocket-Accept": accept("AQIDBAUGBwgJCgsMDQ4PEA=="),
		}},
		{"4.2.1", "names and tokens in other case", change("Upgrade:", "upgrade: WebSocket"), 101, nil},
		{"4.2.1", "Connection with more tokens", change("Connection", "Connection: keep-alive, upgrade"), 101, nil},
		{"4.2.1", "white space around the key", change("Sec-WebSocket-Key", "Sec-WebSocket-Key: \t"+sampleKey+" \t"), 101, map[string]string{
			"Sec-Websocket-Accept": sampleAccept,
		}},
		{"4.2.1", "a path, query and cookies", change("GET", "GET /any/path?and=query HTTP/1.1", "Cookie: a=b"), 101, nil},
		{"4.2.1", "unknown fields", change("Host", "Host: chat.example", "X-Unknown: x", "Sec-WebSocket-Unknown: x"), 101, nil},

		{"4.2.1", "POST", change("GET", "POST / HTTP/1.1", "Content-Length: 0"), 405, nil},
		{"4.2.1", "HTTP/1.0", change("GET", "GET / HTTP/1.0"), 426, nil},
		{"4.2.1", "no Host", change("Host"), 400, nil},
		{"4.2.1", "no Upgrade", change("Upgrade:"), 426, map[string]string{"Upgrade": "websocket"}},
		{"4.2.1", "Upgrade to something else", change("Upgrade:", "Upgrade: h2c"), 426, map[string]string{"Upgrade": "websocket"}},
		{"4.2.1", "no Connection", change("Connection"), 426, nil},
		{"4.2.1", "Connection without Upgrade", change("Connection", "Connection: keep-alive"), 426, nil},
		{"4.2.1", "no key", change("Sec-WebSocket-Key"), 426, nil},
		{"4.2.1", "an empty key", change("Sec-WebSocket-Key", "Sec-WebSocket-Key:"), 426, nil},
		{"4.2.1", "a key of 15 bytes", change("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4P"), 400, nil},
		{"4.2.1", "a key of 17 bytes", change("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEBE="), 400, nil},
		{"4.2.1", "a key that is not base64", change("Sec-WebSocket-Key", "Sec-WebSocket-Key: ????????????????????????"), 400, nil},
		{"11.3.1", "two keys", change("Sec-WebSocket-Key", "Sec-WebSocket-Key: "+sampleKey, "Sec-WebSocket-Key: "+sampleKey), 400, nil},
		{"4.4", "no version", change("Sec-WebSocket-Version"), 400, map[string]string{"Sec-Websocket-Version": "13"}},
		{"4.4", "version 8", change("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 400, map[string]string{"Sec-Websocket-Version": "13"}},
		{"4.4", "version 14", change("Sec-WebSocket-Version", "Sec-WebSocket-Version: 14"), 400, map[string]string{"Sec-Websocket-Version": "13"}},
		{"4.4", "version 013", change("Sec-WebSocket-Version", "Sec-WebSocket-Version: 013"), 400, map[string]string{"Sec-Websocket-Version": "13"}},

		{"4.2.2", "no subprotocol", change("Sec-WebSocket-Protocol"), 101, map[string]string{"Sec-Websocket-Protocol": ""}},
		{"4.2.2", "an unknown subprotocol", change("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: chat"), 101, map[string]string{"Sec-Websocket-Protocol": ""}},
		{"4.2.2", "one of several subprotocols", change("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: chat, chathub.v1 , superchat"), 101, map[string]string{"Sec-Websocket-Protocol": "chathub.v1"}},
		{"11.3.4", "subprotocols in several lines", change("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chathub.v1"), 101, map[string]string{"Sec-Websocket-Protocol": "chathub.v1"}},
		{"4.2.2", "a token among the subprotocols", change("Authorization", "Sec-WebSocket-Protocol: chathub.bearer.ana"), 101, map[string]string{"Sec-Websocket-Protocol": "chathub.v1"}},
		{"9.1", "extensions", change("Host", "Host: chat.example", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-unknown"), 101, map[string]string{"Sec-Websocket-Extensions": ""}},
		{"10.2", "a page of another origin", change("Host", "Host: chat.example", "Origin: http://evil.example"), 403, nil},
		{"10.2", "a page of the same origin", change("Host", "Host: chat.example", "Origin: http://chat.example"), 101, nil},
	} {
		t.Run(c.section+" "+c.name, func(t *testing.T) {
			r, status, header := handshake(t, addr, c.request)
			if status != c.status {
				t.Fatalf("answer is %d, want %d", status, c.status)
			}
			for name, want := range c.header {
				if got := strings.Join(header.Values(name), ", "); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if c.status == http.StatusSwitchingProtocols {
				expect(t, "the client", r.next(), "welcome")
			}
		})
	}
}

// TestRFC6455FramesWithHandshake sends the first frames with the handshake,
// before its answer. They are not lost, and nothing is sent before the answer.
func TestRFC6455FramesWithHandshake(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
	addr := newServer(t, hub).Listener.Addr().String()
	early := frame{op: opPing, payload: "early"}.bytes()
	early = append(early, text(`{"type":"ping"}`).bytes()...)
	r, status, _ := handshake(t, addr, upgradeRequest("ana")+string(early))
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake was answered with %d", status)
	}
	expect(t, "the client", r.next(), "welcome")
	expect(t, "the client", r.next(), "pong early")
	expect(t, "the client", r.next(), "pong")
}

// TestRFC6455ServerCloses makes the server begin the closing handshake (RFC
// 6455 sections 5.5.1 and 7.1).
func TestRFC6455ServerCloses(t *testing.T) {
	gone := make(chan chathub.Disconnect, 1)
	hub := hubtest.New(t, chathub.Config{
		PresenceInterval: -1,
		OnDisconnect:     func(_ *chathub.Client, d chathub.Disconnect) { gone <- d },
	})
	addr := newServer(t, hub).Listener.Addr().String()
	r := connectRaw(t, addr, "ana")
	if err := hub.ToUser("ana").Disconnect(t.Context(), "bye"); err != nil {
		t.Fatal(err)
	}
	expect(t, "the client", r.next(), "close 4503")
	// Frames that a client sends between the two closes are not answered, and
	// do no harm.
	r.send(text(`{"type":"ping"}`), frame{op: opPing}, frame{op: opPong}, closing(4503, ""))
	expect(t, "the client", r.next(), "EOF")
	if d := <-gone; d.Code != 4503 || d.Reason != "bye" || d.Remote {
		t.Errorf("OnDisconnect got %+v", d)
	}
}

// TestRFC6455NoAnswerToClose has clients that are closed and neither answer nor
// hang up. The server ends the TCP connection itself (RFC 6455 section 7.1.1).
func TestRFC6455NoAnswerToClose(t *testing.T) {
	for name, c := range map[string]struct {
		send []frame
		want string
	}{
		"reserved bits": {[]frame{{op: opText, rsv: 1}}, "close 1002"},
		"unmasked":      {[]frame{{op: opText, unmasked: true}}, "close 1002"},
		"too big":       {[]frame{{op: opText, claims: 1 << 40}}, "close 1009"},
		"not UTF-8":     {[]frame{text("\xff")}, "close 1007"},
		"a bad close":   {[]frame{closing(1005, "")}, "close 1002"},
		"a close":       {[]frame{closing(1000, "")}, "close 1000"},
		"disconnected":  {[]frame{text(`{"type":"leave-me"}`)}, "close 4503"},
		"flood":         {slices.Repeat([]frame{{op: opPong}}, 1000), "close 4005"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := hubtest.New(t, chathub.Config{
				PresenceInterval: -1,
				WriteTimeout:     100 * time.Millisecond, // the limit of the closing handshake
			})
			chathub.On(hub, "leave-me", func(_ context.Context, c *chathub.Client, _ struct{}) error {
				c.Disconnect("")
				return nil
			})
			r := connectRaw(t, newServer(t, hub).Listener.Addr().String(), "ana")
			r.send(c.send...)
			expect(t, "the client", r.next(), c.want)
			expect(t, "the client", r.next(), "EOF")
		})
	}
}
