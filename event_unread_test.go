package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json/jsontext"
)

// changedOf is the data of a message-changed.
type changedOf struct {
	Seq     uint64         `json:"seq"`
	ID      string         `json:"id"`
	Author  string         `json:"author"`
	Change  string         `json:"change"`
	Message jsontext.Value `json:"message"`
}

// Joins and resumes say how far the user has read, and what is unread.
func TestUnreadInJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, bob := p.dial("ana"), p.dial("bob", "lobby", "many")
		say(bob.Client, "lobby", "1")
		for i := range 100 {
			say(bob.Client, "many", "x")
			if i < 2 {
				say(bob.Client, "lobby", "x")
			}
		}
		wantJoin := func(room string, read uint64, unread int) (at chathub.Position) {
			t.Helper()
			ack := enter(ana.Client, room)
			if got := dataOf[joinData](t, ack); got.Read != read || got.Unread != unread {
				t.Errorf("%s: read %d, unread %d, want %d and %d", room, got.Read, got.Unread, read, unread)
			}
			if !strings.Contains(string(ack.Data), `"read":`) || !strings.Contains(string(ack.Data), `"unread":`) {
				t.Errorf("the answer is %s", ack.Data)
			}
			return position(t, ack)
		}
		wantJoin("empty", 0, 0)
		lobby := wantJoin("lobby", 0, 3)
		wantJoin("many", 0, 100)
		ana.Must(markRead("many", 1))
		wantJoin("many", 1, 99)
		say(bob.Client, "many", "x")
		wantJoin("many", 1, 100)
		say(bob.Client, "many", "x")
		wantJoin("many", 1, 100)
		ana.Must(markRead("lobby", 2))
		wantJoin("lobby", 2, 1)
		for _, event := range []string{"room-message", "weather"} { // the second is no message
			if err := p.hub.To("lobby").Emit(t.Context(), event, nil); err != nil {
				t.Fatal(err)
			}
		}
		say(ana.Client, "lobby", "mine")
		wantJoin("lobby", 2, 2)
		if _, err := p.hub.DeleteMessage(context.WithoutCancel(t.Context()), "lobby", 3); err != nil {
			t.Fatal(err)
		}
		wantJoin("lobby", 2, 1)
		got := resume(t, ana.Client, resumeRequest{Rooms: map[string]chathub.Position{"lobby": {Epoch: lobby.Epoch, Seq: 1}, "many": {}, "new": {}}})
		for room, want := range map[string][2]int{"lobby": {2, 1}, "many": {1, 100}, "new": {0, 0}} {
			if got := got.Rooms[room]; got.Read != uint64(want[0]) || got.Unread != want[1] {
				t.Errorf("%s was resumed with %+v", room, got)
			}
		}
		ana.Must(markRead("lobby", lobby.Seq+4))
		wantJoin("lobby", 7, 0)
	})
}

// A join does not fail because reading cannot be found out.
func TestJoinWithoutUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hooked{}
		p := newParty(t, chathub.Config{Broker: b})
		bob := p.dial("bob", "lobby")
		at := position(t, enter(bob.Client, "lobby"))
		say(bob.Client, "lobby", "1")
		at.Seq = 1
		ana := p.dial("ana")
		for _, method := range []string{"ReadNamed", "Survey"} {
			for _, err := range []error{chathub.Unavailable(errors.New("down")), errors.New("a fault")} {
				b.before(method, func() error { return err })
				if ack := enter(ana.Client, "lobby"); strings.Contains(string(ack.Data), "read") || dataOf[joinData](t, ack).Seq != 1 {
					t.Errorf("%s: the join was answered with %s", method, ack.Data)
				}
				ack := ana.Must(hubtest.Frame{Type: "resume", Data: hubtest.Data(resumeRequest{Rooms: map[string]chathub.Position{"lobby": at, "other": {}}})})
				if got := dataOf[resumeAnswer](t, ack); strings.Contains(string(ack.Data), "read") || !got.Rooms["lobby"].Recovered || got.Rooms["other"].Error != nil {
					t.Errorf("%s: the resume was answered with %s", method, ack.Data)
				}
			}
			b.before(method, nil)
		}
		if got := dataOf[joinData](t, enter(ana.Client, "lobby")); got.Unread != 1 {
			t.Errorf("then unread is %d", got.Unread)
		}
	})
}

