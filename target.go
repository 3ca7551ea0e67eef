package chathub

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/text"
)

// Target names the recipients of an emit or a command, on every node of the
// cluster. It is a value: methods return changed copies, and a Target may be
// kept and used concurrently.
type Target struct {
	hub      *Hub
	world    world
	topics   []Topic // in that world
	all      bool    // topics is everyone, or those in clients
	clients  []string
	except   []string
	volatile bool
}

// To returns a Target for everyone in the given rooms. A client in several of
// them is reached once. Without a room, it reaches nobody.
func (h *Hub) To(rooms ...string) Target {
	return h.Tenant("").To(rooms...)
}

// ToUser returns a Target for all connections of the given users.
func (h *Hub) ToUser(ids ...string) Target {
	return h.Tenant("").ToUser(ids...)
}

// ToClient returns a Target for the connections with the given ids.
func (h *Hub) ToClient(ids ...string) Target {
	return h.Tenant("").ToClient(ids...)
}

// Broadcast returns a Target for every connection of every node.
func (h *Hub) Broadcast() Target {
	return h.Tenant("").Broadcast()
}

// Emit sends an event to every connection of every node, at most once. It is
// not kept for users who are away. See [Target.Emit] for the form of data.
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
//
// Data becomes JSON as encoding/json/v2 makes it, which differs from
// encoding/json. A [time.Duration] is refused: send a number with its unit in
// the name, such as TimeoutMS. The option omitempty keeps the number 0 and
// false: write omitzero. A nil slice or map is [] or {}, not null. The table in
// docs/rooms-and-messages.md, under JSON, has all differences. A
// [jsontext.Value] is sent as it is, and nil sends no data.
//
// If event, data, or the name of a room or user is not valid, the error is an
// [Error] with [CodeBadRequest], so a service that passes on what it was asked
// to send can answer 400. Data of more than half of Config.MaxOutboxBytes is
// [CodeTooLarge]. A mistake in event or data is the application's: if a
// [Handler] returns that error, the client is told [CodeInternal], and the
// error is logged.
func (t Target) Emit(ctx context.Context, event string, data any) error {
	e, err := t.hub.newEnvelope(event, data)
	if err != nil {
		return err
	}
	if err := t.check(); err != nil {
		return err
	}
	e.trace = traceIn(ctx)
	r := note.Routed{Except: t.except, Clients: t.clients}
	if len(t.topics) > 1 {
		r.Once = 1 + rand.Uint64N(1<<63)
	}
	if len(t.topics) > 1 || !t.volatile {
		e.id = newID("m_") // so that clients can refer to it, and tell it apart after a replay
	}
	for _, topic := range t.topics {
		if err := t.emit(ctx, topic, r, *e); err != nil {
			return err
		}
	}
	return nil
}

func (t Target) emit(ctx context.Context, topic Topic, r note.Routed, e envelope) error {
	e.room = plain(topic.Room)
	if t.volatile {
		e.ts = timestamp()
		return t.hub.sendVolatile(ctx, Message{Topic: topic, Body: e.body(&r)})
	}
	// Its private messages have no sender to talk to.
	isNotice := topic.User != "" || noticeIn(topic, e.typ)
	receipt, err := t.hub.session.Publish(ctx, Message{Topic: topic, Notice: isNotice, Body: e.body(&r)})
	if err == nil {
		t.hub.away.stored(topic, e.typ, "", receipt)
	}
	return err
}

// check refuses names that no room or user can have. An empty name, which an
// application forgot to fill in, would mean everyone.
func (t Target) check() error {
	if err := t.hub.checkOpen(); err != nil {
		return err
	}
	if err := t.world.check(); err != nil {
		return err
	}
	for _, topic := range t.topics {
		switch {
		case t.all:
		case topic.User == "":
			if err := checkRoom(t.plain(topic.Room)); err != nil {
				return err
			}
		case !text.Valid(t.plain(topic.User), text.MaxUser):
			return errorf(CodeBadRequest, "not a user id")
		}
	}
	return nil
}

// plain returns the name that scoped has made one of in the target's world.
func (t Target) plain(scoped string) string { return strings.TrimPrefix(scoped, t.world.scoped("")) }

// Join puts the recipients into rooms, without asking Config.Authorize. When it
// returns, this hub has done so. Other nodes follow when the message reaches
// them.
func (t Target) Join(ctx context.Context, rooms ...string) error {
	for _, name := range rooms {
		if err := checkRoom(name); err != nil {
			return err
		}
	}
	return t.act(ctx, note.Routed{Op: note.OpJoin, Rooms: rooms})
}

// Leave takes the recipients out of rooms. It is Remove without a reason.
func (t Target) Leave(ctx context.Context, rooms ...string) error { return t.Remove(ctx, "", rooms...) }

// Remove takes the recipients out of rooms and tells them so, with the reason.
// When it returns nil, every node has done so, and nothing of the membership
// works any more: joins that were authorized before are undone, and a message
// that was being stored has been stored. If a node does not confirm that within
// Config.NodeLease, or before ctx ends, Remove returns an [Error] with
// [CodeUnavailable]. The node has been told, and may have done it.
func (t Target) Remove(ctx context.Context, reason string, rooms ...string) error {
	for _, name := range rooms {
		if err := checkRoom(name); err != nil {
			return err
		}
	}
	if len(rooms) == 0 { // it would be a Disconnect
		return t.check()
	}
	return t.revoke(ctx, note.Routed{Op: note.OpLeave, Rooms: rooms, Body: []byte(reason)})
}

// Disconnect closes the recipients' connections with 4503. To log a user out
// everywhere, call hub.ToUser(id).Disconnect(ctx, "logged out"). When it
// returns nil, every node has done so, and handshakes that were authenticated
// before are refused. See [Target.Remove] for what happens if a node does not
// confirm.
func (t Target) Disconnect(ctx context.Context, reason string) error {
	return t.revoke(ctx, note.Routed{Op: note.OpDisconnect, Body: []byte(reason)})
}

func (t Target) act(ctx context.Context, r note.Routed) error {
	if err := t.check(); err != nil {
		return err
	}
	r.Except, r.Clients = t.except, t.clients
	body := r.Encode(0)
	for _, topic := range t.topics {
		if err := t.hub.session.Send(ctx, Message{Topic: topic, Body: body}); err != nil {
			return err
		}
	}
	return t.hub.barrier(ctx)
}
