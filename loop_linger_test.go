package chathub_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// The messages of a room wait for each other. Answers wait for nothing. The
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
				t.Errorf("the ack for %s took %v", text, d)
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

		// A frame for one client goes behind the frames that wait for it.
		say("three")
		if err := bob.server.Leave(t.Context(), "lobby"); err != nil {
			t.Fatal(err)
		}
		wantHeard(t, "bob", bob.Client, `room-message@lobby "three"`, `removed@lobby {}`)
		bob.Must(hubtest.Frame{Type: "join-room", Room: "lobby"})
		say("four")
		bob.server.Disconnect("bye")
		wantHeard(t, "bob", bob.Client, `room-message@lobby "four"`)

		// Frames do not wait if they would fill too much of an outbox.
		carol := p.dial("carol", "lobby")
		big := make([]byte, 20<<10)
		for i := range big {
			big[i] = 'x'
		}
		for range 4 {
			say(string(big))
		}
		if got := carol.heard(); len(got) < 3 {
			t.Errorf("%d messages of 80 KiB were sent at once", len(got))
		}
	})
}
