package moderation_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
)

// TestMute: a user who is muted in a room writes nothing there, on any node,
// until the mute ends, and may do all the rest.
func TestMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := cluster(t, moderation.Config{}, chathub.Config{})
		ana, tab := a.dial("ana", "lobby", "hall"), b.dial("ana", "lobby")
		bob := b.dial("bob", "lobby")
		seq := ana.Must(text("lobby", "1")).Seq
		pos := b.decide(moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: "ana", Until: in(time.Minute), Reason: "spam"})
		if pos.Seq != seq || pos.Epoch == "" {
			t.Errorf("the mute is after %+v, want message %d", pos, seq)
		}
		if got := dataOf[map[string]any](t, tab.Wait("muted")); got["room"] != "lobby" || got["reason"] != "spam" || got["until"] == nil || got["by"] != nil {
			t.Errorf("the user is told %v", got)
		}
		const refused = "forbidden: You are muted: spam (1m0s)"
		for _, c := range []*hubtest.Client{ana, tab} {
			expect(t, "muted", c, text("lobby", "2"), refused)
			expect(t, "muted", c, frame("edit-message", "lobby", map[string]any{"seq": seq, "data": "3"}), refused)
			expect(t, "muted", c, frame("react", "lobby", map[string]any{"seq": seq, "key": "x"}), refused)
			expect(t, "muted", c, frame("typing", "lobby", nil), refused)
		}
		expect(t, "another room", ana, text("hall", "1"), "ack")
		expect(t, "another user", bob, text("lobby", "4"), "ack")
		expect(t, "reading", ana, frame("history", "lobby", nil), "ack")
		expect(t, "of one's own", ana, frame("delete-message", "lobby", map[string]any{"seq": seq}), "ack")
		expect(t, "to somebody", ana, hubtest.Frame{Type: "private-message", To: "bob", Data: hubtest.Data("5")}, "ack")
		time.Sleep(time.Minute)
		expect(t, "after its end", tab, text("lobby", "6"), "ack")
	})
}

// TestMuteEverywhere: a mute without a room is for rooms, private messages and
// everything else that is said.
func TestMuteEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := cluster(t, moderation.Config{Events: []string{"wave"}}, chathub.Config{
			ClientState: everyKey,
		})
		for _, n := range []*node{a, b} {
			chathub.On(n.hub, "wave", onWave)
			chathub.On(n.hub, "vote", onWave)
		}
		ana := a.dial("ana", "lobby")
		pos := b.decide(moderation.Decision{Kind: moderation.Mute, User: "ana"})
		if pos != (chathub.Position{}) {
			t.Errorf("it has a position: %+v", pos)
		}
		if got := dataOf[map[string]any](t, ana.Wait("muted")); len(got) > 0 {
			t.Errorf("the user is told %v", got)
		}
		const refused = "forbidden: You are muted"
		for _, f := range []hubtest.Frame{
			text("lobby", "1"), frame("message", "", "1"), frame("typing", "lobby", nil), frame("wave", "lobby", nil), frame("wave", "", nil),
			{Type: "private-message", To: "bob", Data: hubtest.Data("1")}, {Type: "send-notification", To: "bob", Data: hubtest.Data("1")},
			frame("set-state", "lobby", map[string]any{"key": "topic", "value": 1}),
		} {
			expect(t, "muted", ana, f, refused)
		}
		expect(t, "no event that counts", ana, frame("vote", "lobby", nil), "ack")
		if err := a.MayWrite("ana", "lobby"); !hasCode(err, chathub.CodeForbidden) {
			t.Errorf("MayWrite: %v", err)
		}
		b.lift(moderation.Mute, "", "ana")
		if got := dataOf[map[string]any](t, ana.Wait("muted")); got["lifted"] != true {
			t.Errorf("the user is told %v", got)
		}
		expect(t, "lifted", ana, text("lobby", "1"), "ack")
		if err := a.MayWrite("ana", "lobby"); err != nil {
			t.Errorf("MayWrite: %v", err)
		}
	})
}

