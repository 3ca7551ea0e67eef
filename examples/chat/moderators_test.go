package main

import (
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
)

// refused sends an event, and fails the test unless it is refused with a code.
func (c *client) refused(e envelope, code chathub.Code) {
	c.t.Helper()
	c.send(e)
	for {
		_, b, err := c.conn.Read(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		var got struct {
			Type, ID string
			Data     struct{ Code chathub.Code }
		}
		if err := json.Unmarshal(b, &got, json.MatchCaseInsensitiveNames(true)); err != nil {
			c.t.Fatalf("%s: %v", b, err)
		}
		if got.ID != e.ID || got.Type == e.Type {
			continue
		}
		if got.Data.Code != code {
			c.t.Errorf("%s was answered with %s, want %s", e.Type, b, code)
		}
		return
	}
}

func message(id string) envelope {
	return envelope{Type: "room-message", ID: id, Room: "lobby", Data: []byte(`{"text":"hello"}`)}
}

func moderate(id, data string) envelope {
	return envelope{Type: "moderate", ID: id, Room: "lobby", Data: []byte(data)}
}

// TestModerators: who has one of the names may moderate, on every instance, and
// what was decided outlives a restart.
func TestModerators(t *testing.T) {
	args := []string{"-nats", natsServer(t), "-moderators", "Mia, tom"}
	one, two := start(t, nil, args...), start(t, nil, args...)
	mia, ben := one.connect(t, "mia"), two.connect(t, "Ben")
	for _, c := range []*client{mia, ben} {
		c.send(envelope{Type: "join-room", ID: "j", Room: "lobby"})
		c.await("ack")
	}
	ben.send(message("1"))
	ben.await("ack")
	ben.refused(moderate("2", `{"action":"freeze"}`), chathub.CodeForbidden)
	mia.refused(moderate("m1", `{"action":"mute","user":"`+userID("Tom")+`"}`), chathub.CodeForbidden)
	mia.send(moderate("m2", `{"action":"mute","user":"`+userID("Ben")+`","forMs":3600000}`))
	mia.await("ack")
	ben.refused(message("3"), chathub.CodeForbidden)
	mia.send(envelope{Type: "moderation", ID: "m3", Room: "lobby"})
	if e := mia.await("ack"); !strings.Contains(string(e.Data), `"moderator":true`) || !strings.Contains(string(e.Data), userID("Ben")) {
		t.Errorf("Mia is told %s", e.Data)
	}
	ben.send(envelope{Type: "report", ID: "4", To: userID("Mia"), Data: []byte(`{"id":"p1","reason":"unfair"}`)})
	ben.await("ack")
	mia.send(envelope{Type: "join-room", ID: "m4", Room: "moderation/reports", Data: []byte(`{"history":10}`)})
	if e := mia.await("report"); e.From == nil || e.From.Name != "Ben" {
		t.Errorf("the report is from %+v", e.From)
	}

	mia.send(envelope{Type: "moderate", ID: "m5", Data: []byte(`{"action":"ban","user":"` + userID("Ben") + `"}`)})
	mia.await("ack")
	three := start(t, nil, args...)
	conn, _, err := three.dial(t, three.login(t, "Ben").Token, strings.TrimSuffix(three.url, "/"))
	if err != nil {
		t.Fatal(err)
	}
	if e := (&client{t: t, conn: conn}).await("connect-error"); !strings.Contains(string(e.Data), "banned") {
		t.Errorf("Ben is refused with %s", e.Data)
	}
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != 4505 {
		t.Errorf("the connection ended with %v", err)
	}
}
