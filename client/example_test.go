package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
)

// start runs a hub in memory for an example. A program of yours needs neither
// the hub nor Options.HTTPClient.
func start() (*chathub.Hub, *http.Client) {
	hub, err := chathub.New(chathub.Config{Auth: hubtest.Auth{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	return hub, hubtest.HTTPClient(hub)
}

// A bot that answers in a room.
func Example() {
	hub, memory := start()
	defer hub.Close()
	ctx := context.Background()

	bot, err := client.Dial(ctx, "ws://example.com/ws", client.Options{
		// Sign one here.
		Token:      func(context.Context) (string, error) { return "echo/Echo", nil },
		HTTPClient: memory,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bot.Close()
	lobby, err := bot.Join(ctx, "lobby", client.JoinOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		for e := range lobby.Events(ctx) {
			var text string
			if e.Type != client.TypeRoomMessage || e.From.ID == bot.User().ID || e.Decode(&text) != nil {
				continue
			}
			if _, err := lobby.Reply(ctx, e.Position.Seq, strings.ToUpper(text)); err != nil {
				return
			}
		}
	}()

	ana, err := client.Dial(ctx, "ws://example.com/ws", client.Options{
		Token:      func(context.Context) (string, error) { return "ana/Ana", nil },
		HTTPClient: memory,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ana.Close()
	room, err := ana.Join(ctx, "lobby", client.JoinOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := room.Send(ctx, "hello"); err != nil {
		fmt.Println(err)
		return
	}
	messages := 0
	for e := range room.Events(ctx) {
		if e.Type != client.TypeRoomMessage {
			continue // somebody joined
		}
		fmt.Printf("%s: %s\n", e.From.Name, e.Data)
		if messages++; messages == 2 {
			break
		}
	}
	// Output:
	// Ana: "hello"
	// Echo: "HELLO"
}

// A tool that posts the result of a build, and may be run again: the id makes
// sure that it is stored once.
func ExampleRoom_Post() {
	hub, memory := start()
	defer hub.Close()
	ctx := context.Background()
	for range 2 {
		c, err := client.Dial(ctx, "ws://example.com/ws", client.Options{
			Token:      func(context.Context) (string, error) { return "ci", nil },
			HTTPClient: memory,
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		builds, err := c.Join(ctx, "builds", client.JoinOptions{SendOnly: true})
		if err != nil {
			fmt.Println(err)
			return
		}
		receipt, err := builds.Post(ctx, client.Post{ID: "build-17", Data: "The build is green"})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(receipt.Position.Seq, receipt.Duplicate)
		if err := c.Shutdown(ctx); err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// 1 false
	// 1 true
}

// A call of a handler of the application, which was registered with
// chathub.OnAck.
func ExampleClient_Emit() {
	hub, memory := start()
	defer hub.Close()
	chathub.OnAck(hub, "order:confirm", func(_ context.Context, _ *chathub.Client, order int) (string, error) {
		if order != 17 {
			return "", &chathub.Error{Code: chathub.CodeForbidden, Message: "Not your order"}
		}
		return "confirmed", nil
	})
	ctx := context.Background()
	c, err := client.Dial(ctx, "ws://example.com/ws", client.Options{
		Token:      func(context.Context) (string, error) { return "ana", nil },
		HTTPClient: memory,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	var state string
	err = c.Emit(ctx, "order:confirm", 17, &state)
	fmt.Println(state, err)
	err = c.Emit(ctx, "order:confirm", 18, &state)
	fmt.Println(err)
	// Output:
	// confirmed <nil>
	// chathub client: forbidden: Not your order
}
