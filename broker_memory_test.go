package chathub_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// flooded is a hub without rate limits, and a message that waits for a user who
// is away. It must not be lost.
type flooded struct {
	*party
	mallory guest
	inbox   chathub.Position // of cid, before anything was sent
}

func newFlooded(t *testing.T, broker *chathub.MemoryBroker) *flooded {
	t.Helper()
	p := newParty(t, chathub.Config{
		Broker:           broker,
		Rate:             -1,
		UserRate:         -1,
		PresenceInterval: -1,
		PresenceGrace:    -1,
	})
	cid := p.dial("cid")
	f := &flooded{party: p, mallory: p.dial("mallory"), inbox: dataOf[welcomeData](t, cid.Welcome).Inbox}
	cid.Drop()
	synctest.Wait()
	p.dial("ana").Must(privateMessage("1", "cid", `"waits"`))
	return f
}

// wantInbox has cid come back, and checks what was waiting.
func (f *flooded) wantInbox(recovered bool, want ...string) {
	f.t.Helper()
	cid := f.dial("cid")
	if got := resume(f.t, cid.Client, resumeRequest{Inbox: &f.inbox}).Inbox; got.Epoch != f.inbox.Epoch || got.Recovered != recovered {
		f.t.Errorf("the answer to resume: %+v, want epoch %s, recovered %t", got, f.inbox.Epoch, recovered)
	}
	wantHeard(f.t, "cid", cid.Client, want...)
}

// TestFloodOfNotifications: large notifications to made-up users cost nobody a
// private message that waits.
func TestFloodOfNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlooded(t, &chathub.MemoryBroker{MaxTotalBytes: 8 << 20})
		data := hubtest.Data(strings.Repeat("x", 65_000))
		for i := range 500 { // 32 MB
			f.mallory.Must(hubtest.Frame{Type: "send-notification", To: fmt.Sprint("nobody ", i%400), Data: data})
		}
		f.wantInbox(true, `private-message "waits"`)
	})
}

// TestFloodOfOneInbox: what one user sends to an inbox does not displace the
// message of another, in the inbox and in the answer to resume.
func TestFloodOfOneInbox(t *testing.T) {
	for _, tc := range []struct {
		typ     string
		n, size int
	}{
		{"send-notification", 18, 60_000},
		{"private-message", 18, 60_000},
		{"send-notification", 1200, 10},
		{"private-message", 1200, 10},
		{"send-notification", 300, 10}, // more than one answer has
	} {
		t.Run(fmt.Sprintf("%s/%dx%d", tc.typ, tc.n, tc.size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFlooded(t, &chathub.MemoryBroker{})
				for i := range tc.n {
					data := fmt.Sprintf("%d %s", i, strings.Repeat("x", tc.size))
					f.mallory.Must(hubtest.Frame{Type: tc.typ, To: "cid", Data: hubtest.Data(data)})
				}
				cid := f.dial("cid")
				got := resume(t, cid.Client, resumeRequest{Inbox: &f.inbox}).Inbox
				if got.Epoch != f.inbox.Epoch || got.Recovered {
					t.Errorf("the answer to resume: %+v", got)
				}
				frames := arrived(cid.Client)
				if len(frames) < 5 || frames[0].From.ID != "ana" || string(frames[0].Data) != `"waits"` {
					t.Fatalf("%d messages arrived, the first is %.80s", len(frames), fmt.Sprint(texts(frames)))
				}
				// Of the flood, it is the newest part.
				for i, frame := range frames[1:] {
					want := fmt.Sprintf(`"%d `, tc.n-len(frames)+1+i)
					if frame.From.ID != "mallory" || !strings.HasPrefix(string(frame.Data), want) {
						t.Errorf("message %d begins with %.80s, want %s", i+1, frame.Data, want)
					}
				}
			})
		})
	}
}

// TestFloodOfEmptyRooms: resuming made-up rooms costs nobody a message, and a
// client of an empty room has missed nothing.
func TestFloodOfEmptyRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{MaxIdleTopics: 500}
		f := newFlooded(t, broker)
		eve := f.dial("eve")
		quiet := position(t, enter(eve.Client, "quiet"))
		eve.Drop()
		for i := range 20 {
			rooms := make(map[string]chathub.Position)
			for k := range 128 {
				rooms[fmt.Sprintf("room %d.%d", i, k)] = chathub.Position{Epoch: "x", Seq: 1}
			}
			resume(t, f.mallory.Client, resumeRequest{Rooms: rooms})
			for room := range rooms {
				f.mallory.Send(hubtest.Frame{Type: "leave-room", Room: room})
			}
			synctest.Wait()
		}
		eve = f.dial("eve")
		answer := resume(t, eve.Client, resumeRequest{Rooms: map[string]chathub.Position{"quiet": quiet}}).Rooms["quiet"]
		if !answer.Recovered || answer.Epoch != quiet.Epoch {
			t.Errorf("a client of an empty room is told %+v, and was at %+v", answer, quiet)
		}
		f.wantInbox(true, `private-message "waits"`)
	})
}

// TestRepeatInBusyRoom: a repetition is recognised, however many messages have
// come in between.
func TestRepeatInBusyRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{Rate: -1, UserRate: -1})
		ana, bob := p.dial("ana", "red"), p.dial("bob", "red")
		ana.Must(roomMessage("1", "red", `"a"`))
		for i := range 4001 {
			bob.Must(roomMessage(fmt.Sprint(i), "red", `"b"`))
		}
		r := ana.Must(roomMessage("1", "red", `"a"`))
		if got := dataOf[receipt](t, r); !got.Dup || got.Seq != 1 {
			t.Errorf("after 4001 messages, a repetition is stored as %+v", got)
		}
	})
}
