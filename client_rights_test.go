package chathub_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// A right that was taken away does not come back through a check that was under
// way: the call that takes it away may be made on the same node or another.
func TestRevokedWhileChecked(t *testing.T) {
	for _, node := range []string{"same node", "another node"} {
		t.Run(node, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := &chathub.MemoryBroker{}
				gates := map[string]chan struct{}{}
				for _, name := range []string{"authenticate", "connect", "red", "blue"} {
					gates[name] = make(chan struct{})
				}
				here := newParty(t, chathub.Config{
					Broker: broker,
					Auth: authFunc(func(token string, _ *http.Request) (chathub.Identity, error) {
						if token == "authenticate" {
							<-gates[token]
						}
						return chathub.Identity{User: chathub.User{ID: token}}, nil
					}),
					OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
						if c.User().ID == "connect" {
							<-gates["connect"]
						}
						return c.Join(ctx, "hall")
					},
					Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
						if gate := gates[a.Room]; gate != nil {
							<-gate
						}
						return nil
					},
				})
				caller := here.hub
				if node == "another node" {
					caller = newParty(t, chathub.Config{Broker: broker}).hub
					synctest.Wait()
					time.Sleep(2 * time.Second) // until they know each other
				}

				joins, resumes := here.dial("ana"), here.dial("ana")
				pos := position(t, enter(here.dial("ben").Client, "green"))
				joins.Send(hubtest.Frame{Type: "join-room", ID: "j", Room: "red"})
				resumes.Send(hubtest.Frame{Type: "resume", ID: "r", Data: fmt.Appendf(nil,
					`{"rooms":{"blue":{"epoch":%q,"seq":0},"green":{"epoch":%q,"seq":0}}}`, pos.Epoch, pos.Epoch)})
				handshakes := make(chan *hubtest.Client)
				for _, user := range []string{"authenticate", "connect"} {
					go func() { handshakes <- knock(t, here.hub, user) }()
				}
				synctest.Wait()

				if err := caller.ToUser("ana").Remove(t.Context(), "banned", "red", "blue"); err != nil {
					t.Error(err)
				}
				for _, user := range []string{"authenticate", "connect"} {
					if err := caller.ToUser(user).Disconnect(t.Context(), "logged out"); err != nil {
						t.Error(err)
					}
				}
				for _, gate := range gates {
					close(gate)
				}
				synctest.Wait()
				if f := joins.Wait("error"); f.Code() != chathub.CodeForbidden {
					t.Errorf("the join was answered with %s", f.Data)
				}
				var answer struct {
					Rooms map[string]struct {
						Error *chathub.Error `json:"error"`
						Seq   *uint64        `json:"seq"`
					} `json:"rooms"`
				}
				unmarshal(t, resumes.Wait("ack").Data, &answer)
				if answer.Rooms["blue"].Error == nil || answer.Rooms["green"].Seq == nil {
					t.Errorf("the resume was answered with %+v", answer)
				}
				if a, b := fmt.Sprint(joins.server.Rooms()), fmt.Sprint(resumes.server.Rooms()); a != "[hall]" || b != "[hall green]" {
					t.Errorf("in the rooms %s and %s", a, b)
				}
				for range 2 {
					if code, reason := (<-handshakes).Closed(); code != 4503 || reason != "logged out" {
						t.Errorf("a handshake ended with %d %q", code, reason)
					}
				}
				if users := fmt.Sprint(onlineUsers(t, here.hub)); users != "[{ana } {ben }]" {
					t.Errorf("online are %s", users)
				}
				// What is checked from now on is as good as ever.
				enter(joins.Client, "red")
			})
		})
	}
}

// A handler that has checked a right cannot use it in a Join after it was taken
// away. What the handler itself does is in order.
func TestRevokedWhileHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		gate := make(chan struct{})
		chathub.On(p.hub, "enter", func(ctx context.Context, c *chathub.Client, room string) error {
			<-gate
			return c.Join(ctx, room)
		})
		chathub.On(p.hub, "move", func(ctx context.Context, c *chathub.Client, room string) error {
			if err := p.hub.ToUser(c.User().ID).Leave(ctx, "red", "blue"); err != nil {
				return err
			}
			if err := c.Leave(ctx, "green"); err != nil {
				return err
			}
			return c.Join(ctx, room, "green")
		})
		ana := p.dial("ana", "red", "green")
		ana.Send(hubtest.Frame{Type: "enter", ID: "e", Data: raw(`"blue"`)})
		synctest.Wait()
		if err := p.hub.ToUser("ana").Leave(t.Context(), "blue"); err != nil {
			t.Error(err)
		}
		close(gate)
		expectRefusal(t, ana.Client, "e", chathub.CodeForbidden)
		ana.Must(hubtest.Frame{Type: "move", Data: raw(`"blue"`)})
		if got := fmt.Sprint(ana.server.Rooms()); got != "[blue green]" {
			t.Errorf("in the rooms %s", got)
		}
	})
}

