package chathub_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// lagging is a Broker whose hub can be behind: its deliveries wait.
type lagging struct {
	*chathub.MemoryBroker
	mu      sync.Mutex
	behind  bool
	waiting []chathub.Message
	deliver func(chathub.Message)
}

func (b *lagging) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	b.deliver = deliver
	return b.MemoryBroker.Attach(ctx, func(m chathub.Message) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.behind {
			b.waiting = append(b.waiting, m)
		} else {
			deliver(m)
		}
	})
}

func (b *lagging) set(behind bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.waiting {
		b.deliver(m)
	}
	b.behind, b.waiting = behind, nil
}

// A client comes to a hub that does not have the messages yet that the client
// knows. It has missed nothing, and hears nothing twice.
func TestResumeAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		late := &lagging{MemoryBroker: broker}
		one, two := newParty(t, chathub.Config{Broker: broker}), newParty(t, chathub.Config{Broker: late})
		bob := two.dial("bob", "red") // so that two has the room
		two.dial("ana")               // and the inbox
		cid := two.dial("cid", "red")
		ana := one.dial("ana", "red")
		say := func(c *hubtest.Client, data string) {
			c.Must(hubtest.Frame{Type: "room-message", Room: "red", Data: raw(data)})
		}
		note := func(data string) {
			if err := one.hub.ToUser("ana").Emit(t.Context(), "note", raw(data)); err != nil {
				t.Fatal(err)
			}
		}
		say(bob.Client, `1`)
		note(`1`)
		late.set(true)
		say(ana.Client, `2`)
		note(`2`)
		head := position(t, ana.Must(hubtest.Frame{Type: "join-room", Room: "red"}))
		inbox := *resume(t, ana.Client, resumeRequest{Inbox: &chathub.Position{}}).Inbox

		moved := hubtest.Dial(t, two.hub, "ana")
		since := resumeRequest{
			Rooms: map[string]chathub.Position{"red": head},
			Inbox: &chathub.Position{Epoch: inbox.Epoch, Seq: inbox.Seq},
		}
		for range 2 { // the second time, the client is still ahead
			answer := resume(t, moved, since)
			if red := answer.Rooms["red"]; !red.Recovered || red.Seq != head.Seq {
				t.Errorf("red: recovered %v, seq %d, want %d", red.Recovered, red.Seq, head.Seq)
			}
			if !answer.Inbox.Recovered || answer.Inbox.Seq != inbox.Seq {
				t.Errorf("inbox: recovered %v, seq %d, want %d", answer.Inbox.Recovered, answer.Inbox.Seq, inbox.Seq)
			}
		}
		late.set(false)
		say(bob.Client, `3`)
		wantHeard(t, "ana", moved, `room-message@red 3`)
		note(`3`)
		wantHeard(t, "ana", moved, `note 3`)
		wantHeard(t, "cid", cid.Client, `room-message@red 1`, `room-message@red 2`, `room-message@red 3`)

		// A position that the log never had belongs to another state of it.
		far := head
		far.Seq += 1000
		if red := resume(t, moved, resumeRequest{Rooms: map[string]chathub.Position{"red": far}}).Rooms["red"]; red.Recovered {
			t.Errorf("a position of the future: recovered, seq %d", red.Seq)
		}
	})
}
