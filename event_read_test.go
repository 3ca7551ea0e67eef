package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// readMark is the data of an answer to mark-read, and of a read.
type readMark struct {
	Seq    uint64 `json:"seq"`
	Unread int    `json:"unread"`
	Head   uint64 `json:"head"`
}

// heardMark is the data of a read in an inbox.
type heardMark struct {
	readMark `json:",inline"`
	Position uint64 `json:"position"`
}

func markRead(room string, seq uint64) hubtest.Frame {
	return hubtest.Frame{Type: "mark-read", Room: room, Data: hubtest.Data(map[string]uint64{"seq": seq})}
}

func markSeen(peer string, seq uint64) hubtest.Frame {
	f := markRead("", seq)
	f.To = peer
	return f
}

func wantMark(t testing.TB, c *hubtest.Client, f hubtest.Frame, want readMark) {
	t.Helper()
	if got := dataOf[readMark](t, c.Must(f)); got != want {
		t.Errorf("mark-read %s was answered with %+v, want %+v", f.Data, got, want)
	}
}

// A marker moves forward only. All other connections of the user hear of it.
func TestMarkRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := cluster(t)
		ana := []*hubtest.Client{one.dial("ana").Client, one.dial("ana", "lobby").Client, two.dial("ana").Client}
		bob := two.dial("bob", "lobby").Client
		for range 5 {
			say(bob, "lobby", "hi")
		}
		arrived(ana[1])
		wantMark(t, ana[0], markRead("lobby", 3), readMark{3, 2, 5})
		expectNothing(t, ana[0], bob)
		for _, c := range ana[1:] {
			got := arrived(c)
			if len(got) != 1 || got[0].Type != "read" || got[0].Room != "lobby" || got[0].To != "" || got[0].ID != "" || got[0].From == nil || got[0].From.ID != "ana" ||
				got[0].Seq != 0 || got[0].TS != time.Now().UnixMilli() || string(got[0].Data) != `{"seq":3,"unread":2,"head":5,"position":1}` {
				t.Errorf("another connection heard %+v", got)
			}
		}
		wantMark(t, ana[2], markRead("lobby", 2), readMark{3, 2, 5})
		wantMark(t, ana[2], markRead("lobby", 3), readMark{3, 2, 5})
		expectNothing(t, ana...)
		wantMark(t, ana[2], markRead("lobby", 5), readMark{5, 0, 5})
		expectNothing(t, ana[2])
		wantHeard(t, "ana", ana[0], `read@lobby {"seq":5,"unread":0,"head":5,"position":2}`)

		say(bob, "lobby", "more")
		ana[1].Must(hubtest.Frame{Type: "room-message", Room: "lobby"})
		wantMark(t, ana[0], markRead("lobby", 1), readMark{5, 1, 7})
		wantMark(t, bob, markRead("lobby", 1), readMark{1, 1, 7})
	})
}

// In a conversation, the messages of the other user count.
func TestMarkReadPrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, tablet, bob, cid := p.dial("ana"), p.dial("ana"), p.dial("bob"), p.dial("cid")
		bob.Must(privateMessage("1", "ana", `1`))
		bob.Must(privateMessage("2", "ana", `2`))
		cid.Must(privateMessage("3", "ana", `3`))
		ana.Must(privateMessage("4", "bob", `4`))
		bob.Must(notification("5", "ana", `5`))
		bob.Must(privateMessage("6", "ana", `6`))
		ana.Must(privateMessage("7", "ana", `7`))
		if err := p.hub.ToUser("ana").Emit(t.Context(), "private-message", 8); err != nil {
			t.Fatal(err)
		}
		arrived(tablet.Client)
		wantMark(t, ana.Client, markSeen("bob", 1), readMark{1, 2, 8})
		got := arrived(tablet.Client)
		if len(got) != 1 || got[0].Type != "read" || got[0].To != "bob" || got[0].Room != "" || got[0].From.ID != "ana" || got[0].Seq != 0 || dataOf[heardMark](t, got[0]) != (heardMark{readMark{1, 2, 8}, 9}) {
			t.Errorf("the tablet heard %+v", got)
		}
		wantMark(t, ana.Client, markSeen("cid", 1), readMark{1, 1, 9})
		wantMark(t, ana.Client, markSeen("ana", 1), readMark{1, 0, 10})
		wantMark(t, ana.Client, markSeen("nobody", 1), readMark{1, 0, 11})
		bob.Must(hubtest.Frame{Type: "delete-message", To: "ana", Data: raw(`{"id":"6"}`)})
		wantMark(t, tablet.Client, markSeen("bob", 1), readMark{1, 1, 13})
		wantMark(t, tablet.Client, markSeen("bob", 13), readMark{13, 0, 13})
		arrived(bob.Client)
		expectRefused(t, bob.Client, markSeen("ana", 100), chathub.CodeBadRequest)
		wantMark(t, bob.Client, markSeen("ana", 1), readMark{1, 1, 5})
	})
}