// Counting costs a join two calls of the broker, and a resume of many rooms no
// more.
func TestUnreadCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hooked{}
		p := newParty(t, chathub.Config{Broker: b})
		bob := p.dial("bob")
		bob.Must(privateMessage("1", "ana", `1`))
		rooms := make(map[string]chathub.Position)
		for i := range 127 {
			room := fmt.Sprint("room", i)
			at := position(t, enter(bob.Client, room))
			say(bob.Client, room, "1")
			rooms[room] = chathub.Position{Epoch: at.Epoch, Seq: 1}
		}
		ana := p.dial("ana")
		b.take()
		enter(ana.Client, "room1")
		if got := b.take(); got["ReadNamed"] != 1 || got["Survey"] != 1 || got["Read"] != 0 {
			t.Errorf("a join made these calls: %v", got)
		}
		got := resume(t, ana.Client, resumeRequest{Rooms: rooms})
		if calls := b.take(); calls["ReadNamed"] != 1 || calls["Survey"] != 1 || calls["Read"] != 0 {
			t.Errorf("a resume made these calls: %v", calls)
		}
		for room, part := range got.Rooms {
			if part.Unread != 1 {
				t.Errorf("%s: %+v", room, part)
			}
		}
		enter(ana.Client, "nothing here")
		if got := b.take(); got["ReadNamed"] != 1 || got["Survey"] != 0 {
			t.Errorf("a join of an empty room made these calls: %v", got)
		}
	})
}

// What is deleted between a join and its count is told after the answer. So it
// must be in the number that the client subtracts from.
func TestUnreadAsOfTheJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hooked{}
		p := newParty(t, chathub.Config{Broker: b})
		bob := p.dial("bob", "lobby")
		var ids []string
		for i := range 4 {
			ids = append(ids, fmt.Sprint(i))
			bob.Must(privateMessage(ids[i], "ana", `1`))
			say(bob.Client, "lobby", "hi")
		}
		if _, err := p.hub.DeleteMessage(t.Context(), "lobby", 2); err != nil { // does not count
			t.Fatal(err)
		}
		ana := p.dial("ana")
		once := func(f func() error) func() error {
			done := false
			return func() error {
				if done {
					return nil
				}
				done = true
				return f()
			}
		}
		b.before("Survey", once(func() error {
			say(bob.Client, "lobby", "too late")
			_, err := p.hub.DeleteMessage(context.WithoutCancel(t.Context()), "lobby", 3)
			return errors.Join(err, second(p.hub.DeleteMessage(context.WithoutCancel(t.Context()), "lobby", 6)))
		}))
		ack := enter(ana.Client, "lobby")
		if got := dataOf[joinData](t, ack); got.Seq != 5 || got.Unread != 3 {
			t.Errorf("the join was answered with %s, want 3 unread up to 5", ack.Data)
		}
		if got := arrived(ana.Client); len(got) != 3 || got[0].Seq != 6 || got[1].Type != "message-changed" || got[2].Type != "message-changed" {
			t.Errorf("then came %+v", got)
		}
		if got := dataOf[joinData](t, enter(ana.Client, "lobby")); got.Seq != 8 || got.Unread != 2 {
			t.Errorf("a second join was answered with %+v", got)
		}

		b.before("Survey", once(func() error {
			bob.Must(privateMessage("late", "ana", `1`))
			bob.Must(hubtest.Frame{Type: "delete-message", To: "ana", Data: raw(`{"id":"late"}`)})
			bob.Must(hubtest.Frame{Type: "delete-message", To: "ana", Data: raw(`{"id":"1"}`)})
			return nil
		}))
		got := overviewOf(t, ana.Client, `{"inbox":true}`)
		if len(got.Conversations) != 1 || got.Inbox.Seq != 4 || got.Conversations[0].Unread != 4 || got.Conversations[0].Last.Seq != 4 {
			t.Errorf("the overview is %+v", got)
		}
		got = overviewOf(t, ana.Client, `{"inbox":true}`)
		if len(got.Conversations) != 1 || got.Inbox.Seq != 7 || got.Conversations[0].Unread != 3 || got.Conversations[0].Last.Seq != 4 {
			t.Errorf("a second overview is %+v", got)
		}
	})
}

// Whatever several users and connections do on two nodes, each answer counts as
// a naive model does, and what a client makes of the answers and of what it
// hears does not drift.
func TestUnreadModel(t *testing.T) {
	many, asked := 0, 0
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := unreadModel(t, rand.New(rand.NewPCG(seed, 1)))
				many, asked = many+w.many, asked+w.asked
			})
		})
	}
	if many == 0 || asked == 0 {
		t.Errorf("%d counts were of many, and clients had to ask %d times", many, asked)
	}
}

func unreadModel(t *testing.T, rnd *rand.Rand) *unreadWorld {
	w := newUnreadWorld(t, rnd)
	for range 90 {
		for range 1 + rnd.IntN(3)*rnd.IntN(6) {
			w.act()
		}
		w.settle()
		w.check()
	}
	if w.deletions < 20 || w.counted < 100 {
		t.Errorf("%d deletions, %d counts", w.deletions, w.counted)
	}
	return w
}
