package chathub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// What a client sends to change a message of a room.

func TestChangeMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, bob, cid := p.dial("ana/Ana", "red"), p.dial("bob/Bob", "red"), p.dial("cid")
		say(ana.Client, "red", "one")
		say(ana.Client, "red", "two")
		all := []guest{ana, bob, cid}
		for _, g := range all {
			g.heard()
		}
		for i, tc := range []struct {
			by   guest
			f    hubtest.Frame
			from string
			want string // data of message-changed, with T for the time
		}{
			{ana, editOf("", "red", 1, `{ "text":1.0}`), `{"id":"ana","name":"Ana"}`, `{"seq":1,"change":"edited","message":{"data":{ "text":1.0},"edited":T}}`},
			{bob, reactTo("", "red", 1, "👍", true), `{"id":"bob","name":"Bob"}`,
				`{"seq":1,"change":"reacted","message":{"data":{ "text":1.0},"edited":E,"reactions":{"👍":{"count":1,"users":["bob"]}}}}`},
			{bob, hubtest.Frame{Type: "react", Room: "red", Data: raw(`{"key":"é","seq":2,"more":1}`)}, `{"id":"bob","name":"Bob"}`,
				`{"seq":2,"change":"reacted","message":{"reactions":{"é":{"count":1,"users":["bob"]}}}}`},
			{bob, reactTo("", "red", 2, "é", false), `{"id":"bob","name":"Bob"}`, `{"seq":2,"change":"reacted","message":{}}`},
			{ana, editOf("", "red", 2, `null`), `{"id":"ana","name":"Ana"}`, `{"seq":2,"change":"edited","message":{"data":null,"edited":T}}`},
			{ana, deleteOf("", "red", 1), `{"id":"ana","name":"Ana"}`, `{"seq":1,"change":"deleted","message":{"deleted":T}}`},
		} {
			seq := uint64(3 + i)
			time.Sleep(time.Second)
			now := time.Now().UnixMilli()
			want := strings.NewReplacer("T", fmt.Sprint(now), "E", fmt.Sprint(now-1000)).Replace(tc.want)
			tc.f.ID = fmt.Sprint("c", i)
			text, err := json.Marshal(tc.f, jsontext.PreserveRawStrings(true))
			if err != nil {
				t.Fatal(err)
			}
			tc.by.SendText(strings.Replace(string(text), `{"text"`, `{ "text"`, 1)) // spaces stay
			for k, g := range all {
				got := arrived(g.Client)
				changed, ack := ofType(got, "message-changed"), ofType(got, "ack")
				switch {
				case k == 2:
					if len(got) > 0 {
						t.Errorf("%d: someone who is not in the room got %+v", i, got)
					}
				case len(changed) != 1 || len(got) != 1+len(ack) || (len(ack) == 1) != (g == tc.by):
					t.Errorf("%d: %s got %+v", i, g.server.User().ID, got)
				default:
					f := changed[0]
					if string(f.Data) != want || f.Seq != seq || f.TS != now || f.Room != "red" || f.To != "" || f.ID != "" || string(hubtest.Data(f.From)) != tc.from {
						t.Errorf("%d: got %+v %s, want %s", i, f, f.Data, want)
					}
				}
				if len(ack) == 1 && (ack[0].Seq != seq || ack[0].Room != "red" || string(ack[0].Data) != fmt.Sprintf(`{"seq":%d,"ts":%d}`, seq, now)) {
					t.Errorf("%d: the ack is %+v %s", i, ack[0], ack[0].Data)
				}
			}
		}
		wantPage(t, bob.Client, hubtest.Frame{Room: "red"}, "1  v8 deleted", "2 null v7 edited")
	})
}

