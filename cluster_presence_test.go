package chathub_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// relayed is how long changes take over two nodes, each of which batches them.
const relayed = 2 * gathered

// expectSoon lets changes reach the other nodes, and checks what a client is
// told, in any order.
func expectSoon(t testing.TB, c *hubtest.Client, want ...string) {
	t.Helper()
	time.Sleep(relayed)
	frames := arrived(c)
	for i, f := range frames {
		d := dataOf[usersData](t, f)
		slices.SortFunc(d.Users, func(a, b chathub.User) int { return strings.Compare(a.ID, b.ID) })
		frames[i].Data = hubtest.Data(map[string]any{"users": d.Users, "count": d.Count})
	}
	got := changes(t, frames)
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("the client was told %q, want %q", got, want)
	}
}

// expectUsers checks which users each hub reports as online and in the lobby.
func expectUsers(t *testing.T, hubs []*chathub.Hub, online, lobby []string) {
	t.Helper()
	for i, hub := range hubs {
		if got := ids(onlineUsers(t, hub)); !slices.Equal(got, online) {
			t.Errorf("hub %d: online are %q, want %q", i, got, online)
		}
		if got := ids(roomUsers(t, hub, "lobby")); !slices.Equal(got, lobby) {
			t.Errorf("hub %d: in the lobby are %q, want %q", i, got, lobby)
		}
	}
}

func TestClusterPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newUnsteady(1)
		hubs := broker.hubs(t, 3, chathub.Config{})
		ana := hubtest.Dial(t, hubs[0], "ana")
		enter(ana, "lobby")
		time.Sleep(relayed)
		arrived(ana)

		// Users on other nodes are in the lists from the beginning.
		bob := hubtest.Dial(t, hubs[1], "bob")
		if got := changes(t, arrived(bob)); !slices.Equal(got, []string{"online-users [ana bob] 2"}) {
			t.Errorf("the client was told %q", got)
		}
		if got := dataOf[joinData](t, enter(bob, "lobby")); got.Count != 2 || !slices.Equal(ids(got.Users), []string{"ana", "bob"}) {
			t.Errorf("the lobby has %+v", got)
		}
		expectSoon(t, ana, "user-online [bob] 2", "user-joined lobby [bob] 2")
		expectNothing(t, bob)
		// The third hub has to ask.
		expectUsers(t, hubs, []string{"ana", "bob"}, []string{"ana", "bob"})

		// Nobody is told of a second tab on another node, or that the first one
		// is gone.
		tab := hubtest.Dial(t, hubs[2], "bob")
		enter(tab, "lobby")
		time.Sleep(relayed)
		arrived(tab)
		bob.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		bob.Drop()
		time.Sleep(time.Minute)
		expectNothing(t, ana, tab)

		tab.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		expectSoon(t, ana, "user-left lobby [bob] 1") // at once
		tab.Drop()
		time.Sleep(4 * time.Second)
		expectNothing(t, ana)
		expectUsers(t, hubs, []string{"ana", "bob"}, []string{"ana"})
		time.Sleep(time.Second)
		expectSoon(t, ana, "user-offline [bob] 1")

		// The user comes back within the grace, on yet another node.
		bob = hubtest.Dial(t, hubs[1], "bob")
		enter(bob, "lobby")
		time.Sleep(relayed)
		arrived(ana)
		bob.Drop()
		time.Sleep(4 * time.Second)
		bob = hubtest.Dial(t, hubs[2], "bob")
		enter(bob, "lobby")
		time.Sleep(time.Minute)
		expectNothing(t, ana)

		// A node that joins gets the whole picture.
		hubs = append(hubs, broker.hubs(t, 1, chathub.Config{})...)
		synctest.Wait()
		cid := hubtest.Dial(t, hubs[3], "cid")
		expectSoon(t, cid, "online-users [ana bob cid] 3")
		expectUsers(t, hubs, []string{"ana", "bob", "cid"}, []string{"ana", "bob"})

		// A node that closes at once takes its users with it, after their
		// grace.
		if err := hubs[2].Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(4 * time.Second)
		expectSoon(t, ana, "user-online [cid] 3")
		time.Sleep(time.Second)
		expectSoon(t, ana, "user-left lobby [bob] 1", "user-offline [bob] 2")
	})
}

