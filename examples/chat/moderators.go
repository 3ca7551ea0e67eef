package main

import (
	"context"
	"strings"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/moderation"
)

// moderators are the ids of users who may moderate every room.
type moderators map[string]bool

// parseModerators reads names, separated by commas.
func parseModerators(names string) moderators {
	ids := make(moderators)
	for name := range strings.SplitSeq(names, ",") {
		if name = strings.TrimSpace(name); name != "" {
			ids[userID(name)] = true
		}
	}
	return ids
}

// moderation returns the moderation of the hub. Moderators may not mute or ban
// each other.
func (ids moderators) moderation() *moderation.Moderation {
	return moderation.New(moderation.Config{
		Moderator: func(_ context.Context, c *chathub.Client, _ string) bool { return ids[c.User().ID] },
		Immune:    func(_ context.Context, user, _ string) bool { return ids[user] },
	})
}
