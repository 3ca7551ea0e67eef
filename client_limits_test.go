package chathub_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// retryAfter returns how long a rate_limited error says to wait.
func retryAfter(t *testing.T, f hubtest.Frame) time.Duration {
	t.Helper()
	d := dataOf[struct {
		Code         chathub.Code `json:"code"`
		Message      string       `json:"message"`
		RetryAfterMs int64        `json:"retryAfterMs"`
	}](t, f)
	if d.Code != chathub.CodeRateLimited || d.RetryAfterMs <= 0 {
		t.Fatalf("got %s %s", f.Type, f.Data)
	}
	return time.Duration(d.RetryAfterMs) * time.Millisecond
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, Rate: 4, Burst: 10})
		calm, c := hubtest.Dial(t, hub, "calm"), hubtest.Dial(t, hub, "ana")
		for i := range 15 {
			c.Send(hubtest.Frame{Type: "message", ID: fmt.Sprint(i), Data: hubtest.Data(i)})
		}
		got := arrived(c)
		if len(ofType(got, "ack")) != 10 || len(ofType(got, "error")) != 5 {
			t.Fatalf("got %+v", got)
		}
		for i, f := range ofType(got, "error") {
			if wait := retryAfter(t, f); f.ID != fmt.Sprint(10+i) || wait > 250*time.Millisecond {
				t.Errorf("error %d has id %s, and says to wait %v", i, f.ID, wait)
			}
		}
		if got := arrived(calm); len(got) != 10 { // refused events reach nobody
			t.Errorf("another client got %d messages", len(got))
		}
		for range 3 { // a client that waits as told is served, and each event costs one token
			f := hubtest.Frame{Type: "ping"}
			wait := retryAfter(t, expectRefused(t, c, f, chathub.CodeRateLimited))
			time.Sleep(wait)
			c.Must(f)
		}
		calm.Must(hubtest.Frame{Type: "ping"})
	})
}

