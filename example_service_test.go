package chathub_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/chathub-go/chathub"
)

// A service posts as somebody, and may repeat the call if it does not know
// whether it has worked. The message is stored once.
func ExampleTarget_Post() {
	hub, dial, stop := serve(chathub.Config{})
	defer stop()
	ana := dial("ana")
	ana.send(`{"type":"join-room","id":"1","room":"orders"}`)
	ana.wait("ack")

	ctx := context.Background()
	shipped := chathub.Post{
		From: chathub.User{ID: "bot:shop", Name: "Shop"},
		ID:   "order-17-shipped", // of what it is about, so that a restart repeats it
		Data: "Order 17 is on its way",
	}
	for range 2 {
		receipt, err := hub.To("orders").Post(ctx, shipped)
		if err != nil {
			panic(err)
		}
		fmt.Println(receipt.Seq, receipt.Duplicate)
	}
	message := ana.wait("room-message")
	fmt.Println(message.From.Name, message.Data)

	shipped.Data = "Order 17 is lost"
	_, err := hub.To("orders").Post(ctx, shipped)
	if e, ok := errors.AsType[*chathub.Error](err); ok {
		fmt.Println(e.Code)
	}
	// Output:
	// 1 false
	// 1 true
	// Shop "Order 17 is on its way"
	// conflict
}

// History has messages as they are now, in pages.
func ExampleHub_History() {
	hub, _, stop := serve(chathub.Config{})
	defer stop()
	ctx := context.Background()
	for _, text := range []string{"One", "Two", "Tree", "Four"} {
		if _, err := hub.To("lobby").Post(ctx, chathub.Post{From: chathub.User{ID: "ana"}, Data: text}); err != nil {
			panic(err)
		}
	}
	if _, err := hub.EditMessage(ctx, "lobby", 3, "Three"); err != nil {
		panic(err)
	}
	if _, err := hub.DeleteMessage(ctx, "lobby", 4); err != nil {
		panic(err)
	}

	page := chathub.Range{Limit: 2, Oldest: true}
	for more := true; more; {
		var entries []chathub.Entry
		var err error
		entries, more, err = hub.History(ctx, "lobby", page)
		if err != nil {
			panic(err)
		}
		for _, e := range entries {
			fmt.Println(e.Seq, e.From.ID, string(e.Data), !e.Edited.IsZero(), !e.Deleted.IsZero())
			page.After = e.Seq
		}
		fmt.Println("more:", more)
	}
	// Output:
	// 1 ana "One" false false
	// 2 ana "Two" false false
	// more: true
	// 3 ana "Three" true false
	// 4 ana  false true
	// more: false
}

// Follow brings everything after a position, and then what comes. A program
// that stores the position with what it does goes on there after a restart.
func ExampleHub_Follow() {
	hub, _, stop := serve(chathub.Config{})
	defer stop()
	post := func(text string) {
		if _, err := hub.To("lobby").Post(context.Background(), chathub.Post{Data: text}); err != nil {
			panic(err)
		}
	}

	var stored chathub.Position // in a database
	until := func(last uint64) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		err := hub.Follow(ctx, "lobby", stored, func(ctx context.Context, e chathub.Entry) error {
			if e.Gap {
				fmt.Println("the log has dropped messages before this one")
			}
			fmt.Println(e.Seq, e.Type, string(e.Data))
			stored = e.Position
			if e.Seq == last {
				cancel()
			}
			return nil
		})
		fmt.Println(err)
	}

	post("One")
	post("Two")
	until(2)
	post("Three") // while it is not running
	until(3)
	// Output:
	// 1 room-message "One"
	// 2 room-message "Two"
	// context canceled
	// 3 room-message "Three"
	// context canceled
}
