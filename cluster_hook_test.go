package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// presenceCalls collects the calls of OnPresence of the hubs of a cluster.
type presenceCalls struct {
	t    *testing.T
	fail func(call int) error // what a call returns; nil: no error

	mu     sync.Mutex
	dead   map[int]bool // hubs whose calls do not count any more
	calls  int
	all    []string
	online map[string]bool // as the application believes
	at     map[int]int     // number of calls of each hub
}

func newPresenceCalls(t *testing.T) *presenceCalls {
	return &presenceCalls{t: t, dead: make(map[int]bool), online: make(map[string]bool), at: make(map[int]int)}
}

// hook returns the OnPresence of a hub.
func (h *presenceCalls) hook(hub int) func(context.Context, chathub.PresenceChange) error {
	return func(_ context.Context, p chathub.PresenceChange) error {
		h.mu.Lock()
		h.calls++
		call := h.calls
		h.mu.Unlock()
		if h.fail != nil {
			if err := h.fail(call); err != nil {
				return err
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.dead[hub] {
			return nil
		}
		who := p.User.ID
		if p.Tenant != "" {
			who = p.Tenant + "/" + who
		}
		if !p.Online {
			who = "-" + who
		}
		h.all = append(h.all, who)
		h.at[hub]++
		h.online[p.Tenant+"/"+p.User.ID] = p.Online
		return nil
	}
}

// hubs makes a cluster whose hubs call h.
func (h *presenceCalls) hubs(broker chathub.Broker, first, n int, cfg chathub.Config) (hubs []*chathub.Hub) {
	for i := range n {
		cfg.Broker, cfg.OnPresence = broker, h.hook(first+i)
		hubs = append(hubs, hubtest.New(h.t, cfg))
		time.Sleep(10 * time.Millisecond) // the first is the oldest
	}
	return hubs
}

// expect checks all calls since the last expect, in any order.
func (h *presenceCalls) expect(want ...string) {
	h.t.Helper()
	time.Sleep(10 * time.Second)
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	got := h.all
	h.all = nil
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		h.t.Errorf("the application was told %q, want %q", got, want)
	}
}

// TestOnPresence: over three nodes, a user comes once and goes once, however
// many connections there are and wherever they are.
func TestOnPresence(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newPresenceCalls(t)
			hubs := h.hubs(newUnsteady(1), 0, 3, chathub.Config{HideOnlineUsers: hidden})
			time.Sleep(5 * time.Second)
			var conns []*hubtest.Client
			for i := range 6 {
				conns = append(conns, hubtest.Dial(t, hubs[i%3], "ana"))
			}
			ben := hubtest.Dial(t, hubs[2], "ben")
			h.expect("ana", "ben")
			ben.Drop()
			h.expect("-ben")
			for _, c := range conns[1:] {
				c.Drop()
			}
			h.expect()
			conns[0].Drop()
			time.Sleep(3 * time.Second) // within the grace
			again := hubtest.Dial(t, hubs[1], "ana")
			h.expect()
			again.Close()
			h.expect("-ana")
			if len(h.at) != 1 || h.at[0] == 0 {
				t.Errorf("calls were made by hubs %v, want the first alone", h.at)
			}
		})
	}
}

// TestOnPresenceAlone: a hub without others makes the calls, also those of
// users who come right after its start.
func TestOnPresenceAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPresenceCalls(t)
		hub := h.hubs(&chathub.MemoryBroker{}, 0, 1, chathub.Config{PresenceInterval: -1})[0]
		ana := hubtest.Dial(t, hub, "ana")
		h.expect("ana")
		ana.Drop()
		h.expect("-ana")
	})
}

