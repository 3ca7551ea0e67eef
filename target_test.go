package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// emitter has an Emit method: a Hub, a Client or a Target.
type emitter interface {
	Emit(ctx context.Context, event string, data any) error
}

// places runs a test three times. Its calls are made from the test's goroutine,
// in a handler, and in OnConnect of another client.
func places(t *testing.T, test func(t *testing.T, p *party, from func(func()))) {
	late := func(f *func()) func(context.Context, *chathub.Client, *http.Request) error {
		return func(_ context.Context, c *chathub.Client, _ *http.Request) error {
			if c.User().ID == "late" {
				(*f)()
			}
			return nil
		}
	}
	t.Run("goroutine", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			test(t, newParty(t, chathub.Config{}), func(f func()) { f() })
		})
	})
	t.Run("handler", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t, chathub.Config{})
			var do func()
			chathub.On(p.hub, "do", func(context.Context, *chathub.Client, struct{}) error {
				do()
				return nil
			})
			caller := p.dial("caller")
			test(t, p, func(f func()) {
				do = f
				caller.Must(hubtest.Frame{Type: "do"})
			})
		})
	})
	t.Run("OnConnect", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var do func()
			p := newParty(t, chathub.Config{OnConnect: late(&do)})
			test(t, p, func(f func()) {
				do = f
				p.dial("late").Drop()
				synctest.Wait()
			})
		})
	})
}

func TestEmitReach(t *testing.T) {
	places(t, func(t *testing.T, p *party, from func(func())) {
		guests := map[string]guest{
			"ana1": p.dial("ana", "red"),
			"ana2": p.dial("ana"),
			"bob":  p.dial("bob", "red", "blue"),
			"cid":  p.dial("cid", "blue"),
		}
		ana1, ana2, bob := guests["ana1"].server, guests["ana2"].server, guests["bob"].server
		hub := p.hub
		everyone := []string{"ana1", "ana2", "bob", "cid"}
		red := hub.To("red")
		_ = red.Except(ana1.ID(), bob.ID()) // this makes a copy: red stays as it is

		for _, tc := range []struct {
			name string
			to   emitter
			want []string // the guests that hear it, once each
		}{
			{"this connection", ana1, []string{"ana1"}},
			{"everyone but it", ana1.Broadcast(), []string{"ana2", "bob", "cid"}},
			{"everyone but two", ana1.Broadcast().Except(bob.ID()), []string{"ana2", "cid"}},
			{"everyone", hub, everyone},
			{"a room without it", ana1.To("red"), []string{"bob"}},
			{"a room it is not in", ana1.To("blue"), []string{"bob", "cid"}},
			{"rooms without it", bob.To("red", "blue"), []string{"ana1", "cid"}},
			{"a room with it", red, []string{"ana1", "bob"}},
			{"a room without one", red.Except(bob.ID()), []string{"ana1"}},
			{"a room with no exception", red.Except(), []string{"ana1", "bob"}},
			{"a room without a stranger", red.Except("c_stranger"), []string{"ana1", "bob"}},
			{"rooms, each client once", hub.To("red", "blue"), []string{"ana1", "bob", "cid"}},
			{"a room named twice", hub.To("blue", "blue"), []string{"bob", "cid"}},
			{"rooms without one", hub.To("red", "blue").Except(bob.ID()), []string{"ana1", "cid"}},
			{"rooms without two", hub.To("red", "blue").Except(bob.ID()).Except(ana1.ID()), []string{"cid"}},
			{"one connection by id", hub.ToClient(ana2.ID()), []string{"ana2"}},
			{"connections by id", hub.ToClient(ana2.ID(), bob.ID(), ana2.ID()), []string{"ana2", "bob"}},
			{"connections by id without one", hub.ToClient(ana2.ID(), bob.ID()).Except(bob.ID()), []string{"ana2"}},
			{"a user", hub.ToUser("ana"), []string{"ana1", "ana2"}},
			{"users", hub.ToUser("ana", "cid", "ana"), []string{"ana1", "ana2", "cid"}},
			{"a user without one connection", hub.ToUser("ana").Except(ana1.ID()), []string{"ana2"}},
			{"no room", hub.To(), nil},
			{"no user", hub.ToUser(), nil},
			{"no connection", hub.ToClient(), nil},
			{"an empty room", hub.To("green"), nil},
			{"an unknown user", hub.ToUser("dan"), nil},
			{"an unknown connection", hub.ToClient("c_unknown"), nil},
			{"an empty connection id", hub.ToClient(""), nil},
		} {
			targets := map[string]emitter{"": tc.to}
			if to, ok := tc.to.(chathub.Target); ok {
				targets[", volatile"] = to.Volatile()
			}
			for how, to := range targets {
				from(func() {
					if err := to.Emit(t.Context(), "news", tc.name); err != nil {
						t.Errorf("%s%s: %v", tc.name, how, err)
					}
				})
				for name, g := range guests {
					var want int
					if slices.Contains(tc.want, name) {
						want = 1
					}
					got := g.heard()
					for i, s := range got {
						got[i] = dropRoom(s)
					}
					if !slices.Equal(got, slices.Repeat([]string{`news "` + tc.name + `"`}, want)) {
						t.Errorf("%s%s: %s heard %q, want %d of it", tc.name, how, name, got, want)
					}
				}
			}
		}
	})
}

