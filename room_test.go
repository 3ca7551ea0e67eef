package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json/jsontext"
)

// joinData is the data of the answer to join-room.
type joinData struct {
	Epoch     string         `json:"epoch"`
	Seq       uint64         `json:"seq"`
	Users     []chathub.User `json:"users"`
	Count     int            `json:"count"`
	Recovered bool           `json:"recovered"`
	Read      uint64         `json:"read"`
	Unread    int            `json:"unread"`
	State     jsontext.Value `json:"state"`
}

// usersData is the data of presence events.
type usersData struct {
	Users []chathub.User `json:"users"`
	Count int            `json:"count"`
}

// ids returns the ids of users.
func ids(users []chathub.User) []string {
	var all []string
	for _, u := range users {
		all = append(all, u.ID)
	}
	return all
}

// onlineUsers returns the online users; none if the hub is closed.
func onlineUsers(t testing.TB, hub *chathub.Hub) []chathub.User {
	t.Helper()
	users, err := hub.OnlineUsers(t.Context())
	if err != nil && !errors.Is(err, chathub.ErrClosed) {
		t.Error(err)
	}
	return users
}

// roomUsers returns the users in a room; none if the hub is closed.
func roomUsers(t testing.TB, hub *chathub.Hub, room string) []chathub.User {
	t.Helper()
	users, err := hub.RoomUsers(t.Context(), room)
	if err != nil && !errors.Is(err, chathub.ErrClosed) {
		t.Error(err)
	}
	return users
}

func TestJoinAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, bob := hubtest.Dial(t, hub, "ana/Ana"), hubtest.Dial(t, hub, "bob/Bob")
		ack := enter(ana, "lobby")
		if fields := dataOf[map[string]jsontext.Value](t, ack); len(fields) != 7 {
			t.Errorf("answer to join-room is %s", ack.Data)
		}
		first := dataOf[joinData](t, ack)
		if first.Epoch == "" || first.Seq != 0 || first.Recovered || first.Count != 1 ||
			!slices.Equal(first.Users, []chathub.User{{ID: "ana", Name: "Ana"}}) {
			t.Errorf("answer to the first join-room is %s", ack.Data)
		}
		say(ana, "lobby", "anyone?")

		ack = enter(bob, "lobby")
		second := dataOf[joinData](t, ack)
		if second.Epoch != first.Epoch || second.Seq != 1 || second.Recovered || second.Count != 2 ||
			!slices.Equal(second.Users, []chathub.User{{ID: "ana", Name: "Ana"}, {ID: "bob", Name: "Bob"}}) {
			t.Errorf("answer to the second join-room is %s", ack.Data)
		}
		f := ana.Wait("user-joined")
		if d := dataOf[usersData](t, f); f.Room != "lobby" || d.Count != 2 || !slices.Equal(ids(d.Users), []string{"bob"}) || f.From != nil || f.Seq != 0 {
			t.Errorf("user-joined is %+v", f)
		}

		left := time.Now()
		if ack := bob.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"}); ack.Data != nil {
			t.Errorf("answer to leave-room is %s", ack.Data)
		}
		f = ana.Wait("user-left")
		if d := dataOf[usersData](t, f); f.Room != "lobby" || d.Count != 1 || !slices.Equal(ids(d.Users), []string{"bob"}) {
			t.Errorf("user-left is %+v", f)
		}
		if took := time.Since(left); took > time.Second {
			t.Errorf("user-left came after %v, without a grace", took)
		}
		bob.Pending()
		say(ana, "lobby", "alone")
		expectNothing(t, bob)
		expectRefused(t, bob, hubtest.Frame{Type: "room-message", Room: "lobby"}, chathub.CodeNotInRoom)
	})
}

func TestSeveralRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
		rooms := map[string][]string{
			"ana":   {"red", "green", "blue"},
			"bob":   {"green", "blue"},
			"carol": {"Blue"}, // names are case-sensitive
		}
		clients := map[string]*hubtest.Client{}
		for id, in := range rooms {
			clients[id] = hubtest.Dial(t, hub, id)
			for _, room := range in {
				enter(clients[id], room)
			}
			clients[id].Pending()
		}
		for _, room := range rooms["ana"] {
			clients["ana"].Send(hubtest.Frame{Type: "room-message", Room: room, Data: hubtest.Data(room)})
		}
		for id, c := range clients {
			got := texts(arrived(c))
			want := slices.DeleteFunc(slices.Clone(rooms[id]), func(s string) bool { return s == "Blue" })
			if !slices.Equal(got, want) {
				t.Errorf("%s got %v, want %v", id, got, want)
			}
		}
	})
}

// Joining again gives a new answer, and changes nothing.
func TestRejoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{MaxRooms: 1})
		ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		enter(ana, "lobby")
		enter(bob, "lobby")
		ana.Wait("user-joined")
		for range 3 {
			if d := dataOf[joinData](t, enter(bob, "lobby")); d.Count != 2 || len(d.Users) != 2 {
				t.Errorf("answer is %+v", d)
			}
		}
		say(ana, "lobby", "once")
		if got := texts(ofType(arrived(bob), "room-message")); !slices.Equal(got, []string{"once"}) {
			t.Errorf("got %v", got)
		}
		bob.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		if got := ids(roomUsers(t, hub, "lobby")); !slices.Equal(got, []string{"ana"}) {
			t.Errorf("users in the room: %v", got)
		}
		ana.Wait("user-left")
		time.Sleep(time.Second)
		expectNothing(t, ana)
	})
}

func TestMaxRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hubtest.Dial(t, hubtest.New(t, chathub.Config{MaxRooms: 2}), "ana")
		enter(c, "one")
		enter(c, "two")
		expectRefused(t, c, hubtest.Frame{Type: "join-room", Room: "three"}, chathub.CodeLimitExceeded)
		expectRefused(t, c, hubtest.Frame{Type: "room-message", Room: "three"}, chathub.CodeNotInRoom)
		enter(c, "two")
		c.Must(hubtest.Frame{Type: "leave-room", Room: "one"})
		enter(c, "three")
		expectRefused(t, c, hubtest.Frame{Type: "join-room", Room: "one"}, chathub.CodeLimitExceeded)
	})
}

func TestLeaveNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		enter(ana, "lobby")
		ana.Wait("user-online")
		bob.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		bob.Must(hubtest.Frame{Type: "leave-room", Room: "nobody is here"})
		time.Sleep(time.Second)
		expectNothing(t, ana)
		if s := hub.Stats(); s.Rooms != 1 {
			t.Errorf("%d rooms", s.Rooms)
		}
	})
}

// A member that leaves gets the messages that were sent before, and none that
// were sent after.
func TestLeaveAfterMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := quietHub(t)
		c := members(t, hub, "lobby", "ana", "bob")
		const rounds = 300
		for i := range rounds {
			c[0].Send(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data(fmt.Sprint(i))})
			c[0].Send(hubtest.Frame{Type: "leave-room", ID: "left", Room: "lobby"})
			c[0].Send(hubtest.Frame{Type: "join-room", ID: "joined", Room: "lobby"})
			c[1].Send(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("bob's")})
		}
		inside, own := true, 0
		for _, f := range arrived(c[0]) {
			switch {
			case f.ID == "left":
				if inside = false; own == 0 {
					t.Fatal("left without its own message")
				}
				own = 0
			case f.ID == "joined":
				inside = true
			case !inside:
				t.Fatalf("message %s to a client that is not in the room", f.Data)
			case f.From.ID == "ana":
				own++
			}
		}
		if got := len(arrived(c[1])); got != 2*rounds {
			t.Errorf("the client that stayed got %d messages, want %d", got, 2*rounds)
		}
	})
}

