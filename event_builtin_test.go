package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// quietHub returns a hub without presence, whose clients get only messages.
func quietHub(t *testing.T) *chathub.Hub {
	return hubtest.New(t, chathub.Config{PresenceInterval: -1, Rate: -1, UserRate: -1})
}

// members connects a client for each token, and lets it join a room.
func members(t *testing.T, hub *chathub.Hub, room string, tokens ...string) []*hubtest.Client {
	clients := make([]*hubtest.Client, len(tokens))
	for i, token := range tokens {
		clients[i] = hubtest.Dial(t, hub, token)
		enter(clients[i], room)
	}
	return clients
}

func TestRoomMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := members(t, quietHub(t), "lobby", "ana/Ana", "bob")
		// Data is passed on exactly as it was sent, down to the digits of a
		// number.
		const data = `{ "b":1.0, "a":[123456789012345678901234567890, 1e400,null],"s":"\u00e9é\/" }`
		c[0].SendText(`{"data":` + data + `,"room":"lobby","id":"m1","type":"room-message"}`)
		got := arrived(c[0])
		message, ack := ofType(got, "room-message"), ofType(got, "ack")
		if len(got) != 2 || len(message) != 1 || len(ack) != 1 {
			t.Fatalf("the sender got %+v", got)
		}
		m, a := message[0], ack[0]
		if m.ID != "m1" || m.Room != "lobby" || m.To != "" || m.From == nil || *m.From != (chathub.User{ID: "ana", Name: "Ana"}) ||
			m.Seq != 1 || m.TS != time.Now().UnixMilli() || m.Ack || string(m.Data) != data {
			t.Errorf("message is %+v", m)
		}
		receipt := fmt.Sprintf(`{"seq":%d,"ts":%d}`, m.Seq, m.TS)
		if a.ID != "m1" || a.Room != "lobby" || a.Seq != m.Seq || a.TS != m.TS || string(a.Data) != receipt {
			t.Errorf("ack is %+v", a)
		}
		other := arrived(c[1])
		if len(other) != 1 || !sameFrame(other[0], m) {
			t.Errorf("another member got %+v", other)
		}

		time.Sleep(time.Second)
		c[1].SendText(`{"type":"room-message","room":"lobby"}`) // no id: no ack; no data: none
		for i := range c {
			got := arrived(c[i])
			if len(got) != 1 || got[0].Seq <= m.Seq || got[0].TS != m.TS+1000 || got[0].Data != nil || !strings.HasPrefix(got[0].ID, "m_") || got[0].From.ID != "bob" {
				t.Errorf("client %d got %+v", i, got)
			}
		}
	})
}

// What a client says about itself is ignored.
func TestForgedFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := members(t, quietHub(t), "lobby", "ana", "bob")
		const forged = `,"from":{"id":"bob","name":"Bob"},"seq":99,"ts":1,"ack":true,"userId":"bob","to":"bob"`
		c[0].SendText(`{"type":"room-message","room":"lobby","data":1` + forged + `}`)
		c[0].SendText(`{"type":"message","data":1` + forged + `}`)
		c[0].SendText(`{"type":"typing","room":"lobby"` + forged + `}`)
		c[0].SendText(`{"type":"private-message","data":1` + forged + `}`)
		c[0].SendText(`{"type":"send-notification","data":1` + forged + `}`)
		got := arrived(c[1])
		if len(got) != 5 {
			t.Fatalf("got %+v", got)
		}
		for _, f := range got {
			if f.From == nil || f.From.ID != "ana" || f.Seq > 2 || f.Ack || f.TS == 1 {
				t.Errorf("got %s from %v: %+v", f.Type, f.From, f)
			}
		}
	})
}

// All members see the messages of a room in one order, each once, and the order
// of each sender is kept.
func TestRoomOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 100
		c := members(t, quietHub(t), "lobby", "ana", "bob", "carol", "ana", "dave")
		for i := range each {
			for j, sender := range c[:4] {
				sender.Send(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data(fmt.Sprint(j, " ", i))})
			}
		}
		first := arrived(c[0])
		if len(first) != 4*each {
			t.Fatalf("%d messages, want %d", len(first), 4*each)
		}
		next := make(map[string]int)
		for i, f := range first {
			if i > 0 && (f.Seq <= first[i-1].Seq || f.TS < first[i-1].TS) {
				t.Errorf("seq %d, ts %d after %d, %d", f.Seq, f.TS, first[i-1].Seq, first[i-1].TS)
			}
			var n int
			var sender string
			if _, err := fmt.Sscan(texts(first[i : i+1])[0], &sender, &n); err != nil || n != next[sender] {
				t.Errorf("sender %s: message %d, want %d (%v)", sender, n, next[sender], err)
			}
			next[sender] = n + 1
		}
		for i := range c[1:] {
			other := arrived(c[i+1])
			if !slices.EqualFunc(other, first, sameFrame) {
				t.Errorf("member %d saw another order", i+1)
			}
		}
	})
}

