package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
)

// told lets Ana send three messages to the lobby, and leave.
func told(t *testing.T, hub *chathub.Hub) {
	t.Helper()
	ana := dialHub(t, hub, "ana")
	room, err := ana.Join(t.Context(), "lobby", client.JoinOptions{SendOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []any{map[string]string{"text": "one"}, "two\x1b[31m\u202e", map[string]int{"n": 3}} {
		if _, err := room.Send(t.Context(), data); err != nil {
			t.Fatal(err)
		}
	}
	ana.Close()
}

func TestTailHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t, chathub.Config{})
		told(t, hub)
		args := []string{"tail", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby", "-history", "10", "-count", "3"}
		r := ran(t, hub, args...)
		r.want(t, statusDone, "ana: one  [1]", "ana: two", `ana: {"n":3}  [3]`, "events: 3; go on with -since ")
		if strings.ContainsAny(r.out, "\x1b\u202e") {
			t.Errorf("a message controls the terminal: %q", r.out)
		}

		r = ran(t, hub, append(args, "-json")...)
		r.want(t, statusDone)
		lines := strings.Split(strings.TrimSpace(r.out), "\n")
		if len(lines) != 3 {
			t.Fatalf("%d lines: %s", len(lines), r.out)
		}
		second := decoded[eventJSON](t, result{out: lines[1]})
		if second.Seq != 2 || second.Type != "room-message" || second.From.ID != "ana" || second.Epoch == "" || second.TS == 0 {
			t.Errorf("%+v", second)
		}

		// Another run goes on after it.
		since := second.Epoch + "/2"
		ran(t, hub, "tail", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby", "-since", since, "-count", "1").
			want(t, statusDone, `{"n":3}  [3]`, "events: 1; go on with -since "+second.Epoch+"/3")
		// A position of another log is a gap.
		ran(t, hub, "tail", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby", "-since", "other/9", "-count", "1").
			want(t, statusDone, "messages are missing")
	})
}

// TestTailGoesOn: a tail survives a restart of the hub, and ends with an
// interrupt.
func TestTailGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		s := &service{hub: newHub(t, chathub.Config{Broker: broker})}
		told(t, s.hub)
		var out, errs output
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int, 1)
		go func() {
			ended <- run(ctx, []string{"tail", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby", "-history", "1"}, newEnv(s, nil, &out, &errs))
		}()
		out.await(t, `{"n":3}`)
		next := newHub(t, chathub.Config{Broker: broker})
		if err := s.replace(next); err != nil {
			t.Fatal(err)
		}
		if _, err := next.To("lobby").Post(t.Context(), chathub.Post{Type: "room-message", Data: "after"}); err != nil {
			t.Fatal(err)
		}
		errs.await(t, "connected again")
		ben, err := dialHub(t, s, "ben").Join(t.Context(), "lobby", client.JoinOptions{SendOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		out.await(t, "* user-joined ben (2 in the room)")
		if _, err := ben.Send(t.Context(), "here"); err != nil {
			t.Fatal(err)
		}
		out.await(t, "ben: here")
		cancel()
		result{<-ended, out.String(), errs.String()}.want(t, statusDone, `{"n":3}  [3]`, "the application: after  [4]", "ben: here", "the connection is lost", "connected again")
	})
}

func TestTailInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t, chathub.Config{})
		var out, errs output
		ended := make(chan int, 1)
		go func() {
			ended <- run(t.Context(), []string{"tail", hubURL, "-secret-env", "TEST_SECRET", "-user", "ben", "-inbox", "-count", "2"}, newEnv(hub, nil, &out, &errs))
		}()
		synctest.Wait()
		ana := dialHub(t, hub, "ana")
		if _, err := ana.Private("ben").Send(t.Context(), "psst"); err != nil {
			t.Fatal(err)
		}
		if _, err := ana.Notify(t.Context(), "ben", map[string]string{"text": "look"}); err != nil {
			t.Fatal(err)
		}
		result{<-ended, out.String(), errs.String()}.want(t, statusDone, "ana: psst  [1]", "* notification by ana look  [2]")
	})
}

func TestTailRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t, chathub.Config{Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
			if a.Room == "secret" {
				return &chathub.Error{Code: chathub.CodeForbidden, Message: "Members only"}
			}
			return nil
		}})
		ran(t, hub, "tail", hubURL, "-secret-env", "TEST_SECRET", "-room", "secret").want(t, statusWrong, "forbidden: Members only")
		var out, errs output
		ended := make(chan int, 1)
		go func() {
			ended <- run(t.Context(), []string{"tail", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby"}, newEnv(hub, nil, &out, &errs))
		}()
		synctest.Wait()
		if err := hub.ToUser("chathub").Remove(t.Context(), "Enough", "lobby"); err != nil {
			t.Fatal(err)
		}
		result{<-ended, out.String(), errs.String()}.want(t, statusWrong, "Enough")
		ran(t, hub, "tail", hubURL, "-room", "lobby").want(t, statusFailed, "unauthenticated")
	})
}
