package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestOnAwayFails: a call that fails is made again, and given up after the
// fourth time. Others do not wait for it.
func TestOnAwayFails(t *testing.T) {
	for name, fail := range map[string]func(ctx context.Context) error{
		"an error":          func(context.Context) error { return errors.New("no route") },
		"an error of a hub": func(context.Context) error { return chathub.Unavailable(errors.New("no route")) },
		"a panic":           func(context.Context) error { panic("no route") },
		"slow":              func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p pushes
				var works atomic.Bool
				p.fail = func(ctx context.Context, a chathub.Away) error {
					if a.User == "ok" || works.Load() {
						return nil
					}
					return fail(ctx)
				}
				var log logBuffer
				cfg := p.config(chathub.Config{})
				cfg.Logger = log.logger()
				hub := hubtest.New(t, cfg)
				post(t, hub.ToUser("bad"), "ana", "1", 1)
				post(t, hub.ToUser("ok"), "ana", "2", 2)
				bad := "bad: private-message 1 1"
				p.wantSoon(t, "both", awayDelay+time.Second/2, bad, "ok: private-message 2 1")
				p.wantSoon(t, "again", 2*time.Minute, bad, bad, bad)
				post(t, hub.ToUser("bad"), "ana", "3", 3)
				p.wantSoon(t, "another", awayDelay+time.Second/2, "bad: private-message 3 2")
				works.Store(true)
				p.wantSoon(t, "and it works", 2*time.Minute, "bad: private-message 3 2")
				if s := hub.Stats(); s.Away != 2 || s.AwayFailed != 1 || s.AwayDropped != 0 {
					t.Errorf("the figures are %+v", s)
				}
				want := "no route"
				if name == "slow" {
					want = "deadline exceeded"
				}
				if lines := log.take(); !strings.Contains(lines, "OnAway") || !strings.Contains(lines, want) {
					t.Errorf("the log has %s", lines)
				}
			})
		})
	}
}

// TestOnAwayHangs: calls that never return hold up the others for some time, in
// each of which eight are given up. Then there are too many to go on. The hub
// ends all the same, and no message waits.
func TestOnAwayHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		defer close(hold)
		var p pushes
		var hung atomic.Int64
		p.fail = func(_ context.Context, a chathub.Away) error {
			if a.User == "ok" {
				return nil
			}
			hung.Add(1)
			<-hold
			return nil
		}
		hub := hubtest.New(t, p.config(chathub.Config{}))
		for i := range 20 {
			post(t, hub.ToUser(fmt.Sprint("bad", i)), "", "", i)
		}
		time.Sleep(time.Second)
		began := time.Now()
		post(t, hub.ToUser("ok"), "ana", "1", "late")
		if time.Since(began) > 0 {
			t.Errorf("a message waited %v", time.Since(began))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		var ok int
		for _, call := range p.take() {
			if call == `ok: private-message "late" 1` {
				ok++
			}
		}
		if ok != 1 {
			t.Errorf("the user behind was told of %d times", ok)
		}
		time.Sleep(time.Hour)
		if n := hung.Load(); n != 64+8 {
			t.Errorf("%d calls hang", n)
		}
	})
}

// TestOnAwayOverflow: messages beyond the bound are stored, and counted.
func TestOnAwayOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 16
		var calls atomic.Int64
		var log logBuffer
		hub := hubtest.New(t, chathub.Config{Logger: log.logger(), AwayDelay: time.Hour, OnAway: func(context.Context, chathub.Away) error {
			calls.Add(1)
			return nil
		}})
		bob := hub.ToUser("bob")
		for i := range most + 100 {
			if i == most/2 { // the goroutine of the queue has some, but not all
				time.Sleep(time.Second)
			}
			if err := bob.Emit(t.Context(), "notification", i); err != nil {
				t.Fatal(err)
			}
		}
		if s := hub.Stats(); s.AwayDropped != 100 {
			t.Errorf("the figures are %+v", s)
		}
		if !strings.Contains(log.take(), "too many wait for OnAway") {
			t.Error("the log does not say so")
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := calls.Load(); n == 0 || n > most { // the inbox does not keep all
			t.Errorf("%d calls", n)
		}
		post(t, bob, "ana", "", "again")
		before := calls.Load()
		time.Sleep(2 * time.Hour)
		if n := calls.Load() - before; n != 1 || hub.Stats().AwayDropped != 100 {
			t.Errorf("afterwards: %d calls, figures %+v", n, hub.Stats())
		}
	})
}

