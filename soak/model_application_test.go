package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

// except draws some connections that an emit leaves out.
func (w *world) except(t *rapid.T) (ids []string) {
	if len(w.conns) > 0 && rapid.Bool().Draw(t, "except") {
		ids = append(ids, w.pickConn(t).id)
	}
	return ids
}

func (w *world) opEmit(t *rapid.T) {
	n := w.pickNode(t)
	h := w.of(n.hub)
	m := &emission{event: "news", data: w.payload(t), except: w.except(t)}
	ctx := context.WithValue(w.ctx, originKey{}, &origin{tenant: w.tenant, emit: m})
	data := jsontext.Value(m.data)
	var target chathub.Target
	var names []string
	what := rapid.SampledFrom([]string{"rooms", "rooms", "users", "clients", "everyone"}).Draw(t, "target")
	var may func(c *conn) bool
	switch what {
	case "rooms":
		names = rapid.SliceOfNDistinct(rapid.SampledFrom(allRooms), 1, 2, rapid.ID).Draw(t, "rooms")
		target = h.To(names...)
		for _, name := range names {
			m.topics = append(m.topics, chathub.Topic{Room: name})
		}
		may = func(c *conn) bool {
			return slices.ContainsFunc(names, func(room string) bool { return c.member[room] != out })
		}
	case "users":
		names = rapid.SliceOfNDistinct(rapid.Map(rapid.SampledFrom(users), func(u chathub.User) string { return u.ID }), 1, 2, rapid.ID).Draw(t, "users")
		target = h.ToUser(names...)
		for _, name := range names {
			m.topics = append(m.topics, chathub.Topic{User: name})
		}
		may = func(c *conn) bool { return slices.Contains(names, c.d.user.ID) }
	case "clients":
		names = []string{w.pickConn(t).id}
		target = h.ToClient(names...)
		may = func(c *conn) bool { return slices.Contains(names, c.id) }
	case "everyone":
		target = h.Broadcast()
		may = func(*conn) bool { return true }
	}
	var err error
	w.note("hub %d emits %s to %s %v except %v", w.index(n.hub), m.data, what, names, m.except)
	switch {
	case what == "everyone" || what == "clients" || rapid.IntRange(0, 3).Draw(t, "volatile") == 0:
		not := m.except
		v := w.volatile(m.event, m.data, func(c *conn) bool { return may(c) && !slices.Contains(not, c.id) })
		v.must = slices.DeleteFunc(v.must, func(c *conn) bool {
			return what == "rooms" && !slices.ContainsFunc(names, func(room string) bool { return c.member[room] == in })
		})
		err = target.Except(m.except...).Volatile().Emit(ctx, m.event, data)
		v.accepted = err == nil
	default:
		err = target.Except(m.except...).Emit(ctx, m.event, data)
	}
	w.mayFail(err)
}

// mayFail accepts an error only if the broker was made to fail.
func (w *world) mayFail(err error) {
	var e *chathub.Error
	if err != nil && !(w.faulty && errors.As(err, &e) && e.Code == chathub.CodeUnavailable) {
		w.fatalf("%v", err)
	}
}

// mayBeSlow accepts that another node did not confirm a command within its
// lease, if the broker may take longer. The node carries it out all the same,
// with a client that comes meanwhile too, so the model waits for that.
func (w *world) mayBeSlow(err error) {
	var e *chathub.Error
	switch {
	case err == nil:
	case w.slow && errors.As(err, &e) && e.Code == chathub.CodeUnavailable:
		time.Sleep(30 * time.Second)
	default:
		w.fatalf("%v", err)
	}
}

// target draws the target of a command of the application.
func (w *world) target(t *rapid.T) (func(h chathub.Tenant) chathub.Target, func(c *conn) bool) {
	switch rapid.SampledFrom([]string{"user", "room", "client"}).Draw(t, "target") {
	case "user":
		u := rapid.SampledFrom(users).Draw(t, "user").ID
		return func(h chathub.Tenant) chathub.Target { return h.ToUser(u) }, func(c *conn) bool { return c.d.user.ID == u }
	case "room":
		room := rapid.SampledFrom(rooms).Draw(t, "of room")
		if slices.ContainsFunc(w.conns, func(c *conn) bool { return !c.left && c.member[room] == unsure }) {
			t.SkipNow()
		}
		return func(h chathub.Tenant) chathub.Target { return h.To(room) }, func(c *conn) bool { return c.member[room] == in }
	default:
		id := w.pickConn(t).id
		return func(h chathub.Tenant) chathub.Target { return h.ToClient(id) }, func(c *conn) bool { return c.id == id }
	}
}

// opMove lets the application put clients into a room, or take them out of it.
func (w *world) opMove(t *rapid.T) {
	n := w.pickNode(t)
	target, hit := w.target(t)
	room := rapid.SampledFrom(rooms).Draw(t, "room")
	join := rapid.Bool().Draw(t, "join")
	var moved []*conn
	for _, c := range w.conns {
		if c.left || !hit(c) {
			continue
		}
		// What is under way may fail, or be read later, and the outcome is
		// unknown. For the same reason the client itself does not join or leave
		// the room meanwhile.
		if c.member[room] == unsure || c.expelled[room] || c.paused || w.any(func(w *world) bool { return w.truth.failing() }) {
			t.SkipNow()
		}
		moved = append(moved, c)
	}
	w.moved = true
	topic := chathub.Topic{Room: room}
	before := w.mark(topic)
	w.note("hub %d moves %v in %s: %v", w.index(n.hub), moved, room, join)
	var err error
	if join {
		err = target(w.of(n.hub)).Join(w.ctx, room)
	} else {
		err = target(w.of(n.hub)).Leave(w.ctx, room)
	}
	w.mayBeSlow(err)
	for _, c := range moved {
		if !join && c.moving[room] {
			c.removed[room] = false // it may have been a member since the last quiet
		}
		c.moving[room] = true
		switch {
		case join && c.member[room] == out:
			c.joined(topic, before)
		case !join && c.member[room] == in:
			c.streams[topic].leaving = true
			c.removed[room] = true
			c.member[room] = unsure
			delete(c.rosters, room)
		}
	}
}

// opThrowOut lets the application disconnect clients.
func (w *world) opThrowOut(t *rapid.T) {
	n := w.pickNode(t)
	target, hit := w.target(t)
	for _, c := range w.conns {
		if !c.left && hit(c) {
			c.mayEnd[4503], c.mustEnd = true, true
		}
	}
	w.moved = true
	w.note("hub %d disconnects clients", w.index(n.hub))
	w.mayBeSlow(target(w.of(n.hub)).Disconnect(w.ctx, "thrown out"))
}
