package chathub

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/go-json-experiment/json"
)

// reader is a connected client whose events are handled on the goroutine of the
// benchmark.
func benchReader(b *testing.B) *Client {
	clients := make(chan *Client, 1)
	hub, err := New(Config{
		Auth: Anonymous{}, PresenceInterval: -1, Rate: -1, UserRate: -1, MaxRooms: -1,
		OnConnect: func(_ context.Context, c *Client, _ *http.Request) error {
			clients <- c
			return nil
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = hub.Close() })
	srv := httptest.NewServer(hub)
	b.Cleanup(srv.Close)
	g := dialBench(b, srv.Listener.Addr().String())
	g.read(b) // welcome
	return <-clients
}

// publishMessages has somebody else send messages to a room.
func publishMessages(b *testing.B, h *Hub, room string, n int) {
	from := User{ID: "bob", Name: "Bob"}
	for i := range n {
		env := envelope{typ: eventRoomMessage, id: fmt.Sprint("m", i), room: room, from: &from, data: []byte(chatMessage)}
		m := Message{Topic: Topic{Room: room}, Owner: from.ID, Body: env.body(&note.Routed{})}
		if _, err := h.session.Publish(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMarkRead(b *testing.B) {
	c := benchReader(b)
	publishMessages(b, c.hub, "lobby", 1000)
	b.Run("forward", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i%900 == 0 { // another life of the marker
				b.StopTimer()
				publishMessages(b, c.hub, fmt.Sprint("lobby", i), 900)
				b.StartTimer()
			}
			e := &Event{Type: eventMarkRead, Room: fmt.Sprint("lobby", i/900*900), Data: fmt.Appendf(nil, `{"seq":%d}`, 1+i%900)}
			if _, err := onMarkRead(b.Context(), c, e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("not forward", func(b *testing.B) {
		e := &Event{Type: eventMarkRead, Room: "lobby", Data: []byte(`{"seq":900}`)}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := onMarkRead(b.Context(), c, e); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkJoinUnread measures a join and a leave, with so many messages that
// are unread, and none to count.
func BenchmarkJoinUnread(b *testing.B) {
	c := benchReader(b)
	for _, unread := range []int{0, 50, 1000} {
		b.Run(fmt.Sprintf("unread=%d", unread), func(b *testing.B) {
			room := fmt.Sprint("room", unread)
			publishMessages(b, c.hub, room, max(1, unread))
			if unread == 0 {
				c.handle(&Event{Type: eventMarkRead, Room: room, Data: []byte(`{"seq":1}`)})
			}
			b.ReportAllocs()
			for b.Loop() {
				c.handle(&Event{Type: eventJoinRoom, Room: room})
				c.handle(&Event{Type: eventLeaveRoom, Room: room})
			}
		})
	}
}

// BenchmarkOverview measures overviews of 500 rooms with 20 or 1000 messages,
// of which 10 are unread, or 1000.
func BenchmarkOverview(b *testing.B) {
	for _, bench := range []struct{ messages, unread int }{{20, 10}, {1000, 10}, {1000, 1000}} {
		b.Run(fmt.Sprintf("messages=%d/unread=%d", bench.messages, bench.unread), func(b *testing.B) {
			c := benchReader(b)
			c.hub.cfg.MaxOutboxBytes = 4 << 20 // all rooms have their newest message
			d := overviewData{}
			for i := range maxOverview {
				room := fmt.Sprint("room", i)
				publishMessages(b, c.hub, room, bench.messages)
				if seq := bench.messages - bench.unread; seq > 0 {
					c.handle(&Event{Type: eventMarkRead, Room: room, Data: fmt.Appendf(nil, `{"seq":%d}`, seq)})
				}
				d.Rooms = append(d.Rooms, room)
			}
			data, err := json.Marshal(d)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := onOverview(b.Context(), c, &Event{Type: eventOverview, Data: data}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConversations measures the conversations of an inbox that is full.
func BenchmarkConversations(b *testing.B) {
	c := benchReader(b)
	user := c.User().ID
	for i := range 1000 {
		from := User{ID: fmt.Sprint("user", i%500), Name: "Bob"}
		env := envelope{typ: eventPrivateMessage, id: fmt.Sprint("m", i), to: user, from: &from, data: []byte(chatMessage)}
		m := Message{Topic: Topic{User: user}, Owner: from.ID, Body: env.body(&note.Routed{})}
		if _, err := c.hub.session.Publish(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := onOverview(b.Context(), c, &Event{Type: eventOverview, Data: []byte(`{"inbox":true}`)}); err != nil {
			b.Fatal(err)
		}
	}
}