// What cannot be done is refused, and nothing is stored.
func TestChangeRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var actions record
		p := newParty(t, chathub.Config{
			Authorize: func(_ context.Context, c *chathub.Client, a chathub.Action) error {
				if c.User().ID == "mute" {
					return fmt.Errorf("no")
				}
				if a.Seq > 0 {
					actions.add("%s %s%s %d %s %d", a.Type, a.Room, a.To, a.Seq, a.Author, a.Time.UnixMilli())
				}
				return nil
			},
			Moderator: func(_ context.Context, c *chathub.Client, a chathub.Action) bool {
				actions.add("moderator? %s %s %d %s", a.Type, a.Room, a.Seq, a.Author)
				return c.User().ID == "mod"
			},
		})
		ana, bob, mute, mod, out := p.dial("ana", "red", "blue"), p.dial("bob", "red"), p.dial("mute", "red"), p.dial("mod", "red"), p.dial("out", "blue")
		say(ana.Client, "red", "one") // 1
		for _, event := range []string{"poll", "room-message"} {
			if err := p.hub.To("red").Emit(t.Context(), event, 1); err != nil { // 2 and 3
				t.Fatal(err)
			}
		}
		for i := range 5 {
			say(ana.Client, "blue", fmt.Sprint(i))
		}
		ana.Must(privateMessage("p1", "bob", `1`))
		if err := p.hub.ToUser("ana").Emit(t.Context(), "private-message", 1); err != nil {
			t.Fatal(err)
		}
		bob.Must(notification("n1", "ana", `1`))
		wantReceipt(t, bob.Client, reactTo("r1", "red", 1, "k", true), 4, false)
		actions.take()

		const bad, forbidden, outside, conflict = chathub.CodeBadRequest, chathub.CodeForbidden, chathub.CodeNotInRoom, chathub.CodeConflict
		k32, k33 := strings.Repeat("k", 32), strings.Repeat("k", 33)
		for _, tc := range []struct {
			by            guest
			typ, room, to string
			data          string
			code          chathub.Code
		}{
			{ana, "edit-message", "", "", `{"seq":1,"data":1}`, bad},
			{ana, "edit-message", "red", "bob", `{"seq":1,"data":1}`, bad},
			{ana, "delete-message", "red", "bob", `{"seq":1}`, bad},
			{ana, "react", "", "", `{"seq":1,"key":"k"}`, bad},
			{ana, "edit-message", "red", "", ``, bad},
			{ana, "edit-message", "red", "", `null`, bad},
			{ana, "edit-message", "red", "", `[]`, bad},
			{ana, "edit-message", "red", "", `7`, bad},
			{ana, "edit-message", "red", "", `{}`, bad},
			{ana, "edit-message", "red", "", `{"seq":1}`, bad},
			{ana, "edit-message", "red", "", `{"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"id":"x","data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":null,"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":"1","data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":1.0,"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":true,"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":-1,"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":0,"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":9007199254740991,"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":9007199254740992,"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":18446744073709551615,"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":18446744073709551616,"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":1e0,"data":1}`, bad},
			{ana, "edit-message", "red", "", `{"seq":2,"data":1}`, bad}, // another event
			{ana, "edit-message", "red", "", `{"seq":4,"data":1}`, bad}, // a change
			{ana, "edit-message", "red", "", `{"seq":5,"data":1}`, bad}, // of blue only
			{ana, "edit-message", "red", "", `{"seq":99,"data":1}`, bad},
			{ana, "delete-message", "red", "", `{"seq":99}`, bad},
			{mod, "delete-message", "red", "", `{"seq":2}`, bad},
			{ana, "react", "red", "", `{"seq":2,"key":"k"}`, bad},
			{ana, "react", "red", "", `{"seq":4,"key":"k"}`, bad},
			{ana, "react", "red", "", `{"seq":1}`, bad},
			{ana, "react", "red", "", `{"seq":1,"key":""}`, bad},
			{ana, "react", "red", "", `{"seq":1,"key":"","on":false}`, bad},
			{ana, "react", "red", "", `{"seq":1,"key":null}`, bad},
			{ana, "react", "red", "", `{"seq":1,"key":7}`, bad},
			{ana, "react", "red", "", `{"seq":1,"key":"` + k33 + `"}`, bad},
			{ana, "react", "red", "", `{"seq":1,"key":"k\n"}`, bad},
			{ana, "react", "red", "", `{"seq":1,"key":"` + k32 + `","on":1}`, bad},
			{ana, "react", "red", "", `{"seq":1,"key":"k","on":"true"}`, bad},
			{bob, "edit-message", "red", "", `{"seq":1,"data":1}`, forbidden},
			{mod, "edit-message", "red", "", `{"seq":1,"data":1}`, forbidden},
			{ana, "edit-message", "red", "", `{"seq":3,"data":1}`, forbidden}, // of the application
			{ana, "delete-message", "red", "", `{"seq":3}`, forbidden},
			{bob, "delete-message", "red", "", `{"seq":1}`, forbidden},
			{mute, "react", "red", "", `{"seq":1,"key":"k"}`, forbidden},
			{out, "edit-message", "red", "", `{"seq":1,"data":1}`, outside},
			{out, "delete-message", "red", "", `{"seq":1}`, outside},
			{out, "react", "red", "", `{"seq":1,"key":"k"}`, outside},

			{ana, "edit-message", "", "bob", `{"seq":1,"data":1}`, bad},
			{ana, "edit-message", "", "bob", `{"id":"p1"}`, bad},
			{ana, "edit-message", "", "bob", `{"id":"","data":1}`, bad},
			{ana, "edit-message", "", "bob", `{"id":1,"data":1}`, bad},
			{ana, "edit-message", "", "bob", `{"id":"` + strings.Repeat("x", 65) + `","data":1}`, bad},
			{ana, "edit-message", "", "bob", `{"id":"unknown","data":1}`, bad},
			{ana, "edit-message", "", "cid", `{"id":"p1","data":1}`, bad},
			{ana, "delete-message", "", "ana", `{"id":"p1"}`, bad},
			{bob, "delete-message", "", "ana", `{"id":"p1"}`, bad}, // bob has none of this id
			{bob, "edit-message", "", "ana", `{"id":"n1","data":1}`, bad},
			{mod, "delete-message", "", "bob", `{"id":"p1"}`, bad},
			{ana, "react", "", "bob", `{"id":"p1","key":"k"}`, bad},
			{ana, "react", "", "bob", `{"id":"p1","author":"cid","key":"k"}`, bad},
			{ana, "react", "", "bob", `{"id":"p1","author":"bob","key":"k"}`, bad},
			{ana, "react", "", "bob", `{"id":"p1","author":7,"key":"k"}`, bad},
			{ana, "react", "", "bob", `{"id":"p1","author":"ana"}`, bad},
			{out, "react", "", "bob", `{"id":"p1","author":"bob","key":"k"}`, bad},
		} {
			r := tc.by.Request(hubtest.Frame{Type: tc.typ, Room: tc.room, To: tc.to, Data: raw(tc.data)})
			if r.Type != "error" || r.Code() != tc.code {
				t.Errorf("%s %q %q %s was answered with %s %s, want %s", tc.typ, tc.room, tc.to, tc.data, r.Type, r.Data, tc.code)
			}
		}
		actions.want(t, "Authorize and Moderator were asked",
			"moderator? delete-message red 3 ", "moderator? delete-message red 1 ana")
		wantReceipt(t, ana.Client, reactTo("k", "red", 3, k32, true), 5, false)
		if got := actions.take(); len(got) != 1 || !strings.HasPrefix(got[0], "react red 3  ") {
			t.Errorf("Authorize was asked %q", got)
		}
		wantReceipt(t, mod.Client, deleteOf("d", "red", 1), 6, false)
		if got := actions.take(); len(got) != 2 || got[0] != "moderator? delete-message red 1 ana" || !strings.HasPrefix(got[1], "delete-message red 1 ana ") {
			t.Errorf("they were asked %q", got)
		}
		for _, f := range []hubtest.Frame{editOf("x", "red", 1, "1"), reactTo("y", "red", 1, "k", true), reactTo("z", "red", 1, "k", false)} {
			expectRefused(t, ana.Client, f, conflict)
		}
		wantReceipt(t, mod.Client, deleteOf("e", "red", 1), 6, true)
		wantReceipt(t, ana.Client, deleteOf("e", "red", 1), 6, true)
		bob.heard()
		// Nothing came in between.
		wantReceipt(t, ana.Client, reactTo("l", "red", 3, k32, false), 7, false)
	})
}

