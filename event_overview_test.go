package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// overviewData is the data of an answer to overview.
type overviewData struct {
	Rooms         map[string]overviewRoom `json:"rooms"`
	Inbox         *chathub.Position       `json:"inbox"`
	Conversations []conversationData      `json:"conversations"`
}

type overviewRoom struct {
	Epoch  string         `json:"epoch"`
	Seq    uint64         `json:"seq"`
	Read   uint64         `json:"read"`
	Unread int            `json:"unread"`
	Last   *hubtest.Frame `json:"last"`
}

type conversationData struct {
	User   chathub.User   `json:"user"`
	Read   uint64         `json:"read"`
	Unread int            `json:"unread"`
	Last   *hubtest.Frame `json:"last"`
}

func overviewOf(t testing.TB, c *hubtest.Client, data string) overviewData {
	t.Helper()
	return dataOf[overviewData](t, c.Must(hubtest.Frame{Type: "overview", Data: raw(data)}))
}

// overviewOfRooms asks for rooms without quoting their names.
func overviewOfRooms(rooms ...string) hubtest.Frame {
	return hubtest.Frame{Type: "overview", Data: hubtest.Data(map[string]any{"rooms": rooms})}
}

// An overview has the head of each room, what is read, and the newest message
// as it is now.
func TestOverview(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		rooms := []string{"plain", "edited", "deleted", "emptied", "application", "events", "mine", "replied", "joined only"}
		bob, ana := p.dial("bob/Bob", rooms...), p.dial("ana")
		for _, room := range rooms[:8] {
			say(bob.Client, room, room+" 1")
		}
		for _, room := range rooms[:3] {
			say(bob.Client, room, room+" 2")
		}
		bob.Must(hubtest.Frame{Type: "edit-message", ID: "e", Room: "edited", Data: raw(`{"seq":2,"data":"new"}`)})
		for _, g := range []guest{bob, p.dial("ana", "edited")} {
			g.Must(hubtest.Frame{Type: "react", Room: "edited", Data: raw(`{"seq":2,"key":"+"}`)})
		}
		for room, seq := range map[string]uint64{"deleted": 2, "emptied": 1} {
			if _, err := p.hub.DeleteMessage(t.Context(), room, seq); err != nil {
				t.Fatal(err)
			}
		}
		for room, event := range map[string]string{"application": "room-message", "events": "weather"} {
			if err := p.hub.To(room).Emit(t.Context(), event, "from above"); err != nil {
				t.Fatal(err)
			}
		}
		p.dial("ana", "mine").Must(hubtest.Frame{Type: "room-message", Room: "mine", Data: raw(`"of ana"`)})
		bob.Must(hubtest.Frame{Type: "room-message", Room: "replied", Re: raw(`1`), Data: raw(`"answer"`)})
		ana.Must(markRead("plain", 1))
		ana.Must(markRead("edited", 4))
		got := dataOf[overviewData](t, ana.Must(overviewOfRooms(append(rooms, "unknown")...)))
		if got.Conversations != nil || got.Inbox != nil || len(got.Rooms) != 8 {
			t.Errorf("the overview is %+v", got)
		}
		for room, want := range map[string]string{
			"plain":       `2 1 1 2 "plain 2"`,
			"edited":      `5 4 0 2 "new"`,
			"deleted":     `3 0 1 1 "deleted 1"`,
			"emptied":     `2 0 0 0 `,
			"application": `2 0 2 2 "from above"`,
			"events":      `2 0 1 1 "events 1"`,
			"mine":        `2 0 1 2 "of ana"`,
			"replied":     `2 0 2 2 "answer"`,
		} {
			o := got.Rooms[room]
			last := hubtest.Frame{}
			if o.Last != nil {
				if last = *o.Last; last.Type != "room-message" || last.Room != room || last.TS == 0 || last.ID == "" {
					t.Errorf("%s: last is %+v", room, last)
				}
			}
			if got := fmt.Sprint(o.Seq, o.Read, o.Unread, last.Seq) + " " + string(last.Data); got != want || o.Epoch == "" {
				t.Errorf("%s is %q, want %q", room, got, want)
			}
		}
		edited := got.Rooms["edited"].Last
		if edited.Version != 5 || edited.Edited == 0 || edited.Reactions["+"].Count != 2 || !slices.Equal(edited.Mine, []string{"+"}) || edited.From.Name != "Bob" {
			t.Errorf("the edited message is %+v", edited)
		}
		if last := got.Rooms["replied"].Last; string(last.Re) != "1" || last.Version != 0 || last.Mine != nil {
			t.Errorf("the reply is %+v", last)
		}
		if last := got.Rooms["application"].Last; last.From != nil {
			t.Errorf("the message of the application is %+v", last)
		}
		if got := overviewOf(t, bob.Client, `{"rooms":["edited"]}`).Rooms["edited"]; got.Unread != 0 || !slices.Equal(got.Last.Mine, []string{"+"}) {
			t.Errorf("bob sees %+v", got)
		}
		expectNothing(t, ana.Client)
		if users := roomUsers(t, p.hub, "plain"); len(users) != 1 {
			t.Errorf("an overview has joined: %v", users)
		}
	})
}

func TestOverviewRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hooked{}
		p := newParty(t, chathub.Config{Broker: b, UserRate: -1, MaxRooms: 1000})
		bob, ana := p.dial("bob"), p.dial("ana")
		names := make([]string, 501)
		for i := range names {
			names[i] = fmt.Sprint("room", i)
			enter(bob.Client, names[i])
			say(bob.Client, names[i], "hi")
		}
		b.take()
		for _, data := range []string{``, `null`, `{}`, `{"rooms":[]}`, `{"rooms":null}`, `{"inbox":false}`} {
			if got := ana.Must(hubtest.Frame{Type: "overview", Data: raw(data)}); string(got.Data) != `{"rooms":{}}` {
				t.Errorf("%s was answered with %s", data, got.Data)
			}
		}
		if got := ana.Must(hubtest.Frame{Type: "overview", Data: raw(`{"inbox":true}`)}); !strings.HasSuffix(string(got.Data), `},"conversations":[]}`) {
			t.Errorf("the answer is %s", got.Data)
		}
		if calls := b.take(); calls["Survey"]+calls["ReadNamed"] != 0 || calls["Read"] != 1 {
			t.Errorf("these calls were made: %v", calls)
		}
		for _, n := range []int{1, 500} {
			if got := dataOf[overviewData](t, ana.Must(overviewOfRooms(names[:n]...))); len(got.Rooms) != n || got.Rooms["room0"].Last == nil {
				t.Errorf("the overview of %d rooms has %d", n, len(got.Rooms))
			}
			if calls := b.take(); calls["Survey"] != 1 || calls["ReadNamed"] != 2 || calls["Read"] != 0 {
				t.Errorf("%d rooms cost these calls: %v", n, calls)
			}
		}
		expectRefused(t, ana.Client, overviewOfRooms(names...), chathub.CodeBadRequest)
		if got := dataOf[overviewData](t, ana.Must(overviewOfRooms("room1", "room2", "room1", "room1"))); len(got.Rooms) != 2 {
			t.Errorf("rooms that are named twice: %+v", got)
		}
		for _, data := range []string{`{"rooms":"room1"}`, `{"rooms":[1]}`, `{"rooms":[""]}`, `{"rooms":["a\nb"]}`, `{"rooms":["` + strings.Repeat("x", 129) + `"]}`, `{"inbox":1}`, `[]`, `7`} {
			expectRefused(t, ana.Client, hubtest.Frame{Type: "overview", Data: raw(data)}, chathub.CodeBadRequest)
		}
		expectNothing(t, ana.Client)
	})
}

