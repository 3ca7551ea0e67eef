package chathub_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// gathered is the longest time that changes of presence take with the default
// interval.
const gathered = 250 * time.Millisecond

// changes describes the presence events among frames, such as "user-joined
// lobby [ana] 1".
func changes(t testing.TB, frames []hubtest.Frame) (all []string) {
	t.Helper()
	for _, f := range frames {
		d := dataOf[usersData](t, f)
		all = append(all, strings.Join(strings.Fields(fmt.Sprint(f.Type, " ", f.Room, " ", ids(d.Users), " ", d.Count)), " "))
	}
	return all
}

// expectChanges waits until changes are sent, and checks what a client is told.
func expectChanges(t testing.TB, c *hubtest.Client, want ...string) {
	t.Helper()
	time.Sleep(gathered)
	if got := changes(t, arrived(c)); !slices.Equal(got, want) {
		t.Errorf("the client was told %q, want %q", got, want)
	}
}

func TestOnlineUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana := hubtest.Dial(t, hub, "ana")
		expectChanges(t, ana, "online-users [ana] 1")
		bob := hubtest.Dial(t, hub, "bob/Bob")
		expectChanges(t, bob, "online-users [bob ana] 2") // by name
		expectChanges(t, ana, "user-online [bob] 2")

		// Nobody is told of a second tab, or that the first one is gone.
		tab := hubtest.Dial(t, hub, "bob/Bob")
		expectChanges(t, tab, "online-users [bob ana] 2")
		bob.Drop()
		time.Sleep(time.Minute)
		expectNothing(t, ana, tab)

		// When the last one is gone, the others are told after the grace.
		tab.Drop()
		time.Sleep(4900 * time.Millisecond)
		expectNothing(t, ana)
		if got := ids(onlineUsers(t, hub)); !slices.Equal(got, []string{"bob", "ana"}) {
			t.Errorf("users within the grace: %v", got)
		}
		time.Sleep(100 * time.Millisecond)
		expectChanges(t, ana, "user-offline [bob] 1")

		// If a client asks for the list again, it comes before the ack.
		ana.Send(hubtest.Frame{Type: "online-users", ID: "o"})
		got := arrived(ana)
		if len(got) != 2 || got[1].Type != "ack" || got[1].Data != nil || changes(t, got[:1])[0] != "online-users [ana] 1" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestRoomPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, bob, tab := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob"), hubtest.Dial(t, hub, "bob")
		outside := hubtest.Dial(t, hub, "outside")
		enter(ana, "lobby")
		time.Sleep(gathered)
		for _, c := range []*hubtest.Client{ana, bob, tab, outside} {
			arrived(c)
		}

		enter(bob, "lobby")
		expectChanges(t, ana, "user-joined lobby [bob] 2")
		enter(tab, "lobby")
		bob.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		time.Sleep(time.Minute)
		expectNothing(t, ana, bob, tab)
		tab.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		expectChanges(t, ana, "user-left lobby [bob] 1") // at once

		// Clients are not told of their own arrival, nor of rooms that they are
		// not in.
		enter(bob, "lobby")
		time.Sleep(gathered)
		expectNothing(t, bob, tab, outside)
		expectChanges(t, ana, "user-joined lobby [bob] 2")

		// A lost connection has a grace, in which the user comes back.
		bob.Drop()
		time.Sleep(2 * time.Second)
		bob = hubtest.Dial(t, hub, "bob")
		if got := dataOf[joinData](t, enter(bob, "lobby")); got.Count != 2 || !slices.Equal(ids(got.Users), []string{"ana", "bob"}) {
			t.Errorf("after the reconnect: %+v", got)
		}
		time.Sleep(time.Minute)
		expectNothing(t, ana, outside)

		// The user comes back to the hub but not to the room, and so leaves it
		// when the grace ends.
		bob.Drop()
		hubtest.Dial(t, hub, "bob")
		time.Sleep(5 * time.Second)
		expectChanges(t, ana, "user-left lobby [bob] 1")
		expectNothing(t, outside)

		// A user who leaves the hub leaves its rooms.
		enter(tab, "lobby")
		arrived(tab)
		ana.Drop()
		time.Sleep(5 * time.Second)
		time.Sleep(gathered)
		got := changes(t, arrived(tab))
		slices.Sort(got)
		if !slices.Equal(got, []string{"user-left lobby [ana] 1", "user-offline [ana] 2"}) {
			t.Errorf("the client was told %q", got)
		}
	})
}