// What is refused leaves nothing behind.
func TestMarkReadRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hooked{}
		var asked record
		p := newParty(t, chathub.Config{Broker: b, Authorize: func(_ context.Context, c *chathub.Client, a chathub.Action) error {
			if a.Type != "mark-read" {
				return nil
			}
			asked.add("%s %s %s %d", c.User().ID, a.Room, a.To, a.Seq)
			if a.Room == "secret" || a.To == "eve" {
				return &chathub.Error{Code: chathub.CodeForbidden, Message: "No"}
			}
			return nil
		}})
		bob, ana := p.dial("bob", "lobby", "secret", "empty"), p.dial("ana")
		say(bob.Client, "lobby", "1")
		say(bob.Client, "secret", "1")
		bob.Must(privateMessage("1", "ana", `1`))
		b.take()
		for _, tc := range []struct {
			f    hubtest.Frame
			code chathub.Code
		}{
			{markRead("lobby", 0), chathub.CodeBadRequest},
			{markRead("lobby", 2), chathub.CodeBadRequest},
			{markRead("lobby", 1<<53-1), chathub.CodeBadRequest},
			{markRead("lobby", 1<<53), chathub.CodeBadRequest},
			{markRead("empty", 1), chathub.CodeBadRequest},
			{markRead("unknown", 1), chathub.CodeBadRequest},
			{markSeen("bob", 2), chathub.CodeBadRequest},
			{markSeen("", 1), chathub.CodeBadRequest},
			{hubtest.Frame{Type: "mark-read", Room: "lobby", To: "bob", Data: raw(`{"seq":1}`)}, chathub.CodeBadRequest},
			{hubtest.Frame{Type: "mark-read", Room: "lobby"}, chathub.CodeBadRequest},
			{hubtest.Frame{Type: "mark-read", Room: "lobby", Data: raw(`null`)}, chathub.CodeBadRequest},
			{hubtest.Frame{Type: "mark-read", Room: "lobby", Data: raw(`{"seq":null}`)}, chathub.CodeBadRequest},
			{hubtest.Frame{Type: "mark-read", Room: "lobby", Data: raw(`{"seq":"1"}`)}, chathub.CodeBadRequest},
			{hubtest.Frame{Type: "mark-read", Room: "lobby", Data: raw(`{"seq":1.5}`)}, chathub.CodeBadRequest},
			{hubtest.Frame{Type: "mark-read", Room: "lobby", Data: raw(`{"seq":-1}`)}, chathub.CodeBadRequest},
			{markRead("secret", 1), chathub.CodeForbidden},
			{markRead("secret", 9), chathub.CodeForbidden}, // its head is a secret, too
			{markSeen("eve", 1), chathub.CodeForbidden},
		} {
			expectRefused(t, ana.Client, tc.f, tc.code)
		}
		asked.want(t, "Authorize was asked", "ana lobby  2", "ana lobby  9007199254740991", "ana empty  1", "ana unknown  1", "ana  bob 2",
			"ana secret  1", "ana secret  9", "ana  eve 1")
		for _, method := range []string{"ReadNamed", "Survey"} {
			b.before(method, func() error { return chathub.Unavailable(errors.New("down")) })
			expectRefused(t, ana.Client, markRead("lobby", 1), chathub.CodeUnavailable)
			b.before(method, nil)
		}
		if calls := b.take(); calls["Publish"] > 0 {
			t.Errorf("%d messages were published", calls["Publish"])
		}
		b.before("Publish", func() error { return chathub.Unavailable(errors.New("down")) })
		expectRefused(t, ana.Client, markRead("lobby", 1), chathub.CodeUnavailable)
		b.before("Publish", nil)
		wantMark(t, ana.Client, markRead("lobby", 1), readMark{1, 0, 1})
	})
}