// A room that a user may not see looks like one that there is not.
func TestOverviewRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked record
		p := newParty(t, chathub.Config{Authorize: func(_ context.Context, c *chathub.Client, a chathub.Action) error {
			if a.Type == "overview" {
				asked.add("%s %s%s", c.User().ID, a.Room, a.To)
				if a.Room == "secret" || a.Room == "nowhere" {
					return errors.New("members only")
				}
			}
			return nil
		}})
		bob, ana := p.dial("bob", "lobby", "secret"), p.dial("ana")
		say(bob.Client, "lobby", "hi")
		say(bob.Client, "secret", "hi")
		var answers []string
		for _, rooms := range [][]string{{"lobby"}, {"lobby", "secret"}, {"secret", "lobby", "unknown"}, {"nowhere", "lobby", "lobby"}} {
			answers = append(answers, string(ana.Must(overviewOfRooms(rooms...)).Data))
		}
		if all := slices.Compact(answers); len(all) != 1 || len(overviewOf(t, ana.Client, `{"rooms":["lobby","secret"]}`).Rooms) != 1 {
			t.Errorf("the answers differ: %q", all)
		}
		asked.want(t, "Authorize was asked", "ana lobby", "ana lobby", "ana secret", "ana secret", "ana lobby", "ana unknown", "ana nowhere", "ana lobby", "ana lobby", "ana secret")
		ana.Must(hubtest.Frame{Type: "overview", Data: raw(`{"inbox":true}`)})
		asked.want(t, "Authorize was asked")
	})
}

// Visible is asked once about all rooms, and Authorize about none.
func TestOverviewVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked record
		var visible func(rooms []string) ([]string, error)
		p := newParty(t, chathub.Config{
			Visible: func(_ context.Context, c *chathub.Client, rooms []string) ([]string, error) {
				asked.add("%s %s", c.User().ID, rooms)
				return visible(rooms)
			},
			Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
				if a.Type == "overview" {
					asked.add("Authorize")
				}
				return nil
			},
		})
		bob, ana := p.dial("bob", "red", "green", "blue"), p.dial("ana")
		for _, room := range []string{"red", "green", "blue"} {
			say(bob.Client, room, room)
		}
		for _, tc := range []struct {
			name    string
			visible func(rooms []string) ([]string, error)
			want    []string
		}{
			{"all", func(rooms []string) ([]string, error) { return rooms, nil }, []string{"green", "red"}},
			{"one", func([]string) ([]string, error) { return []string{"red"}, nil }, []string{"red"}},
			{"none", func([]string) ([]string, error) { return nil, nil }, nil},
			{"more", func([]string) ([]string, error) { return []string{"blue", "green", "blue", "green", ""}, nil }, []string{"green"}},
			{"in place", func(rooms []string) ([]string, error) {
				rooms[0], rooms[1] = "blue", "blue"
				return rooms, nil
			}, nil},
		} {
			visible = tc.visible
			got := dataOf[overviewData](t, ana.Must(overviewOfRooms("red", "green", "nowhere", "red")))
			var names []string
			for name, o := range got.Rooms {
				names = append(names, name)
				if o.Last == nil || string(o.Last.Data) != `"`+name+`"` {
					t.Errorf("%s: %s is %+v", tc.name, name, o)
				}
			}
			if slices.Sort(names); !slices.Equal(names, tc.want) {
				t.Errorf("%s: got %v, want %v", tc.name, names, tc.want)
			}
			asked.want(t, tc.name, "ana [red green nowhere]")
		}
		ana.Must(hubtest.Frame{Type: "overview"})
		asked.want(t, "without rooms")
		for err, code := range map[error]chathub.Code{
			errors.New("no"): chathub.CodeForbidden,
			&chathub.Error{Code: chathub.CodeUnavailable, Message: "Later"}: chathub.CodeUnavailable,
		} {
			visible = func([]string) ([]string, error) { return nil, err }
			expectRefused(t, ana.Client, overviewOfRooms("red"), code)
		}
		visible = func([]string) ([]string, error) { panic("a fault") }
		expectRefused(t, ana.Client, overviewOfRooms("red"), chathub.CodeInternal)
	})
}

