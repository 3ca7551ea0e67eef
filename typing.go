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

// typist is a user who is typing in a room.
type typist struct {
	c       *Client // nil: on another node
	user    User
	expires time.Time
}

// typingLate is how late the message of another node may be that a typing has
// ended.
const typingLate = sweepInterval + brokerTimeout

// onTyping first passes the event on, and then notes the typist. If the client
// leaves in between, there is nobody to note, and the typing is ended here.
func onTyping(ctx context.Context, c *Client, e *Event) (any, error) {
	if err := c.beginPublish(c.world().room(e.Room)); err != nil {
		return nil, err
	}
	err := c.hub.sendTyping(ctx, c, eventTyping, e.Room)
	c.endPublish()
	if err != nil {
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

// onStopTyping passes the event on, unless the user is still typing in another
// tab.
func onStopTyping(ctx context.Context, c *Client, e *Event) (any, error) {
	elsewhere := false
	err := c.hub.onLoop(func(l *loop) {
		if r := l.roomOf(c, e.Room); r != nil {
			r.forgetTyping(c, c.User().ID)
			elsewhere = r.isTyping(c.User().ID)
		}
	})
	if err != nil || elsewhere {
		return nil, err
	}
	return nil, c.hub.sendTyping(ctx, c, eventStopTyping, e.Room)
}

func (h *Hub) sendTyping(ctx context.Context, c *Client, typ, room string) error {
	env := envelope{typ: typ, room: room, from: c.user()}
	body := env.body(&note.Routed{Except: []string{c.id}})
	return h.sendVolatile(ctx, Message{Topic: c.world().room(room), Body: body})
}

// startTyping notes that a member is typing, until it says otherwise, leaves,
// or is silent for the typing timeout. It reports whether c is a member.
func (l *loop) startTyping(c *Client, name string, now time.Time) (member bool) {
	r := l.roomOf(c, name)
	if r == nil || c.onLoop.seatIn(&r.audience) < 0 {
		return false
	}
	l.noteTyping(r, typist{c: c, user: c.User(), expires: now.Add(l.cfg.TypingTimeout)})
	return true
}

// noteTyping adds a typist to a room, or renews its timeout. It notes nothing
// if typing has no timeout.
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

// typist returns the index of a client's entry or, if c is nil, of the entry of
// a user on another node. It returns -1 if there is none.
func (r *room) typist(c *Client, userID string) int {
	return slices.IndexFunc(r.typing, func(t typist) bool { return t.c == c && t.user.ID == userID })
}

// forgetTyping removes an entry without telling anyone. It reports whether
// there was one.
func (r *room) forgetTyping(c *Client, userID string) bool {
	i := r.typist(c, userID)
	if i < 0 {
		return false
	}
	r.typing = slices.Delete(r.typing, i, i+1)
	return true
}

// isTyping reports whether a user is typing on any connection to this hub.
func (r *room) isTyping(userID string) bool {
	return slices.ContainsFunc(r.typing, func(t typist) bool { return t.c != nil && t.user.ID == userID })
}

// stopTyping ends a client's typing on its behalf.
func (l *loop) stopTyping(c *Client, r *room) {
	if r.forgetTyping(c, c.User().ID) && !r.isTyping(c.User().ID) {
		l.hub.later(func(h *Hub) {
			ctx, cancel := h.brokerContext()
			defer cancel()
			if err := h.sendTyping(ctx, c, eventStopTyping, plain(r.name)); err != nil {
				h.log.Warn("chathub: cannot send stop-typing", "room", r.name, "err", err)
			}
		})
	}
}

// expireTyping ends all typing that was not repeated in time.
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

// typingNote is what an event from another node says about a typing user.
type typingNote struct {
	from User
	ends bool
}

// typingOf returns what the envelope of a volatile room event says about
// typing, or nil if it says nothing.
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

// hearTyping notes a user who is typing on another node. The entry has a
// timeout, because that node may die, or its stop-typing be lost.
func (l *loop) hearTyping(r *room, h *typingNote, now time.Time) {
	if h.ends {
		r.forgetTyping(nil, h.from.ID)
		return
	}
	l.noteTyping(r, typist{user: h.from, expires: now.Add(l.cfg.TypingTimeout + typingLate)})
}

// typingLost ends the typing of a user on another node that was not heard of
// again. It tells only the members on this hub.
func (l *loop) typingLost(u User, r *room) {
	if r.forgetTyping(nil, u.ID) && !r.isTyping(u.ID) {
		e := envelope{typ: eventStopTyping, room: plain(r.name), from: &u}
		l.deliver(&r.audience, delivery{frame: e.frame(), kind: wire.Volatile})
	}
}