// Two connections on two nodes that mark at once never move the marker back,
// and both know it in the end.
func TestMarkReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := cluster(t)
		ana := []guest{one.dial("ana"), two.dial("ana"), two.dial("ana")}
		bob := one.dial("bob", "lobby")
		for range 60 {
			say(bob.Client, "lobby", "hi")
		}
		rnd := rand.New(rand.NewPCG(5, 0))
		most := uint64(0)
		for i := range 200 {
			f := markRead("lobby", 1+rnd.Uint64N(60))
			if i < 150 {
				f = markRead("lobby", 1+rnd.Uint64N(uint64(1+i*60/150)))
			}
			f.ID = fmt.Sprint("m", i)
			most = max(most, dataOf[readMark](t, hubtest.Frame{Data: f.Data}).Seq)
			ana[rnd.IntN(2)].Send(f)
		}
		knows := []uint64{0, 0, 0}
		for i, g := range ana {
			at, last := uint64(0), uint64(0)
			for _, f := range arrived(g.Client) {
				d := dataOf[heardMark](t, f)
				switch f.Type {
				case "read":
					if d.Position <= at {
						t.Errorf("connection %d heard position %d after %d", i, d.Position, at)
					}
					if at = d.Position; d.Seq <= last {
						t.Errorf("connection %d heard marker %d after %d", i, d.Seq, last)
					}
					last = d.Seq
				case "ack":
				default:
					t.Errorf("connection %d got %s %s", i, f.Type, f.Data)
				}
				knows[i] = max(knows[i], d.Seq)
				if d.Unread != 60-int(d.Seq) || d.Head != 60 {
					t.Errorf("connection %d heard %s", i, f.Data)
				}
			}
		}
		if !slices.Equal(knows, []uint64{most, most, most}) {
			t.Errorf("the connections know markers %v, want %d", knows, most)
		}
		wantMark(t, ana[2].Client, markRead("lobby", 1), readMark{most, 60 - int(most), 60})
	})
}

// A client that was away hears once of each marker that has moved, with what is
// unread now.
func TestReadReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hooked{}
		p := newParty(t, chathub.Config{Broker: b})
		away, here, bob := p.dial("ana"), p.dial("ana"), p.dial("bob", "lobby", "other")
		inbox := dataOf[welcomeData](t, away.Welcome).Inbox
		for range 4 {
			say(bob.Client, "lobby", "hi")
			say(bob.Client, "other", "hi")
			bob.Must(privateMessage("", "ana", `1`))
		}
		inbox.Seq = 4
		arrived(here.Client)
		away.Drop()
		for _, seq := range []uint64{1, 2, 3} {
			here.Must(markRead("lobby", seq))
			here.Must(markSeen("bob", seq))
			wantMark(t, here.Client, markRead("other", seq), readMark{seq, 4 - int(seq), 4})
		}
		say(bob.Client, "lobby", "more")
		say(bob.Client, "lobby", "and more")
		if _, err := p.hub.DeleteMessage(t.Context(), "lobby", 4); err != nil {
			t.Fatal(err)
		}
		bob.Must(privateMessage("", "ana", `"news"`))

		back := func() []string {
			t.Helper()
			c := p.dial("ana")
			defer c.Drop()
			if got := resume(t, c.Client, resumeRequest{Inbox: &inbox}); !got.Inbox.Recovered || got.Inbox.Seq != 14 {
				t.Errorf("answer is %+v", got.Inbox)
			}
			return c.heard()
		}
		want := []string{
			`read@lobby {"seq":3,"unread":2,"head":7,"position":11}`,
			`read {"seq":3,"unread":2,"head":14,"position":12}`,
			`read@other {"seq":3,"unread":1,"head":4,"position":13}`,
			`private-message "news"`,
		}
		if got := back(); !slices.Equal(got, want) {
			t.Errorf("the client heard %q, want %q", got, want)
		}
		// If it cannot be found out, it is as of an earlier head.
		b.before("Survey", func() error { return chathub.Unavailable(errors.New("down")) })
		want[0], want[1] = `read@lobby {"seq":3,"unread":1,"head":4,"position":11}`, `read {"seq":3,"unread":1,"head":11,"position":12}`
		if got := back(); !slices.Equal(got, want) {
			t.Errorf("without a survey, the client heard %q, want %q", got, want)
		}
	})
}

