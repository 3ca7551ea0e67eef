package chathub_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// repeats are four connections: ana sends from two, and listens on a third; bob
// and cid listen.
type repeats struct {
	*party
	ana, phone, tab, bob, cid guest
}

func newRepeats(t *testing.T, cfg chathub.Config) *repeats {
	t.Helper()
	p := newParty(t, cfg)
	return &repeats{
		party: p,
		ana:   p.dial("ana", "red", "blue"),
		phone: p.dial("ana/Renamed", "red", "blue"),
		tab:   p.dial("ana"),
		bob:   p.dial("bob", "red", "blue"),
		cid:   p.dial("cid"),
	}
}

// wantAnswer checks how an event is answered: with a receipt, without one, or
// with the code of an error.
func (p *repeats) wantAnswer(g guest, f hubtest.Frame, want string) {
	p.t.Helper()
	r := g.Request(f)
	got := "ack"
	switch {
	case r.Type == "error":
		got = string(r.Code())
	case r.Data != nil:
		receipt := dataOf[receipt](p.t, r)
		got = fmt.Sprintf("seq %d, dup %t", receipt.Seq, receipt.Dup)
	}
	if got != want {
		p.t.Errorf("%s %q to %q, %s: %s, want %s", f.Type, f.ID, f.Room+f.To, f.Data, got, want)
	}
}

func roomMessage(id, room, data string) hubtest.Frame {
	return hubtest.Frame{Type: "room-message", ID: id, Room: room, Data: raw(data)}
}

func privateMessage(id, to, data string) hubtest.Frame {
	return hubtest.Frame{Type: "private-message", ID: id, To: to, Data: raw(data)}
}

func notification(id, to, data string) hubtest.Frame {
	return hubtest.Frame{Type: "send-notification", ID: id, To: to, Data: raw(data)}
}

// TestRepeat: the same id with the same content is one message, and an id that
// was used for another message of the same room or inbox is refused. Nothing is
// acked that was dropped.
func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRepeats(t, chathub.Config{})
		for _, tc := range []struct {
			f    hubtest.Frame
			want string
		}{
			{roomMessage("1", "red", `"a"`), "seq 1, dup false"},
			{roomMessage("1", "red", `"a"`), "seq 1, dup true"},
			{roomMessage("1", "red", `"b"`), "conflict"},
			{roomMessage("1", "red", ``), "conflict"},
			{roomMessage("1", "red", `"a"`), "seq 1, dup true"},
			{roomMessage("2", "red", ``), "seq 2, dup false"},
			{roomMessage("2", "red", ``), "seq 2, dup true"},
			{roomMessage("2", "red", `null`), "conflict"},
			{roomMessage("1", "blue", `"b"`), "seq 1, dup false"},
			{privateMessage("1", "bob", `"a"`), "seq 1, dup false"},
			{privateMessage("1", "bob", `"a"`), "seq 1, dup true"},
			{privateMessage("1", "bob", `"b"`), "conflict"},
			{privateMessage("1", "bob", `"a"`), "seq 1, dup true"},
			{notification("1", "bob", `"a"`), "conflict"},
			{notification("2", "bob", `"a"`), "ack"},
			{notification("2", "bob", `"a"`), "ack"},
			{notification("2", "bob", `"b"`), "conflict"},
			{privateMessage("2", "bob", `"a"`), "conflict"},
			{privateMessage("3", "ana", `"a"`), "seq 2, dup false"},
			{privateMessage("3", "ana", `"a"`), "seq 2, dup true"},
			{privateMessage("3", "ana", `"b"`), "conflict"},
			{notification("3", "ana", `"a"`), "conflict"},
		} {
			// From another connection, under another name, it is the same.
			for i, g := range []guest{p.ana, p.phone} {
				switch {
				case i == 0 || tc.want == "conflict" || tc.want == "ack":
					p.wantAnswer(g, tc.f, tc.want)
				default:
					p.wantAnswer(g, tc.f, tc.want[:len("seq 1, dup ")]+"true")
				}
			}
		}
		wantHeard(t, "bob", p.bob.Client, `room-message@red "a"`, `room-message@red`, `room-message@blue "b"`,
			`private-message "a"`, `notification "a"`)
		wantHeard(t, "ana's tab", p.tab.Client, `private-message "a"`, `private-message "a"`)
		// Neither inbox has more than was heard.
		for user, want := range map[string]int{"ana": 2, "bob": 2} {
			back := hubtest.Dial(t, p.hub, user)
			var welcome struct {
				Inbox chathub.Position `json:"inbox"`
			}
			unmarshal(t, back.Welcome.Data, &welcome)
			resume(t, back, resumeRequest{Inbox: &chathub.Position{Epoch: welcome.Inbox.Epoch}})
			if got := arrived(back); len(got) != want {
				t.Errorf("%s's inbox has %+v, want %d messages", user, got, want)
			}
		}
	})
}

