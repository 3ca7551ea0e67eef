package chathub_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// A user's limits outlive the connections of the user: a reconnect does not
// renew them.
func TestLimitsOutliveConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, Rate: 5, Burst: 10, UserRate: 5, UserBurst: 20})
		stored := 0
		for range 10 {
			c := members(t, hub, "lobby", "ana")[0] // the join is an event too
			for i := range 10 {
				if c.Request(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data(i)}).Type == "ack" {
					stored++
				}
			}
			c.Close()
			synctest.Wait()
			if stored >= 15 {
				break
			}
		}
		c := hubtest.Dial(t, hub, "ana")
		wait := retryAfter(t, expectRefused(t, c, hubtest.Frame{Type: "ping"}, chathub.CodeRateLimited))
		c.Close()
		time.Sleep(wait)
		hubtest.Dial(t, hub, "ana").Must(hubtest.Frame{Type: "ping"})
	})
}

// The limits of a user who comes and goes are kept although an earlier visit is
// about to be forgotten.
func TestLimitsOutliveForgetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const burst = 10
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, UserRate: 1, UserBurst: burst})
		// visit uses up what the user has left, and returns how much it was.
		visit := func(user string) (allowed int) {
			c := hubtest.Dial(t, hub, user)
			for c.Request(hubtest.Frame{Type: "ping"}).Type == "ack" {
				allowed++
			}
			c.Close()
			synctest.Wait()
			return allowed
		}
		for i := range 2 * burst {
			visit(fmt.Sprint("other-", i)) // each is to be forgotten before ana
		}
		visit("ana")
		c := hubtest.Dial(t, hub, "ana")
		time.Sleep(burst * time.Second) // ana may send everything again
		c.Close()
		synctest.Wait()
		allowed := 0
		for range 2 * burst {
			allowed += visit("ana")
		}
		if allowed != burst {
			t.Errorf("ana sent %d events at once, want %d", allowed, burst)
		}
	})
}

// Bytes are limited as events are: for a connection, and for all connections of
// a user.
func TestByteRate(t *testing.T) {
	for name, cfg := range map[string]chathub.Config{
		"connection": {ByteRate: 1 << 10, ByteBurst: 8 << 10, UserByteRate: -1},
		"user":       {ByteRate: -1, UserByteRate: 1 << 10, UserByteBurst: 8 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg.PresenceInterval, cfg.MaxMessageBytes = -1, 8<<10
				hub := hubtest.New(t, cfg)
				c := members(t, hub, "lobby", "ana", "ana")
				large := hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data(strings.Repeat("x", 6<<10))}
				c[0].Must(large)
				wait := retryAfter(t, expectRefused(t, c[0], large, chathub.CodeRateLimited))
				if wait < 3*time.Second || wait > 8*time.Second {
					t.Errorf("told to wait %v", wait)
				}
				if other := c[1].Request(large).Type; (other == "ack") != (name == "connection") {
					t.Errorf("another connection of the user got %s", other)
				}
				c[0].Must(hubtest.Frame{Type: "ping"}) // which is small
				time.Sleep(8 * time.Second)
				c[0].Must(large)
			})
		})
	}
}

// A message to everyone has limits of its own, in number and size, which all
// connections of a user share.
func TestBroadcastRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
		calm := hubtest.Dial(t, hub, "calm")
		tabs := []*hubtest.Client{hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ana")}
		expectRefused(t, tabs[0], hubtest.Frame{Type: "message", Data: hubtest.Data(strings.Repeat("x", 4<<10))}, chathub.CodeTooLarge)
		const burst = 10
		for i := range burst {
			tabs[i%2].Must(hubtest.Frame{Type: "message", Data: hubtest.Data(i)})
		}
		for _, c := range tabs {
			wait := retryAfter(t, expectRefused(t, c, hubtest.Frame{Type: "message"}, chathub.CodeRateLimited))
			if wait > time.Second {
				t.Errorf("told to wait %v", wait)
			}
		}
		if got := ofType(arrived(calm), "message"); len(got) != burst {
			t.Errorf("another client got %d messages, want %d", len(got), burst)
		}
		time.Sleep(time.Second)
		tabs[0].Must(hubtest.Frame{Type: "message"})
	})
}

