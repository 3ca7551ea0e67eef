package chathub

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"
)

// typist is someone who types in a room.
type typist struct {
	c       *Client // nil: on another hub
	user    User
	expires time.Time
}

// typingLate is how late another hub may say that a typing has ended.
const typingLate = sweepInterval + brokerTimeout

// onTyping relays first and notes then: a client that leaves in between is not
// noted any more, and its typing is ended here.
func onTyping(ctx context.Context, c *Client, e *Event) (any, error) {
	if err := c.hub.sendTyping(ctx, c, eventTyping, e.Room); err != nil {
		return nil, err
	}
	noted := false
	if err := c.hub.onLoop(func(l *loop) { noted = l.startTyping(c, e.Room, l.now()) }); err != nil {
		return nil, err
	}
	if !noted {
		return nil, c.hub.sendTyping(ctx, c, eventStopTyping, e.Room)
	}
	return nil, nil
}

// onStopTyping relays unless the user still types in another tab.
func onStopTyping(ctx context.Context, c *Client, e *Event) (any, error) {
	elsewhere := false
	err := c.hub.onLoop(func(l *loop) {
		if r := l.rooms[e.Room]; r != nil {
			r.forgetTyping(c, c.user.ID)
			elsewhere = r.isTyping(c.user.ID)
		}
	})
	if err != nil || elsewhere {
		return nil, err
	}
	return nil, c.hub.sendTyping(ctx, c, eventStopTyping, e.Room)
}

func (h *Hub) sendTyping(ctx context.Context, c *Client, typ, room string) error {
	env := envelope{typ: typ, room: room, from: &c.user}
	body := env.body(&note.Routed{Except: []string{c.id}})
	return h.sendVolatile(ctx, Message{Topic: Topic{Room: room}, Body: body})
}

// startTyping notes that a member types, until it says otherwise, goes, or is
// silent for the typing timeout. It reports whether c is a member.
func (l *loop) startTyping(c *Client, name string, now time.Time) (member bool) {
	r := l.rooms[name]
	if r == nil || c.onLoop.seatIn(&r.audience) < 0 {
		return false
	}
	l.noteTyping(r, typist{c: c, user: c.user, expires: now.Add(l.cfg.TypingTimeout)})
	return true
}

// noteTyping notes that someone types, or still does, unless typing has no end.
func (l *loop) noteTyping(r *room, t typist) {
	if l.cfg.TypingTimeout < 0 {
		return
	}
	if i := r.typist(t.c, t.user.ID); i >= 0 {
		r.typing[i] = t
		return
	}
	if !r.listed {
		r.listed = true
		l.typing = append(l.typing, r)
	}
	r.typing = append(r.typing, t)
}

// typist returns the number of a client, or of a user who types on another hub, or -1.
func (r *room) typist(c *Client, userID string) int {
	return slices.IndexFunc(r.typing, func(t typist) bool { return t.c == c && t.user.ID == userID })
}

// forgetTyping drops the note without telling anyone. It reports whether there was one.
func (r *room) forgetTyping(c *Client, userID string) bool {
	i := r.typist(c, userID)
	if i < 0 {
		return false
	}
	r.typing = slices.Delete(r.typing, i, i+1)
	return true
}

// types reports whether a user types, on any of its connections to this hub.
func (r *room) isTyping(userID string) bool {
	return slices.ContainsFunc(r.typing, func(t typist) bool { return t.c != nil && t.user.ID == userID })
}

// stopTyping ends a client's typing on its behalf.
func (l *loop) stopTyping(c *Client, r *room) {
	if r.forgetTyping(c, c.user.ID) && !r.isTyping(c.user.ID) {
		l.hub.later(func(h *Hub) {
			ctx, cancel := h.brokerContext()
			defer cancel()
			if err := h.sendTyping(ctx, c, eventStopTyping, r.name); err != nil {
				h.log.Warn("chathub: stop-typing", "room", r.name, "err", err)
			}
		})
	}
}

// expireTyping ends every typing that was not repeated.
func (l *loop) expireTyping(now time.Time) {
	l.typing = slices.DeleteFunc(l.typing, func(r *room) bool {
		for i := 0; i < len(r.typing); {
			switch t := r.typing[i]; {
			case t.expires.After(now):
				i++
			case t.c != nil:
				l.stopTyping(t.c, r)
			default:
				l.typingLost(t.user, r)
			}
		}
		r.listed = len(r.typing) > 0
		return !r.listed
	})
}

// heardTyping is what a message between hubs says of someone who types.
type typingNote struct {
	from User
	ends bool
}

// typingOf returns what the envelope of a volatile message to a room says of typing; nil: it is
// something else.
func typingOf(envelope []byte) *typingNote {
	ends := bytes.HasPrefix(envelope, []byte(`{"type":"`+eventStopTyping+`",`))
	if !ends && !bytes.HasPrefix(envelope, []byte(`{"type":"`+eventTyping+`",`)) {
		return nil
	}
	var e struct {
		From User `json:"from"`
	}
	if err := json.Unmarshal(envelope, &e); err != nil || e.From.ID == "" {
		return nil
	}
	return &typingNote{from: e.From, ends: ends}
}

// hearTyping notes who types on another hub: that may go without a word, or its word be lost.
func (l *loop) hearTyping(r *room, h *typingNote, now time.Time) {
	if h.ends {
		r.forgetTyping(nil, h.from.ID)
		return
	}
	l.noteTyping(r, typist{user: h.from, expires: now.Add(l.cfg.TypingTimeout + typingLate)})
}

// typingLost ends, for the members here, a typing on another hub of which nothing more was heard.
func (l *loop) typingLost(u User, r *room) {
	if r.forgetTyping(nil, u.ID) && !r.isTyping(u.ID) {
		e := envelope{typ: eventStopTyping, room: r.name, from: &u}
		l.deliver(&r.audience, delivery{frame: e.frame(), kind: wire.Volatile})
	}
}
