package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json/jsontext"
)

// resumeRequest is the data of resume.
type resumeRequest struct {
	Rooms map[string]chathub.Position `json:"rooms,omitzero"`
	Inbox *chathub.Position           `json:"inbox,omitzero"`
}

// resumePart is the part of the answer to resume for a room or the inbox.
type resumePart struct {
	Epoch     string         `json:"epoch"`
	Seq       uint64         `json:"seq"`
	Users     []chathub.User `json:"users"`
	Count     int            `json:"count"`
	Recovered bool           `json:"recovered"`
	Read      uint64         `json:"read"`
	Unread    int            `json:"unread"`
	State     jsontext.Value `json:"state"`
	Error     *struct {
		Code    chathub.Code `json:"code"`
		Message string       `json:"message"`
	} `json:"error"`
}

type resumeAnswer struct {
	Rooms map[string]resumePart `json:"rooms"`
	Inbox *resumePart           `json:"inbox"`
}

// resume sends the request and returns the answer.
func resume(t testing.TB, c *hubtest.Client, r resumeRequest) resumeAnswer {
	t.Helper()
	return dataOf[resumeAnswer](t, c.Must(hubtest.Frame{Type: "resume", Data: hubtest.Data(r)}))
}

// position returns the head of the log from an answer to join-room.
func position(t testing.TB, ack hubtest.Frame) chathub.Position {
	t.Helper()
	d := dataOf[joinData](t, ack)
	return chathub.Position{Epoch: d.Epoch, Seq: d.Seq}
}

// fill lets a user send numbered messages to a room, and leave it.
func fill(t testing.TB, hub *chathub.Hub, room string, n int) chathub.Position {
	t.Helper()
	c := hubtest.Dial(t, hub, "filler")
	ack := enter(c, room)
	for i := range n {
		say(c, room, fmt.Sprint(i+1))
	}
	c.Must(hubtest.Frame{Type: "leave-room", Room: room})
	p := position(t, ack)
	return chathub.Position{Epoch: p.Epoch, Seq: p.Seq + uint64(n)}
}

// numbers returns the texts of the numbered messages first to last.
func numbers(first, last int) (all []string) {
	for i := first; i <= last; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// Several rooms and the inbox are resumed in one round trip.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{
			PresenceGrace: -1,
			Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
				if a.Room == "secret" {
					return &chathub.Error{Code: chathub.CodeForbidden, Message: "Members only"}
				}
				return nil
			},
		})
		ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		inbox := dataOf[welcomeData](t, ana.Welcome).Inbox
		at := map[string]chathub.Position{"secret": {Epoch: "x", Seq: 1}, "line\nbreak": {Epoch: "x", Seq: 1}}
		for _, room := range []string{"red", "green", "blue"} {
			enter(bob, room)
			at[room] = position(t, enter(ana, room))
		}
		say(bob, "red", "seen")
		bob.Must(hubtest.Frame{Type: "private-message", To: "ana", Data: hubtest.Data("seen")})
		at["red"] = chathub.Position{Epoch: at["red"].Epoch, Seq: 1}
		inbox.Seq++
		ana.Drop()

		say(bob, "red", "red 1")
		say(bob, "green", "green 1")
		bob.Must(hubtest.Frame{Type: "private-message", To: "ana", Data: hubtest.Data("private 1")})
		say(bob, "red", "red 2")
		bob.Must(hubtest.Frame{Type: "send-notification", To: "ana", Data: hubtest.Data("notification")})

		ana = hubtest.Dial(t, hub, "ana")
		if got := dataOf[welcomeData](t, ana.Welcome).Inbox; got.Epoch != inbox.Epoch || got.Seq != inbox.Seq+2 {
			t.Errorf("the welcome says that the inbox is at %v", got)
		}
		answer := resume(t, ana, resumeRequest{Rooms: at, Inbox: &inbox})
		for room, seq := range map[string]uint64{"red": 3, "green": 1, "blue": 0} {
			got := answer.Rooms[room]
			if got.Error != nil || got.Epoch != at[room].Epoch || got.Seq != seq || !got.Recovered || got.Count != 2 || !slices.Equal(ids(got.Users), []string{"ana", "bob"}) {
				t.Errorf("%s: %+v", room, got)
			}
		}
		if got := answer.Rooms["secret"]; got.Error == nil || got.Error.Code != chathub.CodeForbidden || got.Error.Message != "Members only" || got.Epoch != "" {
			t.Errorf("secret: %+v", got)
		}
		if got := answer.Rooms["line\nbreak"]; got.Error == nil || got.Error.Code != chathub.CodeBadRequest {
			t.Errorf("a bad name: %+v", got)
		}
		if got := answer.Inbox; got == nil || got.Epoch != inbox.Epoch || got.Seq != 3 || !got.Recovered {
			t.Errorf("inbox: %+v", got)
		}

		say(bob, "red", "live")
		byTopic := map[string][]string{}
		for _, f := range arrived(ana) {
			if f.Seq > 0 {
				topic := f.Room + f.To
				byTopic[topic] = append(byTopic[topic], texts([]hubtest.Frame{f})[0])
			}
		}
		for topic, want := range map[string][]string{
			"red":   {"red 1", "red 2", "live"},
			"green": {"green 1"},
			"ana":   {"private 1", "notification"},
		} {
			if !slices.Equal(byTopic[topic], want) {
				t.Errorf("%s: got %v, want %v", topic, byTopic[topic], want)
			}
		}
		if got := ids(roomUsers(t, hub, "secret")); len(got) != 0 {
			t.Errorf("users in secret: %v", got)
		}
	})
}