// dropRoom removes the room from a line of heard.
func dropRoom(s string) string {
	typ, data, _ := strings.Cut(s, " ")
	typ, _, _ = strings.Cut(typ, "@")
	return typ + " " + data
}

// A name that an application forgot to fill in must not mean everyone.
func TestEmptyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana")
		for name, to := range map[string]chathub.Target{
			"room":         p.hub.To(""),
			"one of rooms": p.hub.To("red", ""),
			"user":         p.hub.ToUser(""),
			"one of users": p.hub.ToUser("bob", ""),
			"own room":     ana.server.To(""),
		} {
			ctx := t.Context()
			for call, err := range map[string]error{
				"Emit":           to.Emit(ctx, "news", 1),
				"Volatile.Emit":  to.Volatile().Emit(ctx, "news", 1),
				"Join":           to.Join(ctx, "trap"),
				"Leave":          to.Leave(ctx, "trap"),
				"Disconnect":     to.Disconnect(ctx, "trap"),
				"EmitWithAck":    asked(ctx, to),
				"Join of it":     ana.server.Join(ctx, ""),
				"Join by target": p.hub.ToUser("ana").Join(ctx, ""),
			} {
				if e := (*chathub.Error)(nil); !errors.As(err, &e) || e.Code != chathub.CodeBadRequest {
					t.Errorf("%s, %s: error %v, want %s", name, call, err, chathub.CodeBadRequest)
				}
			}
		}
		wantHeard(t, "ana", ana.Client)
		if rooms := ana.server.Rooms(); len(rooms) > 0 {
			t.Errorf("ana is in %q", rooms)
		}
		if err := ana.server.Context().Err(); err != nil {
			t.Errorf("ana is gone: %v", err)
		}
	})
}

// asked returns the error of an EmitWithAck.
func asked(ctx context.Context, to chathub.Target) error {
	_, err := to.EmitWithAck(ctx, "ask", nil)
	return err
}

func TestEmitRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana", "red")
		var bad []string
		for _, name := range []string{"", "News", "a b", "-a", "ä", strings.Repeat("a", 65), "welcome", "connect-error", "ack", "error", "ping", "pong", "reconnect"} {
			for call, err := range map[string]error{
				"Hub":         p.hub.Emit(t.Context(), name, nil),
				"Client":      ana.server.Emit(t.Context(), name, nil),
				"Target":      p.hub.To("red").Emit(t.Context(), name, nil),
				"no room":     p.hub.To().Emit(t.Context(), name, nil),
				"EmitWithAck": ana.server.EmitWithAck(t.Context(), name, nil, nil),
			} {
				if e := (*chathub.Error)(nil); !errors.As(err, &e) || e.Code != chathub.CodeBadRequest {
					bad = append(bad, fmt.Sprintf("%s %q: %v", call, name, err))
				}
			}
		}
		for _, room := range []string{strings.Repeat("a", 129), "a\nb", "\xff"} {
			if err := p.hub.To(room).Emit(t.Context(), "news", 1); err == nil {
				bad = append(bad, fmt.Sprintf("to room %q", room))
			}
			if err := p.hub.ToUser(room).Emit(t.Context(), "news", 1); err == nil {
				bad = append(bad, fmt.Sprintf("to user %q", room))
			}
		}
		slices.Sort(bad)
		for _, s := range bad {
			t.Error(s)
		}
		wantHeard(t, "ana", ana.Client)
	})
}

// journal reads the logs of a broker.
type journal struct {
	t *testing.T
	chathub.BrokerSession
}

func openJournal(t *testing.T, b chathub.Broker) journal {
	t.Helper()
	s, err := b.Attach(t.Context(), func(chathub.Message) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.WithoutCancel(t.Context())) })
	return journal{t, s}
}

// count returns the number of messages in the log of a topic.
func (j journal) count(topic chathub.Topic) int {
	j.t.Helper()
	page, err := j.Read(j.t.Context(), topic, chathub.Range{Limit: 1 << 20})
	if err != nil {
		j.t.Fatal(err)
	}
	return len(page.Messages)
}

