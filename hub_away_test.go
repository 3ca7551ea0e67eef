package chathub_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// pushes records the calls of OnAway. Several hubs may share it.
type pushes struct {
	record
	members map[string][]string // by room
	fail    func(ctx context.Context, a chathub.Away) error
}

// config returns cfg with the callbacks.
func (p *pushes) config(cfg chathub.Config) chathub.Config {
	cfg.OnAway = func(ctx context.Context, a chathub.Away) error {
		p.add("%s%s: %s %s %d", a.Tenant, a.User, a.Message.Type, a.Message.Data, a.Unread)
		if p.fail != nil {
			return p.fail(ctx, a)
		}
		return nil
	}
	if p.members != nil {
		cfg.Members = func(_ context.Context, _, room string) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for _, id := range p.members[room] {
					if !yield(id, nil) {
						return
					}
				}
			}
		}
	}
	return cfg
}

// wantSoon lets d pass, and checks the calls since the last time, in any order.
func (p *pushes) wantSoon(t *testing.T, when string, d time.Duration, want ...string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	got := p.take()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: OnAway was called %q, want %q", when, got, want)
	}
}

const (
	awayDelay = 5 * time.Second // the default
	awaySoon  = awayDelay + time.Second
)

func private(id, to, text string) hubtest.Frame {
	return hubtest.Frame{Type: "private-message", ID: id, To: to, Data: hubtest.Data(text)}
}

func post(t testing.TB, target chathub.Target, from, id string, data any) chathub.Receipt {
	t.Helper()
	p := chathub.Post{ID: id, Data: data}
	if from != "" {
		p.From = chathub.User{ID: from, Name: from}
	}
	r, err := target.Post(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestOnAway: users without a connection are told of messages to them, however
// these were sent, after the delay and once.
func TestOnAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pushes{members: map[string][]string{"lobby": {"ana", "bob", "cid", "cid", ""}}}
		hub := hubtest.New(t, p.config(chathub.Config{}))
		time.Sleep(time.Minute)
		ana, dan := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "dan")
		enter(ana, "lobby")

		ana.Must(private("1", "bob", "Hi"))
		ana.Must(private("1", "bob", "Hi"))
		ana.Must(private("2", "dan", "is there"))
		ana.Must(private("3", "ana", "to myself"))
		p.wantSoon(t, "too early", awayDelay-time.Second)
		p.wantSoon(t, "a private message", 2*time.Second, `bob: private-message "Hi" 1`)
		ana.Must(private("1", "bob", "Hi"))
		p.wantSoon(t, "later", time.Hour)

		ana.Must(hubtest.Frame{Type: "send-notification", ID: "4", To: "bob", Data: hubtest.Data("ping")})
		p.wantSoon(t, "a notification", awaySoon, `bob: notification "ping" 0`)
		ana.Must(roomMessage("5", "lobby", `"all"`))
		p.wantSoon(t, "a room-message", awaySoon, `bob: room-message "all" 1`, `cid: room-message "all" 1`)

		bob := hub.ToUser("bob")
		post(t, bob, "ana", "6", "posted")
		post(t, bob, "ana", "6", "posted")
		p.wantSoon(t, "a post", awaySoon, `bob: private-message "posted" 2`)
		post(t, hub.To("lobby"), "cid", "7", "posted")
		p.wantSoon(t, "a post to a room", awaySoon, `bob: room-message "posted" 2`)
		for _, event := range []string{"notification", "private-message", "invoice"} {
			if err := bob.Emit(t.Context(), event, event); err != nil {
				t.Fatal(err)
			}
		}
		p.wantSoon(t, "emits", awaySoon, `bob: notification "notification" 0`, `bob: private-message "private-message" 0`)
		for _, event := range []string{"room-message", "poll:closed"} {
			if err := hub.To("lobby", "empty").Emit(t.Context(), event, event); err != nil {
				t.Fatal(err)
			}
		}
		p.wantSoon(t, "emits to rooms", awaySoon, `bob: room-message "room-message" 3`, `cid: room-message "room-message" 2`)
		if err := bob.Volatile().Emit(t.Context(), "notification", "volatile"); err != nil {
			t.Fatal(err)
		}
		p.wantSoon(t, "a volatile emit", awaySoon)

		dan.Drop()
		ana.Must(private("8", "dan", "just gone"))
		p.wantSoon(t, "after the grace", awaySoon, `dan: private-message "just gone" 2`)
		dan = hubtest.Dial(t, hub, "dan")
		ana.Must(private("9", "dan", "going"))
		time.Sleep(3 * time.Second)
		dan.Drop()
		p.wantSoon(t, "in the grace", time.Minute)
		ana.Must(private("10", "dan", "coming"))
		time.Sleep(3 * time.Second)
		hubtest.Dial(t, hub, "dan")
		p.wantSoon(t, "came back", time.Minute)
		if s := hub.Stats(); s.Away != 11 || s.AwayFailed != 0 || s.AwayDropped != 0 {
			t.Errorf("the figures are %+v", s)
		}
	})
}

