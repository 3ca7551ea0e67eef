package chathub_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// Users are counted once, sorted by name, and have a grace.
func TestUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceGrace: 3 * time.Second})
		join := func(c *hubtest.Client, rooms ...string) *hubtest.Client {
			for _, room := range rooms {
				c.Must(hubtest.Frame{Type: "join-room", Room: room})
			}
			return c
		}
		want := func(when, online, red, blue string) {
			t.Helper()
			synctest.Wait()
			got := fmt.Sprint(onlineUsers(t, hub), roomUsers(t, hub, "red"), roomUsers(t, hub, "blue"))
			if s := online + " " + red + " " + blue; got != s {
				t.Errorf("%s: %s, want %s", when, got, s)
			}
		}
		want("at first", "[]", "[]", "[]")
		zoe := join(hubtest.Dial(t, hub, "u1/Zoe"), "red", "blue")
		tab := join(hubtest.Dial(t, hub, "u1/Zoe"), "red")
		bob := join(hubtest.Dial(t, hub, "u2/Bob"), "red")
		want("all there", "[{u2 Bob} {u1 Zoe}]", "[{u2 Bob} {u1 Zoe}]", "[{u1 Zoe}]")
		bob.Must(hubtest.Frame{Type: "leave-room", Room: "red"})
		want("left", "[{u2 Bob} {u1 Zoe}]", "[{u1 Zoe}]", "[{u1 Zoe}]")
		zoe.Drop()
		time.Sleep(2 * time.Second)
		want("one of two gone", "[{u2 Bob} {u1 Zoe}]", "[{u1 Zoe}]", "[{u1 Zoe}]")
		time.Sleep(2 * time.Second)
		want("for good", "[{u2 Bob} {u1 Zoe}]", "[{u1 Zoe}]", "[]")
		tab.Drop()
		time.Sleep(2 * time.Second)
		want("in its grace", "[{u2 Bob} {u1 Zoe}]", "[{u1 Zoe}]", "[]")
		time.Sleep(2 * time.Second)
		want("gone", "[{u2 Bob}]", "[]", "[]")
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{MaxMessageBytes: 1 << 10, MaxOutboxBytes: 8 << 10})
		chathub.On(p.hub, "custom", func(context.Context, *chathub.Client, struct{}) error { return nil })
		want := func(when string, want chathub.Stats) {
			t.Helper()
			synctest.Wait()
			if got := p.hub.Stats(); got != want {
				t.Errorf("%s: %+v, want %+v", when, got, want)
			}
		}
		want("at first", chathub.Stats{})
		knock(t, p.hub, "").Closed()
		ana, tab, bob := p.dial("ana", "red", "blue"), p.dial("ana"), p.dial("bob", "red")
		want("connected", chathub.Stats{Connections: 3, Users: 2, Online: 2, Rooms: 2, Accepted: 3, Refused: 1, Delivered: 3})
		ana.Must(hubtest.Frame{Type: "custom"})
		ana.Request(hubtest.Frame{Type: "nonsense"})
		want("two events", chathub.Stats{Connections: 3, Users: 2, Online: 2, Rooms: 2, Accepted: 3, Refused: 1, Received: 2, Delivered: 5})
		ana.Must(hubtest.Frame{Type: "room-message", Room: "red"})
		ana.Must(hubtest.Frame{Type: "message"})
		want("to two and two", chathub.Stats{Connections: 3, Users: 2, Online: 2, Rooms: 2, Accepted: 3, Refused: 1, Received: 4, Delivered: 11})
		tab.Close()
		bob.Pause()
		big := strings.Repeat("x", 1<<10)
		for range 10 {
			if err := p.hub.To("red").Volatile().Emit(t.Context(), "news", big); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		s := p.hub.Stats()
		if s.Dropped == 0 || s.Delivered+s.Dropped != 11+20 || s.Connections != 2 || s.Users != 2 || s.SlowConsumers != 0 {
			t.Errorf("volatile events to a client that reads nothing: %+v", s)
		}
		time.Sleep(2 * time.Second) // for the sweep
		if n := p.hub.Stats().OutboxBytes; n < 1<<10 || n > 8<<10 {
			t.Errorf("%d bytes wait in outboxes", n)
		}
		for range 10 {
			if err := p.hub.To("red").Emit(t.Context(), "news", big); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // so that only the client that reads nothing is slow
		}
		time.Sleep(time.Minute)
		if s := p.hub.Stats(); s.Connections != 1 || s.Users != 1 || s.SlowConsumers != 1 || s.QueueLength != 0 || s.OutboxBytes != 0 {
			t.Errorf("durable events to a client that reads nothing: %+v", s)
		}
	})
}

// at is a mux, as clients of one path see it.
func at(mux *http.ServeMux, path string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = path
		mux.ServeHTTP(w, r)
	})
}

// Two hubs on one mux have the same users, rooms and event names, and share
// nothing.
func TestHubsShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := chathub.Config{PresenceInterval: -1, MaxConnsPerUser: 1, Rate: 0.001, Burst: 3}
		chat, admin := hubtest.New(t, cfg), hubtest.New(t, cfg)
		mux := http.NewServeMux()
		mux.Handle("/chat", chat)
		mux.Handle("/admin", admin)
		chathub.OnAck(chat, "where", func(context.Context, *chathub.Client, struct{}) (string, error) { return "chat", nil })
		chathub.OnAck(admin, "where", func(context.Context, *chathub.Client, struct{}) (string, error) { return "admin", nil })
		chathub.On(admin, "more", func(context.Context, *chathub.Client, struct{}) error { return nil })
		var seen record
		admin.Use(func(next chathub.Handler) chathub.Handler {
			return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				seen.add("%s", e.Type)
				return next(ctx, c, e)
			}
		})

		// The limits of one hub do not apply to the other.
		a, b := hubtest.Dial(t, at(mux, "/chat"), "ana"), hubtest.Dial(t, at(mux, "/admin"), "ana")
		for name, c := range map[string]*hubtest.Client{"chat": a, "admin": b} {
			c.Must(hubtest.Frame{Type: "join-room", Room: "red"})
			if f := c.Must(hubtest.Frame{Type: "where"}); string(f.Data) != `"`+name+`"` {
				t.Errorf("%s is %s", name, f.Data)
			}
		}
		if f := a.Request(hubtest.Frame{Type: "more"}); f.Code() != chathub.CodeUnknownType {
			t.Errorf("an event of the other hub: %s %s", f.Type, f.Data)
		}
		b.Must(hubtest.Frame{Type: "more"})
		seen.want(t, "middleware of one hub", "join-room", "where", "more")

		ctx := t.Context()
		for _, to := range []emitter{admin, admin.To("red"), admin.ToUser("ana"), admin.To("red").Volatile()} {
			if err := to.Emit(ctx, "news", nil); err != nil {
				t.Error(err)
			}
		}
		wantHeard(t, "ana in chat", a)
		if got := heard(b); len(got) != 4 {
			t.Errorf("ana in admin heard %q", got)
		}
		if err := admin.ToUser("ana").Disconnect(ctx, ""); err != nil {
			t.Error(err)
		}
		b.Closed()
		if err := admin.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := chat.To("red").Emit(ctx, "news", nil); err != nil {
			t.Error(err)
		}
		wantHeard(t, "ana in chat", a, "news@red")
		if users := fmt.Sprint(onlineUsers(t, chat), roomUsers(t, chat, "red")); users != "[{ana ana}] [{ana ana}]" {
			t.Errorf("users of the chat hub: %s", users)
		}
	})
}