// Exactly the events in the logs come again with resume.
// What no outbox can hold is refused. Otherwise it would close every member of
// the room as a slow consumer, push all else out of its log, and be lost.
func TestEmitTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		large := strings.Repeat("x", 600<<10)
		chathub.OnAck(p.hub, "page", func(context.Context, *chathub.Client, any) (string, error) { return large + large, nil })
		ana := p.dial("ana", "red")
		_, asked := p.hub.To("red").EmitWithAck(t.Context(), "dump", large)
		for what, err := range map[string]error{
			"To":          p.hub.To("red").Emit(t.Context(), "dump", large),
			"Volatile":    p.hub.To("red").Volatile().Emit(t.Context(), "dump", large),
			"Client":      ana.server.Emit(t.Context(), "dump", large),
			"EmitWithAck": asked,
		} {
			if e, ok := errors.AsType[*chathub.Error](err); !ok || e.Code != chathub.CodeTooLarge {
				t.Errorf("%s: %v", what, err)
			}
		}
		expectRefused(t, ana.Client, hubtest.Frame{Type: "page"}, chathub.CodeInternal)
		if err := p.hub.To("red").Emit(t.Context(), "news", large[:500<<10]); err != nil {
			t.Error(err)
		}
		if f := ana.Wait("news"); f.Seq == 0 {
			t.Error("not stored")
		}
	})
}

func TestDurability(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		p := newParty(t, chathub.Config{Broker: broker})
		logs := openJournal(t, broker)
		red, inbox := chathub.Topic{Room: "red"}, chathub.Topic{User: "ana"}
		guard := p.dial("guard", "red") // keeps the room's log
		ana := p.dial("ana")
		var welcome struct {
			Inbox chathub.Position `json:"inbox"`
		}
		unmarshal(t, ana.Welcome.Data, &welcome)
		var joined chathub.Position
		unmarshal(t, ana.Must(hubtest.Frame{Type: "join-room", Room: "red"}).Data, &joined)

		ctx := t.Context()
		hub, server := p.hub, ana.server
		emit := func(to emitter, event string) {
			t.Helper()
			if err := to.Emit(ctx, event, nil); err != nil {
				t.Errorf("%s: %v", event, err)
			}
		}
		emitAll := func() {
			t.Helper()
			emit(hub.To("red"), "room")
			emit(hub.To("red").Volatile(), "room-volatile")
			emit(hub.ToUser("ana"), "user")
			emit(hub.ToUser("ana").Volatile(), "user-volatile")
			emit(hub, "everyone")
			emit(hub.ToClient(server.ID()), "client")
			emit(server.Broadcast(), "broadcast")
			_ = server.Emit(ctx, "own", nil) // fails once the client is gone
		}
		emitAll()
		got := ana.heard() // between different targets there is no order
		slices.Sort(got)
		if want := []string{"client", "everyone", "own", "room-volatile@red", "room@red", "user", "user-volatile"}; !slices.Equal(got, want) {
			t.Errorf("ana heard %q, want %q", got, want)
		}
		if r, i := logs.count(red), logs.count(inbox); r != 1 || i != 1 {
			t.Errorf("the logs have %d and %d messages, want 1 and 1", r, i)
		}

		ana.Drop()
		synctest.Wait()
		emitAll()
		if r, i := logs.count(red), logs.count(inbox); r != 2 || i != 2 {
			t.Errorf("the logs have %d and %d messages, want 2 and 2", r, i)
		}
		ana = p.dial("ana")
		ana.Must(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{
			"rooms": map[string]any{"red": joined},
			"inbox": welcome.Inbox,
		})})
		wantHeard(t, "ana, back", ana.Client, "room@red", "room@red", "user", "user")
		if got := guard.heard(); !slices.Contains(got, "room-volatile@red") {
			t.Errorf("the guard heard %q, but nothing volatile", got)
		}
	})
}