// Both parts of the request are optional.
func TestResumeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hubtest.Dial(t, quietHub(t), "ana")
		for _, f := range []hubtest.Frame{{Type: "resume"}, {Type: "resume", Data: hubtest.Data(resumeRequest{})}} {
			if got := dataOf[resumeAnswer](t, c.Must(f)); len(got.Rooms) != 0 || got.Inbox != nil {
				t.Errorf("answer is %+v", got)
			}
		}
		// Without an id there is no answer, but the missed messages follow.
		since := fill(t, quietHub(t), "unrelated", 0)
		c.SendText(fmt.Sprintf(`{"type":"resume","data":{"rooms":{"lobby":{"epoch":%q,"seq":0}}}}`, since.Epoch))
		expectNothing(t, c)
		say(c, "lobby", "joined")
	})
}

// If the log no longer has everything after a position, the client is told, and
// gets the newest messages.
func TestRecovered(t *testing.T) {
	big := strings.Repeat("x", 1000)
	for _, tc := range []struct {
		name      string
		broker    *chathub.MemoryBroker
		cfg       chathub.Config
		messages  int
		since     func(head chathub.Position) chathub.Position
		recovered bool
		first     int // number of the first message that follows; 0: none
	}{
		{"nothing missed", nil, chathub.Config{}, 10, back(0), true, 0},
		{"one missed", nil, chathub.Config{}, 10, back(1), true, 10},
		{"all missed", nil, chathub.Config{}, 10, back(10), true, 1},
		{"up to where the log begins", &chathub.MemoryBroker{MaxMessages: 5}, chathub.Config{}, 12, back(5), true, 8},
		{"older than the log", &chathub.MemoryBroker{MaxMessages: 5}, chathub.Config{}, 12, back(6), false, 8},
		{"much older than the log", &chathub.MemoryBroker{MaxMessages: 5}, chathub.Config{}, 12, back(12), false, 8},
		{"an empty log", &chathub.MemoryBroker{MaxAge: time.Millisecond}, chathub.Config{}, 12, back(3), false, 0},
		{"up to the limit", nil, chathub.Config{ReplayLimit: 4}, 12, back(4), true, 9},
		{"over the limit", nil, chathub.Config{ReplayLimit: 4}, 12, back(5), false, 9},
		{"replay off", nil, chathub.Config{ReplayLimit: -1}, 12, back(5), false, 0},
		{"replay off, nothing missed", nil, chathub.Config{ReplayLimit: -1}, 12, back(0), true, 0},
		{"another epoch", nil, chathub.Config{}, 3, func(p chathub.Position) chathub.Position {
			return chathub.Position{Epoch: "other", Seq: p.Seq}
		}, false, 1},
		{"no epoch", nil, chathub.Config{}, 3, func(p chathub.Position) chathub.Position {
			return chathub.Position{Seq: p.Seq}
		}, false, 1},
		{"beyond the head", nil, chathub.Config{}, 3, func(p chathub.Position) chathub.Position {
			return chathub.Position{Epoch: p.Epoch, Seq: 1 << 60}
		}, false, 1},
	} {
		for _, how := range []string{"join-room", "resume"} {
			t.Run(tc.name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := tc.cfg
					cfg.PresenceInterval = -1
					if tc.broker != nil {
						cfg.Broker = &chathub.MemoryBroker{MaxMessages: tc.broker.MaxMessages, MaxAge: tc.broker.MaxAge}
					}
					hub := hubtest.New(t, cfg)
					keeper := members(t, hub, "lobby", "keeper")[0] // keeps the log alive
					head := fill(t, hub, "lobby", tc.messages)
					time.Sleep(time.Second)
					arrived(keeper)

					c := hubtest.Dial(t, hub, "ana")
					since := tc.since(head)
					var got resumePart
					if how == "resume" {
						got = resume(t, c, resumeRequest{Rooms: map[string]chathub.Position{"lobby": since}}).Rooms["lobby"]
					} else {
						f := hubtest.Frame{Type: "join-room", Room: "lobby", Data: hubtest.Data(map[string]any{"since": since, "history": 1})}
						got = dataOf[resumePart](t, c.Must(f))
					}
					if got.Epoch != head.Epoch || got.Seq != head.Seq || got.Recovered != tc.recovered {
						t.Errorf("answer is %+v, want recovered %t at %v", got, tc.recovered, head)
					}
					var want []string
					if tc.first > 0 {
						want = numbers(tc.first, tc.messages)
					}
					say(keeper, "lobby", big)
					if got := texts(arrived(c)); !slices.Equal(got, append(want, big)) {
						t.Errorf("got %.80v, want %v and then the live messages", got, want)
					}
				})
			})
		}
	}
}

