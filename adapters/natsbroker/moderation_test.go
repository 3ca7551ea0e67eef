package natsbroker_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
)

// moderated starts a hub with moderation on a broker. The hub must be closed
// before the broker.
func moderated(t testing.TB, broker chathub.Broker) (*moderation.Moderation, *chathub.Hub) {
	t.Helper()
	cfg := chathub.Config{
		Broker: broker, Auth: hubtest.Auth{}, PresenceInterval: -1, Rate: -1,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	m := moderation.New(moderation.Config{})
	m.Install(&cfg)
	hub, err := chathub.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context(), hub); err != nil {
		t.Fatal(err)
	}
	return m, hub
}

func decide(t testing.TB, m *moderation.Moderation, d moderation.Decision) chathub.Position {
	t.Helper()
	pos, err := m.Decide(t.Context(), d)
	if err != nil {
		t.Fatalf("%+v: %v", d, err)
	}
	return pos
}

// TestModerationRestart: decisions hold after the hub, the broker and its
// server were stopped and started again.
func TestModerationRestart(t *testing.T) {
	dir := t.TempDir()
	before := openEmbedded(t, dir)
	m, hub := moderated(t, before)
	ana := hubtest.Dial(t, hub, "ana")
	ana.Must(hubtest.Frame{Type: "join-room", Room: "lobby"})
	ana.Must(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data(1)})
	decide(t, m, moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: "ana", Until: time.Now().Add(time.Hour), Reason: "spam"})
	decide(t, m, moderation.Decision{Kind: moderation.Ban, User: "ben"})
	decide(t, m, moderation.Decision{Kind: moderation.Slow, Room: "hall", Every: time.Hour})
	decide(t, m, moderation.Decision{Kind: moderation.Mute, User: "cid"})
	if _, err := m.Lift(t.Context(), moderation.Mute, "", "cid"); err != nil {
		t.Fatal(err)
	}
	ana.Must(hubtest.Frame{Type: "join-room", Room: "hall"})
	ana.Must(hubtest.Frame{Type: "room-message", Room: "hall", Data: hubtest.Data(1)})
	if err := hub.Close(); err != nil {
		t.Fatal(err)
	}
	closeBroker(t, before)

	m, hub = moderated(t, openEmbedded(t, dir))
	defer func() { _ = hub.Close() }()
	ana = hubtest.Dial(t, hub, "ana")
	for room, want := range map[string]chathub.Code{"lobby": chathub.CodeForbidden, "hall": chathub.CodeRateLimited} {
		ana.Must(hubtest.Frame{Type: "join-room", Room: room})
		if r := ana.Request(hubtest.Frame{Type: "room-message", ID: "again-" + room, Room: room, Data: hubtest.Data(2)}); r.Code() != want {
			t.Errorf("%s: %s %s", room, r.Type, r.Data)
		}
	}
	ben, err := hubtest.DialHeader(t, hub, http.Header{"Authorization": {"Bearer ben"}})
	if err != nil {
		t.Fatal(err)
	}
	if f := ben.Next(); f.Code() != chathub.CodeForbidden {
		t.Errorf("ben: %s %s", f.Type, f.Data)
	}
	if err := m.MayWrite("cid", "lobby"); err != nil {
		t.Errorf("cid: %v", err)
	}
}

// TestModerationNodes: on two nodes that share a server, nothing of a user is
// in the log after the position of a mute.
func TestModerationNodes(t *testing.T) {
	server := serve(t)
	var mods []*moderation.Moderation
	var hubs []*chathub.Hub
	for range 2 {
		broker := connect(t, server.ClientURL())
		m, hub := moderated(t, broker)
		t.Cleanup(func() {
			_ = hub.Close()
			closeBroker(t, broker)
		})
		mods, hubs = append(mods, m), append(hubs, hub)
	}
	for i := range 10 {
		user := fmt.Sprint("user", i)
		c := hubtest.Dial(t, hubs[i%2], user)
		c.Must(hubtest.Frame{Type: "join-room", Room: "lobby"})
		for k := range 50 {
			c.Send(hubtest.Frame{Type: "room-message", ID: fmt.Sprint(k), Room: "lobby", Data: hubtest.Data(k)})
		}
		pos := decide(t, mods[(i/2)%2], moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: user})
		if r := c.Request(hubtest.Frame{Type: "room-message", ID: "last", Room: "lobby", Data: hubtest.Data(1)}); r.Code() != chathub.CodeForbidden {
			t.Errorf("%s: %s %s", user, r.Type, r.Data)
		}
		entries, _, err := hubs[0].History(t.Context(), "lobby", chathub.Range{After: pos.Seq, Limit: 100})
		if err != nil || len(entries) > 0 {
			t.Errorf("%s: %d messages after the mute, %v", user, len(entries), err)
		}
	}
	if e, ok := errors.AsType[*chathub.Error](mods[1].MayWrite("user0", "lobby")); !ok || e.Code != chathub.CodeForbidden {
		t.Error("the other node does not know of the first mute")
	}
}

// BenchmarkModeration measures what a start and a decision take.
func BenchmarkModeration(b *testing.B) {
	broker := openEmbedded(b, b.TempDir())
	m, hub := moderated(b, broker)
	defer func() { _ = hub.Close() }()
	b.Run("decide", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			decide(b, m, moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: fmt.Sprint("user", i%2000)})
		}
	})
	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			_, other := moderated(b, broker)
			_ = other.Close()
		}
	})
}