// A client in several rooms of an emit hears it once, even if it joins and
// leaves them meanwhile.
func TestEmitOnceWhileJoining(t *testing.T) {
	for _, how := range []string{"durable", "volatile"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParty(t, chathub.Config{})
				settled := p.dial("settled", "a", "b", "c")
				hopper := p.dial("hopper")
				target := p.hub.To("a", "b", "c")
				if how == "volatile" {
					target = target.Volatile()
				}
				const emits = 100 // fewer than a client remembers
				var wg sync.WaitGroup
				for part := range 4 {
					wg.Go(func() {
						for i := range emits / 4 {
							if err := target.Emit(t.Context(), "news", part*emits/4+i); err != nil {
								t.Error(err)
							}
						}
					})
				}
				wg.Go(func() {
					for i := range emits {
						room := string(rune('a' + i%3))
						if err := hopper.server.Join(t.Context(), room); err != nil {
							t.Error(err)
						}
						if i%2 > 0 {
							if err := hopper.server.Leave(t.Context(), room); err != nil {
								t.Error(err)
							}
						}
					}
				})
				wg.Wait()
				count := func(g guest) map[string]int {
					n := make(map[string]int)
					for _, s := range g.heard() {
						if s := dropRoom(s); s != "removed {}" {
							n[s]++
						}
					}
					return n
				}
				got := count(settled)
				if len(got) != emits {
					t.Errorf("the client in all rooms heard %d different emits, want %d", len(got), emits)
				}
				maps.Copy(got, count(hopper))
				for what, n := range got {
					if n != 1 {
						t.Errorf("%s was heard %d times", what, n)
					}
				}
			})
		})
	}
}

func TestJoinLeaveDisconnect(t *testing.T) {
	places(t, func(t *testing.T, p *party, from func(func())) {
		ana1, ana2, bob := p.dial("ana"), p.dial("ana"), p.dial("bob")
		call := func(what string, f func(context.Context) error) {
			t.Helper()
			from(func() {
				if err := f(t.Context()); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
			synctest.Wait()
		}
		wantRooms := func(when string, c guest, rooms ...string) {
			t.Helper()
			if got := c.server.Rooms(); !slices.Equal(got, rooms) {
				t.Errorf("%s: %s is in %q, want %q", when, c.server.User().ID, got, rooms)
			}
		}

		call("join", func(ctx context.Context) error { return ana1.server.Join(ctx, "red", "blue", "red") })
		wantRooms("after Client.Join", ana1, "red", "blue")
		wantRooms("after Client.Join", ana2)
		call("leave", func(ctx context.Context) error { return ana1.server.Leave(ctx, "red", "never") })
		wantRooms("after Client.Leave", ana1, "blue")

		call("join", func(ctx context.Context) error { return p.hub.ToUser("ana", "bob").Join(ctx, "green", "blue") })
		wantRooms("after Target.Join", ana1, "blue", "green")
		wantRooms("after Target.Join", ana2, "green", "blue")
		wantRooms("after Target.Join", bob, "green", "blue")
		call("leave", func(ctx context.Context) error { return bob.server.To("green").Leave(ctx, "green") })
		wantRooms("after Target.Leave", ana1, "blue")
		wantRooms("after Target.Leave", bob, "green", "blue")
		call("leave", func(ctx context.Context) error { return p.hub.ToClient(bob.server.ID()).Leave(ctx, "blue", "green") })
		wantRooms("after Target.Leave", bob)

		call("disconnect nobody", func(ctx context.Context) error { return p.hub.To("green").Disconnect(ctx, "") })
		call("disconnect", func(ctx context.Context) error {
			return p.hub.ToUser("ana").Except(ana1.server.ID()).Disconnect(ctx, "signed in elsewhere")
		})
		if code, reason := ana2.Closed(); code != 4503 || reason != "signed in elsewhere" {
			t.Errorf("closed with %d %q, want 4503", code, reason)
		}
		call("emit", func(ctx context.Context) error {
			err := ana1.server.Emit(ctx, "last", nil)
			ana1.server.Disconnect("bye")
			return err
		})
		if code, reason := ana1.Closed(); code != 4503 || reason != "bye" {
			t.Errorf("closed with %d %q, want 4503", code, reason)
		}
		wantHeard(t, "ana", ana1.Client, "removed@red {}", "removed@green {}", "last")
		wantHeard(t, "bob", bob.Client, "removed@blue {}", "removed@green {}")
	})
}

// Events that were emitted to a client before it is disconnected reach it.
func TestDisconnectSendsBefore(t *testing.T) {
	for _, how := range []string{"Client", "Target"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParty(t, chathub.Config{})
				ana := p.dial("ana", "red")
				ctx := t.Context()
				for _, to := range []emitter{ana.server, p.hub, p.hub.To("red"), p.hub.ToUser("ana").Volatile()} {
					if err := to.Emit(ctx, "news", nil); err != nil {
						t.Error(err)
					}
				}
				if how == "Client" {
					ana.server.Disconnect("bye")
				} else if err := p.hub.ToUser("ana").Disconnect(ctx, "bye"); err != nil {
					t.Error(err)
				}
				if code, reason := ana.Closed(); code != 4503 || reason != "bye" {
					t.Errorf("closed with %d %q", code, reason)
				}
				if got := ana.heard(); len(got) != 4 {
					t.Errorf("ana heard %q, want four of them", got)
				}
			})
		})
	}
}