// A message that the log has dropped, before or while it is changed, is
// unknown.
func TestChangeDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		broker.Broker = &chathub.MemoryBroker{MaxMessages: 2}
		p := newParty(t, chathub.Config{Broker: broker})
		ana := p.dial("ana", "red")
		for i := range 3 {
			say(ana.Client, "red", fmt.Sprint(i))
		}
		expectRefused(t, ana.Client, editOf("a", "red", 1, "1"), chathub.CodeBadRequest)
		red, gate := chathub.Topic{Room: "red"}, make(chan struct{})
		set(broker, broker.publishing, red, gate)
		start := time.Now()
		ana.Send(editOf("b", "red", 2, "1"))
		synctest.Wait()
		set(broker, broker.publishing, red, nil)
		for range 2 {
			if err := p.hub.To("red").Emit(t.Context(), "news", 1); err != nil {
				t.Fatal(err)
			}
		}
		close(gate)
		if f := ana.Wait("error"); f.Code() != chathub.CodeBadRequest {
			t.Errorf("the edit of a dropped message was answered with %s", f.Data)
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("it took %v", d)
		}
		wantPage(t, ana.Client, hubtest.Frame{Room: "red"}, `3 "2"`, "5 1")
	})
}

// The same id with the same content is one change, on any connection, whatever
// came after it.
func TestChangeRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, tab, bob := p.dial("ana", "red"), p.dial("ana/Renamed", "red"), p.dial("bob", "red")
		say(ana.Client, "red", "one")
		say(ana.Client, "red", "two")
		wantReceipt(t, ana.Client, editOf("1", "red", 1, `"a"`), 3, false)
		wantReceipt(t, tab.Client, editOf("1", "red", 1, `"a"`), 3, true)
		wantReceipt(t, tab.Client, editOf("2", "red", 1, `"b"`), 4, false)
		wantReceipt(t, ana.Client, editOf("1", "red", 1, `"a"`), 4, true)
		for _, f := range []hubtest.Frame{
			editOf("1", "red", 1, `"b"`), deleteOf("1", "red", 1), reactTo("1", "red", 1, "k", true),
		} {
			expectRefused(t, ana.Client, f, chathub.CodeConflict)
		}
		wantReceipt(t, ana.Client, editOf("1", "red", 2, `"b"`), 5, false) // another message
		wantReceipt(t, bob.Client, reactTo("1", "red", 1, "k", true), 6, false)
		wantReceipt(t, bob.Client, reactTo("2", "red", 1, "k", true), 6, true) // is there already
		wantReceipt(t, bob.Client, reactTo("3", "red", 1, "k", false), 7, false)
		wantReceipt(t, bob.Client, reactTo("1", "red", 1, "k", true), 7, true)
		wantReceipt(t, bob.Client, reactTo("4", "red", 1, "k", false), 7, true)
		wantReceipt(t, bob.Client, reactTo("5", "red", 2, "k", false), 5, true)
		wantReceipt(t, ana.Client, deleteOf("9", "red", 1), 8, false)
		for _, f := range []hubtest.Frame{editOf("1", "red", 1, `"a"`), deleteOf("9", "red", 1), deleteOf("10", "red", 1)} {
			wantReceipt(t, tab.Client, f, 8, true)
		}
		wantReceipt(t, bob.Client, reactTo("1", "red", 1, "k", true), 8, true)
		wantPage(t, tab.Client, hubtest.Frame{Room: "red"}, `1  v8 deleted`, `2 "b" v5 edited`)

		// Nothing to do, and it never changed: the position of the message.
		say(ana.Client, "red", "three")
		wantReceipt(t, bob.Client, reactTo("6", "red", 9, "k", false), 9, true)
	})
}