// back returns the position n messages before the head.
func back(n uint64) func(chathub.Position) chathub.Position {
	return func(head chathub.Position) chathub.Position {
		return chathub.Position{Epoch: head.Epoch, Seq: head.Seq - n}
	}
}

// What is replayed fits into the outbox, over all rooms together.
func TestReplayInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, MaxMessageBytes: 10_000, MaxOutboxBytes: 50_000})
		bob := hubtest.Dial(t, hub, "bob")
		at := map[string]chathub.Position{}
		for _, room := range []string{"a", "b"} {
			at[room] = position(t, enter(bob, room))
			for range 4 {
				say(bob, room, strings.Repeat("x", 4000))
			}
		}
		c := hubtest.Dial(t, hub, "ana")
		got := resume(t, c, resumeRequest{Rooms: at})
		if !got.Rooms["a"].Recovered || got.Rooms["b"].Recovered {
			t.Errorf("answer is %+v", got.Rooms)
		}
		var seqs []string
		for _, f := range arrived(c) {
			seqs = append(seqs, fmt.Sprint(f.Room, f.Seq))
		}
		if want := []string{"a1", "a2", "a3", "a4", "b3", "b4"}; !slices.Equal(seqs, want) {
			t.Errorf("got %v, want %v", seqs, want)
		}
	})
}

// Busy rooms do not crowd out the inbox, for which there is no history.
func TestInboxGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, MaxMessageBytes: 10_000, MaxOutboxBytes: 50_000})
		bob := hubtest.Dial(t, hub, "bob")
		ana := hubtest.Dial(t, hub, "ana")
		last := dataOf[welcomeData](t, ana.Welcome).Inbox
		ana.Close()
		room := position(t, enter(bob, "a"))
		for range 8 {
			say(bob, "a", strings.Repeat("x", 4000))
		}
		bob.Must(hubtest.Frame{Type: "private-message", To: "ana", Data: hubtest.Data("for you")})

		ana = hubtest.Dial(t, hub, "ana")
		got := resume(t, ana, resumeRequest{Rooms: map[string]chathub.Position{"a": room}, Inbox: &last})
		if got.Rooms["a"].Recovered || !got.Inbox.Recovered {
			t.Errorf("answer is %+v", got)
		}
		frames := arrived(ana)
		if last := frames[len(frames)-1]; last.Type != "private-message" {
			t.Errorf("the last frame is %+v", last)
		}
	})
}

// The user lists of many rooms do not close a client that comes back to them.
// Lists that do not fit into the answer are replaced by counts.
func TestResumeOfManyRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rooms, users = 40, 30
		hub := hubtest.New(t, chathub.Config{MaxMessageBytes: 4 << 10, MaxOutboxBytes: 64 << 10, Rate: -1})
		at := map[string]chathub.Position{}
		for u := range users {
			c := hubtest.Dial(t, hub, fmt.Sprintf("user%d/%s", u, strings.Repeat("n", 50)))
			for r := range rooms {
				room := fmt.Sprint("room", r)
				enter(c, room)
				at[room] = chathub.Position{}
			}
		}
		time.Sleep(time.Second)
		c := hubtest.Dial(t, hub, "ana")
		listed := 0
		for room, p := range resume(t, c, resumeRequest{Rooms: at}).Rooms {
			if p.Error != nil || p.Count != users+1 || len(p.Users) != 0 && len(p.Users) != p.Count {
				t.Errorf("%s: %+v", room, p)
			}
			if p.Users != nil {
				listed++
			}
		}
		if listed == 0 || listed == rooms {
			t.Errorf("%d of %d rooms have a list", listed, rooms)
		}
		c.Must(hubtest.Frame{Type: "ping"})
	})
}