// receipt is the data of the ack of a durable event.
type receipt struct {
	Seq uint64 `json:"seq"`
	TS  int64  `json:"ts"`
	Dup bool   `json:"dup,omitzero"`
}

// An event that is sent again with the same id is stored and delivered once. It
// is acknowledged with the position of the first.
func TestRepeatedID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := quietHub(t)
		c := members(t, hub, "lobby", "ana", "ana", "bob")
		ana, tab, bob := c[0], c[1], c[2]
		f := hubtest.Frame{Type: "room-message", ID: "m1", Room: "lobby", Data: hubtest.Data("first")}
		first := dataOf[receipt](t, ana.Must(f))
		time.Sleep(time.Second)

		again := members(t, hub, "lobby", "ana")[0]
		ana.Drop()
		for name, client := range map[string]*hubtest.Client{"another connection": tab, "a later connection": again} {
			ack := client.Must(f)
			if got := dataOf[receipt](t, ack); got != (receipt{first.Seq, first.TS, true}) || ack.Seq != first.Seq || ack.TS != first.TS {
				t.Errorf("%s: ack is %+v, want %+v", name, got, first)
			}
		}
		if got := texts(arrived(bob)); !slices.Equal(got, []string{"first"}) {
			t.Errorf("bob got %v", got)
		}

		// The same id of another user, or in another room, is another event.
		f.Data = hubtest.Data("bob's")
		if got := dataOf[receipt](t, bob.Must(f)); got.Dup || got.Seq <= first.Seq {
			t.Errorf("the same id of another user: %+v", got)
		}
		f.Room = "hall"
		enter(tab, "hall")
		if got := dataOf[receipt](t, tab.Must(f)); got.Dup {
			t.Errorf("the same id in another room: %+v", got)
		}

		// An empty id counts as none.
		for range 2 {
			tab.SendText(`{"type":"room-message","room":"hall","id":"","data":"twice"}`)
		}
		if got := ofType(arrived(tab), "room-message"); !slices.Equal(texts(got)[len(got)-2:], []string{"twice", "twice"}) {
			t.Errorf("without id: %v", texts(got))
		}
	})
}

func TestMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := quietHub(t)
		ana, tab, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		enter(bob, "lobby") // rooms do not matter
		ana.Send(hubtest.Frame{Type: "message", ID: "m", Room: "elsewhere", Data: hubtest.Data("hi")})
		if got := arrived(ana); len(got) != 1 || got[0].Type != "ack" || got[0].ID != "m" || got[0].Data != nil || got[0].Seq != 0 {
			t.Errorf("the sender got %+v", got)
		}
		for _, c := range []*hubtest.Client{tab, bob} {
			got := arrived(c)
			if len(got) != 1 {
				t.Fatalf("got %+v", got)
			}
			if f := got[0]; f.Type != "message" || f.ID != "" || f.Room != "" || f.From.ID != "ana" || f.Seq != 0 || f.TS != time.Now().UnixMilli() || string(f.Data) != `"hi"` {
				t.Errorf("got %+v", f)
			}
		}
		// The event is not kept, so a repetition is not recognized.
		ana.Must(hubtest.Frame{Type: "message", ID: "m", Data: hubtest.Data("hi")})
		if got := arrived(bob); len(got) != 1 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestPrivateMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := quietHub(t)
		ana, anaTab := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ana")
		bob, bobTab := hubtest.Dial(t, hub, "bob"), hubtest.Dial(t, hub, "bob")
		carol := hubtest.Dial(t, hub, "carol")
		// The positions in the inboxes differ.
		carol.Must(hubtest.Frame{Type: "private-message", To: "bob"})
		arrived(bob)
		arrived(bobTab)

		ack := ana.Must(hubtest.Frame{Type: "private-message", ID: "p", To: "bob", Data: hubtest.Data("psst")})
		expectNothing(t, ana, carol)
		for _, c := range []*hubtest.Client{bob, bobTab, anaTab} {
			got := arrived(c)
			if len(got) != 1 {
				t.Fatalf("got %+v", got)
			}
			f := got[0]
			if f.Type != "private-message" || f.ID != "p" || f.To != "bob" || f.From.ID != "ana" || f.Room != "" || f.TS == 0 || string(f.Data) != `"psst"` {
				t.Errorf("got %+v", f)
			}
			if want := map[bool]uint64{true: 1, false: 2}[c == anaTab]; f.Seq != want {
				t.Errorf("position %d, want %d", f.Seq, want)
			}
		}
		if got := dataOf[receipt](t, ack); ack.Seq != 1 || got.Seq != 1 || got.Dup {
			t.Errorf("ack is %+v", ack)
		}

		// It is repeated from another connection, and nobody gets it again.
		ack = anaTab.Must(hubtest.Frame{Type: "private-message", ID: "p", To: "bob", Data: hubtest.Data("psst")})
		if got := dataOf[receipt](t, ack); got.Seq != 1 || !got.Dup {
			t.Errorf("ack of the repetition is %+v", ack)
		}
		expectNothing(t, ana, bob, bobTab)
	})
}