// A handshake whose user was disconnected meanwhile ends as the connections of
// the user did.
func TestDisconnectDuringHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		p := newParty(t, chathub.Config{
			OnConnect: func(context.Context, *chathub.Client, *http.Request) error { <-gate; return nil },
		})
		done := make(chan *hubtest.Client, 1)
		go func() { done <- knock(t, p.hub, "ana") }()
		synctest.Wait()
		if err := p.hub.ToUser("ana").Disconnect(t.Context(), "logged out"); err != nil {
			t.Error(err)
		}
		close(gate)
		c := <-done
		if f := c.Next(); f.Type != "connect-error" || f.Code() != chathub.CodeForbidden {
			t.Errorf("first came %s %s", f.Type, f.Data)
		}
		if code, reason := c.Closed(); code != 4503 || reason != "logged out" {
			t.Errorf("closed with %d %q", code, reason)
		}
		if s := p.hub.Stats(); s.Connections != 0 || s.Accepted != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
}

// When a Leave has returned, a message that was being stored is stored, and
// another one is refused.
func TestLeaveWaitsForMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		p := newParty(t, chathub.Config{Broker: broker})
		red := chathub.Topic{Room: "red"}
		ana, witness := p.dial("ana", "red"), p.dial("witness", "red")
		gate := make(chan struct{})
		set(broker, broker.publishing, red, gate)
		ana.Send(hubtest.Frame{Type: "room-message", ID: "1", Room: "red", Data: raw(`1`)})
		ana.Send(hubtest.Frame{Type: "room-message", ID: "2", Room: "red", Data: raw(`2`)})
		synctest.Wait()
		left := make(chan error, 1)
		go func() { left <- p.hub.ToUser("ana").Leave(t.Context(), "red") }()
		synctest.Wait()
		select {
		case err := <-left:
			t.Fatalf("Leave returned %v before the message was stored", err)
		default:
		}
		close(gate)
		if err := <-left; err != nil {
			t.Error(err)
		}
		wantHeard(t, "witness", witness.Client, "room-message@red 1")
		expectRefusal(t, ana.Client, "2", chathub.CodeNotInRoom)
		time.Sleep(time.Minute)
		wantHeard(t, "witness", witness.Client)
	})
}

// So it is if another node takes the right away: the node that stores the
// message learns it twice, and the second time does not find the client.
func TestRevocationWaitsElsewhere(t *testing.T) {
	for what, revoke := range map[string]func(ctx context.Context, h *chathub.Hub) error{
		"Disconnect": func(ctx context.Context, h *chathub.Hub) error { return h.ToUser("ana").Disconnect(ctx, "banned") },
		"Disconnect of a room": func(ctx context.Context, h *chathub.Hub) error {
			return h.To("red").Disconnect(ctx, "banned")
		},
		"Leave":           func(ctx context.Context, h *chathub.Hub) error { return h.ToUser("ana").Leave(ctx, "red") },
		"Leave of a room": func(ctx context.Context, h *chathub.Hub) error { return h.To("red").Leave(ctx, "red") },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := newGatedBroker()
				here, there := newParty(t, chathub.Config{Broker: broker}), newParty(t, chathub.Config{Broker: broker})
				synctest.Wait()
				time.Sleep(2 * time.Second) // until they know each other
				red := chathub.Topic{Room: "red"}
				ana := here.dial("ana", "red")
				gate := make(chan struct{})
				set(broker, broker.publishing, red, gate)
				ana.Send(hubtest.Frame{Type: "room-message", ID: "1", Room: "red", Data: raw(`1`)})
				synctest.Wait()
				done := make(chan error, 1)
				go func() { done <- revoke(t.Context(), there.hub) }()
				synctest.Wait()
				select {
				case err := <-done:
					t.Errorf("returned %v before the message was stored", err)
					close(gate)
					return
				default:
				}
				close(gate)
				if err := <-done; err != nil {
					t.Error(err)
				}
				head, err := there.hub.Head(t.Context(), "red")
				if err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute)
				if later, err := there.hub.Head(t.Context(), "red"); err != nil || later.Seq != head.Seq {
					t.Errorf("the log was at %d, and is at %d: %v", head.Seq, later.Seq, err)
				}
			})
		})
	}
}

// expectRefusal waits for the error that answers an event.
func expectRefusal(t *testing.T, c *hubtest.Client, id string, code chathub.Code) {
	t.Helper()
	for {
		if f := c.Wait("error"); f.ID == id {
			if f.Code() != code {
				t.Errorf("%s was answered with %s, want %s", id, f.Data, code)
			}
			return
		}
	}
}

