package chathub_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// TestPost: a post looks like a message of its sender, is stored once for each
// id whether a client or the application repeats it, and says where it is.
func TestPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, bob := p.dial("ana", "lobby"), p.dial("bob", "lobby")
		from := chathub.User{ID: "ana", Name: "Ana\nSmith"}
		r, err := p.hub.To("lobby").Post(t.Context(), chathub.Post{From: from, ID: "1", Data: "Hi"})
		if err != nil || r.Seq != 1 || r.Epoch == "" || r.Duplicate {
			t.Fatalf("Post returned %+v, %v", r, err)
		}
		if b, _ := json.Marshal(r); !strings.Contains(string(b), `"epoch":"`+r.Epoch+`"`) {
			t.Errorf("the receipt is %s", b)
		}
		for _, c := range []guest{ana, bob} {
			got := arrived(c.Client)
			if len(got) != 1 || got[0].Type != "room-message" || got[0].ID != "1" || got[0].Seq != 1 || string(got[0].Data) != `"Hi"` ||
				*got[0].From != (chathub.User{ID: "ana", Name: "Ana Smith"}) {
				t.Errorf("a member got %+v", got)
			}
		}
		again, err := p.hub.To("lobby").Post(t.Context(), chathub.Post{From: from, ID: "1", Data: "Hi"})
		if err != nil || again.Seq != 1 || !again.Duplicate {
			t.Errorf("the repetition returned %+v, %v", again, err)
		}
		if ack := ana.Must(roomMessage("1", "lobby", `"Hi"`)); ack.Seq != 1 {
			t.Errorf("the same message of a client was answered with %s", ack.Data)
		}
		if _, err := p.hub.To("lobby").Post(t.Context(), chathub.Post{From: from, ID: "1", Data: "Ho"}); !hasCode(err, chathub.CodeConflict) {
			t.Errorf("another message with the id: %v", err)
		}
		bot, err := p.hub.To("lobby").Post(t.Context(), chathub.Post{ID: "1", Re: chathub.MessageRef{Seq: 1}, Type: "poll:closed"})
		if err != nil || bot.Seq != 2 {
			t.Errorf("the application's post returned %+v, %v", bot, err)
		}
		if got := arrived(bob.Client); len(got) != 1 || got[0].From != nil || got[0].Type != "poll:closed" || got[0].Data != nil {
			t.Errorf("a member got %+v", got)
		}
		if users, err := p.hub.OnlineUsers(t.Context()); err != nil || len(users) != 2 {
			t.Errorf("%v are online, %v", users, err)
		}
	})
}

// TestPostPrivate: a private message that is posted is in both inboxes.
func TestPostPrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana, bob := p.dial("ana"), p.dial("bob")
		for _, isRepeated := range []bool{false, true} {
			r, err := p.hub.ToUser("bob").Post(t.Context(), chathub.Post{From: chathub.User{ID: "ana", Name: "Ana"}, ID: "1", Data: "Psst"})
			if err != nil || r.Seq != 1 || r.Duplicate != isRepeated {
				t.Errorf("Post returned %+v, %v", r, err)
			}
		}
		for _, c := range []guest{ana, bob} {
			if got := arrived(c.Client); len(got) != 1 || got[0].Type != "private-message" || got[0].To != "bob" || got[0].From.ID != "ana" || got[0].Seq != 1 {
				t.Errorf("a user got %+v", got)
			}
		}
	})
}

func TestPostRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		watcher := hubtest.Dial(t, hub, "ana")
		enter(watcher, "lobby")
		arrived(watcher)
		room := hub.To("lobby")
		for name, post := range map[string]struct {
			target chathub.Target
			post   chathub.Post
		}{
			"two rooms":      {hub.To("lobby", "other"), chathub.Post{}},
			"no room":        {hub.To(), chathub.Post{}},
			"everyone":       {hub.Broadcast(), chathub.Post{}},
			"a reserved":     {room, chathub.Post{Type: "welcome"}},
			"made by hubs":   {room, chathub.Post{Type: "message-changed"}},
			"not a user":     {room, chathub.Post{From: chathub.User{ID: "a\x00b"}}},
			"a name alone":   {room, chathub.Post{From: chathub.User{Name: "Ana"}}},
			"a long id":      {room, chathub.Post{ID: strings.Repeat("x", 65)}},
			"not UTF-8":      {room, chathub.Post{ID: "\xff"}},
			"to the future":  {room, chathub.Post{Re: chathub.MessageRef{Seq: 7}}},
			"a private re":   {room, chathub.Post{Re: chathub.MessageRef{ID: "1", Author: "bob"}}},
			"a re of a room": {hub.ToUser("ana"), chathub.Post{Re: chathub.MessageRef{Seq: 1}}},
			"to a room":      {room, chathub.Post{Type: "private-message"}},
			"to a user":      {hub.ToUser("ana"), chathub.Post{Type: "room-message"}},
			"no JSON":        {room, chathub.Post{Data: func() {}}},
		} {
			if _, err := post.target.Post(t.Context(), post.post); !hasCode(err, chathub.CodeBadRequest) {
				t.Errorf("%s: %v", name, err)
			}
		}
		expectNothing(t, watcher)
		_ = hub.Close()
		if _, err := room.Post(t.Context(), chathub.Post{}); !errors.Is(err, chathub.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func hasCode(err error, code chathub.Code) bool {
	e, ok := errors.AsType[*chathub.Error](err)
	return ok && e.Code == code
}