func TestPrivateMessageToOneself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := quietHub(t)
		c, tab := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ana")
		ack := c.Must(hubtest.Frame{Type: "private-message", To: "ana", Data: hubtest.Data("note")})
		if got := arrived(tab); len(got) != 1 || got[0].Seq != ack.Seq || ack.Seq != 1 {
			t.Errorf("the other tab got %+v, the ack is %+v", got, ack)
		}
		expectNothing(t, c)
	})
}

// If only the recipient's inbox has the message, the sender gets no ack, and a
// repetition completes it.
func TestPrivateMessageHalfStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		hub := hubtest.New(t, chathub.Config{Broker: broker, PresenceInterval: -1})
		ana, tab, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		own := chathub.Topic{User: "ana"}
		set(broker, broker.publish, own, error(&chathub.Error{Code: chathub.CodeUnavailable, Message: "Try again"}))
		f := hubtest.Frame{Type: "private-message", ID: "p", To: "bob", Data: hubtest.Data("psst")}
		expectRefused(t, ana, f, chathub.CodeUnavailable)
		set(broker, broker.publish, own, nil)
		if got := dataOf[receipt](t, ana.Must(f)); got.Dup {
			t.Errorf("receipt is %+v", got)
		}
		for _, c := range []*hubtest.Client{tab, bob} {
			if got := arrived(c); len(got) != 1 {
				t.Errorf("got %+v", got)
			}
		}
	})
}

func TestNotification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := quietHub(t)
		ana, anaTab := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ana")
		bob, bobTab := hubtest.Dial(t, hub, "bob"), hubtest.Dial(t, hub, "bob")
		f := hubtest.Frame{Type: "send-notification", ID: "n", To: "bob", Data: hubtest.Data("lunch")}
		for range 2 { // the second is a repetition
			if ack := ana.Must(f); ack.Data != nil || ack.Seq != 0 || ack.TS != 0 {
				t.Errorf("ack is %+v", ack)
			}
		}
		expectNothing(t, ana, anaTab)
		for _, c := range []*hubtest.Client{bob, bobTab} {
			got := arrived(c)
			if len(got) != 1 {
				t.Fatalf("got %+v", got)
			}
			if f := got[0]; f.Type != "notification" || f.ID != "n" || f.To != "bob" || f.From.ID != "ana" || f.Seq != 1 || f.TS == 0 || string(f.Data) != `"lunch"` {
				t.Errorf("got %+v", f)
			}
		}
		// For a notification to oneself, the position is in one's own log.
		ack := ana.Must(hubtest.Frame{Type: "send-notification", To: "ana", Data: hubtest.Data("remember")})
		if got := dataOf[receipt](t, ack); got.Seq != 1 || ack.Seq != 1 {
			t.Errorf("ack is %+v", ack)
		}
		if got := arrived(anaTab); len(got) != 1 || got[0].Type != "notification" {
			t.Errorf("got %+v", got)
		}
	})
}

