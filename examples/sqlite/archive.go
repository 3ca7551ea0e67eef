package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/chathub-go/chathub"
)

// archive saves the messages of a hub in a database, and answers clients that
// ask for them.
type archive struct {
	db  *database
	log *slog.Logger
}

// addTo registers the archive with a hub. Register middleware that changes
// messages first, so that messages are saved as they are sent.
func (a *archive) addTo(hub *chathub.Hub) {
	hub.Use(a.saving)
	chathub.OnAck(hub, "room-archive", a.ofRoom)
	chathub.OnAck(hub, "private-archive", a.ofConversation)
}

// saveTimeout bounds how long saving a message may take.
const saveTimeout = 10 * time.Second

// saving is middleware that saves a message before it is acked.
func (a *archive) saving(next chathub.Handler) chathub.Handler {
	return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
		m := &message{ID: e.ID, From: c.User(), Data: e.Data}
		switch e.Type {
		case "room-message":
			m.Room = e.Room
		case "private-message":
			m.To = e.To
		default:
			return next(ctx, c, e)
		}

		// Look before sending. The hub remembers ids for a few minutes, but the
		// database remembers them for good. And while the database is down, no
		// message is sent that could not be saved.
		receipt, found, err := a.db.saved(ctx, m)
		switch {
		case err != nil:
			return nil, a.failed(ctx, "look for a message", err)
		case found:
			return receipt, nil
		}

		result, err := next(ctx, c, e)
		receipt, ok := result.(chathub.Receipt)
		if err != nil || !ok {
			return result, err
		}
		// The message is in the hub's log and on its way to everyone. It must
		// be saved even if the sender disconnects, which ends ctx.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
		defer cancel()
		if err := a.db.save(ctx, m, receipt); err != nil {
			return nil, a.failed(ctx, "save a message", err)
		}
		return receipt, nil
	}
}

// failed logs an error of the database, and returns the error for the client.
// It asks the client to try again. With the same id, nothing is stored twice.
func (a *archive) failed(ctx context.Context, what string, err error) error {
	if own := (*chathub.Error)(nil); errors.As(err, &own) {
		return err
	}
	a.log.ErrorContext(ctx, "database: "+what, "err", err)
	return &chathub.Error{Code: chathub.CodeUnavailable, Message: "Try again", RetryAfter: time.Second, Err: err}
}

const (
	defaultPage = 50
	largestPage = 200
)

// pageSize returns the size of a page if the client asks for n messages.
func pageSize(n int) int {
	if n <= 0 {
		n = defaultPage
	}
	return min(n, largestPage)
}

// ofRoom handles room-archive. It returns messages of a room before a position,
// which may be in the hub's present log, or in the log of an earlier process.
func (a *archive) ofRoom(ctx context.Context, c *chathub.Client, q struct {
	Before *chathub.Position `json:"before"`
	Limit  int               `json:"limit"`
}) (page, error) {
	room := chathub.EventFrom(ctx).Room
	if !slices.Contains(c.Rooms(), room) {
		return page{}, &chathub.Error{Code: chathub.CodeNotInRoom, Message: "Join the room first"}
	}
	p, err := a.db.room(ctx, room, q.Before, pageSize(q.Limit))
	if err != nil {
		return page{}, a.failed(ctx, "read a room", err)
	}
	return p, nil
}

// ofConversation handles private-archive. It returns the messages that the
// client's user and another user sent each other.
func (a *archive) ofConversation(ctx context.Context, c *chathub.Client, q struct {
	Before int64 `json:"before"`
	Limit  int   `json:"limit"`
}) (page, error) {
	p, err := a.db.conversation(ctx, c.User().ID, chathub.EventFrom(ctx).To, q.Before, pageSize(q.Limit))
	if err != nil {
		return page{}, a.failed(ctx, "read a conversation", err)
	}
	return p, nil
}