// Middleware may change what is edited, and make another event of it.
func TestChangeMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		p.hub.Use(func(next chathub.Handler) chathub.Handler {
			return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				if e.Type == "edit-message" {
					data := jsontext.Value(strings.ReplaceAll(string(e.Data), "damn", "****"))
					e = &chathub.Event{Type: e.Type, ID: e.ID, Room: e.Room, To: e.To, Data: data}
				}
				if e.Type == "delete-message" {
					e.Data = raw(strings.ReplaceAll(string(e.Data), "1", "2"))
				}
				return next(ctx, c, e)
			}
		})
		ana, bob := p.dial("ana", "red"), p.dial("bob", "red")
		say(ana.Client, "red", "one")
		say(bob.Client, "red", "two")
		wantReceipt(t, ana.Client, editOf("1", "red", 1, `"damn"`), 3, false)
		wantReceipt(t, ana.Client, editOf("1", "red", 1, `"damn"`), 3, true)
		expectRefused(t, ana.Client, editOf("1", "red", 1, `"other"`), chathub.CodeConflict)
		// It is of bob now.
		expectRefused(t, ana.Client, deleteOf("2", "red", 1), chathub.CodeForbidden)
		wantPage(t, ana.Client, hubtest.Frame{Room: "red"}, `1 "****" v3 edited`, `2 "two"`)
		wantReceipt(t, bob.Client, deleteOf("2", "red", 2), 4, false)
	})
}

