package chathub_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// awayCluster is a cluster whose calls of OnAway are counted.
type awayCluster struct {
	t      *testing.T
	broker *unsteady
	hubs   []*chathub.Hub
	cfg    chathub.Config
	slow   func(ctx context.Context, hub int) error // nil: OnAway returns at once

	posted int

	mu    sync.Mutex
	dead  map[int]bool
	calls map[string]int // by user and data; those of dead hubs do not count
}

func newAwayCluster(t *testing.T, n int, cfg chathub.Config) *awayCluster {
	c := &awayCluster{t: t, broker: newUnsteady(1), cfg: cfg, dead: make(map[int]bool), calls: make(map[string]int)}
	c.cfg.Broker = c.broker
	for range n {
		c.add()
	}
	time.Sleep(10 * time.Second)
	return c
}

// add adds a hub, and returns it.
func (c *awayCluster) add() *chathub.Hub {
	cfg, i := c.cfg, len(c.hubs)
	cfg.OnAway = func(ctx context.Context, a chathub.Away) error {
		c.mu.Lock()
		if !c.dead[i] {
			c.calls[fmt.Sprintf("%s %s", a.User, a.Message.Data)]++
		}
		c.mu.Unlock()
		if c.slow != nil {
			return c.slow(ctx, i)
		}
		return nil
	}
	c.hubs = append(c.hubs, hubtest.New(c.t, cfg))
	return c.hubs[i]
}

// kill has a hub do nothing any more that others see.
func (c *awayCluster) kill(i int) {
	c.mu.Lock()
	c.dead[i] = true
	c.mu.Unlock()
	c.broker.links[i].kill()
}

// posts sends n messages to users who are away.
func (c *awayCluster) posts(hub, n int) {
	for i := range n {
		c.posted++
		post(c.t, c.hubs[hub].ToUser(fmt.Sprint("user", i)), "ana", "", c.posted)
	}
}

// want lets time pass, and checks that there were n calls, each made at least
// once and at most so often.
func (c *awayCluster) want(when string, after time.Duration, n, most int) {
	c.t.Helper()
	time.Sleep(after)
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) != n {
		c.t.Errorf("%s: OnAway was called for %d messages, want %d", when, len(c.calls), n)
	}
	for what, times := range c.calls {
		if times > most {
			c.t.Errorf("%s: %d calls for %s", when, times, what)
		}
	}
	clear(c.calls)
}

// byID returns the indexes of the hubs by the order of their ids.
func (c *awayCluster) byID() []int {
	ids := make(map[string]int)
	var mu sync.Mutex
	c.broker.watch(func(m chathub.Message) {
		mu.Lock()
		defer mu.Unlock()
		if len(m.Body) > 2 && m.Body[0] == 0x40 && m.Topic == (chathub.Topic{}) { // a beat
			ids[string(m.Body[2:2+m.Body[1]])] = -1
		}
	})
	time.Sleep(3 * time.Second)
	c.broker.watch(nil)
	// Which is which: cut off one after the other, for a moment.
	var order []int
	mu.Lock()
	names := slices.Sorted(maps.Keys(ids))
	mu.Unlock()
	at := make(map[string]int)
	for i, l := range c.broker.links {
		var seen []string
		c.broker.watch(func(m chathub.Message) {
			mu.Lock()
			defer mu.Unlock()
			if len(m.Body) > 2 && m.Body[0] == 0x40 && m.Topic == (chathub.Topic{}) {
				seen = append(seen, string(m.Body[2:2+m.Body[1]]))
			}
		})
		l.pause()
		time.Sleep(2500 * time.Millisecond)
		l.resume()
		c.broker.watch(nil)
		mu.Lock()
		for _, name := range names {
			if !slices.Contains(seen, name) {
				at[name] = i
			}
		}
		mu.Unlock()
		time.Sleep(3 * time.Second)
	}
	for _, name := range names {
		order = append(order, at[name])
	}
	return order
}