// A room name has no meaning, whatever it looks like.
func TestRoomNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
		c := hubtest.Dial(t, hub, "ana")
		names := []string{
			"*", ">", "a.*", "a.b", " ", "a ", "/", `"`, `\`, "user:ana", "é", "e\u0301", "😀", "\u2028",
			strings.Repeat("r", 128), strings.Repeat("é", 64),
		}
		for _, name := range names {
			enter(c, name)
		}
		for _, name := range names {
			c.Send(hubtest.Frame{Type: "room-message", Room: name})
		}
		for i, f := range arrived(c) {
			if f.Room != names[i] {
				t.Errorf("message %d is in room %q, want %q", i, f.Room, names[i])
			}
		}
		if s := hub.Stats(); s.Rooms != len(names) {
			t.Errorf("%d rooms, want %d", s.Rooms, len(names))
		}
		for _, name := range []string{strings.Repeat("r", 129), strings.Repeat("é", 65), "a\x00", "a\nb", "\x7f", "\u0080"} {
			expectRefused(t, c, hubtest.Frame{Type: "join-room", Room: name}, chathub.CodeBadRequest)
		}
	})
}

func TestMembershipNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
		ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		tab := hubtest.Dial(t, hub, "ana") // the connection is the member, not the user
		enter(ana, "lobby")
		for _, c := range []*hubtest.Client{bob, tab} {
			for _, typ := range []string{"room-message", "typing", "stop-typing", "history"} {
				expectRefused(t, c, hubtest.Frame{Type: typ, Room: "lobby"}, chathub.CodeNotInRoom)
				expectRefused(t, c, hubtest.Frame{Type: typ}, chathub.CodeBadRequest)
			}
		}
		expectNothing(t, ana)
	})
}

// A client that may not join is told why, is no member, and nobody hears of it.
// The application is asked each time.
func TestJoinRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var asked []string
		closed := map[string]error{"vip": &chathub.Error{Code: chathub.CodeForbidden, Message: "Members only"}}
		hub := hubtest.New(t, chathub.Config{
			Authorize: func(_ context.Context, c *chathub.Client, a chathub.Action) error {
				mu.Lock()
				defer mu.Unlock()
				if a.Type != "join-room" {
					return nil
				}
				asked = append(asked, c.User().ID+" "+a.Room)
				return closed[a.Room]
			},
		})
		ana := hubtest.Dial(t, hub, "ana")
		f := expectRefused(t, ana, hubtest.Frame{Type: "join-room", Room: "vip"}, chathub.CodeForbidden)
		if !strings.Contains(string(f.Data), "Members only") {
			t.Errorf("refused with %s", f.Data)
		}
		expectRefused(t, ana, hubtest.Frame{Type: "room-message", Room: "vip"}, chathub.CodeNotInRoom)
		if users := roomUsers(t, hub, "vip"); len(users) != 0 {
			t.Errorf("users in the room: %v", users)
		}
		mu.Lock()
		closed["vip"] = nil
		mu.Unlock()
		enter(ana, "vip")
		mu.Lock()
		closed["vip"] = fmt.Errorf("hush: no rows")
		mu.Unlock()
		f = expectRefused(t, ana, hubtest.Frame{Type: "join-room", Room: "vip"}, chathub.CodeForbidden)
		if strings.Contains(string(f.Data), "hush") {
			t.Errorf("refused with %s", f.Data)
		}
		say(ana, "vip", "still a member")
		mu.Lock()
		defer mu.Unlock()
		if want := []string{"ana vip", "ana vip", "ana vip"}; !slices.Equal(asked, want) {
			t.Errorf("asked for %v, want %v", asked, want)
		}
	})
}

// A room that is given up and joined again at the same time works, however long
// the broker takes to unsubscribe it.
func TestJoinWhileTheLastLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		hub := hubtest.New(t, chathub.Config{Broker: broker, PresenceInterval: -1})
		lobby := chathub.Topic{Room: "lobby"}
		open := make(chan struct{})
		set(broker, broker.unsubscribe, lobby, open)

		ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		enter(ana, "lobby")
		ana.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		synctest.Wait() // the broker was asked to unsubscribe, and takes its time
		bob.Send(hubtest.Frame{Type: "join-room", ID: "j", Room: "lobby"})
		for range 1000 { // the join may wait for a mutex, and then synctest.Wait would not return
			runtime.Gosched()
		}
		close(open)
		if f := bob.Next(); f.Type != "ack" {
			t.Fatalf("%s %s", f.Type, f.Data)
		}
		synctest.Wait()
		bob.Send(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("hello?")})
		if got := texts(arrived(bob)); !slices.Equal(got, []string{"hello?"}) {
			t.Errorf("got %v", got)
		}
	})
}

// If the broker goes on delivering a room without members, the next client that
// joins gets what it asked for and the live messages, each once.
func TestUnsubscribeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		hub := hubtest.New(t, chathub.Config{Broker: broker, PresenceInterval: -1, Logger: slog.New(slog.DiscardHandler)})
		lobby := chathub.Topic{Room: "lobby"}
		set(broker, broker.stays, lobby, errors.New("cannot"))
		fill(t, hub, "lobby", 3)
		time.Sleep(time.Minute)
		for range 2 {
			if err := hub.To("lobby").Emit(t.Context(), "news", nil); err != nil {
				t.Fatal(err)
			}
		}
		c := hubtest.Dial(t, hub, "ana")
		ack := c.Must(hubtest.Frame{Type: "join-room", Room: "lobby", Data: []byte(`{"history":4}`)})
		if got := position(t, ack); got.Seq != 5 {
			t.Errorf("the room is at %v", got)
		}
		c.Send(hubtest.Frame{Type: "room-message", Room: "lobby"})
		c.Send(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		synctest.Wait()
		set(broker, broker.stays, lobby, nil)
		c.Send(hubtest.Frame{Type: "join-room", Room: "lobby", Data: []byte(`{"history":1}`)})
		c.Send(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		var seqs []uint64
		for _, f := range arrived(c) {
			seqs = append(seqs, f.Seq)
		}
		if want := []uint64{2, 3, 4, 5, 6, 6}; !slices.Equal(seqs, want) {
			t.Errorf("got %v, want %v", seqs, want)
		}
		time.Sleep(time.Minute)
		if s := hub.Stats(); s.Rooms != 0 {
			t.Errorf("left: %+v", s)
		}
	})
}

// Rooms and users cost nothing once nobody is there, neither here nor in the
// broker, however they went.
func TestNothingIsLeft(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			broker := newGatedBroker()
			hub := hubtest.New(t, chathub.Config{
				Broker:   broker,
				MaxRooms: 3,
				OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
					return c.Join(ctx, "hall", c.User().ID)
				},
				Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
					if a.Room == "room1" {
						return &chathub.Error{Code: chathub.CodeForbidden}
					}
					return nil
				},
			})
			for range 60 {
				user := fmt.Sprint("user", rnd.IntN(5))
				c := knock(t, hub, user)
				for range rnd.IntN(6) {
					room := fmt.Sprint("room", rnd.IntN(4))
					switch rnd.IntN(5) {
					case 0:
						c.Send(hubtest.Frame{Type: "leave-room", Room: room})
					case 1:
						c.Send(hubtest.Frame{Type: "resume", Data: []byte(`{"rooms":{"room1":{},"room2":{},"room3":{}},"inbox":{}}`)})
					case 2:
						c.Send(hubtest.Frame{Type: "typing", Room: room})
					default:
						c.Send(hubtest.Frame{Type: "join-room", Room: room, Data: []byte(`{"history":3}`)})
					}
				}
				switch rnd.IntN(4) {
				case 0:
					c.Close()
				case 1:
					synctest.Wait()
					c.Drop()
				default:
					c.Drop() // in the middle of everything
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if s := hub.Stats(); s.Rooms != 0 || s.Users != 0 || s.Connections != 0 {
				t.Errorf("left: %+v", s)
			}
			broker.mu.Lock()
			defer broker.mu.Unlock()
			maps.DeleteFunc(broker.topics, func(topic chathub.Topic, _ bool) bool { return topic.Node != "" })
			if len(broker.topics) != 0 {
				t.Errorf("still subscribed: %v", broker.topics)
			}
		})
	}
}
