package moderation_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
)

func slow(room string, every time.Duration) moderation.Decision {
	return moderation.Decision{Kind: moderation.Slow, Room: room, Every: every}
}

// TestSlow: a user sends one message in a time, whatever the connection and the
// node, and is told how long to wait.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := cluster(t, moderation.Config{}, chathub.Config{})
		ana, tab, far := a.dial("ana", "lobby", "hall"), a.dial("ana", "lobby"), b.dial("ana", "lobby")
		bob, mod := b.dial("bob", "lobby"), a.dial("mod1", "lobby")
		pos := b.decide(slow("lobby", 30*time.Second))
		if f := ana.Wait("state-changed"); f.Seq != pos.Seq || string(f.Data) != `{"key":"moderation","value":{"everyMs":30000}}` {
			t.Errorf("members see %s at %d, want %d", f.Data, f.Seq, pos.Seq)
		}
		expect(t, "the first", ana, text("lobby", "1"), "ack")
		expect(t, "the second", ana, text("lobby", "2"), "rate_limited: Slow mode (30s)")
		time.Sleep(10 * time.Second)
		expect(t, "another connection", tab, text("lobby", "2"), "rate_limited: Slow mode (20s)")
		expect(t, "another node", far, text("lobby", "2"), "rate_limited: Slow mode (20s)")
		expect(t, "another room", ana, text("hall", "2"), "ack")
		expect(t, "another user", bob, text("lobby", "2"), "ack")
		expect(t, "no message", ana, frame("typing", "lobby", nil), "ack")
		for i := range 3 {
			expect(t, "exempt", mod, text("lobby", fmt.Sprint(i)), "ack")
		}
		time.Sleep(20 * time.Second)
		expect(t, "later, on another node", far, text("lobby", "3"), "ack")
		expect(t, "and again", ana, text("lobby", "4"), "rate_limited: Slow mode (30s)")
		a.decide(slow("lobby", 10*time.Second))
		expect(t, "faster", ana, text("lobby", "4"), "rate_limited: Slow mode (10s)")
		a.lift(moderation.Slow, "lobby", "")
		expect(t, "lifted", ana, text("lobby", "4"), "ack")
		expect(t, "lifted", ana, text("lobby", "5"), "ack")
	})
}

// TestSlowBefore: messages from before slow mode count, those of another
// process included.
func TestSlowBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		a := newNode(t, moderation.Config{}, chathub.Config{Broker: broker})
		a.dial("old", "lobby").Must(text("lobby", "0"))
		time.Sleep(20 * time.Second)
		ana := a.dial("ana", "lobby")
		ana.Must(text("lobby", "1"))
		for i := range 300 { // more than one page
			a.post("lobby", fmt.Sprint("user", i))
		}
		a.decide(slow("lobby", 20*time.Second))
		expect(t, "the first", ana, text("lobby", "2"), "rate_limited: Slow mode (20s)")
		time.Sleep(10 * time.Second)
		b := newNode(t, moderation.Config{}, chathub.Config{Broker: broker})
		expect(t, "after a restart", b.dial("ana", "lobby"), text("lobby", "2"), "rate_limited: Slow mode (10s)")
		expect(t, "after a restart", b.dial("old", "lobby"), text("lobby", "2"), "ack")
	})
}

// TestSlowRepeated: a message that was stored may be repeated, and one that was
// not does not count.
func TestSlowRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		a, b := cluster(t, moderation.Config{}, chathub.Config{})
		a.hub.Use(failing(&fails))
		ana, far := a.dial("ana", "lobby"), b.dial("ana", "lobby")
		a.decide(slow("lobby", 30*time.Second))
		fails.Store(true)
		expect(t, "not stored", ana, text("lobby", "1"), "unavailable: Try again")
		fails.Store(false)
		m := text("lobby", "1")
		m.ID = "m1"
		expect(t, "again", ana, m, "ack")
		for _, c := range []*hubtest.Client{ana, far} {
			if f := c.Request(m); f.Type != "ack" || !strings.Contains(string(f.Data), `"dup":true`) {
				t.Errorf("repeated: %s %s", f.Type, f.Data)
			}
		}
		m.ID = "m2"
		expect(t, "another", ana, m, "rate_limited: Slow mode (30s)")
		if got := a.log("lobby"); len(got) != 1 {
			t.Errorf("the log has %q", got)
		}
	})
}

// TestSlowBrokerDown: while the log cannot be read, nobody passes unchecked.
func TestSlowBrokerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &flaky{}
		a := newNode(t, moderation.Config{}, chathub.Config{Broker: broker})
		ana := a.dial("ana", "lobby")
		ana.Must(text("lobby", "1"))
		a.decide(slow("lobby", 30*time.Second))
		broker.set("Read", chathub.Unavailable(errors.New("down")))
		expect(t, "down", ana, text("lobby", "2"), "unavailable: Try again")
		broker.set("Read", nil)
		expect(t, "back", ana, text("lobby", "2"), "rate_limited: Slow mode (30s)")
	})
}

// TestSlowForgets: what slow mode knows of a room goes when nobody writes
// there, or when slow mode ends, and comes back when it is needed.
func TestSlowForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &flaky{}
		a := newNode(t, moderation.Config{}, chathub.Config{Broker: broker})
		a.decide(slow("lobby", time.Hour))
		a.decide(slow("hall", time.Second))
		ana := a.dial("ana", "lobby", "hall")
		ana.Must(text("lobby", "1"))
		ana.Must(text("hall", "1"))
		a.lift(moderation.Slow, "hall", "")
		ana.Must(text("hall", "2"))
		ana.Close()
		time.Sleep(30 * time.Minute)
		if n := broker.count("hall"); n != 0 {
			t.Errorf("a room that is not slow any more has %d subscriptions", n)
		}
		if n := broker.count("lobby"); n != 1 {
			t.Errorf("the slow room has %d subscriptions, want 1", n)
		}
		ana = a.dial("ana", "lobby")
		expect(t, "it is known", ana, text("lobby", "2"), "rate_limited: Slow mode (30m0s)")
		ana.Close()
		time.Sleep(2 * time.Hour)
		if n := broker.count("lobby"); n != 0 {
			t.Errorf("an idle room has %d subscriptions", n)
		}
		ana = a.dial("ana", "lobby")
		ana.Must(text("lobby", "3"))
		expect(t, "it is known again", ana, text("lobby", "4"), "rate_limited: Slow mode (1h0m0s)")
	})
}