// The conversations are those of the inbox, the newest first.
func TestOverviewConversations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, bob, cid := p.dial("ana/Ana"), p.dial("bob/Bob"), p.dial("cid/Cid")
		bob.Must(privateMessage("1", "ana", `1`))
		ana.Must(privateMessage("2", "dan", `2`))
		cid.Must(privateMessage("3", "ana", `3`))
		cid.Must(notification("4", "ana", `4`))
		ana.Must(privateMessage("5", "ana", `5`))
		bob.Must(privateMessage("6", "ana", `6`))
		ana.Must(privateMessage("7", "bob", `7`))
		bob.Must(privateMessage("8", "ana", `8`))
		if err := p.hub.ToUser("ana").Emit(t.Context(), "news", 9); err != nil {
			t.Fatal(err)
		}
		want := func(when string, head uint64, want ...string) {
			t.Helper()
			got := overviewOf(t, ana.Client, `{"rooms":[],"inbox":true}`)
			var all []string
			for _, c := range got.Conversations {
				all = append(all, fmt.Sprint(c.User.ID, " ", c.User.Name, " ", c.Read, " ", c.Unread, " ", c.Last.Seq, " ", string(c.Last.Data)))
			}
			if !slices.Equal(all, want) || got.Inbox.Seq != head || got.Inbox.Epoch != dataOf[welcomeData](t, ana.Welcome).Inbox.Epoch {
				t.Errorf("%s: %q up to %+v, want %q", when, all, got.Inbox, want)
			}
		}
		want("at first", 9, "bob Bob 0 3 8 8", "ana Ana 0 0 5 5", "cid Cid 0 1 3 3", "dan  0 0 2 2")
		ana.Must(markSeen("bob", 6))
		bob.Must(hubtest.Frame{Type: "edit-message", To: "ana", Data: raw(`{"id":"8","data":"new"}`)})
		cid.Must(hubtest.Frame{Type: "react", To: "ana", Data: raw(`{"id":"3","author":"cid","key":"+"}`)})
		want("edited", 12, `bob Bob 6 1 8 "new"`, "ana Ana 0 0 5 5", "cid Cid 0 1 3 3", "dan  0 0 2 2")
		bob.Must(hubtest.Frame{Type: "delete-message", To: "ana", Data: raw(`{"id":"8"}`)})
		cid.Must(hubtest.Frame{Type: "delete-message", To: "ana", Data: raw(`{"id":"3"}`)})
		want("deleted", 14, `bob Bob 6 0 7 7`, "ana Ana 0 0 5 5", "dan  0 0 2 2")
		if got := overviewOf(t, p.dial("eve").Client, `{"inbox":true}`); len(got.Conversations) != 0 || got.Inbox.Seq != 0 {
			t.Errorf("an empty inbox is %+v", got)
		}
	})
}

// An answer that would be too large leaves out what is worth the least.
func TestOverviewBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const outbox = 256 << 10
		p := newParty(t, chathub.Config{MaxOutboxBytes: outbox, UserRate: -1, MaxRooms: 1000, Broker: &chathub.MemoryBroker{MaxMessages: -1, MaxBytes: -1}})
		bob, ana := p.dial("bob"), p.dial("ana")
		long := hubtest.Data(strings.Repeat("x", 3000))
		names := make([]string, 500)
		for i := range names {
			names[i] = fmt.Sprint(i, strings.Repeat(`"`, 20))
			enter(bob.Client, names[i])
			bob.Must(hubtest.Frame{Type: "room-message", Room: names[i], Data: long})
		}
		for i := range 60 {
			ana.Must(privateMessage("", fmt.Sprint("user", i), string(long)))
		}
		f := overviewOfRooms(names...)
		f.Data = append(f.Data[:len(f.Data)-1], `,"inbox":true}`...)
		ack := ana.Must(f)
		got := dataOf[overviewData](t, ack)
		withLast := 0
		for _, o := range got.Rooms {
			if o.Unread != 1 {
				t.Errorf("a room is %+v", o)
			}
			if o.Last != nil {
				withLast++
			}
		}
		if len(got.Rooms) != 500 || len(ack.Data) > outbox/2+4000 || len(ack.Data) < outbox/2-8000 || withLast < 5 || withLast > 20 {
			t.Errorf("%d bytes with %d rooms, %d of them with their last message", len(ack.Data), len(got.Rooms), withLast)
		}
		for i, c := range got.Conversations {
			if c.User.ID != fmt.Sprint("user", 59-i) || c.Last == nil {
				t.Fatalf("conversation %d is %+v", i, c.User)
			}
		}
		if n := len(got.Conversations); n < 5 || n == 60 {
			t.Errorf("there are %d conversations", n)
		}
	})
}