// TestOnAwayOnce: one node calls, whichever has stored the message. A user with
// a connection to any node is not away.
func TestOnAwayOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newAwayCluster(t, 3, chathub.Config{Members: membersOf("user0", "user1", "user2", "bob")})
		bob := hubtest.Dial(t, c.hubs[1], "bob")
		for i := range c.hubs {
			c.posts(i, 50)
			post(t, c.hubs[i].ToUser("bob"), "ana", "", i)
			post(t, c.hubs[i].To("lobby"), "ana", "", fmt.Sprint("room", i))
		}
		c.want("with bob", time.Minute, 3*50+3*3, 1)
		bob.Drop()
		time.Sleep(awayDelay)
		for i := range c.hubs {
			post(t, c.hubs[i].ToUser("bob"), "ana", "", i)
		}
		c.want("without bob", time.Minute, 3, 1)
	})
}

// membersOf has the same members in all rooms.
func membersOf(users ...string) func(context.Context, string, string) iter.Seq2[string, error] {
	return func(context.Context, string, string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for _, id := range users {
				if !yield(id, nil) {
					return
				}
			}
		}
	}
}

// TestOnAwayLossy: notes that are lost, doubled and late change nothing as long
// as nobody is killed.
func TestOnAwayLossy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// With a short lease, a node that lives would be given up now and then.
		c := newAwayCluster(t, 3, chathub.Config{NodeLease: 30 * time.Second})
		c.broker.weather(0.2, 0.2, 200*time.Millisecond)
		for i := range 30 {
			post(t, c.hubs[i%3].ToUser(fmt.Sprint("user", i)), "ana", "", i)
			time.Sleep(time.Second)
		}
		c.want("in bad weather", time.Minute, 30, 1)
	})
}

// TestOnAwayKilled: the jobs of a node that is killed are done by another one,
// once.
func TestOnAwayKilled(t *testing.T) {
	for name, tc := range map[string]struct {
		hubs int
		cfg  chathub.Config
		kill []int // by the order of their ids
	}{
		"two nodes, the first":  {2, chathub.Config{}, []int{0}},
		"two nodes, the second": {2, chathub.Config{}, []int{1}},
		"the heir as well":      {4, chathub.Config{}, []int{3, 0}},
		"all but one":           {4, chathub.Config{}, []int{0, 1, 2}},
		"a long lease":          {3, chathub.Config{NodeLease: time.Minute}, []int{0}},
		"a long delay":          {3, chathub.Config{AwayDelay: 10 * time.Minute}, []int{1}},
		"no delay":              {3, chathub.Config{AwayDelay: 2 * time.Second, PresenceGrace: -1}, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.cfg.Members = membersOf("x", "y")
				c := newAwayCluster(t, tc.hubs, tc.cfg)
				order := c.byID()
				time.Sleep(10 * time.Second)
				all := 0
				for i := range c.hubs {
					c.posts(i, 20)
					post(t, c.hubs[i].To("lobby"), "ana", "", i)
					all += 20 + 2
				}
				time.Sleep(200 * time.Millisecond)
				for _, i := range tc.kill {
					c.kill(order[i])
				}
				c.want("killed", tc.cfg.AwayDelay+tc.cfg.NodeLease+2*time.Minute, all, 1)
			})
		})
	}
}

// TestOnAwayKilledLate: a node is killed while it is still busy with what was
// due long ago. What it has begun may be done twice.
func TestOnAwayKilledLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newAwayCluster(t, 3, chathub.Config{})
		c.slow = func(ctx context.Context, hub int) error {
			if hub == 0 {
				<-ctx.Done()
			}
			return nil
		}
		c.posts(0, 100)
		time.Sleep(awayDelay + 65*time.Second)
		c.mu.Lock()
		begun := len(c.calls)
		c.mu.Unlock()
		if begun < 40 || begun > 70 {
			t.Errorf("%d calls have begun", begun)
		}
		c.kill(0)
		c.want("killed late", 3*time.Minute, 100, 2)
		// All is forgotten: nothing comes again.
		c.posts(1, 1)
		time.Sleep(time.Minute)
		c.want("afterwards", 0, 1, 1)
		c.kill(1)
		c.want("the last one", 3*time.Minute, 0, 0)
	})
}

