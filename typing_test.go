package chathub_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// expectTyping checks that exactly the given typing events have come, all from
// one user.
func expectTyping(t *testing.T, c *hubtest.Client, from string, types ...string) {
	t.Helper()
	got := arrived(c)
	if len(got) != len(types) {
		t.Errorf("got %+v, want %v", got, types)
		return
	}
	for i, f := range got {
		if f.Type != types[i] || f.Room != "lobby" || f.From == nil || f.From.ID != from || f.Seq != 0 || f.ID != "" || f.Data != nil {
			t.Errorf("got %+v, want %s", f, types[i])
		}
	}
}

func typing(c *hubtest.Client)     { c.Send(hubtest.Frame{Type: "typing", Room: "lobby"}) }
func stopTyping(c *hubtest.Client) { c.Send(hubtest.Frame{Type: "stop-typing", Room: "lobby"}) }

func TestTyping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := quietHub(t)
		c := members(t, hub, "lobby", "ana", "bob", "carol")
		outside := hubtest.Dial(t, hub, "dave")
		typing(c[0])
		typing(c[0])
		for _, other := range c[1:] {
			expectTyping(t, other, "ana", "typing", "typing") // it is passed on each time
		}
		stopTyping(c[0])
		expectTyping(t, c[1], "ana", "stop-typing")
		time.Sleep(time.Minute)
		expectNothing(t, c[0], c[1], outside) // typing has stopped already

		for _, typ := range []string{"typing", "stop-typing"} {
			if ack := c[0].Must(hubtest.Frame{Type: typ, ID: "t", Room: "lobby", Data: hubtest.Data("ignored")}); ack.Data != nil {
				t.Errorf("answer is %s", ack.Data)
			}
		}
		expectTyping(t, c[1], "ana", "typing", "stop-typing")
	})
}

// If the client does not end its typing, the server does, once.
func TestTypingEnds(t *testing.T) {
	for name, end := range map[string]func(*hubtest.Client){
		"leave": func(c *hubtest.Client) { c.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"}) },
		"close": func(c *hubtest.Client) { c.Close() },
		"drop":  func(c *hubtest.Client) { c.Drop() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := members(t, quietHub(t), "lobby", "ana", "bob")
				typing(c[0])
				time.Sleep(time.Second)
				expectTyping(t, c[1], "ana", "typing")
				end(c[0])
				expectTyping(t, c[1], "ana", "stop-typing")
				time.Sleep(time.Minute)
				expectNothing(t, c[1])
			})
		})
	}
	t.Run("silence", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := members(t, quietHub(t), "lobby", "ana", "bob")
			for range 4 { // still typing
				typing(c[0])
				expectTyping(t, c[1], "ana", "typing")
				time.Sleep(9 * time.Second)
				expectNothing(t, c[1])
			}
			time.Sleep(2 * time.Second) // 10 s, and up to one more for the sweep
			expectTyping(t, c[1], "ana", "stop-typing")
			time.Sleep(time.Minute)
			expectNothing(t, c...)
		})
	})
	t.Run("silence, timeout off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := members(t, hubtest.New(t, chathub.Config{PresenceInterval: -1, TypingTimeout: -1}), "lobby", "ana", "bob")
			typing(c[0])
			time.Sleep(time.Hour)
			expectTyping(t, c[1], "ana", "typing")
		})
	})
}

// The user is typing until the last tab has stopped.
func TestTypingInTwoTabs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := members(t, quietHub(t), "lobby", "ana", "ana", "ana", "bob")
		bob := c[3]
		for _, tab := range c[:3] {
			typing(tab)
		}
		expectTyping(t, bob, "ana", "typing", "typing", "typing")
		arrived(c[2])
		c[0].Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		c[1].Drop()
		expectNothing(t, bob, c[2])
		time.Sleep(11 * time.Second)
		expectTyping(t, bob, "ana", "stop-typing")
	})
}

