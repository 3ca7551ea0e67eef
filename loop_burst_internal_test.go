package chathub

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// If the loop falls behind, a client that reads is not closed, even if more is
// waiting for it than an outbox holds.
func TestBurstIsNoSlowConsumer(t *testing.T) {
	hub, err := New(Config{Auth: Anonymous{}, PresenceInterval: -1, MaxMessageBytes: 8 << 10, MaxOutboxBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hub.Close() }()
	srv := httptest.NewServer(hub)
	defer srv.Close()
	c, _, err := websocket.Dial(t.Context(), srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"join-room","id":"j","room":"lobby"}`)); err != nil {
		t.Fatal(err)
	}
	read := func(what string) {
		for {
			_, b, err := c.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(string(b), `{"type":"`+what+`"`) {
				return
			}
		}
	}
	read("ack")

	blocked, open := make(chan struct{}), make(chan struct{})
	if err := hub.post(call(func(*loop) { close(blocked); <-open })); err != nil {
		t.Fatal(err)
	}
	<-blocked
	const burst = 20
	for range burst {
		if err := hub.To("lobby").Emit(t.Context(), "news", strings.Repeat("x", 8000)); err != nil {
			t.Fatal(err)
		}
	}
	close(open)
	for range burst {
		read("news")
	}
}