// A storm of arrivals costs each client a few envelopes.
func TestPresenceGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const storm = 100
		hub := hubtest.New(t, chathub.Config{})
		clients := []*hubtest.Client{hubtest.Dial(t, hub, "first")}
		enter(clients[0], "lobby")
		for i := range storm {
			clients = append(clients, hubtest.Dial(t, hub, fmt.Sprint("user", i)))
		}
		for _, c := range clients[1:] {
			c.Send(hubtest.Frame{Type: "join-room", Room: "lobby"})
		}
		time.Sleep(gathered)
		synctest.Wait()
		for i, c := range clients {
			online, joined := 0, 0
			for _, f := range c.Pending() {
				switch f.Type {
				case "user-online":
					online++
				case "user-joined":
					joined++
				}
			}
			if online > 3 || joined > 3 {
				t.Errorf("client %d got %d user-online and %d user-joined for %d arrivals", i, online, joined, storm)
			}
		}
	})
}

func TestPresenceCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceListLimit: 2, PresenceGrace: -1})
		const slow = 10 * gathered // counts are batched for ten times as long
		ana := members(t, hub, "lobby", "ana")[0]
		bob := members(t, hub, "lobby", "bob")[0]
		time.Sleep(slow)
		arrived(ana)
		arrived(bob)

		carol := hubtest.Dial(t, hub, "carol")
		time.Sleep(slow)
		expectChanges(t, ana, "user-online [] 3")
		expectChanges(t, carol, "online-users [] 3")
		if ack := enter(carol, "lobby"); strings.Contains(string(ack.Data), "users") || dataOf[joinData](t, ack).Count != 3 {
			t.Errorf("answer is %s", ack.Data)
		}
		time.Sleep(slow)
		got := arrived(bob)
		if last := got[len(got)-1]; strings.Contains(string(last.Data), "users") || changes(t, got)[len(got)-1] != "user-joined lobby [] 3" {
			t.Errorf("got %s %s", last.Type, last.Data)
		}
		if got := ids(roomUsers(t, hub, "lobby")); len(got) != 3 {
			t.Errorf("the application sees %v", got)
		}

		// Counts are batched for longer, because there are many clients to send
		// them to.
		arrived(ana)
		for i := range 8 {
			hubtest.Dial(t, hub, fmt.Sprint("user", i)).Drop()
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(slow)
		if got := changes(t, arrived(ana)); len(got) == 0 || len(got) > 4 {
			t.Errorf("the client was told %q", got)
		}

		// Back at the limit, names are sent again.
		bob.Drop()
		time.Sleep(slow)
		told := changes(t, arrived(ana))
		slices.Sort(told)
		if !slices.Equal(told, []string{"user-left lobby [bob] 2", "user-offline [bob] 2"}) {
			t.Errorf("the client was told %q", told)
		}
	})
}

// The more clients get a count, the fewer counts each of them gets.
func TestPresenceCountsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: time.Millisecond, PresenceListLimit: 2, PresenceGrace: -1})
		const all = 200 // 5,000 counts a second are one for each client in 40 ms
		clients := make([]*hubtest.Client, all)
		for i := range clients {
			clients[i] = hubtest.Dial(t, hub, fmt.Sprint("user", i))
		}
		time.Sleep(time.Second)
		for _, c := range clients {
			arrived(c)
		}
		for range 400 {
			hubtest.Dial(t, hub, "passer-by").Drop()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		for i, c := range clients {
			if n := len(arrived(c)); n < 5 || n > 12 {
				t.Fatalf("client %d got %d counts within 400 ms", i, n)
			}
		}
	})
}

// If many clients get a count, they get it one after the other, so that other
// frames do not wait for all of them. The last ones get the right count, too.
func TestPresenceCountsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceListLimit: 2, PresenceGrace: -1})
		const all = 300
		clients := make([]*hubtest.Client, all)
		for i := range clients {
			clients[i] = hubtest.Dial(t, hub, fmt.Sprint("user", i))
		}
		heard := func() (n int) {
			synctest.Wait()
			for _, c := range clients {
				n += len(c.Pending())
			}
			return n
		}
		time.Sleep(5 * time.Second)
		heard()

		late := hubtest.Dial(t, hub, "late")
		total := 0
		for range 40 {
			time.Sleep(100 * time.Millisecond)
			n := heard()
			if total += n; n > all/5 {
				t.Errorf("%d clients were told within 100 ms", n)
			}
		}
		if total != all {
			t.Errorf("%d clients were told, want %d", total, all)
		}
		expectChanges(t, late, "online-users [] 301")

		// Meanwhile some clients go, and others come.
		hubtest.Dial(t, hub, "later")
		time.Sleep(1500 * time.Millisecond)
		if n := heard(); n == 0 || n == all {
			t.Errorf("%d clients were told within 1.5 s", n)
		}
		for i, c := range clients[:100] {
			c.Drop()
			clients[i] = hubtest.Dial(t, hub, fmt.Sprint("new", i))
			if i%2 == 0 {
				clients[i].Drop()
				clients[i] = hubtest.Dial(t, hub, fmt.Sprint("newer", i))
			}
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for i, c := range clients {
			got := changes(t, c.Pending())
			if last := got[len(got)-1]; !strings.HasSuffix(last, " [] 302") {
				t.Fatalf("client %d was told last %q", i, last)
			}
		}
	})
}

