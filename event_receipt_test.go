package chathub_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// receiptsOf returns the receipts among what has come for a client since.
func receiptsOf(t testing.TB, c *hubtest.Client) (all []string) {
	t.Helper()
	for _, f := range ofType(arrived(c), "read") {
		if f.Seq == 0 {
			all = append(all, f.Room+" "+string(f.Data))
			if f.From != nil || f.ID != "" || f.To != "" {
				t.Errorf("a receipt is %+v", f)
			}
		}
	}
	return all
}

func wantReceipts(t testing.TB, who string, c *hubtest.Client, want ...string) {
	t.Helper()
	if got := receiptsOf(t, c); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s heard %q, want %q", who, got, want)
	}
}

// receiptHubs returns two nodes that send receipts.
func receiptHubs(t testing.TB, cfg chathub.Config) []*chathub.Hub {
	if cfg.Broker == nil {
		cfg.Broker = &chathub.MemoryBroker{}
	}
	cfg.Rate, cfg.ReadReceipts = -1, true
	return []*chathub.Hub{hubtest.New(t, cfg), hubtest.New(t, cfg)}
}

// enterAll connects a client of each user, which joins rooms.
func enterAll(t testing.TB, hub *chathub.Hub, user string, rooms ...string) *hubtest.Client {
	c := hubtest.Dial(t, hub, user)
	for _, room := range rooms {
		enter(c, room)
	}
	return c
}

// Members of a room hear how far the others have read, gathered for a moment by
// each node. Nobody else hears it, and nobody hears of others.
func TestReceipts(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, -1} {
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hubs := receiptHubs(t, chathub.Config{PresenceInterval: interval})
				gather := max(interval, 100*time.Millisecond)
				bob, zoe := enterAll(t, hubs[0], "bob", "red", "blue"), enterAll(t, hubs[1], "zoe", "red", "blue")
				for range 5 {
					say(bob, "red", "hi")
					say(bob, "blue", "hi")
				}
				ana, cid := enterAll(t, hubs[0], "ana", "red"), enterAll(t, hubs[0], "cid", "red", "blue")
				dan, eve := enterAll(t, hubs[1], "dan", "red"), enterAll(t, hubs[1], "eve")
				for _, c := range []*hubtest.Client{bob, zoe} {
					arrived(c)
				}
				ana.Must(markRead("red", 2))
				ana.Must(markRead("red", 3))
				cid.Must(markRead("red", 5))
				cid.Must(markRead("red", 1)) // no news
				cid.Must(markRead("blue", 4))
				dan.Must(markRead("red", 1))
				// Not a member, neither, and no room.
				eve.Must(markRead("red", 5))
				ana.Must(markRead("blue", 5))
				ana.Must(hubtest.Frame{Type: "private-message", To: "bob", Data: raw("1")})
				ana.Must(markSeen("bob", 1))
				time.Sleep(gather - time.Millisecond)
				for _, c := range []*hubtest.Client{ana, bob, cid, dan, eve, zoe} {
					wantReceipts(t, "a client, too soon,", c)
				}
				time.Sleep(time.Millisecond)
				one, two := `red {"users":[{"id":"ana","seq":3},{"id":"cid","seq":5}]}`, `red {"users":[{"id":"dan","seq":1}]}`
				blue := `blue {"users":[{"id":"cid","seq":4}]}`
				for who, c := range map[string]*hubtest.Client{"bob": bob, "zoe": zoe, "cid": cid, "ana": ana, "eve": eve} {
					got := make(map[string]int)
					for _, r := range receiptsOf(t, c) {
						got[r]++
					}
					want := map[string]int{one: 1, two: 1, blue: 1}
					switch who {
					case "ana":
						delete(want, blue)
					case "eve":
						clear(want)
					}
					if fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("%s heard %v, want %v", who, got, want)
					}
				}
				time.Sleep(10 * gather)
				wantReceipts(t, "bob", bob)
				ana.Must(markRead("red", 4))
				time.Sleep(gather)
				wantReceipts(t, "bob, later,", bob, `red {"users":[{"id":"ana","seq":4}]}`)
				page := ana.Must(hubtest.Frame{Type: "history", Room: "red"})
				if n := len(dataOf[historyData](t, page).Messages); n != 5 {
					t.Errorf("history has %d messages", n)
				}
			})
		})
	}
}

// Without Config.ReadReceipts nobody hears what others read.
func TestNoReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, bob := p.dial("ana", "lobby"), p.dial("bob", "lobby")
		say(bob.Client, "lobby", "hi")
		arrived(ana.Client)
		ana.Must(markRead("lobby", 1))
		time.Sleep(time.Minute)
		expectNothing(t, ana.Client, bob.Client)
	})
}

// A room that is too large to name its users has no receipts.
func TestReceiptsOfManyUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hubs := receiptHubs(t, chathub.Config{PresenceListLimit: 3})
		ana, bob, cid := enterAll(t, hubs[0], "ana", "lobby"), enterAll(t, hubs[0], "bob", "lobby"), enterAll(t, hubs[1], "cid", "lobby")
		for range 9 {
			say(bob, "lobby", "hi")
		}
		time.Sleep(time.Minute)
		arrived(bob)
		ana.Must(markRead("lobby", 1))
		time.Sleep(time.Minute)
		wantReceipts(t, "bob, of three,", bob, `lobby {"users":[{"id":"ana","seq":1}]}`)
		dan := enterAll(t, hubs[1], "dan", "lobby")
		time.Sleep(time.Minute)
		ana.Must(markRead("lobby", 2))
		dan.Must(markRead("lobby", 2))
		time.Sleep(time.Minute)
		wantReceipts(t, "bob, of four,", bob)
		// One that is gathered is not sent if there are too many by then.
		dan.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		time.Sleep(time.Minute)
		ana.Must(markRead("lobby", 3))
		fay := enterAll(t, hubs[0], "fay", "lobby")
		time.Sleep(time.Minute)
		wantReceipts(t, "bob, of four again,", bob)
		fay.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
		time.Sleep(time.Minute)
		cid.Must(markRead("lobby", 4))
		time.Sleep(time.Minute)
		wantReceipts(t, "bob, of three again,", bob, `lobby {"users":[{"id":"cid","seq":4}]}`)
	})
}

// The others hear of a user who reads and leaves at once, even if nobody of the
// room is left on that node.
func TestReceiptOfLeaver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, interval := range []time.Duration{time.Second, -1} {
			hubs := receiptHubs(t, chathub.Config{PresenceInterval: interval, PresenceGrace: -1})
			bob, ana := enterAll(t, hubs[0], "bob", "lobby"), enterAll(t, hubs[1], "ana", "lobby")
			say(bob, "lobby", "hi")
			ana.Must(markRead("lobby", 1))
			ana.Must(hubtest.Frame{Type: "leave-room", Room: "lobby"})
			time.Sleep(time.Minute)
			wantReceipts(t, "bob", bob, `lobby {"users":[{"id":"ana","seq":1}]}`)
		}
	})
}

// Nothing is sent once a hub is closed, by whichever way.
func TestReceiptsAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, end := range []func(h *chathub.Hub) error{(*chathub.Hub).Close, func(h *chathub.Hub) error { return h.Shutdown(t.Context()) }} {
			hubs := receiptHubs(t, chathub.Config{PresenceInterval: time.Minute})
			bob, ana := enterAll(t, hubs[0], "bob", "lobby"), enterAll(t, hubs[1], "ana", "lobby")
			say(bob, "lobby", "hi")
			ana.Must(markRead("lobby", 1))
			if err := end(hubs[1]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			wantReceipts(t, "bob", bob)
		}
	})
}
