package chathub_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// observed is a Broker that notes what is published and read. It gives the
// position of an empty log as a broker does whose logs share their numbers.
type observed struct {
	*chathub.MemoryBroker
	mu        sync.Mutex
	published []chathub.Message
	read      int    // bytes
	empty     uint64 // the next position of an empty log
}

type observedSession struct {
	chathub.BrokerSession
	broker *observed
}

func (b *observed) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	session, err := b.MemoryBroker.Attach(ctx, deliver)
	return &observedSession{session, b}, err
}

func (s *observedSession) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	s.broker.mu.Lock()
	s.broker.published = append(s.broker.published, m)
	s.broker.mu.Unlock()
	return s.BrokerSession.Publish(ctx, m)
}

func (s *observedSession) Subscribe(ctx context.Context, t chathub.Topic) (chathub.Position, error) {
	p, err := s.BrokerSession.Subscribe(ctx, t)
	if p.Epoch != "" && p.Seq == 0 {
		s.broker.mu.Lock()
		defer s.broker.mu.Unlock()
		s.broker.empty++
		p.Seq = s.broker.empty
	}
	return p, err
}

func (s *observedSession) Read(ctx context.Context, t chathub.Topic, r chathub.Range) (chathub.Page, error) {
	page, err := s.BrokerSession.Read(ctx, t, r)
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	for _, m := range page.Messages {
		s.broker.read += len(m.Body)
	}
	return page, err
}

// takeRead returns how many bytes were read since the last call.
func (b *observed) takeRead() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, b.read = b.read, 0
	return n
}

// TestReadWithinBudget: no more is read than may be sent, for a resume of many
// rooms, for a join and for history. Nothing was missed in quiet rooms, even
// when the budget is used up.
func TestReadWithinBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const budget = 50_000
		broker := &observed{MemoryBroker: &chathub.MemoryBroker{}}
		p := newParty(t, chathub.Config{Broker: broker, MaxMessageBytes: 10_000, MaxOutboxBytes: 2 * budget, UserRate: -1})
		ana, bob := p.dial("ana"), p.dial("bob")
		since := map[string]chathub.Position{}
		// They are answered in the order of their names, and the many small
		// messages are larger as frames than as they are stored.
		for _, c := range []struct {
			room           string
			messages, size int
		}{{"1 first", 5, 1000}, {"2 large", 20, 4000}, {"3 small", 200, 1}, {"4 small", 200, 1}, {"5 large", 20, 4000}, {"6 quiet", 0, 0}} {
			since[c.room] = position(t, ana.Must(hubtest.Frame{Type: "join-room", Room: c.room}))
			if c.messages == 0 {
				continue
			}
			since[c.room] = chathub.Position{Epoch: since[c.room].Epoch}
			bob.Must(hubtest.Frame{Type: "join-room", Room: c.room})
			for range c.messages {
				bob.Must(roomMessage("", c.room, `"`+strings.Repeat("x", c.size)+`"`))
			}
		}
		ana.Drop()
		synctest.Wait()

		broker.takeRead()
		ana = p.dial("ana")
		answer := resume(t, ana.Client, resumeRequest{Rooms: since})
		if n := broker.takeRead(); n > budget || n < budget/2 {
			t.Errorf("a resume has read %d bytes, and may send %d", n, budget)
		}
		for room, part := range answer.Rooms {
			if part.Error != nil || part.Recovered != (room == "1 first" || room == "6 quiet") {
				t.Errorf("%s: %+v", room, part)
			}
		}
		if got := answer.Rooms["6 quiet"]; got.Seq <= since["6 quiet"].Seq {
			t.Errorf("the quiet room is at %d, want more than %d", got.Seq, since["6 quiet"].Seq)
		}

		for _, f := range []hubtest.Frame{
			{Type: "join-room", Room: "5 large", Data: hubtest.Data(map[string]any{"history": 100})},
			{Type: "history", Room: "5 large"},
			{Type: "history", Room: "5 large", Data: hubtest.Data(map[string]any{"limit": 3})},
		} {
			arrived(ana.Client) // or what was sent before would take room in the outbox
			ana.Must(f)
			if n := broker.takeRead(); n > budget || n == 0 {
				t.Errorf("%s %s has read %d bytes, and may send %d", f.Type, f.Data, n, budget)
			}
		}
	})
}

// TestOwners: what a client sends is charged to its user, in all inboxes, and
// what the application emits is not. Only the messages of users are no notices.
func TestOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &observed{MemoryBroker: &chathub.MemoryBroker{}}
		p := newParty(t, chathub.Config{Broker: broker})
		ana := p.dial("ana", "red")
		ana.Must(roomMessage("1", "red", `1`))
		ana.Must(privateMessage("2", "bob", `2`))
		ana.Must(privateMessage("3", "ana", `3`))
		ana.Must(notification("4", "bob", `4`))
		ana.Must(notification("5", "ana", `5`))
		for _, target := range []chathub.Target{p.hub.To("red"), p.hub.ToUser("bob", "ana")} {
			if err := target.Emit(t.Context(), "event", 6); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, m := range broker.published {
			got = append(got, fmt.Sprintf("%s%s %q %t", m.Topic.Room, m.Topic.User, m.Owner, m.Notice))
		}
		want := []string{
			`red "ana" false`,
			`bob "ana" false`, `ana "ana" false`,
			`ana "ana" false`,
			`bob "ana" true`,
			`ana "ana" true`,
			`red "" true`,
			`bob "" true`, `ana "" true`,
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("published\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