// A right that is taken away while a change is authorized or stored is worth
// nothing afterwards: when the call returns, the change has been stored, or
// never is.
func TestChangeRevoked(t *testing.T) {
	for _, tc := range []struct {
		name   string
		revoke func(p *party, g guest) error
		code   chathub.Code
	}{
		{"leave", func(_ *party, g guest) error { return g.server.Leave(context.WithoutCancel(t.Context()), "red") }, chathub.CodeNotInRoom},
		{"remove", func(p *party, _ guest) error {
			return p.hub.ToUser("ana").Remove(context.WithoutCancel(t.Context()), "", "red")
		}, chathub.CodeNotInRoom},
		{"disconnect", func(p *party, _ guest) error {
			return p.hub.ToUser("ana").Disconnect(context.WithoutCancel(t.Context()), "")
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := newGatedBroker()
				authorizing := make(chan struct{})
				p := newParty(t, chathub.Config{Broker: broker, Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
					if a.Type == "edit-message" {
						<-authorizing
					}
					return nil
				}})
				ana, bob := p.dial("ana", "red"), p.dial("bob", "red")
				say(ana.Client, "red", "one")
				bob.heard()

				ana.Send(editOf("1", "red", 1, "1"))
				synctest.Wait()
				if err := tc.revoke(p, ana); err != nil {
					t.Error(err)
				}
				close(authorizing)
				time.Sleep(time.Second)
				wantHeard(t, "bob", bob.Client)
				if tc.code != "" {
					if f := ana.Wait("error"); f.Code() != tc.code {
						t.Errorf("the edit was answered with %s", f.Data)
					}
				}

				// One is being stored, and a reaction waits for its turn.
				ana, tab := p.dial("ana", "red"), p.dial("ana", "red")
				bob.Must(reactTo("0", "red", 1, "b", true))
				bob.heard()
				gate, red := make(chan struct{}), chathub.Topic{Room: "red"}
				set(broker, broker.publishing, red, gate)
				ana.Send(editOf("2", "red", 1, "2"))
				synctest.Wait()
				tab.Send(reactTo("3", "red", 1, "a", true))
				synctest.Wait()
				done := make(chan error)
				go func() { done <- p.hub.ToUser("ana").Disconnect(context.WithoutCancel(t.Context()), "") }()
				synctest.Wait()
				select {
				case err := <-done:
					t.Error("it has returned, and the edit is being stored", err)
				default:
				}
				close(gate)
				if err := <-done; err != nil {
					t.Error(err)
				}
				got := bob.heard()
				time.Sleep(time.Second)
				if later := bob.heard(); len(got) != 1 || !strings.Contains(got[0], `"data":2`) || strings.Contains(got[0], "ana") || len(later) > 0 {
					t.Errorf("bob heard %q, and then %q", got, later)
				}
			})
		})
	}
}

// Reactions that come at once are stored together.
func TestReactionsMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const users, perUser = 200, 5
		p := newParty(t, chathub.Config{UserRate: -1})
		ana := p.dial("ana", "red")
		say(ana.Client, "red", "one")
		var guests []guest
		for i := range users {
			guests = append(guests, p.dial(fmt.Sprint("user", i), "red"))
		}
		ana.heard()
		for k := range perUser {
			for _, g := range guests {
				g.Send(reactTo(fmt.Sprint("r", k), "red", 1, fmt.Sprint("k", k), true))
				time.Sleep(time.Second / users / perUser)
			}
		}
		time.Sleep(time.Second)
		got := ofType(arrived(ana.Client), "message-changed")
		if len(got) < 5 || len(got) > 30 {
			t.Errorf("%d reactions came in %d events", users*perUser, len(got))
		}
		for _, g := range guests {
			if acks := ofType(arrived(g.Client), "ack"); len(acks) != perUser {
				t.Errorf("%s got %d acks, want %d", g.server.User().ID, len(acks), perUser)
			}
		}
		last := dataOf[changedData](t, got[len(got)-1])
		if len(last.Message.Reactions) != perUser {
			t.Fatalf("there are %d keys", len(last.Message.Reactions))
		}
		for key, r := range last.Message.Reactions {
			if r.Count != users || len(r.Users) != 20 {
				t.Errorf("%s has %+v", key, r)
			}
		}
		expectRefused(t, ana.Client, reactTo("x", "red", 1, "k1", true), chathub.CodeLimitExceeded)
		// The first one after a pause does not wait, and an edit never does.
		time.Sleep(time.Second)
		start := time.Now()
		guests[0].Must(reactTo("z", "red", 1, "k0", false))
		ana.Must(editOf("e", "red", 1, "1"))
		ana.Must(editOf("f", "red", 1, "2"))
		if d := time.Since(start); d > 0 {
			t.Errorf("they took %v", d)
		}
	})
}