// A check that hangs while thousands of rights are taken away is not trusted
// any more. The client comes back, and is checked again.
func TestOutdatedCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		p := newParty(t, chathub.Config{
			Auth: authFunc(func(token string, _ *http.Request) (chathub.Identity, error) {
				if token == "cleo" {
					<-gate
				}
				return chathub.Identity{User: chathub.User{ID: token}}, nil
			}),
			Authorize: func(context.Context, *chathub.Client, chathub.Action) error { <-gate; return nil },
		})
		ana := p.dial("ana")
		ana.Send(hubtest.Frame{Type: "join-room", ID: "j", Room: "red"})
		handshake := make(chan *hubtest.Client)
		go func() { handshake <- knock(t, p.hub, "cleo") }()
		synctest.Wait()
		for i := range 5000 {
			if err := p.hub.ToUser(fmt.Sprint("user ", i)).Disconnect(t.Context(), "logged out"); err != nil {
				t.Fatal(err)
			}
		}
		close(gate)
		expectRefusal(t, ana.Client, "j", chathub.CodeUnavailable)
		if code, _ := (<-handshake).Closed(); code != 4000 {
			t.Errorf("closed with %d, want 4000", code)
		}
		enter(ana.Client, "red")
		p.dial("cleo")
	})
}

// Nothing of a right that was taken away while Authorize was asked happens:
// others see no typing, and no handler of the application runs.
func TestRevokedWhileAuthorized(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, ran := make(chan struct{}), false
		p := newParty(t, chathub.Config{Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
			if a.Type == "typing" || a.Type == "pay" {
				<-gate
			}
			return nil
		}})
		chathub.On(p.hub, "pay", func(context.Context, *chathub.Client, any) error { ran = true; return nil })
		ana, ben := p.dial("ana", "red"), p.dial("ben", "red")
		ana.Send(hubtest.Frame{Type: "typing", ID: "t", Room: "red"})
		synctest.Wait()
		if err := p.hub.ToUser("ana").Leave(t.Context(), "red"); err != nil {
			t.Error(err)
		}
		gate <- struct{}{}
		expectRefusal(t, ana.Client, "t", chathub.CodeNotInRoom)
		wantHeard(t, "ben", ben.Client)

		ana.Send(hubtest.Frame{Type: "pay"})
		synctest.Wait()
		if err := p.hub.ToUser("ana").Disconnect(t.Context(), "logged out"); err != nil {
			t.Error(err)
		}
		gate <- struct{}{}
		synctest.Wait()
		if ran {
			t.Error("a handler ran for a user who is logged out")
		}
	})
}

// A client that is removed while its history is read gets none of it.
func TestRemovedWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		p := newParty(t, chathub.Config{Broker: broker})
		red := chathub.Topic{Room: "red"}
		if err := p.hub.To("red").Emit(t.Context(), "secret", nil); err != nil {
			t.Fatal(err)
		}
		reads, joins := p.dial("ana", "red"), p.dial("ana")
		gate := make(chan struct{})
		set(broker, broker.reading, red, gate)
		reads.Send(hubtest.Frame{Type: "history", ID: "h", Room: "red"})
		synctest.Wait()
		joins.Send(hubtest.Frame{Type: "join-room", ID: "j", Room: "red", Data: raw(`{"history":10}`)})
		synctest.Wait()
		if err := p.hub.ToUser("ana").Remove(t.Context(), "banned", "red"); err != nil {
			t.Error(err)
		}
		close(gate)
		expectRefusal(t, reads.Client, "h", chathub.CodeNotInRoom)
		synctest.Wait()
		got := arrived(joins.Client)
		if n := len(ofType(got, "secret")); n > 0 {
			t.Errorf("a client that was removed got %d messages", n)
		}
		if len(got) == 0 || got[len(got)-1].Type != "removed" && got[len(got)-1].Type != "error" {
			t.Errorf("a client that was removed is not told last: %v", got)
		}
	})
}

// A client that is put out of a room is told, with the reason, behind what it
// had got before.
func TestRemovedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, ben := p.dial("ana", "red", "blue"), p.dial("ben", "red")
		if err := p.hub.To("red").Emit(t.Context(), "news", nil); err != nil {
			t.Fatal(err)
		}
		if err := p.hub.ToUser("ana").Remove(t.Context(), "See \"rules\"", "red", "green"); err != nil {
			t.Error(err)
		}
		if err := ana.server.Leave(t.Context(), "blue"); err != nil {
			t.Error(err)
		}
		wantHeard(t, "ana", ana.Client, "news@red", `removed@red {"reason":"See \"rules\""}`, "removed@blue {}")
		wantHeard(t, "ben", ben.Client, "news@red")
		ben.Must(hubtest.Frame{Type: "leave-room", Room: "red"}) // its own wish is no news
		wantHeard(t, "ben", ben.Client)
		if err := p.hub.ToUser("ana").Remove(t.Context(), ""); err != nil { // from no room at all
			t.Error(err)
		}
		ana.Must(hubtest.Frame{Type: "ping"})
	})
}
