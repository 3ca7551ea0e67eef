package moderation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
	"github.com/go-json-experiment/json"
)

// A hub with moderation. Go code mutes a user for an hour.
func Example() {
	m := moderation.New(moderation.Config{})
	cfg := chathub.Config{Auth: hubtest.Auth{}, Logger: slog.New(slog.DiscardHandler)} // your own
	m.Install(&cfg)
	hub, err := chathub.New(cfg)
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	// Your hub.Use and chathub.On come here.
	ctx := context.Background()
	if err := m.Start(ctx, hub); err != nil {
		panic(err)
	}
	// Now it may serve.

	lobby := enter(hub, "ana")
	fmt.Println(say(lobby, "ana", "hello"))
	mute := moderation.Decision{
		Kind: moderation.Mute, Room: "lobby", User: "ana",
		Until: time.Now().Add(time.Hour), Reason: "Please read the rules",
	}
	position, err := m.Decide(ctx, mute)
	if err != nil {
		panic(err)
	}
	fmt.Println("nothing of ana is in the log after", position.Seq)
	fmt.Println(say(lobby, "ana", "hello again"))
	// Output:
	// ana says hello
	// nothing of ana is in the log after 1
	// ana cannot say that: chathub client: forbidden: You are muted: Please read the rules
}

// A moderator is a client that may moderate. Its page sends the event
// "moderate".
func ExampleConfig_moderator() {
	_, hub := serve(moderation.Config{
		Moderator: func(_ context.Context, c *chathub.Client, room string) bool {
			return c.User().ID == "mia" && room == "lobby" // ask your database
		},
	})
	defer hub.Close()
	ctx := context.Background()
	ana, mia := enter(hub, "ana"), enter(hub, "mia")
	freeze := map[string]any{"action": "freeze", "forMs": 60_000}
	if err := ana.Emit(ctx, "moderate", freeze, nil); err != nil {
		fmt.Println("ana:", err)
	}
	if err := mia.Emit(ctx, "moderate", freeze, nil); err != nil {
		panic(err)
	}
	fmt.Println(say(ana, "ana", "hello"))
	fmt.Println(say(mia, "mia", "Let us wait a minute"))
	// Output:
	// ana: chathub client: forbidden: Only moderators may do this
	// ana cannot say that: chathub client: forbidden: The room is frozen
	// mia says Let us wait a minute
}

// Words looks at texts, wherever they are: in messages, edits, private messages
// and so on.
func ExampleConfig_words() {
	_, hub := serve(moderation.Config{
		Words: func(_ context.Context, _ *chathub.Client, s moderation.Said) (moderation.Verdict, error) {
			switch {
			case bytes.Contains(s.Data, []byte("casino")):
				return moderation.Verdict{}, &chathub.Error{Code: chathub.CodeForbidden, Message: "No advertising"}
			case bytes.Contains(s.Data, []byte("darn")):
				return moderation.Verdict{Data: bytes.ReplaceAll(s.Data, []byte("darn"), []byte("d***"))}, nil
			case bytes.Contains(s.Data, []byte("http")):
				return moderation.Verdict{Report: "has a link"}, nil
			}
			return moderation.Verdict{}, nil
		},
	})
	defer hub.Close()
	lobby := enter(hub, "ana")
	for _, text := range []string{"Visit my casino", "darn", "http://example.com"} {
		fmt.Println(say(lobby, "ana", text))
	}
	ctx := context.Background()
	entries, _, err := hub.History(ctx, "lobby", chathub.Range{Limit: 10})
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		fmt.Println("the log has", string(e.Data))
	}
	reports, _, err := hub.History(ctx, moderation.ReportsRoom, chathub.Range{Limit: 10})
	if err != nil {
		panic(err)
	}
	for _, e := range reports {
		var r moderation.Report
		if err := json.Unmarshal(e.Data, &r); err != nil {
			panic(err)
		}
		fmt.Println("report of message", r.Seq, "by", r.Author+":", r.Reason)
	}
	// Output:
	// ana cannot say that: chathub client: forbidden: No advertising
	// ana says darn
	// ana says http://example.com
	// the log has "d***"
	// the log has "http://example.com"
	// report of message 2 by ana: has a link
}

// A job reads reports from their log, each at least once, also over restarts if
// it stores the position.
func ExampleReport() {
	_, hub := serve(moderation.Config{})
	defer hub.Close()
	ctx := context.Background()
	ana, ben := enter(hub, "ana"), enter(hub, "ben")
	receipt, err := ana.Send(ctx, "Buy this")
	if err != nil {
		panic(err)
	}
	if err := ben.Emit(ctx, "report", map[string]any{"seq": receipt.Position.Seq, "reason": "spam"}, nil); err != nil {
		panic(err)
	}
	done := errors.New("one is enough for an example")
	err = hub.Follow(ctx, moderation.ReportsRoom, chathub.Position{}, func(_ context.Context, e chathub.Entry) error {
		var r moderation.Report
		if err := json.Unmarshal(e.Data, &r); err != nil {
			return err
		}
		fmt.Printf("%s reports message %d of %s in %s: %s\n", e.From.ID, r.Seq, r.Author, r.Room, r.Reason)
		return done
	})
	fmt.Println(err)
	// Output:
	// ben reports message 1 of ana in lobby: spam
	// one is enough for an example
}

// Code that posts for users asks first.
func ExampleModeration_MayWrite() {
	m, hub := serve(moderation.Config{})
	defer hub.Close()
	ctx := context.Background()
	if _, err := m.Decide(ctx, moderation.Decision{Kind: moderation.Ban, User: "ana"}); err != nil {
		panic(err)
	}
	for _, user := range []string{"ana", "ben"} {
		if err := m.MayWrite(user, "lobby"); err != nil {
			fmt.Println(user+":", err)
			continue
		}
		receipt, err := hub.To("lobby").Post(ctx, chathub.Post{From: chathub.User{ID: user}, Data: "hello"})
		if err != nil {
			panic(err)
		}
		fmt.Println(user+": posted at", receipt.Seq)
	}
	// Output:
	// ana: chathub: forbidden: You are banned
	// ben: posted at 1
}

// say returns what becomes of a message.
func say(room *client.Room, user, text string) string {
	if _, err := room.Send(context.Background(), text); err != nil {
		return fmt.Sprintf("%s cannot say that: %v", user, err)
	}
	return user + " says " + text
}
