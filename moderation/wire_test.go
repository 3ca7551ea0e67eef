package moderation_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
	"github.com/go-json-experiment/json/jsontext"
)

// moderate is an event of a moderator; pairs are further fields of its data.
func moderate(room, action string, pairs ...any) hubtest.Frame {
	d := map[string]any{"action": action}
	for i := 0; i < len(pairs); i += 2 {
		d[pairs[i].(string)] = pairs[i+1]
	}
	return frame("moderate", room, d)
}

// TestModerate: a moderator makes and lifts each decision by an event, whose
// answer has its position.
func TestModerate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := cluster(t, moderation.Config{}, chathub.Config{})
		mod, ana := a.dial("mod1", "lobby"), b.dial("ana", "lobby")
		ana.Must(text("lobby", "1"))
		say := func(when, want string) {
			t.Helper()
			expect(t, when, ana, text("lobby", "x"), want)
		}
		position := func(f hubtest.Frame) chathub.Position {
			t.Helper()
			return dataOf[chathub.Position](t, mod.Must(f))
		}
		if pos := position(moderate("lobby", "mute", "user", "ana", "forMs", 60000, "reason", "spam")); pos.Seq != 1 || pos.Epoch == "" {
			t.Errorf("the mute is at %+v", pos)
		}
		say("muted", "forbidden: You are muted: spam (1m0s)")
		position(moderate("lobby", "unmute", "user", "ana"))
		say("unmuted", "ack")
		frozen := position(moderate("lobby", "freeze"))
		if f := ana.Wait("state-changed"); f.Seq != frozen.Seq {
			t.Errorf("the freeze is at %+v, shown at %d", frozen, f.Seq)
		}
		say("frozen", "forbidden: The room is frozen")
		position(moderate("lobby", "unfreeze"))
		say("unfrozen", "ack")
		position(moderate("lobby", "slow", "everyMs", 5000))
		say("slow", "rate_limited: Slow mode (5s)")
		position(moderate("lobby", "unslow"))
		say("not slow", "ack")
		position(moderate("lobby", "ban", "user", "ana"))
		say("banned", "not_in_room: Join the room first")
		position(moderate("lobby", "unban", "user", "ana"))
		expect(t, "unbanned", ana, frame("join-room", "lobby", nil), "ack")
		if f := mod.Must(moderate("", "mute", "user", "ana")); string(f.Data) != "null" {
			t.Errorf("a mute of the whole service is answered with %s", f.Data)
		}
		say("muted everywhere", "forbidden: You are muted")
		mod.Must(moderate("", "ban", "user", "ana", "reason", "Bye"))
		if code, reason := ana.Closed(); code != 4503 || reason != "Bye" {
			t.Errorf("closed with %d %s", code, reason)
		}
		if got := a.Decisions(""); len(got) != 2 || got[0].By != "mod1" || got[0].At.IsZero() {
			t.Errorf("the decisions are %+v", got)
		}
	})
}

// TestModerateRefused: whoever is no moderator of a room decides nothing there,
// and neither does an event that is not valid.
func TestModerateRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newNode(t, moderation.Config{
			Moderator: func(_ context.Context, c *chathub.Client, room string) bool {
				return c.User().ID == "mod" && room != "" && room != "hall"
			},
			Immune: func(_ context.Context, user, room string) bool { return user == "owner" && room == "lobby" },
		}, chathub.Config{})
		ana, mod := a.dial("ana"), a.dial("mod")
		const refused = "forbidden: Only moderators may do this"
		expect(t, "no moderator", ana, moderate("lobby", "freeze"), refused)
		expect(t, "another room", mod, moderate("hall", "freeze"), refused)
		expect(t, "the service", mod, moderate("", "ban", "user", "ana"), refused)
		expect(t, "immune", mod, moderate("lobby", "mute", "user", "owner"), "forbidden: This user cannot be muted or banned")
		expect(t, "the immune elsewhere", mod, moderate("red", "mute", "user", "owner"), "ack")
		expect(t, "a room of the package", mod, moderate("moderation/reports", "freeze"), "forbidden: Not allowed")
		long := strings.Repeat("x", 257)
		for _, f := range []hubtest.Frame{
			moderate("lobby", ""), moderate("lobby", "un"), moderate("lobby", "kill", "user", "ana"), moderate("lobby", "unkill", "user", "ana"),
			moderate("lobby", "mute"), moderate("lobby", "mute", "user", ""), moderate("lobby", "mute", "user", "a\nb"), moderate("lobby", "mute", "user", long),
			moderate("lobby", "freeze", "user", "ana"), moderate("lobby", "unfreeze", "user", "ana"),
			moderate("lobby", "slow"), moderate("lobby", "slow", "everyMs", 999), moderate("lobby", "slow", "everyMs", 86400001),
			moderate("lobby", "slow", "everyMs", -1), moderate("lobby", "slow", "everyMs", jsontext.Value("9223372036854775807")),
			moderate("lobby", "mute", "user", "ana", "everyMs", 1000), moderate("lobby", "mute", "user", "ana", "forMs", -1),
			moderate("lobby", "mute", "user", "ana", "forMs", jsontext.Value("9223372036854775807")), moderate("lobby", "mute", "user", "ana", "forMs", 1.5),
			moderate("lobby", "mute", "user", "ana", "reason", long), moderate("lobby", "mute", "user", 1),
			frame("moderate", "lobby", nil), frame("moderate", "lobby", []int{1}),
		} {
			if r := mod.Request(f); r.Code() != chathub.CodeBadRequest {
				t.Errorf("%s was answered with %s %s", f.Data, r.Type, r.Data)
			}
		}
		if got := a.Decisions("lobby"); len(got) > 0 {
			t.Errorf("decisions: %+v", got)
		}
	})
}