// With a negative interval, clients hear nothing of presence, and the
// application can still ask.
func TestPresenceOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, PresenceGrace: time.Second})
		ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		ack := enter(ana, "lobby")
		if s := string(ack.Data); strings.Contains(s, "users") || strings.Contains(s, "count") {
			t.Errorf("answer is %s", s)
		}
		enter(bob, "lobby")
		if got := ids(roomUsers(t, hub, "lobby")); !slices.Equal(got, []string{"ana", "bob"}) {
			t.Errorf("the application sees %v", got)
		}
		expectRefused(t, ana, hubtest.Frame{Type: "online-users"}, chathub.CodeUnknownType)
		resumed := ana.Must(hubtest.Frame{Type: "resume", Data: raw(`{"rooms":{"lobby":{"epoch":"","seq":0}}}`)})
		if s := string(resumed.Data); strings.Contains(s, "users") || strings.Contains(s, "count") {
			t.Errorf("answer to resume is %s", s)
		}
		bob.Drop()
		synctest.Wait()
		for _, want := range [][]string{{"ana", "bob"}, {"ana"}} { // within the grace, and later
			online, room := ids(onlineUsers(t, hub)), ids(roomUsers(t, hub, "lobby"))
			if !slices.Equal(online, want) || !slices.Equal(room, want) {
				t.Errorf("online: %v, in the room: %v, want %v", online, room, want)
			}
			time.Sleep(time.Minute)
		}
		expectNothing(t, ana)
	})
}

// The same holds for users of other nodes.
func TestPresenceOffElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hubs := newUnsteady(1).hubs(t, 3, chathub.Config{PresenceInterval: -1})
		ana, bob := hubtest.Dial(t, hubs[0], "ana"), hubtest.Dial(t, hubs[1], "bob")
		enter(ana, "lobby")
		enter(bob, "lobby")
		time.Sleep(10 * time.Second)
		for i, hub := range hubs {
			online, room := ids(onlineUsers(t, hub)), ids(roomUsers(t, hub, "lobby"))
			if want := []string{"ana", "bob"}; !slices.Equal(online, want) || !slices.Equal(room, want) {
				t.Errorf("hub %d: online: %v, in the room: %v, want %v", i, online, room, want)
			}
		}
		expectNothing(t, ana, bob)
	})
}

// presenceTab is a connection, with what its client makes of the events that it
// gets.
type presenceTab struct {
	*hubtest.Client
	user   string
	online *presenceList
	rooms  map[string]*presenceList
	in     map[string]bool // rooms that it has asked to join
}

// presenceList is a list that began with a snapshot and follows the changes.
type presenceList struct {
	users map[string]bool
	count int // the last one that was sent
}

func newPresenceList(d usersData) *presenceList {
	l := &presenceList{users: map[string]bool{}, count: d.Count}
	for _, u := range d.Users {
		l.users[u.ID] = true
	}
	return l
}

// told applies everything that has come.
func (p *presenceTab) told(t *testing.T) {
	for _, f := range arrived(p.Client) {
		switch verb, room, _ := strings.Cut(f.ID, " "); {
		case f.Type == "online-users":
			p.online = newPresenceList(dataOf[usersData](t, f))
		case f.Type == "ack" && verb == "join":
			d := dataOf[joinData](t, f)
			p.rooms[room] = newPresenceList(usersData{d.Users, d.Count})
		case f.Type == "ack" && verb == "leave":
			delete(p.rooms, room)
		case f.Type == "ack":
		default:
			p.changed(t, f)
		}
	}
}