// A broker that fails makes the overview fail, and not look empty.
func TestOverviewUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hooked{}
		p := newParty(t, chathub.Config{Broker: b})
		bob, ana := p.dial("bob", "lobby"), p.dial("ana")
		say(bob.Client, "lobby", "hi")
		bob.Must(privateMessage("1", "ana", `1`))
		both := hubtest.Frame{Type: "overview", Data: raw(`{"rooms":["lobby"],"inbox":true}`)}
		for _, method := range []string{"Survey", "ReadNamed", "Read"} {
			for skip := range 4 {
				n := 0
				b.before(method, func() error {
					if n++; n <= skip {
						return nil
					}
					return chathub.Unavailable(errors.New("down"))
				})
				f := ana.Request(both)
				if failed := n > skip; failed != (f.Code() == chathub.CodeUnavailable) || !failed && f.Type != "ack" {
					t.Errorf("%s, call %d: answered with %s %s", method, skip+1, f.Type, f.Data)
				}
			}
			b.before(method, nil)
		}
	})
}

// A client that goes, or a hub that closes, while the broker is asked, ends the
// overview.
func TestOverviewCutShort(t *testing.T) {
	for _, closes := range []bool{false, true} {
		t.Run(fmt.Sprint("closes=", closes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &hooked{}
				var gone record
				var log logBuffer
				p := newParty(t, chathub.Config{Broker: b, Logger: log.logger(), OnDisconnect: func(c *chathub.Client, _ chathub.Disconnect) { gone.add("%s", c.User().ID) }})
				say(p.dial("bob", "lobby").Client, "lobby", "hi")
				ana := p.dial("ana")
				entered, proceed := make(chan struct{}), make(chan struct{})
				b.before("Survey", func() error {
					close(entered)
					<-proceed
					return nil
				})
				ana.Send(overviewOfRooms("lobby"))
				<-entered
				log.take()
				if closes {
					go func() { _ = p.hub.Close() }()
				} else {
					ana.Drop()
				}
				synctest.Wait()
				close(proceed)
				synctest.Wait()
				if got := gone.take(); !slices.Contains(got, "ana") {
					t.Errorf("these have gone: %v", got)
				}
				if got := log.take(); strings.Contains(got, "WARN") || strings.Contains(got, "ERROR") {
					t.Errorf("the log has %s", got)
				}
			})
		})
	}
}

// A user who asks for overviews all the time is slowed down, whatever the
// application lets it see.
func TestOverviewFlood(t *testing.T) {
	for _, refused := range []bool{false, true} {
		t.Run(fmt.Sprint("refused=", refused), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := chathub.Config{PresenceInterval: -1, Rate: 1000, MaxRooms: 1000, ByteRate: -1, UserByteRate: -1}
				if refused {
					cfg.Visible = func(context.Context, *chathub.Client, []string) ([]string, error) { return nil, nil }
				}
				hub := hubtest.New(t, cfg)
				names := make([]string, 500)
				for i := range names {
					names[i] = fmt.Sprint("room", i)
				}
				bob := hubtest.Dial(t, hub, "bob")
				enter(bob, "room1")
				say(bob, "room1", strings.Repeat("x", 1000))
				devices := []*hubtest.Client{hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ana")}
				start, answers := time.Now(), 0
				for range 100 {
					for _, c := range devices {
						if c.Request(overviewOfRooms(names...)).Type == "ack" {
							answers++
						}
					}
				}
				// 8 MiB at once, 512 KiB a second, and 128 KB for each.
				if most := 70 + 5*int(time.Since(start).Seconds()); answers > most || answers < 60 {
					t.Errorf("%d answers in %v", answers, time.Since(start))
				}
				if got := hubtest.Dial(t, hub, "cid").Request(overviewOfRooms(names...)); got.Type != "ack" {
					t.Errorf("another user got %s", got.Data)
				}
			})
		})
	}
}
