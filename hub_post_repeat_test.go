package chathub_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestPostConcurrent: what two hubs and a client of the sender send at once
// under one id is stored and delivered once, and all get the same position.
func TestPostConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		cfg := chathub.Config{Broker: broker, PresenceInterval: -1, Rate: -1}
		hubs := []*chathub.Hub{hubtest.New(t, cfg), hubtest.New(t, cfg)}
		ana, bob := hubtest.Dial(t, hubs[0], "ana"), hubtest.Dial(t, hubs[1], "bob")
		enter(ana, "lobby")
		enter(bob, "lobby")
		for i := range 50 {
			id := fmt.Sprint("id", i)
			var mu sync.Mutex
			seqs, fresh := make(map[uint64]bool), 0
			var wg sync.WaitGroup
			for k := range 6 {
				wg.Go(func() {
					r, err := hubs[k%2].To("lobby").Post(t.Context(), chathub.Post{From: chathub.User{ID: "ana"}, ID: id, Data: i})
					mu.Lock()
					defer mu.Unlock()
					if seqs[r.Seq] = true; err != nil {
						t.Error(err)
					}
					if !r.Duplicate {
						fresh++
					}
				})
			}
			ana.Send(roomMessage(id, "lobby", fmt.Sprint(i)))
			wg.Wait()
			synctest.Wait()
			for _, f := range ana.Pending() {
				if f.Type == "ack" {
					seqs[f.Seq] = true
					if !strings.Contains(string(f.Data), `"dup":true`) {
						fresh++
					}
				}
			}
			if len(seqs) != 1 || fresh != 1 {
				t.Errorf("message %d is at %v, and was new to %d callers", i, seqs, fresh)
			}
		}
		if got := arrived(bob); len(got) != 50 {
			t.Errorf("bob got %d messages, want 50", len(got))
		}
	})
}

// TestPostRepeatedMap: data that is a map is the same message each time.
func TestPostRepeatedMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		data := make(map[string]int)
		for i := range 20 {
			data[fmt.Sprint(i)] = i
		}
		for i := range 20 {
			r, err := hub.To("lobby").Post(t.Context(), chathub.Post{ID: "1", Data: data})
			if err != nil || r.Seq != 1 || r.Duplicate != (i > 0) {
				t.Fatalf("call %d returned %+v, %v", i, r, err)
			}
		}
	})
}

// TestPostToOneself: it is in the one inbox once.
func TestPostToOneself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana")
		for i := range 2 {
			r, err := p.hub.ToUser("ana").Post(t.Context(), chathub.Post{From: chathub.User{ID: "ana"}, ID: "1", Data: "note"})
			if err != nil || r.Seq != 1 || r.Duplicate != (i > 0) {
				t.Errorf("Post returned %+v, %v", r, err)
			}
		}
		wantHeard(t, "ana", ana.Client, `private-message "note"`)
		if ack := ana.Must(hubtest.Frame{Type: "private-message", ID: "1", To: "ana", Data: raw(`"note"`)}); ack.Seq != 1 {
			t.Errorf("the same message of a client is at %d", ack.Seq)
		}
		wantHeard(t, "ana", ana.Client)
	})
}

// TestPostExcept: a connection that is left out does not hear of a post, in a
// room and in either inbox. It finds the message in the log.
func TestPostExcept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, tab := p.dial("ana", "lobby"), p.dial("ana", "lobby")
		bob, phone := p.dial("bob", "lobby"), p.dial("bob", "lobby")
		left := []string{tab.server.ID(), phone.server.ID()}
		from := chathub.User{ID: "ana"}
		for name, target := range map[string]chathub.Target{"room-message": p.hub.To("lobby"), "private-message": p.hub.ToUser("bob")} {
			if _, err := target.Except(left...).Post(t.Context(), chathub.Post{From: from, Data: 1}); err != nil {
				t.Fatal(err)
			}
			for _, c := range []guest{ana, bob} {
				if got := arrived(c.Client); len(got) != 1 || got[0].Type != name {
					t.Errorf("a %s came as %+v", name, got)
				}
			}
			expectNothing(t, tab.Client, phone.Client)
		}
		if entries, _, err := p.hub.History(t.Context(), "lobby", chathub.Range{Limit: 9}); err != nil || len(entries) != 1 {
			t.Errorf("the log has %+v, %v", entries, err)
		}
	})
}

