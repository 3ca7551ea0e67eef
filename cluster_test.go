package chathub_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// cluster is two hubs on one broker.
func cluster(t *testing.T) (broker *chathub.MemoryBroker, one, two *party) {
	broker = &chathub.MemoryBroker{MaxMessages: -1}
	return broker, newParty(t, chathub.Config{Broker: broker}), newParty(t, chathub.Config{Broker: broker})
}

// An emit from any hub reaches its target on all hubs.
func TestClusterEmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := cluster(t)
		guests := map[string]guest{
			"ana1": one.dial("ana", "red"),
			"ana2": two.dial("ana", "blue"),
			"bob2": two.dial("bob", "red", "blue"),
			"cid1": one.dial("cid"),
		}
		ana1, bob2 := guests["ana1"].server, guests["bob2"].server
		for _, tc := range []struct {
			name string
			to   emitter
			want []string
		}{
			{"everyone", one.hub, []string{"ana1", "ana2", "bob2", "cid1"}},
			{"everyone but one here", ana1.Broadcast(), []string{"ana2", "bob2", "cid1"}},
			{"everyone but one there", ana1.Broadcast().Except(bob2.ID()), []string{"ana2", "cid1"}},
			{"a room", one.hub.To("red"), []string{"ana1", "bob2"}},
			{"a room, from there", two.hub.To("red"), []string{"ana1", "bob2"}},
			{"a room of the other hub", one.hub.To("blue"), []string{"ana2", "bob2"}},
			{"a room without one", bob2.To("red"), []string{"ana1"}},
			{"rooms, each client once", one.hub.To("red", "blue"), []string{"ana1", "ana2", "bob2"}},
			{"a user", two.hub.ToUser("ana"), []string{"ana1", "ana2"}},
			{"users", one.hub.ToUser("bob", "cid"), []string{"bob2", "cid1"}},
			{"a connection of the other hub", one.hub.ToClient(bob2.ID()), []string{"bob2"}},
			{"connections of both", two.hub.ToClient(bob2.ID(), ana1.ID()), []string{"ana1", "bob2"}},
		} {
			targets := []emitter{tc.to}
			if to, ok := tc.to.(chathub.Target); ok {
				targets = append(targets, to.Volatile())
			}
			for _, to := range targets {
				if err := to.Emit(t.Context(), "news", tc.name); err != nil {
					t.Errorf("%s: %v", tc.name, err)
				}
				for name, g := range guests {
					got, want := len(g.heard()), 0
					if slices.Contains(tc.want, name) {
						want = 1
					}
					if got != want {
						t.Errorf("%s: %s heard %d, want %d", tc.name, name, got, want)
					}
				}
			}
		}
	})
}

// What clients send reaches other hubs too.
func TestClusterEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := cluster(t)
		ana, tab, bob := one.dial("ana", "red"), two.dial("ana"), two.dial("bob", "red")
		ana.Must(hubtest.Frame{Type: "room-message", ID: "m1", Room: "red", Data: raw(`1`)})
		ana.Must(hubtest.Frame{Type: "typing", Room: "red"})
		ana.Must(hubtest.Frame{Type: "private-message", To: "bob", Data: raw(`2`)})
		ana.Must(hubtest.Frame{Type: "send-notification", To: "bob", Data: raw(`3`)})
		ana.Must(hubtest.Frame{Type: "message", Data: raw(`4`)})
		sorted := func(g guest) []string { // different topics have no common order
			got := g.heard()
			slices.Sort(got)
			return got
		}
		if got, want := sorted(bob), []string{`message 4`, `notification 3`, `private-message 2`, `room-message@red 1`, `typing@red`}; !slices.Equal(got, want) {
			t.Errorf("bob heard %q, want %q", got, want)
		}
		if got, want := sorted(tab), []string{`message 4`, `private-message 2`}; !slices.Equal(got, want) {
			t.Errorf("ana's other connection heard %q, want %q", got, want)
		}

		// After a reconnect, the repetition of a message comes from another
		// hub.
		ana.Drop()
		wantHeard(t, "bob", bob.Client, `stop-typing@red`)
		ana = two.dial("ana", "red")
		f := ana.Must(hubtest.Frame{Type: "room-message", ID: "m1", Room: "red", Data: raw(`1`)})
		if f.Seq != 1 || !strings.Contains(string(f.Data), `"dup":true`) {
			t.Errorf("the repetition: seq %d, %s", f.Seq, f.Data)
		}
		wantHeard(t, "bob", bob.Client)
	})
}

func TestClusterCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := cluster(t)
		ana, tab, bob := one.dial("ana"), two.dial("ana"), two.dial("bob")
		ctx := t.Context()
		if err := one.hub.ToUser("ana").Join(ctx, "red", "blue"); err != nil {
			t.Error(err)
		}
		if err := one.hub.ToClient(bob.server.ID()).Join(ctx, "red"); err != nil {
			t.Error(err)
		}
		synctest.Wait() // the other hub acts when the message reaches it
		if got := fmt.Sprint(ana.server.Rooms(), tab.server.Rooms(), bob.server.Rooms()); got != "[red blue] [red blue] [red]" {
			t.Errorf("rooms after Join: %s", got)
		}
		if err := two.hub.To("red").Leave(ctx, "red"); err != nil { // which waits for the other hub
			t.Error(err)
		}
		if got := fmt.Sprint(ana.server.Rooms(), tab.server.Rooms(), bob.server.Rooms()); got != "[blue] [blue] []" {
			t.Errorf("rooms after Leave: %s", got)
		}
		if err := two.hub.To("blue").Emit(ctx, "news", nil); err != nil {
			t.Error(err)
		}
		wantHeard(t, "ana", ana.Client, "removed@red {}", "news@blue")
		wantHeard(t, "tab", tab.Client, "removed@red {}", "news@blue")
		if err := two.hub.ToUser("ana").Disconnect(ctx, "logged out"); err != nil {
			t.Error(err)
		}
		for _, c := range []guest{ana, tab} {
			if code, reason := c.Closed(); code != 4503 || reason != "logged out" {
				t.Errorf("closed with %d %q", code, reason)
			}
		}
		if err := one.hub.Close(); err != nil {
			t.Error(err)
		}
		bob.Must(hubtest.Frame{Type: "ping"})
		if err := two.hub.ToUser("bob").Emit(ctx, "news", nil); err != nil {
			t.Error(err)
		}
		wantHeard(t, "bob", bob.Client, "news")
	})
}

// All members of a room see its messages in one order, whichever hub they and
// the senders are on.
func TestClusterOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := cluster(t)
		members := []guest{one.dial("a", "red"), one.dial("b", "red"), two.dial("c", "red"), two.dial("d", "red")}
		const each = 100
		var wg sync.WaitGroup
		for i, g := range members {
			for n := range each {
				g.Send(hubtest.Frame{Type: "room-message", Room: "red", Data: hubtest.Data(fmt.Sprint(i, " ", n))})
			}
			wg.Go(func() {
				for n := range each {
					if err := g.server.To("red").Except().Emit(t.Context(), "news", n); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		type message struct {
			seq  uint64
			text string
		}
		var heard [4][]message
		at := make(map[uint64]string)
		for i, g := range members {
			last := uint64(0)
			for _, f := range g.Pending() {
				if f.Seq <= last {
					t.Errorf("member %d heard %d after %d", i, f.Seq, last)
				}
				last = f.Seq
				heard[i] = append(heard[i], message{f.Seq, string(f.Data)})
				if was, ok := at[f.Seq]; ok && was != string(f.Data) {
					t.Errorf("message %d is %s and %s", f.Seq, was, f.Data)
				}
				at[f.Seq] = string(f.Data)
			}
			// All but what it emitted to the others.
			if want := 4*each + 3*each; len(heard[i]) != want {
				t.Errorf("member %d heard %d messages, want %d", i, len(heard[i]), want)
			}
		}
		if len(at) != 8*each {
			t.Errorf("%d messages, want %d", len(at), 8*each)
		}
	})
}

// traveller is a client that goes from hub to hub and resumes there.
type traveller struct {
	guest
	room, inbox     chathub.Position
	inRoom, private []int // numbers of the messages that it received
}

// note records messages that have come.
func (v *traveller) note(t *testing.T, frames ...hubtest.Frame) {
	for _, f := range frames {
		var n int
		switch f.Type {
		case "room-message":
			unmarshal(t, f.Data, &n)
			v.inRoom, v.room.Seq = append(v.inRoom, n), f.Seq
		case "private-message":
			unmarshal(t, f.Data, &n)
			v.private, v.inbox.Seq = append(v.private, n), f.Seq
		}
	}
}

// resume goes on at another hub, and reports whether everything was recovered.
// What comes before the answer comes again after it.
func (v *traveller) resume(p *party) bool {
	v.guest = p.dial("ana")
	f := v.Must(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{
		"rooms": map[string]any{"red": v.room},
		"inbox": v.inbox,
	})})
	return strings.Count(string(f.Data), `"recovered":true`) == 2
}

