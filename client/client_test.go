package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
)

func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, _ := dial(t, hub, client.Options{Token: token("ana/Ana")})
		bob, _ := dial(t, hub, client.Options{Token: token("bob")})
		if u := ana.User(); u != (client.User{ID: "ana", Name: "Ana"}) {
			t.Errorf("ana is %v", u)
		}
		red := join(t, ana, "red", client.JoinOptions{})
		theirs := join(t, bob, "red", client.JoinOptions{})
		if _, err := ana.Join(t.Context(), "red", client.JoinOptions{}); !errors.Is(err, client.ErrJoined) {
			t.Errorf("a second join: %v", err)
		}

		first, err := red.Send(t.Context(), "one")
		if err != nil || first.Position.Seq == 0 || first.Position.Epoch == "" || first.ID == "" ||
			!first.Time.Equal(time.UnixMilli(time.Now().UnixMilli())) {
			t.Fatalf("receipt %+v, %v", first, err)
		}
		e := next(t, theirs, client.TypeRoomMessage)
		var text string
		if err := e.Decode(&text); err != nil || text != "one" || e.From != ana.User() || e.Position != first.Position || e.ID != first.ID {
			t.Errorf("bob got %+v, %v", e, err)
		}
		if _, err := theirs.Reply(t.Context(), first.Position.Seq, "two"); err != nil {
			t.Fatal(err)
		}
		next(t, red, client.TypeRoomMessage) // her own
		if e := next(t, red, client.TypeRoomMessage); e.Re.Seq != first.Position.Seq || string(e.Data) != `"two"` {
			t.Errorf("the reply is %+v", e)
		}

		if _, err := red.Edit(t.Context(), first.Position.Seq, "One"); err != nil {
			t.Fatal(err)
		}
		change, ok := next(t, theirs, client.TypeChanged).Change()
		if !ok || change.Kind != "edited" || change.Message.Seq != first.Position.Seq || string(change.Data) != `"One"` || change.Edited.IsZero() {
			t.Errorf("change %+v", change)
		}
		if _, err := theirs.React(t.Context(), first.Position.Seq, "+1", true); err != nil {
			t.Fatal(err)
		}
		next(t, red, client.TypeChanged)
		if change, _ := next(t, red, client.TypeChanged).Change(); change.Reactions["+1"].Count != 1 {
			t.Errorf("change %+v", change)
		}
		if _, err := theirs.Delete(t.Context(), first.Position.Seq); !isCode(err, client.CodeForbidden) {
			t.Errorf("deleting the message of another user: %v", err)
		}
		if m, err := theirs.MarkRead(t.Context(), first.Position.Seq); err != nil || m.Seq != first.Position.Seq || m.Unread != 0 {
			t.Errorf("marker %+v, %v", m, err)
		}
		page, err := theirs.History(t.Context(), client.Query{Limit: 1})
		if err != nil || !page.More || texts(page.Messages) != `"two"` || page.Messages[0].Position.Epoch != first.Position.Epoch {
			t.Errorf("history %+v, %v", page, err)
		}
		o, err := bob.Overview(t.Context(), []string{"red", "none"}, true)
		if r := o.Rooms["red"]; err != nil || len(o.Rooms) != 1 || r.Last == nil || string(r.Last.Data) != `"two"` || r.Marker.Seq != first.Position.Seq {
			t.Errorf("overview %+v, %v", o, err)
		}

		if users, n := red.Users(); n != 2 || fmt.Sprint(users) != "[{ana Ana} {bob bob}]" {
			t.Errorf("in the room: %v, %d", users, n)
		}
		if err := theirs.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		next(t, red, client.TypeUserLeft)
		if _, n := red.Users(); n != 1 {
			t.Errorf("%d users are left", n)
		}
		if _, err := theirs.Send(t.Context(), "three"); !errors.Is(err, client.ErrLeft) || !errors.Is(theirs.Err(), client.ErrLeft) {
			t.Errorf("after leaving: %v, %v", err, theirs.Err())
		}
		again := join(t, bob, "red", client.JoinOptions{History: 1})
		if e := next(t, again, client.TypeRoomMessage); string(e.Data) != `"two"` {
			t.Errorf("history has %s", e.Data)
		}
		again.Typing()
		next(t, red, client.TypeTyping)
		if _, err := again.Send(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		next(t, red, client.TypeStopTyping)
	})
}

func TestPrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, network := dial(t, hub, client.Options{})
		bob, _ := dial(t, hub, client.Options{Token: token("bob")})
		sent, err := ana.Private("bob").Send(t.Context(), "psst")
		if err != nil || sent.Position.Epoch == "" {
			t.Fatalf("%+v, %v", sent, err)
		}
		if r, err := ana.Notify(t.Context(), "bob", "mention"); err != nil || r.Position.Seq != 0 {
			t.Errorf("%+v, %v", r, err)
		}
		inbox, err := bob.Inbox(t.Context(), client.InboxOptions{}) // what came before, too
		if err != nil {
			t.Fatal(err)
		}
		e := next(t, inbox, client.TypePrivateMessage)
		if string(e.Data) != `"psst"` || e.ID != sent.ID || e.To != "bob" {
			t.Errorf("got %+v", e)
		}
		next(t, inbox, client.TypeNotification)
		mine, err := ana.Inbox(t.Context(), client.InboxOptions{New: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bob.Private("ana").Reply(t.Context(), client.Ref{ID: e.ID, Author: "ana"}, "yes?"); err != nil {
			t.Fatal(err)
		}
		if e := next(t, mine, client.TypePrivateMessage); e.Re != (client.Ref{ID: sent.ID, Author: "ana"}) {
			t.Errorf("the first message that ana gets is %+v", e)
		}
		if _, err := ana.Private("bob").Edit(t.Context(), sent.ID, "Psst"); err != nil {
			t.Fatal(err)
		}
		if c, ok := next(t, inbox, client.TypeChanged).Change(); !ok || c.Message != (client.Ref{ID: sent.ID, Author: "ana"}) {
			t.Errorf("change %+v", c)
		}
		if _, err := ana.Private("bob").Send(t.Context(), "again"); err != nil {
			t.Fatal(err)
		}
		network.cut()
		next(t, inbox, client.TypePrivateMessage)
		until(t, ana, client.Connected)
		if got := arrived(mine, client.TypePrivateMessage); len(got) > 0 {
			t.Errorf("after a reconnect ana got her own %s", texts(got))
		}
		page, err := bob.Private("ana").History(t.Context(), client.Query{})
		if err != nil || texts(page.Messages) != `"Psst" "yes?" "again"` {
			t.Errorf("history %s, %v", texts(page.Messages), err)
		}
	})
}

func TestApplicationEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		chathub.OnAck(hub, "double", func(_ context.Context, _ *chathub.Client, n int) (int, error) { return 2 * n, nil })
		release := make(chan struct{})
		ana, _ := dial(t, hub, client.Options{Answers: map[string]client.Answerer{
			"still-there": func(_ context.Context, q client.Event) (any, error) { return string(q.Data) == `"test"`, nil },
			"no": func(context.Context, client.Event) (any, error) {
				return nil, &client.Error{Code: client.CodeForbidden, Message: "Not now"}
			},
			"broken": func(context.Context, client.Event) (any, error) { return nil, errors.New("secret") },
			"slow": func(ctx context.Context, _ client.Event) (any, error) {
				select {
				case <-release:
				case <-ctx.Done():
				}
				return 1, nil
			},
		}})
		var answer int
		if err := ana.Emit(t.Context(), "double", 21, &answer); err != nil || answer != 42 {
			t.Errorf("%d, %v", answer, err)
		}
		if err := ana.Emit(t.Context(), "treble", 21, nil); !isCode(err, client.CodeUnknownType) {
			t.Errorf("an unknown event: %v", err)
		}
		if err := ana.Emit(t.Context(), client.TypeRoomMessage, 21, nil); !isCode(err, client.CodeBadRequest) {
			t.Errorf("a built-in event: %v", err)
		}
		ask := func(event string) string {
			answers, err := hub.ToUser("ana").EmitWithAck(t.Context(), event, "test")
			if err != nil || len(answers) != 1 {
				t.Fatalf("%s: %v, %v", event, answers, err)
			}
			if answers[0].Err != nil {
				return answers[0].Err.Error()
			}
			return string(answers[0].Data)
		}
		for event, want := range map[string]string{
			"still-there": "true", "no": "forbidden: Not now", "broken": "Internal error", "else": "unknown_type",
		} {
			if got := ask(event); !strings.Contains(got, want) || strings.Contains(got, "secret") {
				t.Errorf("%s: %s", event, got)
			}
		}
		busy := make(chan string, 20)
		for range cap(busy) {
			go func() { busy <- ask("slow") }()
		}
		synctest.Wait()
		if len(busy) != 4 || !strings.Contains(<-busy, "unavailable") {
			t.Errorf("%d questions were refused, want all but 16", len(busy)+1)
		}
		close(release)
		synctest.Wait()
		if len(busy) != 19 {
			t.Errorf("%d questions were answered", len(busy))
		}

		events := ana.Events(t.Context())
		if err := hub.Emit(t.Context(), "news", 1); err != nil {
			t.Fatal(err)
		}
		for e := range events {
			if e.Type == "news" {
				break
			}
		}
	})
}

func TestOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, _ := dial(t, hub, client.Options{})
		bob, _ := dial(t, hub, client.Options{Token: token("bob")})
		time.Sleep(time.Second) // changes are batched
		if users, n := ana.Online(); n != 2 || fmt.Sprint(users) != "[{ana ana} {bob bob}]" {
			t.Errorf("online: %v, %d", users, n)
		}
		bob.Close()
		time.Sleep(time.Minute) // the grace
		if users, n, err := ana.OnlineUsers(t.Context()); n != 1 || len(users) != 1 || err != nil {
			t.Errorf("online: %v, %d, %v", users, n, err)
		}
	})
}

func isCode(err error, code client.Code) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Code == code
}