// A client that goes on in spite of the errors is closed.
func TestRateExceededRepeatedly(t *testing.T) {
	for name, text := range map[string]string{
		"events":                 `{"type":"message","data":1}`,
		"answers to no question": `{"type":"ack","id":"x"}`,
		"unknown types":          `{"type":"nonsense"}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
				calm, c := hubtest.Dial(t, hub, "calm"), hubtest.Dial(t, hub, "ana")
				for range 1000 {
					c.SendText(text)
				}
				if code, _ := c.Closed(); code != 4005 {
					t.Errorf("closed with %d", code)
				}
				calm.Must(hubtest.Frame{Type: "ping"})
			})
		})
	}
}

// The connections of a user share a limit.
func TestRateOfUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, UserRate: 1, UserBurst: 6})
		c, tab, other := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		ping := hubtest.Frame{Type: "ping"}
		for range 3 {
			c.Must(ping)
			tab.Must(ping)
		}
		retryAfter(t, expectRefused(t, c, ping, chathub.CodeRateLimited))
		retryAfter(t, expectRefused(t, tab, ping, chathub.CodeRateLimited))
		for range 6 {
			other.Must(ping)
		}
		time.Sleep(time.Second)
		tab.Must(ping)
		retryAfter(t, expectRefused(t, c, ping, chathub.CodeRateLimited))
	})
}

func TestRates(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  chathub.Config
		want int // of 500 events at once
	}{
		{"default", chathub.Config{}, 100},
		{"off", chathub.Config{Rate: -1}, 500},
		{"burst of twice the rate", chathub.Config{Rate: 20}, 40},
		{"less than one in two seconds", chathub.Config{Rate: 0.1}, 1},
		{"of the user", chathub.Config{Rate: -1, UserRate: 15, UserBurst: 30}, 30},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.cfg.PresenceInterval = -1
				c := hubtest.Dial(t, hubtest.New(t, tc.cfg), "ana")
				for range 500 {
					c.SendText(`{"type":"ping"}`)
				}
				if got := len(ofType(arrived(c), "pong")); got != tc.want {
					t.Errorf("%d events were served, want %d", got, tc.want)
				}
			})
		})
	}
}

func TestConnectionsPerUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{MaxConnsPerUser: 2})
		first := hubtest.Dial(t, hub, "ana")
		hubtest.Dial(t, hub, "ana")
		hubtest.Dial(t, hub, "bob")
		for range 3 {
			c := knock(t, hub, "ana")
			if f := c.Next(); f.Type != "connect-error" || f.Code() != chathub.CodeLimitExceeded {
				t.Errorf("got %s %s", f.Type, f.Data)
			}
			if code, _ := c.Closed(); code != 4504 {
				t.Errorf("closed with %d", code)
			}
		}
		first.Drop()
		synctest.Wait()
		hubtest.Dial(t, hub, "ana")
	})
}

func TestConnectionsPerAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, tc := range []struct {
		name    string
		proxies []netip.Prefix
		hops    []string // X-Forwarded-For of one connection after another
		want    []bool
	}{
		{"one address", proxies, []string{"198.51.100.1", "198.51.100.1", "198.51.100.1", "198.51.100.2"}, []bool{true, true, false, true}},
		{"hops that the client wrote", proxies, []string{"198.51.100.1", "203.0.113.5, 198.51.100.1", "203.0.113.6, 198.51.100.1"}, []bool{true, true, false}},
		{"several proxies", proxies, []string{"198.51.100.1, 192.0.2.7", "198.51.100.1", "198.51.100.1, 192.0.2.8, 192.0.2.9"}, []bool{true, true, false}},
		{"a network of IPv6", proxies, []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"}, []bool{true, true, false, true}},
		{"no trusted proxy", nil, []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"}, []bool{true, true, false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{MaxConnsPerAddress: 2, TrustedProxies: tc.proxies})
				dial := func(i int, hop string) *hubtest.Client {
					header := http.Header{"Authorization": {fmt.Sprint("Bearer user", i)}, "X-Forwarded-For": {hop}}
					c, err := hubtest.DialHeader(t, hub, header)
					if err != nil {
						t.Fatal(err)
					}
					return c
				}
				var first *hubtest.Client
				for i, hop := range tc.hops {
					c := dial(i, hop)
					if first == nil {
						first = c
					}
					if got := c.Next(); (got.Type == "welcome") != tc.want[i] {
						t.Errorf("connection %d: %s %s", i, got.Type, got.Data)
					}
				}
				first.Drop()
				synctest.Wait()
				if got := dial(99, tc.hops[0]).Next(); got.Type != "welcome" {
					t.Errorf("after one connection has gone: %s %s", got.Type, got.Data)
				}
			})
		})
	}
}

func TestConnectionsInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{MaxConns: 3})
		var clients []*hubtest.Client
		for i := range 3 {
			clients = append(clients, hubtest.Dial(t, hub, fmt.Sprint("user", i)))
		}
		// A crowd that comes too late is told so, or is refused in plain HTTP.
		// It harms nobody.
		for i := range 400 {
			c, err := hubtest.DialHeader(t, hub, http.Header{"Authorization": {fmt.Sprint("Bearer late", i)}})
			if err == nil {
				c.Pause() // it does not even read the refusal
			}
		}
		for _, c := range clients {
			c.Must(hubtest.Frame{Type: "ping"})
		}
		clients[0].Drop()
		synctest.Wait()
		hubtest.Dial(t, hub, "another")
		synctest.Wait()
		if s := hub.Stats(); s.Connections != 3 || s.Refused != 400 || s.Accepted != 4 {
			t.Errorf("stats: %+v", s)
		}
	})
}

// If a client reads too slowly, volatile events are dropped first. If there are
// too many durable ones, it is closed. It misses nothing when it comes back,
// and nobody else notices.
func TestSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, Rate: -1, UserRate: -1, MaxMessageBytes: 4 << 10, MaxOutboxBytes: 32 << 10})
		c := members(t, hub, "lobby", "ana", "bob", "carol")
		ana, bob, carol := c[0], c[1], c[2]
		at := position(t, enter(bob, "lobby"))
		kilobyte := strings.Repeat("x", 1000)

		bob.Pause()
		for range 200 {
			ana.Must(hubtest.Frame{Type: "message", Data: hubtest.Data(kilobyte)})
		}
		for i := range 5 {
			say(ana, "lobby", fmt.Sprint(i))
		}
		if s := hub.Stats(); s.Dropped < 150 || s.SlowConsumers != 0 || s.Connections != 3 {
			t.Errorf("stats: %+v", s)
		}
		bob.Resume()
		got := arrived(bob)
		if n := len(ofType(got, "message")); n == 0 || n > 50 {
			t.Errorf("%d volatile events arrived", n)
		}
		if texts := texts(ofType(got, "room-message")); !slices.Equal(texts, []string{"0", "1", "2", "3", "4"}) {
			t.Errorf("durable messages that arrived: %v", texts)
		}
		at.Seq += 5

		bob.Pause()
		sent := 0
		for ; hub.Stats().SlowConsumers == 0; sent++ {
			if sent == 1000 {
				t.Fatal("a client that takes nothing is still connected")
			}
			say(ana, "lobby", kilobyte)
			synctest.Wait()
		}
		bob.Resume()
		if code, _ := bob.Closed(); code != 4001 {
			t.Errorf("closed with %d", code)
		}
		for _, f := range ofType(bob.Pending(), "room-message") { // those that came have no gap
			if at.Seq++; f.Seq != at.Seq {
				t.Errorf("seq %d, want %d", f.Seq, at.Seq)
			}
		}
		if n := len(ofType(arrived(carol), "room-message")); n != 5+sent {
			t.Errorf("another member got %d messages, want %d", n, 5+sent)
		}

		bob = hubtest.Dial(t, hub, "bob")
		answer := resume(t, bob, resumeRequest{Rooms: map[string]chathub.Position{"lobby": at}}).Rooms["lobby"]
		missed := int(answer.Seq - at.Seq)
		if got := len(arrived(bob)); answer.Seq != uint64(5+sent) || answer.Recovered != (got == missed) || got > missed {
			t.Errorf("%d messages were missed, %d came, answer %+v", missed, got, answer)
		}
	})
}

// A client that takes nothing of what waits for it is given up, even if that is
// not much.
func TestStuckConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan chathub.Disconnect, 1)
		hub := hubtest.New(t, chathub.Config{
			PresenceInterval: -1,
			WriteTimeout:     3 * time.Second,
			OnDisconnect:     func(_ *chathub.Client, d chathub.Disconnect) { gone <- d },
		})
		c := members(t, hub, "lobby", "ana", "bob")
		c[1].Pause()
		for range 20 { // more than a read takes
			say(c[0], "lobby", strings.Repeat("x", 1000))
		}
		start := time.Now()
		d := <-gone
		if d.Code != 4001 || d.Remote {
			t.Errorf("ended with %+v", d)
		}
		// Including the bound on the close handshake.
		expectAt(t, "end", time.Now(), start, 6*time.Second, 2)
		c[0].Must(hubtest.Frame{Type: "ping"})
	})
}

// A client that joins and leaves without a pause harms nobody.
func TestCrowdOfJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{MaxRooms: 10, Rate: -1, UserRate: -1})
		calm, c := hubtest.Dial(t, hub, "calm"), hubtest.Dial(t, hub, "ana")
		enter(calm, "room0")
		for i := range 2000 {
			c.Send(hubtest.Frame{Type: "join-room", Room: fmt.Sprint("room", i%20)})
			c.Send(hubtest.Frame{Type: "leave-room", Room: fmt.Sprint("room", i%7)})
		}
		time.Sleep(time.Second)
		if got := len(arrived(calm)); got > 30 {
			t.Errorf("a bystander got %d envelopes", got)
		}
		calm.Must(hubtest.Frame{Type: "ping"})
		if s := hub.Stats(); s.Rooms > 11 {
			t.Errorf("%d rooms", s.Rooms)
		}
	})
}
