package moderation_test

import (
	"context"
	"log/slog"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
)

// serve runs a hub with moderation for an example. In it, the token of a user
// is the user's id.
func serve(cfg moderation.Config) (*moderation.Moderation, *chathub.Hub) {
	m := moderation.New(cfg)
	hubCfg := chathub.Config{Auth: hubtest.Auth{}, Logger: slog.New(slog.DiscardHandler)}
	m.Install(&hubCfg)
	hub, err := chathub.New(hubCfg)
	if err != nil {
		panic(err)
	}
	if err := m.Start(context.Background(), hub); err != nil {
		panic(err)
	}
	return m, hub
}

// enter connects a user, and joins the lobby.
func enter(hub *chathub.Hub, user string) *client.Room {
	c, err := client.Dial(context.Background(), "ws://example.com/ws", client.Options{
		Token:      func(context.Context) (string, error) { return user, nil },
		HTTPClient: hubtest.HTTPClient(hub),
	})
	if err != nil {
		panic(err)
	}
	lobby, err := c.Join(context.Background(), "lobby", client.JoinOptions{})
	if err != nil {
		panic(err)
	}
	return lobby
}