// Strangers, refused or still waiting for an answer, take no place of those who
// have a good token.
func TestStrangersTakeNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		hub := hubtest.New(t, chathub.Config{
			PresenceInterval: -1, MaxConns: 5, MaxHandshakes: 20,
			Auth: authFunc(func(token string, _ *http.Request) (chathub.Identity, error) {
				switch token {
				case "slow":
					<-slow
				case "":
					return chathub.Identity{}, &chathub.Error{Code: chathub.CodeUnauthenticated}
				}
				return chathub.Identity{User: chathub.User{ID: token}}, nil
			}),
		})
		for range 300 { // more than are told so on a WebSocket
			if c, err := hubtest.DialHeader(t, hub, http.Header{}); err == nil {
				c.Pause() // it does not even read the refusal
			}
		}
		var dials sync.WaitGroup
		defer dials.Wait()
		defer close(slow)
		dial := func() { _, _ = hubtest.DialHeader(t, hub, http.Header{"Authorization": {"Bearer slow"}}) }
		for range 19 {
			dials.Go(dial)
		}
		synctest.Wait()
		for i := range 5 {
			hubtest.Dial(t, hub, fmt.Sprint("user", i)).Must(hubtest.Frame{Type: "ping"})
		}
		// One more handshake that takes long, and the next ones are to come
		// back.
		dials.Go(dial)
		synctest.Wait()
		time.Sleep(time.Minute) // until the refused ones are gone
		if got := knock(t, hub, "late").Next(); got.Code() != chathub.CodeUnavailable {
			t.Errorf("beyond MaxHandshakes: %s %s", got.Type, got.Data)
		}
	})
}

// What a user has read from logs is bounded, by waiting first, and an honest
// client that comes back with all its rooms is not held up.
func TestReplayBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const outbox, rooms = 256 << 10, 64
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, MaxOutboxBytes: outbox})
		c := hubtest.Dial(t, hub, "ana")
		var at []string
		for i := range rooms {
			room := fmt.Sprint("room", i)
			pos := position(t, enter(c, room))
			at = append(at, fmt.Sprintf(`%q:{"epoch":%q,"seq":0}`, room, pos.Epoch))
			for range 4 {
				if err := hub.To(room).Emit(t.Context(), "news", strings.Repeat("x", 8<<10)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second) // within the rate of events
		}
		resume := hubtest.Frame{Type: "resume", Data: []byte(`{"rooms":{` + strings.Join(at, ",") + `}}`)}
		tabs := make([]*hubtest.Client, 4)
		start := time.Now()
		for i := range tabs {
			tabs[i] = hubtest.Dial(t, hub, "ana")
			tabs[i].Must(resume)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("four tabs that come back wait for %v", took)
		}
		sent := func() (n int) {
			for _, f := range arrived(tabs[0]) {
				n += len(f.Data)
			}
			return n
		}
		sent()
		const long = time.Minute
		refused := 0
		for start := time.Now(); time.Since(start) < long; time.Sleep(20 * time.Millisecond) {
			if f := tabs[0].Request(hubtest.Frame{Type: "history", Room: "room1", Data: []byte(`{"limit":256}`)}); f.Type == "error" {
				time.Sleep(retryAfter(t, f))
				refused++
			}
		}
		if got, most := sent(), int(long.Seconds())*outbox/2+9*outbox; got > most {
			t.Errorf("a user got %d bytes of history in %v, want at most %d", got, long, most)
		}
	})
}

// countingBroker counts the topics that are subscribed.
type countingBroker struct {
	chathub.MemoryBroker
	subscribed atomic.Int64
}

func (b *countingBroker) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	s, err := b.MemoryBroker.Attach(ctx, deliver)
	return &countingSession{s, b}, err
}

type countingSession struct {
	chathub.BrokerSession
	b *countingBroker
}

func (s *countingSession) Subscribe(ctx context.Context, t chathub.Topic) (chathub.Position, error) {
	s.b.subscribed.Add(1)
	return s.BrokerSession.Subscribe(ctx, t)
}