// A node that dies without a goodbye has no users one lease later.
func TestClusterKilled(t *testing.T) {
	for name, cfg := range map[string]chathub.Config{
		"default":    {},
		"no grace":   {PresenceGrace: -1},
		"long lease": {NodeLease: time.Minute, PresenceGrace: time.Second},
		"long grace": {PresenceGrace: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := newUnsteady(1)
				hubs := broker.hubs(t, 3, cfg)
				c := []*hubtest.Client{hubtest.Dial(t, hubs[0], "ana"), hubtest.Dial(t, hubs[1], "bob"), hubtest.Dial(t, hubs[2], "cid")}
				for _, c := range c {
					enter(c, "lobby")
				}
				time.Sleep(time.Minute)
				expectUsers(t, hubs, []string{"ana", "bob", "cid"}, []string{"ana", "bob", "cid"})
				arrived(c[0])
				arrived(c[1])

				broker.links[2].kill()
				wait := max(5*time.Second, cfg.NodeLease, cfg.PresenceGrace)
				time.Sleep(wait - 3*time.Second)
				expectNothing(t, c[:2]...)
				time.Sleep(3 * time.Second)
				expectSoon(t, c[0], "user-left lobby [cid] 2", "user-offline [cid] 2")
				expectSoon(t, c[1], "user-left lobby [cid] 2", "user-offline [cid] 2")
				expectUsers(t, hubs[:2], []string{"ana", "bob"}, []string{"ana", "bob"})
			})
		})
	}
}

// A node that was away for too long comes back, and so do its users: all of
// them, everywhere.
func TestClusterPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newUnsteady(1)
		hubs := broker.hubs(t, 3, chathub.Config{})
		ana, bob, cid := hubtest.Dial(t, hubs[0], "ana"), hubtest.Dial(t, hubs[1], "bob"), hubtest.Dial(t, hubs[2], "cid")
		for _, c := range []*hubtest.Client{ana, bob, cid} {
			enter(c, "lobby")
		}
		time.Sleep(relayed)
		arrived(ana)
		arrived(cid)
		broker.links[2].pause()
		time.Sleep(time.Minute)
		expectSoon(t, ana, "user-left lobby [cid] 2", "user-offline [cid] 2")
		expectUsers(t, hubs[:2], []string{"ana", "bob"}, []string{"ana", "bob"})
		expectUsers(t, hubs[2:], []string{"cid"}, []string{"cid"})
		arrived(cid)

		// Meanwhile there are changes on both sides.
		bob.Drop()
		dan := hubtest.Dial(t, hubs[0], "dan")
		enter(dan, "lobby")
		hubtest.Dial(t, hubs[2], "eve")
		time.Sleep(time.Minute)
		arrived(ana)
		arrived(cid)
		arrived(dan)
		broker.links[2].resume()
		time.Sleep(2 * time.Second)
		expectUsers(t, hubs, []string{"ana", "cid", "dan", "eve"}, []string{"ana", "cid", "dan"})
		expectSoon(t, ana, "user-joined lobby [cid] 3", "user-online [cid eve] 4")
		expectSoon(t, cid, "user-joined lobby [ana dan] 3", "user-online [ana dan] 4")
		expectSoon(t, dan, "user-joined lobby [cid] 3", "user-online [cid eve] 4")
		time.Sleep(time.Minute)
		expectNothing(t, ana, cid, dan)
	})
}

// While one node after the other is replaced and its clients reconnect to
// others, nobody is told that anyone left. A client that reconnects finds all
// others there. A user who was typing is reported to have stopped.
func TestClusterRollingRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newUnsteady(1)
		cfg := chathub.Config{Broker: broker, DrainWindow: -1}
		hubs := broker.hubs(t, 2, cfg)
		witness := hubtest.Dial(t, hubtest.New(t, cfg), "witness")
		enter(witness, "lobby")
		users := []string{"ana", "bob", "cid", "dan"}
		everyone := append(slices.Clone(users), "witness")
		clients, at := make(map[string]*hubtest.Client), make(map[string]int)
		connect := func(user string, hub int) (online, lobby []string) {
			c := hubtest.Dial(t, hubs[hub], user)
			clients[user], at[user] = c, hub
			online = ids(dataOf[usersData](t, c.Next()).Users)
			return online, ids(dataOf[joinData](t, enter(c, "lobby")).Users)
		}
		for i, user := range users {
			connect(user, i%2)
		}
		time.Sleep(time.Minute)
		arrived(witness)
		for round := range 6 {
			old := round % 2
			for _, user := range users {
				typing(clients[user])
			}
			synctest.Wait()
			if err := hubs[old].Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			hubs[old] = hubtest.New(t, cfg)
			for i, user := range users {
				if at[user] == old {
					time.Sleep(300 * time.Millisecond)
					online, lobby := connect(user, i/2)
					if !slices.Equal(online, everyone) || !slices.Equal(lobby, everyone) {
						t.Errorf("round %d: %s is told that %v are online, and %v in the lobby", round, user, online, lobby)
					}
				}
			}
			time.Sleep(20 * time.Second)
			types := make(map[string]bool)
			for _, f := range arrived(witness) {
				switch f.Type {
				case "user-left", "user-offline", "user-joined", "user-online":
					t.Errorf("round %d: the witness is told %s %s", round, f.Type, f.Data)
				case "typing":
					types[f.From.ID] = true
				case "stop-typing":
					delete(types, f.From.ID)
				}
			}
			if len(types) > 0 {
				t.Errorf("round %d: %v are still typing", round, types)
			}
		}
		expectUsers(t, hubs, everyone, everyone)
	})
}

