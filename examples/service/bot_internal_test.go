package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestBot: a bot that ends before it has noted an answer gives it once, and
// answers what came while it was away.
func TestBot(t *testing.T) {
	broker := &chathub.MemoryBroker{}
	hub := hubtest.New(t, chathub.Config{Broker: broker})
	asks := func(text string) chathub.Receipt {
		t.Helper()
		return post(t, hub, chathub.Post{From: chathub.User{ID: "ana"}, Data: text})
	}
	asks("!echo one")
	file := filepath.Join(t.TempDir(), "missing", "bot.json") // cannot be written
	for range 2 {
		if err := (&bot{hub: hub, room: "lobby", file: file}).run(t.Context()); err == nil {
			t.Fatal("the bot has noted its position in a missing folder")
		}
	}
	asks("nothing")
	asks("!echo two")
	file = filepath.Join(t.TempDir(), "bot.json")
	for _, last := range []string{"two", "three"} {
		if last == "three" {
			asks("!echo three")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- (&bot{hub: hub, room: "lobby", file: file}).run(ctx) }()
		watch, stop := context.WithCancel(t.Context())
		_ = hub.Follow(watch, "lobby", chathub.Position{}, func(_ context.Context, e chathub.Entry) error {
			if e.From == echo && textOf(e.Data) == last {
				stop()
			}
			return nil
		})
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	want := []string{"!echo one", "one", "nothing", "!echo two", "two", "!echo three", "three"}
	if got := texts(t, hub); !slices.Equal(got, want) {
		t.Errorf("the room has %q, want %q", got, want)
	}
	entries, _, err := hub.History(t.Context(), "lobby", chathub.Range{After: 1, Limit: 1, Oldest: true})
	if err != nil || len(entries) != 1 || entries[0].Re.Seq != 1 || entries[0].From != echo {
		t.Errorf("the first answer is %+v, %v", entries, err)
	}
}