// One envelope does not make the broker work for thousands of rooms.
func TestResumeOfTooManyRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		hub := hubtest.New(t, chathub.Config{Broker: broker, MaxRooms: 5})
		at := map[string]chathub.Position{}
		for i := range 1000 {
			at[fmt.Sprint("room", i)] = chathub.Position{}
		}
		c := hubtest.Dial(t, hub, "ana")
		refused := 0
		for room, p := range resume(t, c, resumeRequest{Rooms: at}).Rooms {
			if p.Error != nil {
				refused++
				if p.Error.Code != chathub.CodeLimitExceeded {
					t.Errorf("%s: %+v", room, p.Error)
				}
			}
		}
		broker.mu.Lock()
		defer broker.mu.Unlock()
		if refused != 995 || broker.subscribes > 10 {
			t.Errorf("%d rooms were refused, and the broker was asked for %d topics", refused, broker.subscribes)
		}
	})
}

// Private messages and notifications wait for a user who is away, the user's
// own messages among them.
func TestInboxWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := quietHub(t)
		bob := hubtest.Dial(t, hub, "bob")
		last := dataOf[welcomeData](t, bob.Welcome).Inbox
		bob.Must(hubtest.Frame{Type: "private-message", ID: "mine", To: "ana", Data: hubtest.Data("from bob")})
		bob.Close()
		time.Sleep(time.Hour)

		ana := hubtest.Dial(t, hub, "ana")
		for i := range 3 {
			ana.Must(hubtest.Frame{Type: "private-message", To: "bob", Data: hubtest.Data(fmt.Sprint("private ", i))})
		}
		ana.Must(hubtest.Frame{Type: "send-notification", To: "bob", Data: hubtest.Data("notification")})

		bob = hubtest.Dial(t, hub, "bob")
		if got := dataOf[welcomeData](t, bob.Welcome).Inbox; got.Epoch != last.Epoch || got.Seq != 5 {
			t.Errorf("the inbox is at %v", got)
		}
		expectNothing(t, bob)
		if got := resume(t, bob, resumeRequest{Inbox: &last}).Inbox; !got.Recovered || got.Seq != 5 {
			t.Errorf("answer is %+v", got)
		}
		got := arrived(bob)
		if want := []string{"from bob", "private 0", "private 1", "private 2", "notification"}; !slices.Equal(texts(got), want) {
			t.Errorf("got %v, want %v", texts(got), want)
		}
		if f := got[0]; f.ID != "mine" || f.From.ID != "bob" || f.To != "ana" || f.Seq != 1 {
			t.Errorf("the sender's own message is %+v", f)
		}

		// A user who was never there has no position, and gets them too.
		ana.Must(hubtest.Frame{Type: "private-message", To: "carol", Data: hubtest.Data("welcome")})
		carol := hubtest.Dial(t, hub, "carol")
		if got := resume(t, carol, resumeRequest{Inbox: &chathub.Position{}}).Inbox; got.Recovered || got.Seq != 1 {
			t.Errorf("answer is %+v", got)
		}
		if got := texts(arrived(carol)); !slices.Equal(got, []string{"welcome"}) {
			t.Errorf("got %v", got)
		}
	})
}

