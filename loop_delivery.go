package chathub

import (
	"slices"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/wire"
)

// incoming is the command that carries out a message from the broker.
type incoming struct {
	note.Routed
	topic      Topic
	seq        uint64
	frame      []byte
	compressed []byte // the same, compressed; nil if there is no such form

	typing *typingNote // not nil if the message says that someone types
}

func (cmd *incoming) run(l *loop) {
	a := l.audienceOf(cmd.topic)
	if cmd.seq > 0 {
		a = l.advanceTo(cmd.topic, cmd.seq)
	}
	switch {
	case a == nil:
	case cmd.Emits() && len(cmd.Clients) == 0:
		l.deliver(a, delivery{frame: cmd.frame, compressed: cmd.compressed, kind: cmd.kind(), seq: cmd.seq, except: cmd.Except, once: cmd.Once})
		if cmd.typing != nil && !l.anyHere(cmd.Except) {
			l.hearTyping(l.rooms[cmd.topic.Room], cmd.typing, l.now())
		}
	default:
		l.carryOut(cmd, l.recipients(a, cmd))
	}
}

// kind is durable if a log has the message.
func (cmd *incoming) kind() wire.Kind {
	if cmd.seq == 0 {
		return wire.Volatile
	}
	return wire.Durable
}

// anyHere reports whether a client with one of these ids is connected to this
// hub.
func (l *loop) anyHere(ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return l.clients[id] != nil })
}

// advanceTo notes how far a topic's log has been delivered, and returns its
// audience. Delivery may begin before the first member's join has run.
func (l *loop) advanceTo(t Topic, seq uint64) *audience {
	if t.Room != "" {
		r := l.rooms[t.Room]
		if r == nil {
			r = l.newRoom(t.Room)
		}
		r.pos.Seq = max(r.pos.Seq, seq) // a named message may come late
		return &r.audience
	}
	u := l.userOf(t.User)
	u.pos.Seq = max(u.pos.Seq, seq)
	return &u.audience
}

// recipients returns the clients that a message is for.
func (l *loop) recipients(a *audience, d *incoming) (clients []*Client) {
	if len(d.Clients) > 0 {
		for _, id := range d.Clients {
			if c := l.clients[id]; c != nil && c.world() == d.topic.world() && !slices.Contains(d.Except, id) {
				clients = append(clients, c)
			}
		}
		return clients
	}
	for i := range a.members {
		if c := a.members[i].c; !slices.Contains(d.Except, c.id) {
			clients = append(clients, c)
		}
	}
	return clients
}

// carryOut does what a message says with each of clients.
func (l *loop) carryOut(d *incoming, clients []*Client) {
	switch d.Op {
	case note.OpEmit, note.OpChange:
		for _, c := range clients {
			if !c.onLoop.repeated(d.Once) {
				l.send(c, c.pick(d.frame, d.compressed), wire.Volatile)
			}
		}
	case note.OpJoin:
		l.joinLater(clients, d.Rooms)
	case note.OpLeave, note.OpDisconnect:
		r := revocation{targets: []Topic{d.topic}, clients: d.Clients, except: d.Except, rooms: d.Rooms, reason: string(d.Body)}
		if published := l.revoke(r, clients); len(published) > 0 {
			l.hub.later(published.wait) // Target.act waits for the courier
		}
	}
}

// joinLater has clients join rooms. It needs the broker, so the courier does
// it.
func (l *loop) joinLater(clients []*Client, rooms []string) {
	l.hub.later(func(h *Hub) {
		for _, c := range clients {
			ctx, cancel := h.brokerContext()
			if err := c.Join(ctx, rooms...); err != nil {
				h.log.Warn("chathub: join", "client", c.id, "rooms", rooms, "err", err)
			}
			cancel()
		}
	})
}

// forgetTopic forgets the position of a topic that is no longer subscribed.
func (l *loop) forgetTopic(t Topic) {
	if r := l.rooms[t.Room]; t.Room != "" && r != nil && len(r.members) == 0 {
		r.pos = Position{}
		if !r.hooked {
			l.unfollow(r)
		}
		l.dropIfUnused(r)
	}
	if u := l.users[t.User]; t.User != "" && u != nil && len(u.members) == 0 {
		delete(l.users, t.User)
	}
}

// audienceOf returns the audience of a topic on this hub, or nil if there is
// none.
func (l *loop) audienceOf(t Topic) *audience {
	switch {
	case t.Room != "":
		if r := l.rooms[t.Room]; r != nil {
			return &r.audience
		}
	case t.User != "":
		if u := l.users[t.User]; u != nil {
			return &u.audience
		}
	default:
		return &l.everyone
	}
	return nil
}

// holdInbox holds the client's inbox, and returns how far it has been
// delivered.
func (l *loop) holdInbox(c *Client) Position {
	u := l.users[c.inbox().User]
	if u == nil || !c.onLoop.registered {
		return Position{}
	}
	l.hold(c, &u.audience)
	return u.pos
}

// advance returns the later of two positions. Another epoch is a new log.
func advance(old, now Position) Position {
	if old.Epoch == now.Epoch || now.Epoch == "" {
		return Position{Epoch: old.Epoch, Seq: max(old.Seq, now.Seq)}
	}
	if old.Epoch == "" {
		return Position{Epoch: now.Epoch, Seq: max(old.Seq, now.Seq)}
	}
	return now
}

// user is a user with at least one connection. It belongs to the loop.
type user struct {
	audience
	pos Position // how far the inbox has been delivered
}

func (l *loop) userOf(id string) *user {
	u := l.users[id]
	if u == nil {
		u = &user{}
		l.users[id] = u
	}
	return u
}