// An event with an id gets exactly one answer. One without an id gets none,
// except for errors.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hubtest.Dial(t, quietHub(t), "ana")
		for _, tc := range []struct{ sent, want string }{
			{`{"type":"ping"}`, "pong"},
			{`{"type":"ping","id":"1"}`, "pong,ack 1"},
			{`{"type":"ping","id":""}`, "pong"},
			{`{"type":"message","data":1}`, ""},
			{`{"type":"message","id":"2","data":1}`, "ack 2"},
			{`{"type":"join-room","room":"lobby"}`, ""},
			{`{"type":"leave-room","room":"lobby"}`, ""},
			{`{"type":"private-message","to":"bob"}`, ""},
			{`{"type":"nonsense"}`, "error unknown_type"},
			{`{"type":"nonsense","id":"3"}`, "error 3 unknown_type"},
			{`{"type":"join-room","id":"4"}`, "error 4 bad_request"},
			{`{"type":"private-message"}`, "error bad_request"},
			{`{"type":"room-message","room":"lobby"}`, "error not_in_room"},
			{`{"type":"online-users","id":"5"}`, "error 5 unknown_type"}, // presence is off
			{`{"type":"online-users","id":"5","id":"6"}`, "error bad_request"},
			// Answers to no question of the server.
			{`{"type":"ack","id":"7"}`, ""},
			{`{"type":"error","id":"8","data":{"code":"forbidden"}}`, ""},
			{`{"type":"ack"}`, ""},
		} {
			c.SendText(tc.sent)
			var got []string
			for _, f := range arrived(c) {
				got = append(got, strings.Join(strings.Fields(f.Type+" "+f.ID+" "+string(f.Code())), " "))
			}
			if s := strings.Join(got, ","); s != tc.want {
				t.Errorf("%s was answered with %q, want %q", tc.sent, s, tc.want)
			}
		}
	})
}

// The application is asked about everything that reaches others, and about
// nothing else. What it refuses reaches nobody.
func TestAuthorize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var asked []chathub.Action
		refuse := false
		hub := hubtest.New(t, chathub.Config{
			PresenceInterval: -1,
			Authorize: func(_ context.Context, c *chathub.Client, a chathub.Action) error {
				mu.Lock()
				defer mu.Unlock()
				if !refuse || c.User().ID != "ana" {
					return nil
				}
				asked = append(asked, a)
				return &chathub.Error{Code: chathub.CodeForbidden}
			},
		})
		c := members(t, hub, "lobby", "ana", "bob")
		mu.Lock()
		refuse = true
		mu.Unlock()
		var want []chathub.Action
		for _, a := range []chathub.Action{
			{Type: "message"},
			{Type: "join-room", Room: "hall"},
			{Type: "room-message", Room: "lobby"},
			{Type: "typing", Room: "lobby"},
			{Type: "history", Room: "lobby"},
			{Type: "private-message", To: "bob"},
			{Type: "send-notification", To: "bob"},
		} {
			expectRefused(t, c[0], hubtest.Frame{Type: a.Type, Room: a.Room, To: a.To}, chathub.CodeForbidden)
			want = append(want, a)
		}
		for _, typ := range []string{"ping", "stop-typing", "leave-room"} {
			c[0].Must(hubtest.Frame{Type: typ, Room: "lobby"})
		}
		if got := ofType(arrived(c[1]), "stop-typing"); len(got) != 1 {
			t.Errorf("got %+v", got)
		}
		expectNothing(t, c[1])
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(asked, want) {
			t.Errorf("asked for %v, want %v", asked, want)
		}
	})
}

// An event that is not in the log is not acknowledged, and the client sees no
// text from the broker.
func TestBrokerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		hub := hubtest.New(t, chathub.Config{Broker: broker, PresenceInterval: -1, Logger: slog.New(slog.DiscardHandler)})
		c := members(t, hub, "lobby", "ana", "bob")
		f := hubtest.Frame{Type: "room-message", ID: "m", Room: "lobby", Data: hubtest.Data("hi")}
		lobby := chathub.Topic{Room: "lobby"}
		for _, tc := range []struct {
			err  error
			code chathub.Code
		}{
			{&chathub.Error{Code: chathub.CodeUnavailable, Message: "Try again", Err: errors.New("hush")}, chathub.CodeUnavailable},
			{fmt.Errorf("hush: %w", context.DeadlineExceeded), chathub.CodeUnavailable},
			{errors.New("hush: disk full"), chathub.CodeInternal},
		} {
			set(broker, broker.publish, lobby, tc.err)
			if r := expectRefused(t, c[0], f, tc.code); strings.Contains(string(r.Data), "hush") {
				t.Errorf("refused with %s", r.Data)
			}
		}
		set(broker, broker.publish, lobby, nil)
		expectNothing(t, c...)
		if got := dataOf[receipt](t, c[0].Must(f)); got.Dup || got.Seq != 1 {
			t.Errorf("receipt is %+v", got)
		}
	})
}