// A position names no user. So nobody gets the inbox or a room of others,
// whatever the position.
func TestForgedPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{
			PresenceInterval: -1,
			Authorize: func(_ context.Context, c *chathub.Client, a chathub.Action) error {
				if a.Room == "secret" && c.User().ID == "eve" {
					return &chathub.Error{Code: chathub.CodeForbidden}
				}
				return nil
			},
		})
		ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		secret := position(t, enter(ana, "secret"))
		say(ana, "secret", "hush")
		bob.Must(hubtest.Frame{Type: "private-message", To: "ana", Data: hubtest.Data("hush")})
		inbox := dataOf[welcomeData](t, ana.Welcome).Inbox

		eve := hubtest.Dial(t, hub, "eve")
		for _, data := range []string{
			fmt.Sprintf(`{"inbox":{"epoch":%q,"seq":0}}`, inbox.Epoch),
			fmt.Sprintf(`{"inbox":{"epoch":%q,"seq":0,"user":"ana"},"user":"ana","to":"ana"}`, inbox.Epoch),
			fmt.Sprintf(`{"rooms":{"secret":{"epoch":%q,"seq":0}}}`, secret.Epoch),
			fmt.Sprintf(`{"rooms":{"ana":{"epoch":%q,"seq":0}}}`, inbox.Epoch),
		} {
			eve.SendText(`{"type":"resume","id":"r","to":"ana","data":` + data + `}`)
			got := arrived(eve)
			if len(got) != 1 || got[0].Type != "ack" || strings.Contains(string(got[0].Data), `"recovered":true`) {
				t.Errorf("%s was answered with %+v", data, got)
			}
		}
		for _, data := range []string{
			`{"inbox":{"epoch":"x","seq":-1}}`, `{"inbox":{"epoch":"x","seq":1.5}}`, `{"inbox":{"epoch":"x","seq":1e30}}`,
			`{"inbox":{"epoch":1}}`, `{"rooms":{"a":null,"b":7}}`, `[]`, `"x"`,
		} {
			expectRefused(t, eve, hubtest.Frame{Type: "resume", Data: []byte(data)}, chathub.CodeBadRequest)
		}
	})
}

// One room too many, or one that cannot be read, does not fail the others.
func TestResumeWithinLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		hub := hubtest.New(t, chathub.Config{Broker: broker, MaxRooms: 3, Logger: slog.New(slog.DiscardHandler)})
		at := map[string]chathub.Position{}
		for _, room := range []string{"a", "b", "c", "d"} {
			fill(t, hub, room, 1)
			at[room] = chathub.Position{}
		}
		set(broker, broker.read, chathub.Topic{Room: "b"}, errors.New("hush"))
		c := hubtest.Dial(t, hub, "ana")
		got := resume(t, c, resumeRequest{Rooms: at})
		for room, code := range map[string]chathub.Code{"a": "", "b": chathub.CodeInternal, "c": "", "d": chathub.CodeLimitExceeded} {
			if p := got.Rooms[room]; code == "" && (p.Error != nil || p.Seq != 1) || code != "" && (p.Error == nil || p.Error.Code != code) {
				t.Errorf("%s: %+v", room, p)
			}
		}
		if got := ofType(arrived(c), "room-message"); len(got) != 2 || got[0].Room != "a" || got[1].Room != "c" {
			t.Errorf("got %+v", got)
		}
		if len(roomUsers(t, hub, "b")) != 0 || len(roomUsers(t, hub, "a")) != 1 {
			t.Error("a room that could not be rejoined has a member")
		}
		expectRefused(t, c, hubtest.Frame{Type: "join-room", Room: "b", Data: []byte(`{"history":1}`)}, chathub.CodeInternal)
		expectRefused(t, c, hubtest.Frame{Type: "room-message", Room: "b"}, chathub.CodeNotInRoom)
	})
}

// A client that comes back before the old connection has left everything is
// told the right positions of the inbox and of rooms.
func TestReconnectBeforeTheOldHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		hub := hubtest.New(t, chathub.Config{
			Broker:        broker,
			PresenceGrace: -1,
			OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
				if c.User().Name == "again" {
					return c.Join(ctx, "lobby", "slow")
				}
				return nil
			},
		})
		open := make(chan struct{})
		set(broker, broker.subscribe, chathub.Topic{Room: "slow"}, open)
		c := members(t, hub, "lobby", "ana")[0]
		inbox := dataOf[welcomeData](t, c.Welcome).Inbox
		lobby := position(t, enter(c, "lobby"))
		bob := hubtest.Dial(t, hub, "bob")
		for range 3 {
			say(c, "lobby", "hi")
			bob.Must(hubtest.Frame{Type: "private-message", To: "ana"})
		}
		synctest.Wait()

		again, err := hubtest.DialHeader(t, hub, http.Header{"Authorization": {"Bearer ana/again"}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // again has the inbox and the lobby, and waits for the broker
		c.Drop()
		time.Sleep(time.Second) // now the old connection is forgotten
		close(open)
		inbox.Seq += 3
		if got := dataOf[welcomeData](t, again.Next()).Inbox; got != inbox {
			t.Errorf("the inbox is at %v, want %v", got, inbox)
		}
		if got := position(t, enter(again, "lobby")); got.Epoch != lobby.Epoch || got.Seq != 3 {
			t.Errorf("the room is at %v, want seq 3", got)
		}
	})
}
