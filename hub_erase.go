package chathub

import (
	"context"

	"github.com/chathub-go/chathub/internal/change"
	"github.com/chathub-go/chathub/internal/text"
)

// erasePage is how many messages EraseUser reads at a time.
const erasePage = 256

// EraseUser deletes every room-message of a user in the given rooms, and takes
// back the user's reactions there. It returns how many messages it has deleted.
// The rooms are told of each, as by [Hub.DeleteMessage]. It reads the whole log
// of each room, which takes a while if the log is long. If it fails, it may be
// called again, and goes on with what is left. It does not keep the user from
// writing more: disconnect the user first.
func (h *Hub) EraseUser(ctx context.Context, userID string, rooms ...string) (deleted int, err error) {
	return h.Tenant("").EraseUser(ctx, userID, rooms...)
}

// EraseUser deletes what a user has written in rooms. See [Hub.EraseUser].
func (t Tenant) EraseUser(ctx context.Context, userID string, rooms ...string) (deleted int, err error) {
	if !text.Valid(userID, text.MaxUser) {
		return 0, errorf(CodeBadRequest, "not a user id")
	}
	for _, room := range rooms {
		n, err := t.eraseIn(ctx, userID, room)
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

func (t Tenant) eraseIn(ctx context.Context, userID, room string) (deleted int, err error) {
	topic, err := t.room(room)
	if err != nil {
		return 0, err
	}
	h := t.hub
	r := Range{Limit: erasePage, MaxBytes: h.cfg.answerBytes(), Ordinary: true}
	for more := true; more; {
		page, err := readSome(r, func(r Range) (Page, error) { return h.session.Read(ctx, topic, r) })
		if err != nil {
			return deleted, err
		}
		for i := range page.Messages {
			m := &page.Messages[i]
			if _, s := sentIn(m); s.Type != eventRoomMessage || s.From.ID != userID {
				continue
			}
			_, err := t.DeleteMessage(ctx, room, m.Seq)
			switch {
			case err == nil:
				deleted++
			case !hasCode(err, CodeBadRequest): // if so, the log has dropped it meanwhile
				return deleted, err
			}
		}
		if more = page.More && len(page.Messages) > 0; more {
			r.Before = page.Messages[0].Seq
		}
	}
	return deleted, t.eraseReactions(ctx, userID, room)
}

// eraseReactions takes back all reactions of a user in a room.
func (t Tenant) eraseReactions(ctx context.Context, userID, room string) error {
	named, err := t.hub.session.ReadNamed(ctx, []NameQuery{{Topic: t.world.room(room), Kind: kindChanged}})
	if err != nil {
		return err
	}
	for i := range named[0] {
		m := &named[0][i]
		st, err := stateIn(m)
		if err != nil {
			return err
		}
		if len(st.Mine(userID)) == 0 {
			continue
		}
		_, err = t.changeMessage(ctx, room, m.Tied, &change.Op{Kind: change.React, User: userID})
		if hasCode(err, CodeBadRequest) || hasCode(err, CodeConflict) {
			continue // the message has gone meanwhile
		}
		if err != nil {
			return err
		}
	}
	return nil
}