// A room over the limit costs the broker nothing.
func TestRoomsOverTheLimitAreNotSubscribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &countingBroker{}
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, MaxRooms: 2, Broker: b})
		c := members(t, hub, "lobby", "ana")[0]
		enter(c, "garden")
		before := b.subscribed.Load()
		for i := range 20 {
			expectRefused(t, c, hubtest.Frame{Type: "join-room", Room: fmt.Sprint("room", i)}, chathub.CodeLimitExceeded)
			c.Must(hubtest.Frame{Type: "resume", Data: fmt.Appendf(nil, `{"rooms":{"a%d":{"epoch":"e","seq":1},"b%d":{"epoch":"e","seq":1}}}`, i, i)})
		}
		if n := b.subscribed.Load() - before; n != 0 {
			t.Errorf("%d topics were subscribed", n)
		}
		enter(c, "garden") // which it is in already
	})
}

// A client that waits for as long as it is told is not refused again, although
// several limits apply.
func TestRetryAfterIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{
			PresenceInterval: -1, MaxMessageBytes: 4 << 10, Rate: 20, Burst: 10, UserRate: 25, UserBurst: 12,
			ByteRate: 20_000, ByteBurst: 10_000, UserByteRate: 25_000, UserByteBurst: 12_000,
		})
		clients := members(t, hub, "lobby", "ana", "ana")
		refused := 0
		for i := range 200 {
			c := clients[i%2]
			f := hubtest.Frame{Type: "send-notification", To: []string{"ben", "cleo"}[i%2], Data: hubtest.Data(strings.Repeat("x", i%3*1500))}
			answer := c.Request(f)
			if answer.Type == "ack" {
				continue
			}
			refused++
			time.Sleep(retryAfter(t, answer))
			c.Must(f)
		}
		if refused < 50 {
			t.Errorf("only %d were refused", refused)
		}
	})
}

// Lists of users have the same budget as what is read from logs, so that a user
// cannot have thousands of times as many bytes sent as the user sends.
func TestListsAreLimited(t *testing.T) {
	for _, f := range []hubtest.Frame{{Type: "online-users"}, {Type: "join-room", Room: "lobby"}} {
		t.Run(f.Type, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{MaxMessageBytes: 4 << 10, MaxOutboxBytes: 16 << 10, Auth: authFunc(
					func(token string, _ *http.Request) (chathub.Identity, error) {
						return chathub.Identity{User: chathub.User{ID: token, Name: strings.Repeat("n", 200)}}, nil
					})})
				for i := range 15 {
					enter(hubtest.Dial(t, hub, fmt.Sprint("user-", i)), "lobby")
				}
				c := hubtest.Dial(t, hub, "eve")
				start := time.Now()
				for range 100 { // of 3 kB each, 40 of them at once
					c.Must(f)
					arrived(c)
				}
				if took := time.Since(start); took < 10*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// Malformed messages count against the limits of a user, so that a user cannot
// send any number of them over new connections.
func TestMalformedInputIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{
			PresenceInterval: -1, MaxMessageBytes: 1 << 10, ByteRate: 1, ByteBurst: 1 << 10, UserByteRate: 1, UserByteBurst: 4 << 10,
		})
		bad := `{"type":"ping","data":"` + strings.Repeat("x", 900)
		for range 8 {
			c := hubtest.Dial(t, hub, "ana")
			c.SendText(bad)
			synctest.Wait()
			c.Close()
			synctest.Wait()
		}
		if s := hub.Stats(); s.Malformed != 4 || s.RateLimited != 4 {
			t.Errorf("stats: %+v", s)
		}
	})
}

// What is refused before it is handled is seen by Stats and Trace.
func TestRejectedInputIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rejected record
		hub := hubtest.New(t, chathub.Config{
			PresenceInterval: -1, Rate: 1, Burst: 4, // which what is malformed uses up as well
			Trace: &chathub.Trace{Rejected: func(c *chathub.Client, err *chathub.Error) {
				rejected.add("%s %s", c.User().ID, err.Code)
			}},
		})
		c := hubtest.Dial(t, hub, "ana")
		c.SendText("{")
		for range 5 {
			c.Send(hubtest.Frame{Type: "ping"})
		}
		synctest.Wait()
		rejected.want(t, "after a flood", "ana bad_request", "ana rate_limited", "ana rate_limited")
		if s := hub.Stats(); s.Received != 6 || s.Malformed != 1 || s.RateLimited != 2 {
			t.Errorf("stats: %+v", s)
		}
	})
}
