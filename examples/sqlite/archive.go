package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/chathub-go/chathub"
)

// archive saves what is sent through a hub, and gives it out again.
type archive struct {
	db  *database
	log *slog.Logger
}

// addTo registers the archive. Middleware that changes messages comes before it, so
// that they are saved as they are sent.
func (a *archive) addTo(hub *chathub.Hub) {
	hub.Use(a.saving)
	chathub.OnAck(hub, "room-archive", a.ofRoom)
	chathub.OnAck(hub, "private-archive", a.ofConversation)
}

// saveTimeout bounds how long a sender waits for its ack.
const saveTimeout = 10 * time.Second

// saving is middleware: the ack of a message follows only once it is saved.
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

		// Before it is sent: the hub remembers ids for some minutes, the database for good. And
		// while the database does not answer, nobody gets what could not be saved.
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
		// It is in the hub's log and on its way to everyone. That the sender goes, which ends
		// ctx, must not keep it out of the database.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
		defer cancel()
		if err := a.db.save(ctx, m, receipt); err != nil {
			return nil, a.failed(ctx, "save a message", err)
		}
		return receipt, nil
	}
}

// failed logs an error of the database, and returns what the client is told: to try
// again, with the same id, which doubles nothing.
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

// pageSize returns how many messages to give to who asks for n.
func pageSize(n int) int {
	if n <= 0 {
		n = defaultPage
	}
	return min(n, largestPage)
}

// ofRoom answers room-archive: messages of a room before a position, be it in the
// hub's log of today or in one of an earlier process.
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

// ofConversation answers private-archive: what the client's user and another one sent
// each other.
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