// TestBanRoom: a ban takes a user out of a room, on every node, and keeps the
// user out.
func TestBanRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, visible := range map[string]bool{"Authorize": false, "Visible": true} {
			cfg := chathub.Config{}
			if visible {
				cfg.Visible = everyRoom
			}
			a, b := cluster(t, moderation.Config{}, cfg)
			ana, tab := a.dial("ana", "lobby", "hall"), b.dial("ana", "lobby")
			ana.Must(text("lobby", "1"))
			b.decide(moderation.Decision{Kind: moderation.Ban, Room: "lobby", User: "ana", Until: in(time.Hour), Reason: "spam"})
			for _, c := range []*hubtest.Client{ana, tab} {
				if f := c.Wait("removed"); f.Room != "lobby" || string(f.Data) != `{"reason":"spam"}` {
					t.Errorf("removed from %s %s", f.Room, f.Data)
				}
				expect(t, "banned", c, text("lobby", "2"), "not_in_room: Join the room first")
				expect(t, "banned", c, frame("join-room", "lobby", nil), "forbidden: You are banned from this room: spam (1h0m0s)")
				expect(t, "banned", c, frame("history", "lobby", nil), "not_in_room: Join the room first")
			}
			resumed := ana.Must(frame("resume", "", map[string]any{"rooms": map[string]any{"lobby": map[string]any{"epoch": "", "seq": 0}}}))
			rooms := dataOf[struct {
				Rooms map[string]struct {
					Error refusal `json:"error"`
				} `json:"rooms"`
			}](t, resumed)
			if rooms.Rooms["lobby"].Error.Code != chathub.CodeForbidden {
				t.Errorf("%s: resume: %s", name, resumed.Data)
			}
			over := ana.Must(frame("overview", "", map[string]any{"rooms": []string{"lobby", "hall"}}))
			if got := dataOf[struct {
				Rooms map[string]any `json:"rooms"`
			}](t, over).Rooms; got["lobby"] != nil {
				t.Errorf("%s: the overview has %v", name, got)
			}
			expect(t, "another room", ana, text("hall", "1"), "ack")
			if err := a.MayEnter("ana", "lobby"); !hasCode(err, chathub.CodeForbidden) {
				t.Errorf("%s: MayEnter: %v", name, err)
			}
			time.Sleep(time.Hour)
			ana = a.dial("ana", "lobby")
			expect(t, "after its end", ana, text("lobby", "3"), "ack")
		}
	})
}

// TestBanOnConnect: an application that joins every client to a room does not
// let in those who are banned from it.
func TestBanOnConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newNode(t, moderation.Config{}, chathub.Config{
			OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
				return c.Join(ctx, "lobby", "hall")
			},
		})
		a.decide(moderation.Decision{Kind: moderation.Ban, Room: "lobby", User: "ana"})
		ana, ben := a.dial("ana"), a.dial("ben")
		expect(t, "banned", ana, text("lobby", "1"), "not_in_room: Join the room first")
		expect(t, "another room", ana, text("hall", "1"), "ack")
		expect(t, "another user", ben, text("lobby", "1"), "ack")
		synctest.Wait()
		for _, f := range ana.Pending() {
			if f.Room == "lobby" {
				t.Errorf("the user has heard %s of the room", f.Type)
			}
		}
	})
}

// TestBanEverywhere: a ban without a room closes a user's connections on every
// node, and refuses new ones until it ends.
func TestBanEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		a, b := cluster(t, moderation.Config{}, chathub.Config{
			OnConnect: func(context.Context, *chathub.Client, *http.Request) error { asked.Add(1); return nil },
		})
		ana, tab := a.dial("ana", "lobby"), b.dial("ana", "lobby")
		b.decide(moderation.Decision{Kind: moderation.Ban, User: "ana", Until: in(time.Hour), Reason: "spam"})
		for _, c := range []*hubtest.Client{ana, tab} {
			if code, reason := c.Closed(); code != 4503 || reason != "spam" {
				t.Errorf("closed with %d %s", code, reason)
			}
		}
		asked.Store(0)
		for _, n := range []*node{a, b} {
			c, err := hubtest.DialHeader(t, n.hub, http.Header{"Authorization": {"Bearer ana"}})
			if err != nil {
				t.Fatal(err)
			}
			if got := dataOf[refusal](t, c.Wait("connect-error")).String(); got != "forbidden: You are banned: spam (1h0m0s)" {
				t.Errorf("refused with %s", got)
			}
			if code, _ := c.Closed(); code != 4505 {
				t.Errorf("closed with %d", code)
			}
		}
		if asked.Load() > 0 {
			t.Error("the application was asked about a user who is banned")
		}
		if err := a.MayWrite("ana", "lobby"); !hasCode(err, chathub.CodeForbidden) {
			t.Errorf("MayWrite: %v", err)
		}
		a.lift(moderation.Ban, "", "ana")
		b.dial("ana", "lobby")
	})
}