// Users with tabs on several nodes come and go at random, while messages
// between nodes are lost, doubled and late. After every quiet period, all hubs
// and all clients are right.
func TestClusterNeverContradicts(t *testing.T) {
	for _, tc := range []struct {
		name        string
		cfg         chathub.Config
		lost, twice float64
		delay       time.Duration
		stalls      bool
	}{
		{name: "calm"},
		{name: "no grace", cfg: chathub.Config{PresenceGrace: -1}},
		{name: "delayed", delay: 300 * time.Millisecond},
		{name: "doubled", twice: 0.5, delay: 50 * time.Millisecond},
		{name: "lossy", lost: 0.3},
		{name: "all of it", lost: 0.2, twice: 0.2, delay: 200 * time.Millisecond},
		{name: "all of it, no grace", cfg: chathub.Config{PresenceGrace: -1}, lost: 0.2, twice: 0.2, delay: 200 * time.Millisecond},
		{name: "pauses", stalls: true},
	} {
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("%s/seed %d", tc.name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := tc.cfg
					cfg.Rate, cfg.UserRate = -1, -1
					broker := newUnsteady(seed)
					hubs := broker.hubs(t, 3, cfg)
					rnd := rand.New(rand.NewPCG(seed, 1))
					broker.weather(tc.lost, tc.twice, tc.delay)
					paused := -1
					presenceAtRandom(t, hubs, rnd, func(quiet bool) {
						if quiet {
							if paused >= 0 {
								broker.links[paused].resume()
							}
							broker.weather(0, 0, 0)
							time.Sleep(5 * time.Second)
							return
						}
						broker.weather(tc.lost, tc.twice, tc.delay)
						if tc.stalls {
							paused = rnd.IntN(len(hubs))
							broker.links[paused].pause()
						}
					})
					if paused >= 0 {
						broker.links[paused].resume()
					}
				})
			})
		}
	}
}

// Changes that were lost while a node could not be reached, for less than its
// lease, are known soon afterwards, in any number of rooms.
func TestClusterOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rooms = 1000
		broker := newUnsteady(1)
		hubs := broker.hubs(t, 2, chathub.Config{MaxRooms: -1, Rate: -1, PresenceInterval: -1, PresenceGrace: -1})
		ana, bob := hubtest.Dial(t, hubs[0], "ana"), hubtest.Dial(t, hubs[1], "bob")
		for i := range rooms {
			enter(ana, fmt.Sprint("room", i))
			enter(bob, fmt.Sprint("room", i))
		}
		time.Sleep(10 * time.Second)
		broker.weather(1, 0, 0)
		for i := range rooms {
			ana.Send(hubtest.Frame{Type: "leave-room", Room: fmt.Sprint("room", i)})
		}
		time.Sleep(2 * time.Second)
		broker.weather(0, 0, 0)
		time.Sleep(2 * time.Second)
		wrong := 0
		for i := range rooms {
			if got := ids(roomUsers(t, hubs[1], fmt.Sprint("room", i))); !slices.Equal(got, []string{"bob"}) {
				wrong++
			}
		}
		if wrong > 0 {
			t.Errorf("%[2]d of %[1]d rooms are wrong", rooms, wrong)
		}
	})
}

// While nothing happens, the traffic between hubs does not grow with their
// users.
func TestClusterTraffic(t *testing.T) {
	for _, tc := range []struct {
		hubs, users int
		most        float64 // messages of a hub in a second
	}{{1, 0, 1.1}, {1, 20, 1.1}, {3, 2, 2.2}, {3, 60, 2.2}} {
		synctest.Test(t, func(t *testing.T) {
			broker := newUnsteady(1)
			hubs := broker.hubs(t, tc.hubs, chathub.Config{PingInterval: -1})
			for i := range tc.users {
				enter(hubtest.Dial(t, hubs[i%tc.hubs], fmt.Sprint("user", i)), fmt.Sprint("room", i/4))
			}
			time.Sleep(time.Minute)
			var sent, bytes atomic.Int64
			broker.watch(func(m chathub.Message) {
				sent.Add(1)
				bytes.Add(int64(len(m.Body)))
			})
			time.Sleep(100 * time.Second)
			per := func(n int64) float64 { return float64(n) / 100 / float64(tc.hubs) }
			if per(sent.Load()) > tc.most || per(bytes.Load()) > 500 {
				t.Errorf("%d hubs, %d users: %.1f messages and %.0f bytes a second from each hub", tc.hubs, tc.users, per(sent.Load()), per(bytes.Load()))
			}
		})
	}
}
