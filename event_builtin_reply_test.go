package chathub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// reply is a frame whose re is JSON.
func reply(f hubtest.Frame, re string) hubtest.Frame {
	f.Re = raw(re)
	return f
}

// A reply names a message of its room, up to the head of the log, on every
// node.
func TestReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := cluster(t)
		ana, bob := one.dial("ana", "lobby"), two.dial("bob", "lobby")
		say(ana.Client, "lobby", "first")
		arrived(bob.Client)
		for i, re := range []string{"1", "2", "1"} {
			ana.Must(reply(roomMessage(fmt.Sprint("m", i), "lobby", `"answer"`), re))
			for _, g := range []guest{ana, bob} {
				if got := ofType(arrived(g.Client), "room-message"); g.Client == bob.Client && (len(got) != 1 || string(got[0].Re) != re || string(got[0].Data) != `"answer"`) {
					t.Errorf("re %s: got %+v", re, got)
				}
			}
		}
		page := dataOf[historyData](t, bob.Must(hubtest.Frame{Type: "history", Room: "lobby", Data: raw(`{"re":1}`)}))
		if len(page.Messages) != 2 || string(page.Messages[1].Re) != "1" {
			t.Errorf("the replies to 1 are %+v", page.Messages)
		}
		for _, re := range []string{`5`, `9007199254740991`, `9007199254740992`, `0`, `-1`, `1.5`, `"1"`, `null`, `{}`, `[1]`, `true`, `{"id":"m","author":"ana"}`} {
			f := expectRefused(t, ana.Client, reply(roomMessage("bad"+re, "lobby", `1`), re), chathub.CodeBadRequest)
			if !strings.Contains(string(f.Data), "re ") {
				t.Errorf("re %s: the error is %s", re, f.Data)
			}
			// The shape is checked first, then membership.
			code := chathub.CodeBadRequest
			if re == "5" || re == "9007199254740991" {
				code = chathub.CodeNotInRoom
			}
			expectRefused(t, ana.Client, reply(roomMessage("bad"+re, "elsewhere", `1`), re), code)
		}
		expectNothing(t, ana.Client, bob.Client)
		// A message that this node has not heard of yet can be answered.
		if _, err := two.hub.EditMessage(t.Context(), "lobby", 1, "new"); err != nil {
			t.Fatal(err)
		}
		bob.Must(reply(roomMessage("last", "lobby", `1`), "5"))
	})
}

func TestPrivateReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, tablet, bob := p.dial("ana"), p.dial("ana"), p.dial("bob")
		const re = `{"id":"p\"1","author":"bob"}`
		ana.Must(reply(privateMessage("1", "bob", `1`), `{ "author":"bob", "id":"p\u00221", "more":[1] }`))
		for _, g := range []guest{tablet, bob} {
			if got := arrived(g.Client); len(got) != 1 || string(got[0].Re) != re {
				t.Errorf("got %+v", got)
			}
		}
		page := dataOf[historyData](t, ana.Must(hubtest.Frame{Type: "history", To: "bob"}))
		if len(page.Messages) != 1 || string(page.Messages[0].Re) != re {
			t.Errorf("history has %+v", page.Messages)
		}
		long := strings.Repeat("x", 65)
		for _, re := range []string{`null`, `1`, `"p1"`, `[]`, `{}`, `{"id":"p1"}`, `{"author":"bob"}`, `{"id":"","author":"bob"}`, `{"id":"p1","author":""}`,
			`{"id":1,"author":"bob"}`, `{"id":"p1","author":"a\u0000"}`, `{"id":"` + long + `","author":"bob"}`, `{"id":"p1","author":"` + long + long + `"}`} {
			expectRefused(t, ana.Client, reply(privateMessage("2", "bob", `1`), re), chathub.CodeBadRequest)
		}
		expectNothing(t, tablet.Client, bob.Client)
	})
}