// TestOnAwayMessage: the message has its place, and what it answers.
func TestOnAwayMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(chan chathub.Away, 8)
		hub := hubtest.New(t, chathub.Config{OnAway: func(_ context.Context, a chathub.Away) error {
			calls <- a
			return nil
		}})
		ana := hubtest.Dial(t, hub, "ana/Ana")
		f := private("2", "bob", "Yes")
		f.Re = hubtest.Data(map[string]string{"id": "1", "author": "bob"})
		ack := ana.Must(f)
		time.Sleep(awaySoon)
		var a chathub.Away
		select {
		case a = <-calls:
		default:
			t.Fatal("OnAway was not called")
		}
		m := a.Message
		if a.User != "bob" || m.Seq != 1 || m.Epoch == "" || m.To != "bob" || m.Room != "" || m.ID != "2" || m.From != (chathub.User{ID: "ana", Name: "Ana"}) ||
			m.Re != (chathub.MessageRef{ID: "1", Author: "bob"}) || m.Time.UnixMilli() != ack.TS {
			t.Errorf("OnAway got %+v", a)
		}
	})
}

// TestOnAwayChanged: nobody is told of what was read or deleted in time. An
// edit shows.
func TestOnAwayChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pushes{members: map[string][]string{"lobby": {"ana", "bob"}}}
		hub := hubtest.New(t, p.config(chathub.Config{AwayDelay: time.Minute, PresenceGrace: -1}))
		ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		enter(ana, "lobby")
		for _, to := range []hubtest.Frame{{Room: "lobby"}, {To: "bob"}} {
			in := func(typ, id string, data any) hubtest.Frame {
				return hubtest.Frame{Type: typ, ID: id, Room: to.Room, To: to.To, Data: hubtest.Data(data)}
			}
			typ, peer := "room-message", to
			if to.To != "" {
				typ, peer = "private-message", hubtest.Frame{To: "ana"}
			}
			arrived(bob)
			first := ana.Must(in(typ, to.To+"1", "read elsewhere"))
			seq := first.Seq
			if to.To != "" { // in bob's inbox
				synctest.Wait()
				for _, f := range bob.Pending() {
					seq = max(seq, f.Seq)
				}
			}
			bob.Must(hubtest.Frame{Type: "mark-read", Room: peer.Room, To: peer.To, Data: hubtest.Data(map[string]any{"seq": seq})})
			bob.Drop()
			second := ana.Must(in(typ, to.To+"2", "deleted"))
			third := ana.Must(in(typ, to.To+"3", "edited"))
			time.Sleep(time.Second)
			ana.Must(in("delete-message", "", map[string]any{"seq": second.Seq, "id": to.To + "2"}))
			ana.Must(in("edit-message", "", map[string]any{"seq": third.Seq, "id": to.To + "3", "data": "new"}))
			p.wantSoon(t, typ, time.Hour, fmt.Sprintf(`bob: %s "new" 1`, typ))
			bob = hubtest.Dial(t, hub, "bob")
		}
	})
}

// TestOnAwayLate: what changes while a call waits for others counts, too.
func TestOnAwayLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		p := pushes{members: map[string][]string{}}
		p.fail = func(_ context.Context, a chathub.Away) error {
			if strings.HasPrefix(a.User, "slow") {
				<-hold
			}
			return nil
		}
		hub := hubtest.New(t, p.config(chathub.Config{PresenceGrace: -1}))
		ana := hubtest.Dial(t, hub, "ana")
		for i := range 8 {
			post(t, hub.ToUser(fmt.Sprint("slow", i)), "", "", "Hi")
		}
		p.wantSoon(t, "slow ones", awaySoon, "slow0: private-message \"Hi\" 0", "slow1: private-message \"Hi\" 0", "slow2: private-message \"Hi\" 0", "slow3: private-message \"Hi\" 0",
			"slow4: private-message \"Hi\" 0", "slow5: private-message \"Hi\" 0", "slow6: private-message \"Hi\" 0", "slow7: private-message \"Hi\" 0")
		for _, user := range []string{"online", "told", "deleted"} {
			ana.Must(private(user, user, "Hi"))
		}
		time.Sleep(awayDelay + 100*time.Millisecond)
		synctest.Wait()
		hubtest.Dial(t, hub, "online")
		ana.Must(hubtest.Frame{Type: "edit-message", To: "told", Data: hubtest.Data(map[string]any{"id": "told", "data": "Ho"})})
		ana.Must(hubtest.Frame{Type: "delete-message", To: "deleted", Data: hubtest.Data(map[string]any{"id": "deleted"})})
		time.Sleep(time.Second)
		close(hold)
		p.wantSoon(t, "those that waited", time.Second, `told: private-message "Ho" 1`)
	})
}