// Nobody is told that typing stopped in one tab while the user types in
// another.
func TestStopTypingInOneTab(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := members(t, quietHub(t), "lobby", "ana", "ana", "bob")
		bob := c[2]
		typing(c[0])
		typing(c[1])
		expectTyping(t, bob, "ana", "typing", "typing")
		arrived(c[0])
		arrived(c[1])
		c[0].Must(hubtest.Frame{Type: "stop-typing", Room: "lobby"})
		expectNothing(t, bob, c[1])
		c[1].Must(hubtest.Frame{Type: "stop-typing", Room: "lobby"})
		expectTyping(t, bob, "ana", "stop-typing")
	})
}

// Each room has its own typing users.
func TestTypingInSeveralRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := members(t, quietHub(t), "lobby", "ana", "bob")
		for _, client := range c {
			enter(client, "hall")
		}
		typing(c[0])
		c[0].Send(hubtest.Frame{Type: "typing", Room: "hall"})
		got := arrived(c[1])
		if len(got) != 2 || got[0].Room != "lobby" || got[1].Room != "hall" {
			t.Errorf("got %+v", got)
		}
		c[0].Must(hubtest.Frame{Type: "leave-room", Room: "hall"})
		if got := arrived(c[1]); len(got) != 1 || got[0].Type != "stop-typing" || got[0].Room != "hall" {
			t.Errorf("got %+v", got)
		}
	})
}

// Typing on another hub ends for all, even if that hub cannot say so any more.
func TestTypingOnAnotherHub(t *testing.T) {
	for name, lost := range map[string]func(*unsteady, *hubtest.Client){
		"the hub is killed": func(broker *unsteady, _ *hubtest.Client) { broker.links[0].kill() },
		"its word is lost": func(broker *unsteady, ana *hubtest.Client) {
			broker.weather(1, 0, 0)
			stopTyping(ana)
			time.Sleep(time.Second)
			broker.weather(0, 0, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := newUnsteady(1)
				hubs := broker.hubs(t, 2, chathub.Config{PresenceInterval: -1})
				ana, bob := hubtest.Dial(t, hubs[0], "ana"), hubtest.Dial(t, hubs[1], "bob")
				enter(ana, "lobby")
				enter(bob, "lobby")
				for range 4 { // still typing
					typing(ana)
					time.Sleep(9 * time.Second)
					expectTyping(t, bob, "ana", "typing")
				}
				lost(broker, ana)
				time.Sleep(10 * time.Second)
				expectTyping(t, bob, "ana", "stop-typing")
				time.Sleep(time.Minute)
				expectNothing(t, bob)
			})
		})
	}
	t.Run("said once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			hubs := newUnsteady(1).hubs(t, 2, chathub.Config{PresenceInterval: -1})
			ana, bob := hubtest.Dial(t, hubs[0], "ana"), hubtest.Dial(t, hubs[1], "bob")
			enter(ana, "lobby")
			enter(bob, "lobby")
			typing(ana)
			time.Sleep(12 * time.Second)
			expectTyping(t, bob, "ana", "typing", "stop-typing")
			typing(ana)
			time.Sleep(time.Second)
			ana.Drop()
			time.Sleep(time.Minute)
			expectTyping(t, bob, "ana", "typing", "stop-typing")
		})
	})
	t.Run("and on this one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			broker := newUnsteady(1)
			hubs := broker.hubs(t, 2, chathub.Config{PresenceInterval: -1})
			ana, again, bob := hubtest.Dial(t, hubs[0], "ana"), hubtest.Dial(t, hubs[1], "ana"), hubtest.Dial(t, hubs[1], "bob")
			for _, c := range []*hubtest.Client{ana, again, bob} {
				enter(c, "lobby")
			}
			typing(ana)
			expectTyping(t, bob, "ana", "typing")
			broker.links[0].kill()
			for range 4 {
				typing(again)
				time.Sleep(5 * time.Second)
				expectTyping(t, bob, "ana", "typing")
			}
			stopTyping(again)
			expectTyping(t, bob, "ana", "stop-typing")
			time.Sleep(time.Minute)
			expectNothing(t, bob)
		})
	})
}
