package chathub

import (
	"context"
	"slices"
	"time"
)

// typist is a client that types in a room.
type typist struct {
	c     *Client
	until time.Time
}

// onTyping relays first and notes then: a client that leaves in between is not
// noted any more, and its typing is ended here.
func onTyping(ctx context.Context, c *Client, e *Event) (any, error) {
	if err := c.hub.sendTyping(ctx, c, "typing", e.Room); err != nil {
		return nil, err
	}
	noted := false
	if err := c.hub.ask(func(l *loop) { noted = l.startTyping(c, e.Room, time.Now()) }); err != nil {
		return nil, err
	}
	if !noted {
		return nil, c.hub.sendTyping(ctx, c, "stop-typing", e.Room)
	}
	return nil, nil
}

// onStopTyping relays unless the user still types in another tab.
func onStopTyping(ctx context.Context, c *Client, e *Event) (any, error) {
	elsewhere := false
	err := c.hub.ask(func(l *loop) {
		if r := l.rooms[e.Room]; r != nil {
			l.forgetTyping(c, r)
			elsewhere = r.types(c.user.ID)
		}
	})
	if err != nil || elsewhere {
		return nil, err
	}
	return nil, c.hub.sendTyping(ctx, c, "stop-typing", e.Room)
}

func (h *Hub) sendTyping(ctx context.Context, c *Client, typ, room string) error {
	env := envelope{typ: typ, room: room, from: &c.user}
	r := routed{except: []string{c.id}}
	return h.sendVolatile(ctx, Message{Topic: Topic{Room: room}, Body: r.emit(&env)})
}

// startTyping notes that a member types, until it says otherwise, goes, or is
// silent for the typing timeout. It reports whether c is a member.
func (l *loop) startTyping(c *Client, name string, now time.Time) (member bool) {
	r := l.rooms[name]
	if r == nil || c.seatIn(&r.audience) < 0 {
		return false
	}
	if l.cfg.TypingTimeout < 0 {
		return true
	}
	until := now.Add(l.cfg.TypingTimeout)
	for i := range r.typing {
		if r.typing[i].c == c {
			r.typing[i].until = until
			return true
		}
	}
	if !r.typed {
		r.typed = true
		l.typing = append(l.typing, r)
	}
	r.typing = append(r.typing, typist{c: c, until: until})
	return true
}

// forgetTyping drops the note without telling anyone. It reports whether there was one.
func (l *loop) forgetTyping(c *Client, r *room) bool {
	i := slices.IndexFunc(r.typing, func(t typist) bool { return t.c == c })
	if i < 0 {
		return false
	}
	r.typing = slices.Delete(r.typing, i, i+1)
	return true
}

// types reports whether a user types, on any of its connections.
func (r *room) types(userID string) bool {
	return slices.ContainsFunc(r.typing, func(t typist) bool { return t.c.user.ID == userID })
}

// stopTyping ends a client's typing on its behalf.
func (l *loop) stopTyping(c *Client, r *room) {
	if l.forgetTyping(c, r) && !r.types(c.user.ID) {
		l.hub.later(func(h *Hub) {
			ctx, cancel := h.patience()
			defer cancel()
			if err := h.sendTyping(ctx, c, "stop-typing", r.name); err != nil {
				h.log.Warn("chathub: stop-typing", "room", r.name, "err", err)
			}
		})
	}
}

// expireTyping ends every typing that was not repeated.
func (l *loop) expireTyping(now time.Time) {
	l.typing = slices.DeleteFunc(l.typing, func(r *room) bool {
		for i := 0; i < len(r.typing); {
			if t := r.typing[i]; !t.until.After(now) {
				l.stopTyping(t.c, r)
			} else {
				i++
			}
		}
		r.typed = len(r.typing) > 0
		return !r.typed
	})
}