// TestStatus: a client is told what concerns it in a room, and a moderator all
// decisions there.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newNode(t, moderation.Config{}, chathub.Config{})
		ana, mod := a.dial("ana", "lobby"), a.dial("mod1")
		ask := func(c *hubtest.Client, room, want string) {
			t.Helper()
			if f := c.Request(frame("moderation", room, nil)); string(f.Data) != want {
				t.Errorf("%s is answered with %s, want %s", room, f.Data, want)
			}
		}
		ask(ana, "lobby", `{}`)
		ask(mod, "lobby", `{"exempt":true,"moderator":true}`)
		until := in(time.Minute)
		a.decide(moderation.Decision{Kind: moderation.Freeze, Room: "lobby", Until: until})
		time.Sleep(time.Second)
		a.decide(moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: "ana", Reason: "spam", By: "mod1"})
		a.decide(moderation.Decision{Kind: moderation.Mute, User: "ben"})
		ms, now := until.UnixMilli(), time.Now().UnixMilli()
		ask(ana, "lobby", fmt.Sprintf(`{"frozen":true,"frozenUntil":%d,"muted":{"room":"lobby","reason":"spam"}}`, ms))
		ask(ana, "", `{}`)
		ask(a.dial("ben"), "", `{"muted":{}}`)
		ask(ana, "hall", `{"code":"not_in_room","message":"Join the room first"}`)
		ask(mod, "lobby", fmt.Sprintf(`{"frozen":true,"frozenUntil":%d,"exempt":true,"moderator":true,"decisions":[`+
			`{"kind":"mute","room":"lobby","user":"ana","reason":"spam","by":"mod1","at":%d},`+
			`{"kind":"freeze","room":"lobby","until":%d,"at":%d}]}`, ms, now, ms, now-1000))
		ask(mod, "", fmt.Sprintf(`{"moderator":true,"decisions":[{"kind":"mute","user":"ben","at":%d}]}`, now))
		for i := range 201 {
			a.decide(moderation.Decision{Kind: moderation.Ban, Room: "hall", User: fmt.Sprint("user", i)})
		}
		got := dataOf[struct {
			Decisions []any `json:"decisions"`
			More      bool  `json:"more"`
		}](t, mod.Must(frame("moderation", "hall", nil)))
		if len(got.Decisions) != 200 || !got.More {
			t.Errorf("%d decisions, more %v", len(got.Decisions), got.More)
		}
	})
}

// TestDeleteAsModerator: moderators may delete messages, unless the application
// has its own rule.
func TestDeleteAsModerator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nobody := func(context.Context, *chathub.Client, chathub.Action) bool { return false }
		for want, cfg := range map[string]chathub.Config{
			"ack": {},
			"forbidden: Only the author or a moderator may delete a message": {Moderator: nobody},
		} {
			a := newNode(t, moderation.Config{}, cfg)
			seq := a.post("lobby", "ana").Seq
			remove := frame("delete-message", "lobby", map[string]any{"seq": seq})
			expect(t, "a moderator", a.dial("mod1", "lobby"), remove, want)
			expect(t, "somebody", a.dial("ben", "lobby"), remove, "forbidden: Only the author or a moderator may delete a message")
		}
	})
}