// TestOnPresenceKilled: if the node that makes the calls is killed, the next
// one goes on: nothing is missing, and only what was being told can come twice.
func TestOnPresenceKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newUnsteady(1)
		h := newPresenceCalls(t)
		hubs := h.hubs(broker, 0, 3, chathub.Config{})
		time.Sleep(5 * time.Second)
		hubtest.Dial(t, hubs[0], "ana")
		ben := hubtest.Dial(t, hubs[1], "ben")
		h.expect("ana", "ben")

		broker.links[0].kill()
		h.mu.Lock()
		h.dead[0] = true
		h.mu.Unlock()
		ben.Drop()                      // while nobody makes calls
		hubtest.Dial(t, hubs[2], "cem") // likewise
		time.Sleep(10 * time.Second)
		h.expect("-ana", "-ben", "cem")
		if h.at[1] != 3 {
			t.Errorf("calls were made by hubs %v, want the second", h.at)
		}
	})
}

// TestOnPresenceCutOff: a node that cannot reach the others makes no calls. To
// the others its users are gone, until it is back.
func TestOnPresenceCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newUnsteady(1)
		h := newPresenceCalls(t)
		hubs := h.hubs(broker, 0, 3, chathub.Config{})
		time.Sleep(5 * time.Second)
		hubtest.Dial(t, hubs[0], "ana")
		hubtest.Dial(t, hubs[1], "ben")
		h.expect("ana", "ben")
		broker.links[1].pause()
		time.Sleep(20 * time.Second)
		h.expect("-ben")
		broker.links[1].resume()
		h.expect("ben")
		if len(h.at) != 1 {
			t.Errorf("calls were made by hubs %v, want the first alone", h.at)
		}
	})
}

// TestOnPresenceRollingRestart: while all nodes are replaced one by one, users
// who come back in time are told neither to go nor to come.
func TestOnPresenceRollingRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newUnsteady(1)
		h := newPresenceCalls(t)
		hubs := h.hubs(broker, 0, 3, chathub.Config{})
		time.Sleep(5 * time.Second)
		conns := make(map[string]*hubtest.Client)
		var want []string
		for i := range 9 {
			user := fmt.Sprint("u", i)
			conns[user] = hubtest.Dial(t, hubs[i%3], user)
			want = append(want, user)
		}
		h.expect(want...)
		for i := range hubs {
			old := hubs[i]
			fresh := h.hubs(broker, 3+i, 1, chathub.Config{})[0]
			time.Sleep(time.Second)
			go func() { _ = old.Shutdown(context.WithoutCancel(t.Context())) }()
			time.Sleep(time.Second)
			hubs[i] = fresh
			for k := range 9 {
				if user := fmt.Sprint("u", k); k%3 == i {
					conns[user] = hubtest.Dial(t, fresh, user)
				}
			}
			h.expect()
		}
		for _, c := range conns {
			c.Drop()
		}
		for i := range want {
			want[i] = "-" + want[i]
		}
		h.expect(want...)
	})
}

// TestOnPresenceFails: a call that fails or panics is repeated, in order for
// each user, and what is over by then is left out.
func TestOnPresenceFails(t *testing.T) {
	for name, fail := range map[string]func(int) error{
		"error": func(call int) error {
			if call <= 3 {
				return errors.New("no")
			}
			return nil
		},
		"panic": func(call int) error {
			if call <= 3 {
				panic("no")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newPresenceCalls(t)
				h.fail = fail
				hub := h.hubs(newUnsteady(1), 0, 1, chathub.Config{PresenceGrace: -1})[0]
				time.Sleep(5 * time.Second)
				hubtest.Dial(t, hub, "ana")
				hubtest.Dial(t, hub, "ben")
				short := hubtest.Dial(t, hub, "cem")
				time.Sleep(time.Second)
				if n := hub.Stats().PresenceWaiting; n != 3 {
					t.Errorf("%d calls wait, want 3", n)
				}
				short.Drop()
				h.expect("ana", "ben")
				if n := hub.Stats().PresenceWaiting; n != 0 {
					t.Errorf("%d calls wait, want none", n)
				}
			})
		})
	}
}