// TestFreeze: only those who are exempt write in a frozen room, and its members
// see that it is frozen, at the place where it begins.
func TestFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := cluster(t, moderation.Config{}, chathub.Config{ClientState: everyKey})
		ana, mod := a.dial("ana", "lobby", "hall"), b.dial("mod1", "lobby")
		ana.Must(text("lobby", "1"))
		pos := b.decide(moderation.Decision{Kind: moderation.Freeze, Room: "lobby", Until: in(time.Minute), Reason: "Calm down"})
		if f := ana.Wait("state-changed"); f.Seq != pos.Seq || dataOf[map[string]any](t, f)["key"] != "moderation" {
			t.Errorf("members see %+v at %d, want %d", f, f.Seq, pos.Seq)
		}
		expect(t, "frozen", ana, text("lobby", "2"), "forbidden: The room is frozen: Calm down (1m0s)")
		expect(t, "frozen", ana, frame("typing", "lobby", nil), "forbidden: The room is frozen: Calm down (1m0s)")
		expect(t, "exempt", mod, text("lobby", "3"), "ack")
		expect(t, "another room", ana, text("hall", "1"), "ack")
		expect(t, "the key that shows it", mod, frame("set-state", "lobby", map[string]any{"key": "moderation", "value": nil}), "forbidden: Clients may not set this key")
		if err := a.MayWrite("ana", "lobby"); !hasCode(err, chathub.CodeForbidden) {
			t.Errorf("MayWrite: %v", err)
		}
		joined := dataOf[struct {
			State struct {
				Moderation struct {
					Frozen      bool  `json:"frozen"`
					FrozenUntil int64 `json:"frozenUntil"`
				} `json:"moderation"`
			} `json:"state"`
		}](t, a.dial("bob").Must(frame("join-room", "lobby", nil)))
		if m := joined.State.Moderation; !m.Frozen || m.FrozenUntil != time.Now().Add(time.Minute).UnixMilli() {
			t.Errorf("a newcomer sees %+v", m)
		}
		b.decide(moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: "mod1"})
		expect(t, "muted", mod, text("lobby", "4"), "forbidden: You are muted")
		pos = a.lift(moderation.Freeze, "lobby", "")
		if f := ana.Wait("state-changed"); f.Seq != pos.Seq || string(f.Data) != `{"key":"moderation","value":null}` {
			t.Errorf("members see %s at %d, want %d", f.Data, f.Seq, pos.Seq)
		}
		expect(t, "lifted", ana, text("lobby", "5"), "ack")
		if again := a.lift(moderation.Freeze, "lobby", ""); again.Seq < pos.Seq {
			t.Errorf("lifted again at %+v", again)
		}
	})
}

// TestReserved: no client gets into the rooms of the package, except for
// moderators, who read reports.
func TestReserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, cfg := range []chathub.Config{{}, {Visible: everyRoom}} {
			a := newNode(t, moderation.Config{}, cfg)
			ana, mod := a.dial("ana"), a.dial("mod1")
			for _, room := range []string{"moderation/news", "moderation/store/00", "moderation/reports", "moderation/else"} {
				for _, typ := range []string{"join-room", "history"} {
					if got := answer(t, ana, frame(typ, room, nil)); got == "ack" {
						t.Errorf("%s of %s was answered with %s", typ, room, got)
					}
				}
				for _, c := range []*hubtest.Client{ana, mod} {
					over := dataOf[struct {
						Rooms map[string]any `json:"rooms"`
					}](t, c.Must(frame("overview", "", map[string]any{"rooms": []string{room}})))
					if len(over.Rooms) > 0 {
						t.Errorf("an overview has %v", over.Rooms)
					}
				}
			}
			expect(t, "a moderator", mod, frame("join-room", "moderation/news", nil), "forbidden: Not allowed")
			expect(t, "a moderator", mod, frame("join-room", moderation.ReportsRoom, nil), "ack")
			expect(t, "a moderator", mod, frame("history", moderation.ReportsRoom, nil), "ack")
			expect(t, "a moderator", mod, text(moderation.ReportsRoom, "1"), "forbidden: Not allowed")
		}
	})
}