// TestRepeatElsewhere: an id that was used in one conversation stands for a new
// message in another one, on the sender's other connections too.
func TestRepeatElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRepeats(t, chathub.Config{})
		p.wantAnswer(p.ana, privateMessage("1", "bob", `"x"`), "seq 1, dup false")
		p.wantAnswer(p.ana, privateMessage("1", "cid", `"x"`), "seq 2, dup false")
		p.wantAnswer(p.ana, privateMessage("1", "cid", `"x"`), "seq 2, dup true")
		p.wantAnswer(p.ana, privateMessage("1", "ana", `"x"`), "seq 3, dup false")
		p.wantAnswer(p.ana, notification("1", "ana", `"x"`), "conflict")
		p.wantAnswer(p.ana, privateMessage("1", "bob", `"x"`), "seq 1, dup true")
		wantHeard(t, "bob", p.bob.Client, `private-message "x"`)
		wantHeard(t, "cid", p.cid.Client, `private-message "x"`)
		wantHeard(t, "ana's tab", p.tab.Client, `private-message "x"`, `private-message "x"`, `private-message "x"`)
	})
}

// TestRepeatForgotten: if the recipient's inbox has forgotten an id that the
// sender's remembers, the message is new in both. A message is never refused
// that its recipient has.
func TestRepeatForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// One inbox is kept of users who are away.
		p := newRepeats(t, chathub.Config{Broker: &chathub.MemoryBroker{MaxIdleTopics: 1}})
		p.wantAnswer(p.ana, privateMessage("1", "dan", `"first"`), "seq 1, dup false")
		p.wantAnswer(p.ana, privateMessage("2", "eve", `"other"`), "seq 2, dup false")
		p.wantAnswer(p.ana, privateMessage("1", "dan", `"second"`), "seq 3, dup false")
		wantHeard(t, "ana's tab", p.tab.Client, `private-message "first"`, `private-message "other"`, `private-message "second"`)
		dan := hubtest.Dial(t, p.hub, "dan")
		resume(t, dan, resumeRequest{Inbox: &chathub.Position{}})
		wantHeard(t, "dan", dan, `private-message "second"`)
	})
}

// TestRepeatMiddleware: what middleware makes of a message does not decide
// whether it is a repetition, unless the middleware made the event.
func TestRepeatMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRepeats(t, chathub.Config{})
		n := 0
		p.hub.Use(func(next chathub.Handler) chathub.Handler {
			return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				n++
				if e.Room == "blue" {
					e = &chathub.Event{Type: e.Type, ID: e.ID, Room: e.Room, Data: e.Data}
				}
				if e.Room == "red" {
					e.Data = raw(fmt.Sprintf(`{"n":%d}`, n))
				}
				return next(ctx, c, e)
			}
		})
		for i, data := range []string{`"a"`, ``} {
			id, seq := fmt.Sprint(i), fmt.Sprintf("seq %d, ", i+1)
			p.wantAnswer(p.ana, roomMessage(id, "red", data), seq+"dup false")
			p.wantAnswer(p.ana, roomMessage(id, "red", data), seq+"dup true")
			p.wantAnswer(p.ana, roomMessage(id, "red", `"b"`), "conflict")
		}
		wantHeard(t, "bob", p.bob.Client, `room-message@red {"n":1}`, `room-message@red {"n":4}`)
		p.wantAnswer(p.ana, roomMessage("1", "blue", `"a"`), "seq 1, dup false")
		p.wantAnswer(p.ana, roomMessage("1", "blue", `"a"`), "seq 1, dup true")
		p.wantAnswer(p.ana, roomMessage("1", "blue", `"b"`), "conflict")
	})
}
