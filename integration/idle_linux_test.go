package integration

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestIdleConnectionsHaveNoGoroutine: an idle connection over TCP has no
// goroutine, before its first event and after it, and loses nothing.
func TestIdleConnectionsHaveNoGoroutine(t *testing.T) {
	const n = 100
	srv := newServer(t, hubtest.New(t, chathub.Config{PresenceInterval: -1}))
	reading := func() int {
		buf := make([]byte, 4<<20)
		return strings.Count(string(buf[:runtime.Stack(buf, true)]), "chathub.(*Client).read(")
	}
	idle := func(when string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); reading() > 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d of %d connections have a goroutine", when, reading(), n)
			}
		}
	}
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = connect(t, srv.Client(), srv.URL, "user"+strconv.Itoa(i))
	}
	idle("after the handshake")
	for range 2 {
		for _, c := range clients {
			c.must(hubtest.Frame{Type: "join-room", Room: "lobby"})
		}
		if reading() == 0 {
			t.Error("nobody reads right after an event")
		}
		idle("some time after an event")
	}
	// The ack may come before its own copy, or after it.
	clients[0].send(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("hello")})
	for _, c := range clients {
		c.wait("room-message")
	}
	if n := reading(); n > 1 {
		t.Errorf("%d connections read although nothing came from them", n)
	}
}