// A client whose hub shuts down resumes on the next one, and sees every message
// once and in order, while others go on sending.
func TestRollingRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, old, next := cluster(t)
		sender := newParty(t, chathub.Config{Broker: broker}).dial("sender", "red")
		ana := &traveller{guest: old.dial("ana")}
		unmarshal(t, ana.Must(hubtest.Frame{Type: "join-room", Room: "red"}).Data, &ana.room)
		var welcome struct {
			Inbox chathub.Position `json:"inbox"`
		}
		unmarshal(t, ana.Welcome.Data, &welcome)
		ana.inbox = welcome.Inbox

		sent := 0
		send := func(n int) {
			for range n {
				sent++
				sender.Send(hubtest.Frame{Type: "room-message", Room: "red", Data: hubtest.Data(sent)})
				sender.Send(hubtest.Frame{Type: "private-message", To: "ana", Data: hubtest.Data(sent)})
			}
		}
		for range 4 {
			send(20)
			ana.note(t, ana.Next()) // the shutdown comes in the middle of the messages
			if err := old.hub.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if code, _ := ana.Closed(); code != 4000 {
				t.Fatalf("closed with %d", code)
			}
			ana.note(t, ana.Pending()...)
			send(20)
			if !ana.resume(next) {
				t.Error("a resume did not recover everything")
			}
			old, next = next, newParty(t, chathub.Config{Broker: broker})
		}
		synctest.Wait()
		ana.note(t, ana.Pending()...)
		for name, got := range map[string][]int{"room": ana.inRoom, "inbox": ana.private} {
			if want := oneTo(sent); !slices.Equal(got, want) {
				t.Errorf("%s: ana saw %v, want 1 to %d", name, got, sent)
			}
		}
	})
}

func oneTo(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i + 1
	}
	return s
}

// A client that repeats everything that was not acked, with the same ids, on
// the next hub, has every message stored once.
func TestRollingRestartOfSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, old, next := cluster(t)
		witness := newParty(t, chathub.Config{Broker: broker}).dial("witness", "red")
		logs := openJournal(t, broker)
		open := make(map[string]hubtest.Frame) // not acked yet
		sent := 0
		for range 4 {
			ana := old.dial("ana", "red")
			for _, f := range open {
				ana.Send(f)
			}
			for range 50 {
				sent++
				f := hubtest.Frame{Type: "room-message", ID: fmt.Sprint("m", sent), Room: "red", Data: hubtest.Data(sent)}
				open[f.ID] = f
				ana.Send(f)
			}
			for range 10 { // the shutdown comes in the middle of the messages
				if f := ana.Next(); f.Type == "ack" {
					delete(open, f.ID)
				}
			}
			if err := old.hub.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			ana.Closed()
			for _, f := range ana.Pending() {
				if f.Type == "ack" {
					delete(open, f.ID)
				}
			}
			old, next = next, newParty(t, chathub.Config{Broker: broker})
		}
		ana := old.dial("ana", "red")
		for _, f := range open {
			ana.Must(f)
		}
		synctest.Wait()
		var heard []int
		for _, f := range witness.Pending() {
			var n int
			unmarshal(t, f.Data, &n)
			heard = append(heard, n)
		}
		slices.Sort(heard) // the repetitions have no order
		if !slices.Equal(heard, oneTo(sent)) {
			t.Errorf("the witness saw %v, want 1 to %d", heard, sent)
		}
		if n := logs.count(chathub.Topic{Room: "red"}); n != sent {
			t.Errorf("%d messages are stored, want %d", n, sent)
		}
	})
}