// TestPostConflict: an id that was used for something else is refused, whoever
// used it, and its receipt is zero. Ids of other senders and rooms are others.
func TestPostConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana", "lobby", "other")
		from := chathub.User{ID: "ana"}
		ana.Must(roomMessage("1", "lobby", `"Hi"`))
		private, lobby := p.hub.ToUser("bob"), p.hub.To("lobby")
		if _, err := private.Post(t.Context(), chathub.Post{From: from, ID: "1", Data: "Hi"}); err != nil {
			t.Error(err)
		}
		for name, post := range map[string]struct {
			target chathub.Target
			post   chathub.Post
		}{
			"other data":    {lobby, chathub.Post{From: from, ID: "1", Data: "Ho"}},
			"another type":  {lobby, chathub.Post{From: from, ID: "1", Data: "Hi", Type: "poll:opened"}},
			"an answer":     {lobby, chathub.Post{From: from, ID: "1", Data: "Hi", Re: chathub.MessageRef{Seq: 1}}},
			"no data":       {lobby, chathub.Post{From: from, ID: "1"}},
			"private":       {private, chathub.Post{From: from, ID: "1", Data: "Ho"}},
			"private, type": {private, chathub.Post{From: from, ID: "1", Data: "Hi", Type: "order"}},
		} {
			if r, err := post.target.Post(t.Context(), post.post); !hasCode(err, chathub.CodeConflict) || r != (chathub.Receipt{}) {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
		for name, post := range map[string]struct {
			target chathub.Target
			from   chathub.User
		}{"another room": {p.hub.To("other"), from}, "another user": {lobby, chathub.User{ID: "bob"}}, "the application": {lobby, chathub.User{}}} {
			if r, err := post.target.Post(t.Context(), chathub.Post{From: post.from, ID: "1", Data: "Ho"}); err != nil || r.Duplicate {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
		arrived(ana.Client)
		expectRefused(t, ana.Client, roomMessage("1", "other", `"Hi"`), chathub.CodeConflict)
	})
}

// TestPostHalf: a private message whose second half could not be stored is
// completed by a repetition, and nobody gets it twice.
func TestPostHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		p := newParty(t, chathub.Config{Broker: broker})
		ana, bob := p.dial("ana"), p.dial("bob")
		post := chathub.Post{From: chathub.User{ID: "ana"}, ID: "1", Data: "Psst"}
		set(broker, broker.publish, chathub.Topic{User: "ana"}, error(chathub.Unavailable(errors.New("down"))))
		if _, err := p.hub.ToUser("bob").Post(t.Context(), post); !hasCode(err, chathub.CodeUnavailable) {
			t.Errorf("half of a post: %v", err)
		}
		set(broker, broker.publish, chathub.Topic{User: "ana"}, nil)
		if r, err := p.hub.ToUser("bob").Post(t.Context(), post); err != nil || r.Seq != 1 || r.Duplicate {
			t.Errorf("the repetition returned %+v, %v", r, err)
		}
		wantHeard(t, "ana", ana.Client, `private-message "Psst"`)
		wantHeard(t, "bob", bob.Client, `private-message "Psst"`)
	})
}

// TestPostNotUnread: a private message of the application has no sender to talk
// to, and does not count as unread.
func TestPostNotUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		hub := hubtest.New(t, chathub.Config{Broker: broker})
		session, err := broker.Attach(t.Context(), func(chathub.Message) {})
		if err != nil {
			t.Fatal(err)
		}
		unread := func() int {
			t.Helper()
			got, err := session.Survey(t.Context(), []chathub.SurveyQuery{{Topic: chathub.Topic{User: "bob"}, Reader: "bob", Most: 9}})
			if err != nil {
				t.Fatal(err)
			}
			return got[0].Unread
		}
		for _, tc := range []struct {
			post chathub.Post
			want int
		}{{chathub.Post{}, 0}, {chathub.Post{From: chathub.User{ID: "ana"}, Type: "order"}, 0}, {chathub.Post{From: chathub.User{ID: "ana"}}, 1}} {
			if _, err := hub.ToUser("bob").Post(t.Context(), tc.post); err != nil || unread() != tc.want {
				t.Errorf("after %+v, %d are unread, want %d; %v", tc.post, unread(), tc.want, err)
			}
		}
	})
}