func (p *presenceTab) changed(t *testing.T, f hubtest.Frame) {
	list := p.online
	if f.Room != "" {
		list = p.rooms[f.Room]
	}
	if list == nil {
		t.Errorf("%s was told of %s %q without having the list", p.user, f.Type, f.Room)
		return
	}
	d := dataOf[usersData](t, f)
	list.count = d.Count
	for _, u := range d.Users {
		if u.ID == p.user {
			t.Errorf("%s was told %s of itself", p.user, f.Type)
		}
		if f.Type == "user-joined" || f.Type == "user-online" {
			list.users[u.ID] = true
		} else {
			delete(list.users, u.ID)
		}
	}
}

// Users with several tabs come, go, join, leave and lose connections at random.
// In each quiet moment, the snapshots and changes that a client got add up to
// the truth.
func TestPresenceNeverContradicts(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  chathub.Config
	}{
		{"grace", chathub.Config{}},
		{"no grace", chathub.Config{PresenceGrace: -1}},
		{"long interval", chathub.Config{PresenceInterval: time.Second, PresenceGrace: 500 * time.Millisecond}},
	} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/seed %d", tc.name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := tc.cfg
					cfg.Rate, cfg.UserRate = -1, -1
					presenceAtRandom(t, []*chathub.Hub{hubtest.New(t, cfg)}, rand.New(rand.NewPCG(seed, 0)), func(bool) {})
				})
			})
		}
	}
}

// presenceAtRandom makes things happen at random on some hubs. It calls quiet
// when a quiet time begins, and when it ends.
func presenceAtRandom(t *testing.T, hubs []*chathub.Hub, rnd *rand.Rand, quiet func(bool)) {
	rooms := []string{"red", "blue"}
	tabs := make([]*presenceTab, 12)
	pauses := []time.Duration{0, 0, 0, time.Millisecond, 30 * time.Millisecond, 120 * time.Millisecond, time.Second}
	step := func() {
		i, room := rnd.IntN(len(tabs)), rooms[rnd.IntN(len(rooms))]
		tab := tabs[i]
		if tab == nil {
			user := fmt.Sprint("user", i%5)
			tabs[i] = &presenceTab{hubtest.Dial(t, hubs[rnd.IntN(len(hubs))], user), user, nil, map[string]*presenceList{}, map[string]bool{}}
			return
		}
		switch rnd.IntN(10) {
		case 0:
			tab.Drop()
			tabs[i] = nil
		case 1:
			tab.Close()
			tabs[i] = nil
		case 2:
			tab.Send(hubtest.Frame{Type: "online-users"})
		case 3, 4, 5:
			tab.Send(hubtest.Frame{Type: "leave-room", ID: "leave " + room, Room: room})
			delete(tab.in, room)
		default:
			tab.Send(hubtest.Frame{Type: "join-room", ID: "join " + room, Room: room})
			tab.in[room] = true
		}
	}
	for range 6 {
		for range 60 {
			step()
			time.Sleep(pauses[rnd.IntN(len(pauses))])
		}
		quiet(true)
		time.Sleep(10 * time.Second)
		online, in := map[string]bool{}, map[string]map[string]bool{"red": {}, "blue": {}}
		for _, tab := range tabs {
			if tab == nil {
				continue
			}
			tab.told(t)
			online[tab.user] = true
			for room := range tab.in {
				in[room][tab.user] = true
			}
		}
		check := func(whose string, got, want map[string]bool) {
			if !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", whose, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
		}
		for i, hub := range hubs {
			check(fmt.Sprint("hub ", i), newPresenceList(usersData{Users: onlineUsers(t, hub)}).users, online)
			for room := range in {
				check(fmt.Sprint("hub ", i, " ", room), newPresenceList(usersData{Users: roomUsers(t, hub, room)}).users, in[room])
			}
		}
		for i, tab := range tabs {
			if tab == nil {
				continue
			}
			check(fmt.Sprint("tab ", i), tab.online.users, online)
			if len(tab.rooms) != len(tab.in) {
				t.Errorf("tab %d is in %v, asked for %v", i, tab.rooms, tab.in)
			}
			for room, list := range tab.rooms {
				check(fmt.Sprint("tab ", i, " ", room), list.users, in[room])
				if list.count != len(in[room]) {
					t.Errorf("tab %d: %d in %s, want %d", i, list.count, room, len(in[room]))
				}
			}
			if tab.online.count != len(online) {
				t.Errorf("tab %d: %d online, want %d", i, tab.online.count, len(online))
			}
		}
		if t.Failed() {
			return
		}
		quiet(false)
	}
}