// TestOnAwayKilledEarly: a node that has just come, with whatever id, changes
// nothing.
func TestOnAwayKilledEarly(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Second, 4 * time.Second} {
		for range 3 { // ids are random
			synctest.Test(t, func(t *testing.T) {
				c := newAwayCluster(t, 3, chathub.Config{})
				c.posts(0, 10)
				time.Sleep(200 * time.Millisecond)
				c.kill(0)
				time.Sleep(wait)
				c.add()
				c.add()
				c.want(fmt.Sprint("a node came after ", wait), 3*time.Minute, 10, 1)
			})
		}
	}
}

// TestOnAwayPaused: a node that stops for a while, and is given up, may make
// calls that another one has made.
func TestOnAwayPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newAwayCluster(t, 3, chathub.Config{AwayDelay: 30 * time.Second})
		for i := range c.hubs {
			c.posts(i, 10)
		}
		time.Sleep(time.Second)
		c.broker.links[0].pause()
		time.Sleep(15 * time.Second)
		c.broker.links[0].resume()
		c.want("paused", 3*time.Minute, 30, 1) // it yields, since it heard of that in time
		for i := range c.hubs {
			post(t, c.hubs[i].ToUser("bob"), "ana", "", i)
		}
		time.Sleep(time.Second)
		c.broker.links[0].pause()
		time.Sleep(time.Minute)
		c.broker.links[0].resume()
		c.want("paused for longer", 3*time.Minute, 3, 2)
	})
}

// TestOnAwayRollingRestart: while nodes are replaced one after the other, each
// call is made once. One that is running is waited for.
func TestOnAwayRollingRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var members []string
		for i := range 700 {
			members = append(members, fmt.Sprint("member", i))
		}
		c := newAwayCluster(t, 2, chathub.Config{Members: membersOf(members...), DrainWindow: -1})
		c.slow = func(ctx context.Context, _ int) error {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		all := 0
		for range 6 {
			old := len(c.hubs) - 2
			for i := range 2 {
				c.posts(old+i, 20)
				post(t, c.hubs[old+i].To("lobby"), "ana", "", fmt.Sprint("room", c.posted))
				all += 20 + len(members)
			}
			time.Sleep(awayDelay + time.Second) // in the middle of the calls
			if err := c.hubs[old].Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			c.add()
			time.Sleep(time.Second)
		}
		c.want("restarted", 3*time.Minute, all, 1)
	})
}

// TestOnAwayCutShort: a Shutdown that may not wait leaves its calls to others.
func TestOnAwayCutShort(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, hub *chathub.Hub){
		"Shutdown": func(t *testing.T, hub *chathub.Hub) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_ = hub.Shutdown(ctx) // whether it was cut short is not the question
		},
		"Close": func(t *testing.T, hub *chathub.Hub) {
			if err := hub.Close(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newAwayCluster(t, 2, chathub.Config{DrainWindow: -1})
				c.slow = func(ctx context.Context, hub int) error {
					if hub == 0 {
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}
				c.posts(0, 30)
				time.Sleep(awayDelay + time.Second)
				began := time.Now()
				end(t, c.hubs[0])
				if d := time.Since(began); d > 5*time.Second {
					t.Errorf("the end took %v", d)
				}
				c.want("cut short", 3*time.Minute, 30, 2)
			})
		})
	}
}

// TestOnAwayOff: without OnAway, nodes say nothing of it.
func TestOnAwayOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newUnsteady(1)
		hubs := broker.hubs(t, 2, chathub.Config{})
		var notes record
		broker.watch(func(m chathub.Message) {
			if m.Topic.Room == "" && m.Topic.User == "" {
				notes.add("%x", m.Body[0])
			}
		})
		post(t, hubs[0].ToUser("bob"), "ana", "", "Hi")
		time.Sleep(time.Minute)
		if err := hubs[0].Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		for _, op := range notes.take() {
			if strings.Compare(op, "43") > 0 {
				t.Errorf("a node has sent a note of type %s", op)
			}
		}
		if s := hubs[1].Stats(); s.Away+s.AwayDropped+s.AwayFailed != 0 {
			t.Errorf("the figures are %+v", s)
		}
	})
}
