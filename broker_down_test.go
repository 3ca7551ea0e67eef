package chathub_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// shaky is a Broker that can be down. Then it does nothing, and says so.
type shaky struct {
	chathub.MemoryBroker
	down atomic.Bool
}

func (b *shaky) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	s, err := b.MemoryBroker.Attach(ctx, deliver)
	return shakySession{s, b}, err
}

func (b *shaky) err() error {
	if !b.down.Load() {
		return nil
	}
	return &chathub.Error{Code: chathub.CodeUnavailable, Message: "Try again", Err: errors.New("the broker is down")}
}

type shakySession struct {
	chathub.BrokerSession
	broker *shaky
}

func (s shakySession) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	if err := s.broker.err(); err != nil {
		return chathub.Receipt{}, err
	}
	return s.BrokerSession.Publish(ctx, m)
}

func (s shakySession) Send(ctx context.Context, m chathub.Message) error {
	if err := s.broker.err(); err != nil {
		return err
	}
	return s.BrokerSession.Send(ctx, m)
}

func (s shakySession) Subscribe(ctx context.Context, t chathub.Topic) (chathub.Position, error) {
	if err := s.broker.err(); err != nil {
		return chathub.Position{}, err
	}
	return s.BrokerSession.Subscribe(ctx, t)
}

func (s shakySession) Unsubscribe(ctx context.Context, t chathub.Topic) error {
	if err := s.broker.err(); err != nil {
		return err
	}
	return s.BrokerSession.Unsubscribe(ctx, t)
}

func (s shakySession) Read(ctx context.Context, t chathub.Topic, r chathub.Range) (chathub.Page, error) {
	if err := s.broker.err(); err != nil {
		return chathub.Page{}, err
	}
	return s.BrokerSession.Read(ctx, t, r)
}

// While the broker is down, nothing is acked falsely. Afterwards, everything is
// as if it had not been asked.
func TestBrokerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &shaky{}
		p := newParty(t, chathub.Config{
			Broker: broker,
			OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
				return c.Join(ctx, "blue")
			},
		})
		ana, bob := p.dial("ana", "red"), p.dial("bob", "red")
		ana.Must(hubtest.Frame{Type: "room-message", ID: "m1", Room: "red", Data: raw(`1`)})
		wantHeard(t, "bob", bob.Client, `room-message@red 1`)
		ana.heard() // its own message, before the ack or after it

		broker.down.Store(true)
		for _, f := range []hubtest.Frame{
			{Type: "room-message", ID: "m2", Room: "red", Data: raw(`2`)},
			{Type: "private-message", ID: "m3", To: "bob", Data: raw(`3`)},
			{Type: "send-notification", ID: "m4", To: "bob"},
			{Type: "join-room", Room: "green"},
			{Type: "join-room", Room: "red", Data: raw(`{"history":5}`)},
			{Type: "history", Room: "red"},
		} {
			if got := ana.Request(f); got.Code() != chathub.CodeUnavailable {
				t.Errorf("%s: %s %s", f.Type, got.Type, got.Data)
			}
		}
		for name, err := range map[string]error{
			"To.Emit":    p.hub.To("red").Emit(t.Context(), "news", nil),
			"Join":       ana.server.Join(t.Context(), "green"),
			"Disconnect": p.hub.ToUser("bob").Disconnect(t.Context(), ""),
		} {
			if e := (*chathub.Error)(nil); !errors.As(err, &e) || e.Code != chathub.CodeUnavailable {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Volatile events still reach the clients of this hub.
		ana.Must(hubtest.Frame{Type: "message", Data: raw(`5`)})
		ana.Must(hubtest.Frame{Type: "typing", Room: "red"})
		if err := p.hub.To("red").Volatile().Emit(t.Context(), "tick", 6); err != nil {
			t.Error(err)
		}
		if err := p.hub.Emit(t.Context(), "news", 7); err != nil {
			t.Error(err)
		}
		wantHeard(t, "bob", bob.Client, `message 5`, `typing@red`, `tick@red 6`, `news 7`)
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.hub.Emit(canceled, "news", 8); err == nil {
			t.Error("an ended context was reported as an unavailable broker")
		}
		wantHeard(t, "bob", bob.Client)
		late := knock(t, p.hub, "late")
		wantHeard(t, "late", late, `connect-error {"code":"unavailable","message":"Try again"}`)
		if code, _ := late.Closed(); code != 4000 {
			t.Errorf("late was closed with %d, want 4000: it should come back", code)
		}
		if rooms := ana.server.Rooms(); !slices.Equal(rooms, []string{"blue", "red"}) {
			t.Errorf("ana is in %q", rooms)
		}
		ana.Must(hubtest.Frame{Type: "ping"})
		bob.Must(hubtest.Frame{Type: "leave-room", Room: "blue"})
		// The last member leaves, but unsubscribing fails.
		ana.Must(hubtest.Frame{Type: "leave-room", Room: "blue"})
		synctest.Wait()

		broker.down.Store(false)
		ana.Must(hubtest.Frame{Type: "room-message", ID: "m2", Room: "red", Data: raw(`2`)})
		ana.Must(hubtest.Frame{Type: "private-message", ID: "m3", To: "bob", Data: raw(`3`)})
		ana.Must(hubtest.Frame{Type: "join-room", Room: "blue"})
		if err := p.hub.To("blue").Emit(t.Context(), "news", nil); err != nil {
			t.Error(err)
		}
		if got := ana.heard(); !slices.Contains(got, `news@blue`) {
			t.Errorf("ana heard %q", got)
		}
		got := bob.heard()
		slices.Sort(got)
		if want := []string{`private-message 3`, `room-message@red 2`}; !slices.Equal(got, want) {
			t.Errorf("bob heard %q, want %q", got, want)
		}
	})
}
