package chathub_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestLinger: a room's messages wait for each other, answers for nothing, and the
// order is the same.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{Linger: 20 * time.Millisecond})
		ana, bob := p.dial("ana", "lobby"), p.dial("bob", "lobby")
		say := func(text string) {
			t.Helper()
			begin := time.Now()
			ana.Must(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data(text)})
			if d := time.Since(begin); d > 0 {
				t.Errorf("the ack of %s took %v", text, d)
			}
		}
		for range 2 {
			say("one")
			time.Sleep(19 * time.Millisecond)
			wantHeard(t, "bob", bob.Client)
			say("two")
			time.Sleep(time.Millisecond)
			wantHeard(t, "bob", bob.Client, `room-message@lobby "one"`, `room-message@lobby "two"`)
		}

		// What is for one client goes out behind what waits for it.
		say("three")
		if err := bob.server.Leave(t.Context(), "lobby"); err != nil {
			t.Fatal(err)
		}
		wantHeard(t, "bob", bob.Client, `room-message@lobby "three"`)
		bob.Must(hubtest.Frame{Type: "join-room", Room: "lobby"})
		say("four")
		bob.server.Disconnect("bye")
		wantHeard(t, "bob", bob.Client, `room-message@lobby "four"`)

		// It does not wait beyond what an outbox should hold.
		carol := p.dial("carol", "lobby")
		big := make([]byte, 20<<10)
		for i := range big {
			big[i] = 'x'
		}
		for range 4 {
			say(string(big))
		}
		if got := carol.heard(); len(got) < 3 {
			t.Errorf("of 80 KiB, %d messages were sent at once", len(got))
		}
	})
}
