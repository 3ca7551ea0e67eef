package chathub

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/chathub-go/chathub/internal/text"
)

// Target names the recipients of an emit or a command, on every node of the
// cluster. It is a value: methods return changed copies, and a Target may be
// kept and used concurrently.
type Target struct {
	hub      *Hub
	topics   []Topic
	all      bool // topics is Topic{}: every connection, or those in clients
	clients  []string
	except   []string
	volatile bool
}

// To returns a Target for everyone in the given rooms. A client in several of
// them is reached once. Without a room, it reaches nobody.
func (h *Hub) To(rooms ...string) Target {
	t := Target{hub: h}
	for _, r := range unique(rooms) {
		t.topics = append(t.topics, Topic{Room: r})
	}
	return t
}

// ToUser returns a Target for all connections of the given users.
func (h *Hub) ToUser(ids ...string) Target {
	t := Target{hub: h}
	for _, id := range unique(ids) {
		t.topics = append(t.topics, Topic{User: id})
	}
	return t
}

// ToClient returns a Target for the connections with the given ids.
func (h *Hub) ToClient(ids ...string) Target {
	if len(ids) == 0 {
		return Target{hub: h}
	}
	t := h.Broadcast()
	t.clients = unique(ids)
	return t
}

// Broadcast returns a Target for every connection of every node.
func (h *Hub) Broadcast() Target {
	return Target{hub: h, topics: []Topic{{}}, all: true, volatile: true}
}

// Emit sends an event to every connection of every node, at most once. It is
// not kept for users who are away.
func (h *Hub) Emit(ctx context.Context, event string, data any) error {
	return h.Broadcast().Emit(ctx, event, data)
}

func unique(s []string) []string {
	var u []string
	for _, v := range s {
		if !slices.Contains(u, v) {
			u = append(u, v)
		}
	}
	return u
}

// Except returns t without the connections with the given ids. After a
// reconnect, a client has a new id.
func (t Target) Except(clientIDs ...string) Target {
	t.except = append(slices.Clone(t.except), clientIDs...)
	return t
}

// Volatile returns t for emits that are not kept. Without it, emits to rooms
// and users are durable. Emits to everyone and to connections are always
// volatile.
func (t Target) Volatile() Target {
	t.volatile = true
	return t
}

// Emit sends an event to the recipients that t names. It returns once the
// broker has accepted the event.
//
// To rooms and users, the event is durable unless t is volatile. It is kept in
// the log of each room and inbox, so that users who are away get it when they
// return. If the call fails part of the way through several rooms or users, the
// first ones have the event.
//
// A volatile event reaches this hub's own connections even while the broker is
// unavailable. That is not an error.
func (t Target) Emit(ctx context.Context, event string, data any) error {
	e, err := newEnvelope(event, data)
	if err != nil {
		return err
	}
	if err := t.check(); err != nil {
		return err
	}
	r := routed{except: t.except, clients: t.clients}
	if len(t.topics) > 1 {
		r.once = 1 + rand.Uint64N(1<<63)
		e.id = newID("e_") // so that a client can tell them apart after a replay
	}
	for _, topic := range t.topics {
		if err := t.emit(ctx, topic, r, *e); err != nil {
			return err
		}
	}
	return nil
}

func (t Target) emit(ctx context.Context, topic Topic, r routed, e envelope) error {
	e.room = topic.Room
	if t.volatile {
		e.ts = timestamp()
		return t.hub.sendVolatile(ctx, Message{Topic: topic, Body: r.emit(&e)})
	}
	_, err := t.hub.session.Publish(ctx, Message{Topic: topic, Notice: topic.User != "", Body: r.emit(&e)})
	return err
}

// check refuses names that no room or user can have. An empty name, which an
// application forgot to fill in, would mean everyone.
func (t Target) check() error {
	if err := t.hub.checkOpen(); err != nil {
		return err
	}
	for _, topic := range t.topics {
		switch {
		case t.all:
		case topic.User == "":
			if err := checkRoom(topic.Room); err != nil {
				return err
			}
		case !text.Valid(topic.User, text.MaxUser):
			return errorf(CodeBadRequest, "not a user id")
		}
	}
	return nil
}

// Join puts the recipients into rooms, without asking Config.Authorize. When it
// returns, this hub has done so. Other nodes follow when the message reaches
// them.
func (t Target) Join(ctx context.Context, rooms ...string) error {
	for _, name := range rooms {
		if err := checkRoom(name); err != nil {
			return err
		}
	}
	return t.act(ctx, routed{op: opJoin, rooms: rooms})
}

// Leave takes the recipients out of rooms. See [Target.Join] for when.
func (t Target) Leave(ctx context.Context, rooms ...string) error {
	return t.act(ctx, routed{op: opLeave, rooms: rooms})
}

// Disconnect closes the recipients' connections with 4503. To log a user out
// everywhere, call hub.ToUser(id).Disconnect(ctx, "logged out"). See
// [Target.Join] for when.
func (t Target) Disconnect(ctx context.Context, reason string) error {
	return t.act(ctx, routed{op: opDisconnect, body: []byte(reason)})
}

func (t Target) act(ctx context.Context, r routed) error {
	if err := t.check(); err != nil {
		return err
	}
	r.except, r.clients = t.except, t.clients
	body := r.encode(0)
	for _, topic := range t.topics {
		if err := t.hub.session.Send(ctx, Message{Topic: topic, Body: body}); err != nil {
			return err
		}
	}
	return t.hub.barrier(ctx)
}