// TestOnAwayMembers: members that cannot be listed are asked for again. A room
// may have very many.
func TestOnAwayMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type list = iter.Seq2[string, error]
		var asked, calls, most atomic.Int64
		var fails atomic.Int64
		endless := func(yield func(string, error) bool) {
			for i := 0; yield(fmt.Sprint("user", i), nil); i++ {
				most.Store(max(most.Load(), int64(i)))
			}
		}
		cfg := chathub.Config{
			OnAway: func(_ context.Context, a chathub.Away) error {
				if a.User == "user3" && fails.Add(-1) >= 0 {
					return errors.New("no route")
				}
				calls.Add(1)
				return nil
			},
			Members: func(ctx context.Context, _, room string) list {
				asked.Add(1)
				return func(yield func(string, error) bool) {
					switch room {
					case "panics":
						panic("members")
					case "fails":
						if yield("user0", nil) {
							yield("", errors.New("database"))
						}
					case "hangs":
						<-ctx.Done()
					case "some":
						for i := range 1234 {
							if !yield(fmt.Sprint("user", i), nil) {
								return
							}
						}
					case "endless":
						endless(yield)
					}
				}
			},
		}
		hub := hubtest.New(t, cfg)
		for i := range 100 {
			hubtest.Dial(t, hub, fmt.Sprint("user", 10*i))
		}
		hubtest.Dial(t, hub, "x")
		want := func(room string, wantAsked, wantCalls, wantFailed int) {
			t.Helper()
			asked.Store(0)
			calls.Store(0)
			failed := hub.Stats().AwayFailed
			post(t, hub.To(room), "user1", "", room)
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if a, c, f := int(asked.Load()), int(calls.Load()), int(hub.Stats().AwayFailed-failed); a != wantAsked || c != wantCalls || f != wantFailed {
				t.Errorf("%s: Members was called %d times, OnAway %d, and %d were given up, want %d, %d, %d", room, a, c, f, wantAsked, wantCalls, wantFailed)
			}
		}
		want("nobody", 1, 0, 0)
		want("panics", 4, 0, 1)
		want("fails", 4, 0, 1)
		want("hangs", 4, 0, 1)
		want("some", 1, 1234-100-1, 0)
		fails.Store(2)
		want("some", 1, 1234-100-1, 0)
		fails.Store(4)
		want("some", 1, 1234-100-1-1, 1)
		want("endless", 1, 50_000-100-1, 0)
		if n := most.Load(); n != 50_000-1 {
			t.Errorf("%d members were taken", n+1)
		}
	})
}

// TestOnAwayBrokerDown: while the broker does not answer, calls wait.
func TestOnAwayBrokerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pushes{members: map[string][]string{"lobby": {"bob", "cid"}}}
		for i := range 1200 {
			p.members["large"] = append(p.members["large"], fmt.Sprint("user", i))
		}
		broker := &hooked{}
		hub := hubtest.New(t, p.config(chathub.Config{Broker: broker}))
		down := func() error { return chathub.Unavailable(errors.New("down")) }
		methods := []string{"Read", "ReadNamed", "Survey"}
		for _, method := range methods {
			post(t, hub.ToUser("bob"), "ana", "", method)
			post(t, hub.To("lobby"), "cid", "", method)
			broker.before(method, down)
			p.wantSoon(t, method, 10*time.Minute)
			broker.before(method, nil)
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := p.take(); len(got) != 2 {
				t.Errorf("%s: OnAway was called %q", method, got)
			}
		}
		post(t, hub.To("large"), "cid", "", "large")
		var reads atomic.Int64
		broker.before("Read", func() error {
			if reads.Add(1) == 2 { // in the middle
				return down()
			}
			return nil
		})
		time.Sleep(time.Minute)
		got := p.take()
		slices.Sort(got)
		if n := len(slices.Compact(got)); n != 1200 || len(got) != n {
			t.Errorf("OnAway was called %d times, for %d users", len(got), n)
		}
		if s := hub.Stats(); s.AwayFailed != 0 {
			t.Errorf("the figures are %+v", s)
		}
	})
}

// TestOnAwayTenants: users of two tenants with one name are two.
func TestOnAwayTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pushes{}
		cfg := p.config(chathub.Config{})
		cfg.Members = func(_ context.Context, tenant, room string) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				// The second one is a topic of acme's, if it is not checked.
				for _, id := range []string{"bob", "acme\x00eve", "only-in-" + tenant} {
					if !yield(id, nil) {
						return
					}
				}
			}
		}
		broker := newUnsteady(1)
		cfg.Broker = broker
		hubs := []*chathub.Hub{hubtest.New(t, cfg), hubtest.New(t, cfg)}
		hubtest.Dial(t, hubs[1], "bob/bob/acme")
		for _, tenant := range []string{"", "acme", "beta"} {
			post(t, hubs[0].Tenant(tenant).ToUser("bob"), "ana", "1", tenant)
		}
		p.wantSoon(t, "private", awaySoon, `bob: private-message "" 1`, `betabob: private-message "beta" 1`)
		for _, tenant := range []string{"", "acme", "beta"} {
			post(t, hubs[0].Tenant(tenant).To("lobby"), "ana", "2", tenant)
		}
		p.wantSoon(t, "rooms", awaySoon, `bob: room-message "" 1`, `only-in-: room-message "" 1`, `acmeonly-in-acme: room-message "acme" 1`,
			`betabob: room-message "beta" 1`, `betaonly-in-beta: room-message "beta" 1`)
	})
}