// TestOnPresenceSlow: a receiver that hangs delays nothing but calls. What has
// changed back meanwhile is not told.
func TestOnPresenceSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPresenceCalls(t)
		free := make(chan struct{})
		h.fail = func(int) error { <-free; return nil }
		hub := h.hubs(newUnsteady(1), 0, 1, chathub.Config{PresenceGrace: -1})[0]
		time.Sleep(5 * time.Second)
		var want []string
		var conns []*hubtest.Client
		for i := range 20 {
			conns = append(conns, hubtest.Dial(t, hub, fmt.Sprintf("u%02d", i)))
		}
		time.Sleep(time.Second)
		if n := hub.Stats().PresenceWaiting; n != 12 {
			t.Errorf("%d calls wait, want 12", n)
		}
		for _, c := range conns[10:] {
			c.Drop()
		}
		conns[0].Must(hubtest.Frame{Type: "message", Data: raw("1")})
		time.Sleep(time.Second)
		close(free)
		for i := range 10 {
			want = append(want, fmt.Sprintf("u%02d", i))
		}
		h.expect(want...)
	})
}

// TestOnPresenceOfTenants: users of tenants are told of as well, by a node that
// may have no client of the tenant.
func TestOnPresenceOfTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newUnsteady(1)
		h := newPresenceCalls(t)
		hubs := h.hubs(broker, 0, 3, chathub.Config{})
		time.Sleep(5 * time.Second)
		ana := dialTenant(t, hubs[1], "acme", "ana")
		dialTenant(t, hubs[2], "acme", "ana")
		other := dialTenant(t, hubs[2], "bex", "ana")
		h.expect("acme/ana", "bex/ana")
		ana.Drop()
		other.Drop()
		h.expect("-bex/ana")

		broker.weather(1, 0, 0) // the first notes of a tenant are lost
		cem := dialTenant(t, hubs[2], "cid", "cem")
		time.Sleep(time.Second / 2)
		broker.weather(0, 0, 0)
		h.expect("cid/cem")

		// A new node hears of everyone, and goes on if the others end.
		fresh := h.hubs(broker, 3, 1, chathub.Config{})[0]
		time.Sleep(2 * time.Second)
		for _, hub := range hubs {
			go func() { _ = hub.Shutdown(context.WithoutCancel(t.Context())) }()
		}
		dialTenant(t, fresh, "acme", "ana")
		cem.Drop()
		h.expect("-cid/cem")
	})
}

// TestOnPresenceInBadWeather: whatever is lost, late or doubled between the
// nodes, the application knows the truth in the end.
func TestOnPresenceInBadWeather(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			broker := newUnsteady(seed)
			broker.weather(0.2, 0.2, 300*time.Millisecond)
			h := newPresenceCalls(t)
			r := rand.New(rand.NewPCG(seed, 1))
			h.fail = func(call int) error {
				if call%5 == 0 {
					return errors.New("no")
				}
				return nil
			}
			hubs := h.hubs(broker, 0, 3, chathub.Config{PresenceGrace: time.Second})
			conns := make(map[string][]*hubtest.Client)
			tenants := []string{"", "acme"}
			for range 300 {
				who := fmt.Sprintf("%s/u%d", tenants[r.IntN(2)], r.IntN(5))
				tenant, user := who[:len(who)-3], who[len(who)-2:]
				if all := conns[who]; len(all) > 0 && r.IntN(2) == 0 {
					all[len(all)-1].Drop()
					conns[who] = all[:len(all)-1]
				} else {
					conns[who] = append(all, dialTenant(t, hubs[r.IntN(3)], tenant, user))
				}
				time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
			}
			broker.weather(0, 0, 0)
			time.Sleep(time.Minute)
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			for who, all := range conns {
				if h.online[who] != (len(all) > 0) {
					t.Errorf("seed %d: %s has %d connections, and the application believes %v", seed, who, len(all), h.online[who])
				}
			}
			if len(h.at) != 1 {
				t.Errorf("calls were made by hubs %v", h.at)
			}
		})
	}
}