// A log that begins anew is unread, whatever the marker says.
func TestMarkerOfAnotherEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{Broker: &chathub.MemoryBroker{MaxAge: time.Minute, DuplicateWindow: time.Minute}})
		ana, bob := p.dial("ana"), p.dial("bob")
		inbox := dataOf[welcomeData](t, ana.Welcome).Inbox
		old := position(t, enter(bob.Client, "lobby"))
		for range 3 {
			say(bob.Client, "lobby", "old")
		}
		wantMark(t, ana.Client, markRead("lobby", 3), readMark{3, 0, 3})
		bob.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		synctest.Wait()
		time.Sleep(time.Hour)
		for i := range 100 { // the broker is used
			enter(bob.Client, fmt.Sprint("room", i))
		}
		if now := position(t, enter(bob.Client, "lobby")); now.Epoch == old.Epoch || now.Seq != 0 {
			t.Fatalf("the log is at %v, was at %v", now, old)
		}
		for range 4 {
			say(bob.Client, "lobby", "new")
		}
		c := p.dial("ana")
		if got := resume(t, c.Client, resumeRequest{Inbox: &inbox}); !got.Inbox.Recovered {
			t.Errorf("answer is %+v", got.Inbox)
		}
		expectNothing(t, c.Client) // the old marker means nothing
		if got := overviewOf(t, c.Client, `{"rooms":["lobby"]}`).Rooms["lobby"]; got.Read != 0 || got.Unread != 4 || got.Seq != 4 || got.Epoch == old.Epoch {
			t.Errorf("overview is %+v", got)
		}
		if got := dataOf[joinData](t, enter(c.Client, "lobby")); got.Read != 0 || got.Unread != 4 {
			t.Errorf("the join was answered with %+v", got)
		}
		wantMark(t, c.Client, markRead("lobby", 2), readMark{2, 2, 4})
		wantHeard(t, "the other connection", ana.Client, `read@lobby {"seq":2,"unread":2,"head":4,"position":2}`)
	})
}

// Whoever stores too many markers is refused further ones, and harms nobody
// else. Those that are there still move.
func TestManyMarkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{UserRate: -1})
		ana, bob := p.dial("ana"), p.dial("bob")
		bob.Must(privateMessage("1", "ana", `"kept"`))
		bob.Must(privateMessage("2", "ana", `"kept, too"`))
		arrived(ana.Client)
		for i := range 10_000 {
			f := markSeen(fmt.Sprint("user", i), 1)
			f.ID = fmt.Sprint(i)
			ana.Send(f)
		}
		stored := 0
		for range 10_000 {
			switch f := ana.Next(); {
			case f.Type == "ack":
				stored++
			case f.Code() != chathub.CodeLimitExceeded:
				t.Fatalf("the answer is %s %s", f.Type, f.Data)
			}
		}
		if stored < 1000 || stored > 5000 {
			t.Errorf("%d markers were stored", stored)
		}
		wantMark(t, ana.Client, markSeen("user0", 2), readMark{2, 0, uint64(2 + stored)})
		bob.Must(hubtest.Frame{Type: "react", ID: "r", To: "ana", Data: raw(`{"id":"1","author":"bob","key":"+"}`)})
		got := overviewOf(t, ana.Client, `{"inbox":true}`)
		if len(got.Conversations) != 1 || got.Conversations[0].Unread != 2 || string(got.Conversations[0].Last.Data) != `"kept, too"` {
			t.Errorf("the conversations are %+v", got.Conversations)
		}
	})
}

// A flood of marks is refused like any other.
func TestMarkReadFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, Rate: 10, Burst: 20, UserBurst: 30})
		bob := members(t, hub, "lobby", "bob")[0]
		say(bob, "lobby", "hi")
		devices := []*hubtest.Client{hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ana")}
		for i, c := range devices {
			for j := range 60 {
				f := markRead("lobby", 1)
				f.ID = fmt.Sprint(i, "-", j)
				c.Send(f)
			}
		}
		done := 0
		for _, c := range devices {
			done += len(ofType(arrived(c), "ack"))
		}
		if done != 30 {
			t.Errorf("%d of them were carried out", done)
		}
	})
}
