package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
)

// bot answers messages of a room that begin with !echo. It answers each one
// once, also those that came while it was not running.
type bot struct {
	hub  *chathub.Hub
	room string
	file string // has the position of the last message that it has dealt with
}

func (b *bot) run(ctx context.Context) error {
	from, err := readNote[chathub.Position](b.file)
	if err != nil {
		return err
	}
	// The last answer may have been posted without having been noted. The hub
	// knows the id of a repetition for a few minutes only, and the bot may have
	// been away for longer.
	answered, err := idsAfter(ctx, b.hub, b.room, from.Seq)
	if err != nil {
		return err
	}
	return b.hub.Follow(ctx, b.room, from, func(ctx context.Context, e chathub.Entry) error {
		id := "re-" + strconv.FormatUint(e.Seq, 36) + "-" + e.Epoch
		text, isAsked := strings.CutPrefix(textOf(e.Data), "!echo ")
		if isAsked && e.Type == "room-message" && e.From != echo && !answered[id] {
			if _, err := b.hub.To(b.room).Post(ctx, chathub.Post{
				From: echo, ID: id, Re: chathub.MessageRef{Seq: e.Seq}, Data: text,
			}); err != nil {
				return err
			}
		}
		return writeNote(b.file, e.Position)
	})
}

var echo = chathub.User{ID: "bot:echo", Name: "Echo"}

// idsAfter returns the ids of the newest messages after a position.
func idsAfter(ctx context.Context, hub *chathub.Hub, room string, seq uint64) (map[string]bool, error) {
	entries, _, err := hub.History(ctx, room, chathub.Range{After: seq, Limit: 1000})
	ids := make(map[string]bool, len(entries))
	for _, e := range entries {
		ids[e.ID] = true
	}
	return ids, err
}

// readNote reads what writeNote has written. If there is no file, it is zero.
func readNote[T any](file string) (v T, err error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	return v, err
}

// writeNote replaces a file. A process that is killed leaves the old one or the
// new one.
func writeNote(file string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
