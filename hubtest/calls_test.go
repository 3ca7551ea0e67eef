package hubtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestPresenceCalls tests a hook as an application would. In synctest, the
// grace of five seconds takes no time.
func TestPresenceCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		came := hubtest.NewCalls[chathub.PresenceChange](t)
		hub := hubtest.New(t, chathub.Config{OnPresence: came.Call})
		came.Fail(errors.New("database is down"), errors.New("still"))
		ana := hubtest.Dial(t, hub, "ana")
		start := time.Now()
		if p := came.Next(); p.User.ID != "ana" || !p.Online || time.Since(start) < 2*time.Second {
			t.Errorf("got %+v after %v", p, time.Since(start))
		}
		ana.Drop()
		time.Sleep(4 * time.Second)
		if early := came.Pending(); len(early) > 0 {
			t.Errorf("within the grace: %+v", early)
		}
		if p := came.Next(); p.Online {
			t.Errorf("got %+v", p)
		}
	})
}

// TestFollowCalls tests code that posts, follows and sets a state.
func TestFollowCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		followed := hubtest.NewCalls[chathub.Entry](t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- hub.Follow(ctx, "lobby", chathub.Position{}, followed.Call) }()

		bot := chathub.User{ID: "bot", Name: "Bot"}
		receipt, err := hub.To("lobby").Post(ctx, chathub.Post{From: bot, ID: "1", Data: "beep"})
		if err != nil {
			t.Fatal(err)
		}
		if e := followed.Next(); e.From != bot || e.Seq != receipt.Seq || string(e.Data) != `"beep"` {
			t.Errorf("followed %+v", e)
		}
		if _, err := hub.To("lobby").SetState(ctx, "pinned", receipt.Seq); err != nil {
			t.Error(err)
		}
		if e := followed.Next(); e.Type != "state-changed" {
			t.Errorf("followed %+v", e)
		}
		ana := hubtest.Dial(t, hub, "ana/Ana/acme")
		ana.Must(hubtest.Frame{Type: "join-room", Room: "lobby"})
		ana.Must(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("in another tenant")})
		time.Sleep(time.Second)
		if more := followed.Pending(); len(more) > 0 {
			t.Errorf("followed %+v", more)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