// What is answered is part of what makes a repetition.
func TestReplyRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRepeats(t, chathub.Config{})
		ana := p.dial("ana", "lobby")
		ana.Must(roomMessage("1", "lobby", `1`))
		ana.Must(roomMessage("2", "lobby", `1`))
		for _, tc := range []struct {
			first, same, other hubtest.Frame
		}{
			{reply(roomMessage("3", "lobby", `1`), "1"), reply(roomMessage("3", "lobby", `1`), " 1 "), reply(roomMessage("3", "lobby", `1`), "2")},
			{reply(roomMessage("4", "lobby", `1`), "1"), reply(roomMessage("4", "lobby", `1`), "1"), roomMessage("4", "lobby", `1`)},
			{roomMessage("5", "lobby", `1`), roomMessage("5", "lobby", `1`), reply(roomMessage("5", "lobby", `1`), "1")},
			{
				reply(privateMessage("6", "bob", `1`), `{"id":"1","author":"bob"}`), reply(privateMessage("6", "bob", `1`), `{"author":"bob","id":"1"}`),
				reply(privateMessage("6", "bob", `1`), `{"id":"1","author":"ana"}`),
			},
			{
				privateMessage("7", "bob", `1`), privateMessage("7", "bob", `1`),
				reply(privateMessage("7", "bob", `1`), `{"id":"1","author":"ana"}`),
			},
			// Elsewhere re is ignored.
			{reply(notification("8", "bob", `1`), `1`), notification("8", "bob", `1`), reply(notification("8", "bob", `2`), `1`)},
		} {
			first := ana.Must(tc.first)
			again := ana.Must(tc.same)
			if tc.first.Type != "send-notification" && (again.Seq != first.Seq || !strings.Contains(string(again.Data), `"dup":true`)) {
				t.Errorf("%s: a repetition was answered with %s", tc.first.ID, again.Data)
			}
			expectRefused(t, ana.Client, tc.other, chathub.CodeConflict)
		}
	})
}

// Events that are no messages ignore re, and do not pass it on.
func TestReplyElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		var seen record
		p.hub.Use(func(next chathub.Handler) chathub.Handler {
			return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				seen.add("%s %d %s %s", e.Type, e.Re.Seq, e.Re.ID, e.Re.Author)
				if string(e.Data) == `"turn"` {
					e.Re.Seq = 2
				}
				return next(ctx, c, e)
			}
		})
		chathub.On(p.hub, "own", func(context.Context, *chathub.Client, any) error { return nil })
		ana, bob := p.dial("ana", "lobby"), p.dial("bob", "lobby")
		for _, re := range []string{`7`, `null`, `{"id":"x","author":"y"}`, `"?"`} {
			for _, f := range []hubtest.Frame{{Type: "typing", Room: "lobby"}, {Type: "message"}, {Type: "own"}, notification("", "bob", `1`)} {
				ana.Must(reply(f, re))
			}
		}
		for _, f := range arrived(bob.Client) {
			if f.Re != nil {
				t.Errorf("%s has re %s", f.Type, f.Re)
			}
		}
		for _, s := range seen.take() {
			if !strings.HasSuffix(s, " 0  ") {
				t.Errorf("middleware saw %q", s)
			}
		}
		say(bob.Client, "lobby", "1")
		say(bob.Client, "lobby", "2")
		seen.take()
		ana.Must(reply(roomMessage("a", "lobby", `1`), `1`))
		ana.Must(reply(privateMessage("b", "bob", `1`), `{"id":"x","author":"y"}`))
		seen.want(t, "middleware saw", "room-message 1  ", "private-message 0 x y")
		arrived(bob.Client)
		ana.Must(reply(roomMessage("c", "lobby", `"turn"`), `1`))
		if got := arrived(bob.Client); len(got) != 1 || string(got[0].Re) != "2" {
			t.Errorf("what middleware made of it came as %+v", got)
		}
	})
}

// Every durable message has an id, whoever sent it.
func TestServerIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, bob := p.dial("ana", "lobby"), p.dial("bob", "lobby")
		ana.SendText(`{"type":"room-message","room":"lobby"}`)
		ana.SendText(`{"type":"private-message","to":"bob"}`)
		ana.SendText(`{"type":"send-notification","to":"bob","id":""}`)
		synctest.Wait()
		for _, to := range []chathub.Target{p.hub.To("lobby"), p.hub.ToUser("bob"), p.hub.To("lobby", "other")} {
			if err := to.Emit(t.Context(), "news", 1); err != nil {
				t.Fatal(err)
			}
		}
		ids := make(map[string]bool)
		got := arrived(bob.Client)
		for _, f := range got {
			if ids[f.ID] = true; !strings.HasPrefix(f.ID, "m_") || f.Seq == 0 {
				t.Errorf("%s has id %q", f.Type, f.ID)
			}
		}
		if len(got) != 6 || len(ids) != 6 {
			t.Errorf("%d messages have %d ids", len(got), len(ids))
		}
		if err := p.hub.To("lobby").Volatile().Emit(t.Context(), "news", 1); err != nil {
			t.Fatal(err)
		}
		if got := arrived(bob.Client); len(got) != 1 || got[0].ID != "" {
			t.Errorf("a volatile event came as %+v", got)
		}
	})
}
