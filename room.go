package chathub

import "slices"

// room is a room with members, or with users in their grace. It belongs to the
// loop.
type room struct {
	audience
	presence presence
	name     string   // scoped
	pos      Position // how far the log has been delivered
	typing   []typist
	listed   bool // in the loop's list of rooms with typists
	hooked   bool // see loop.hooked
	known    bool // the presence of other nodes is known and kept up to date
	lookup   *lookup
}

// join is the command that puts a client into a room. The caller has acquired
// the room's topic. The room keeps it if the client is a new member.
type join struct {
	c     *Client
	room  string
	head  Position // head of the log when the topic was acquired
	hold  bool     // hold deliveries until release
	right *check   // under which it was authorized; zero: it needs no authorization
	done  chan struct{}

	// Results.
	err   error
	fresh bool     // the client is a new member
	pos   Position // everything after it will be delivered
	who   []byte   // data of online-users for the room; nil if presence is off
	count int      // number of users in who
}

func (cmd *join) run(l *loop) {
	defer close(cmd.done)
	c := cmd.c
	if !c.onLoop.registered {
		cmd.err = ErrClientGone
		return
	}
	if cmd.err = cmd.right.mayJoin(c, cmd.room); cmd.err != nil {
		return
	}
	r := l.roomOf(c, cmd.room)
	member := r != nil && c.onLoop.seatIn(&r.audience) >= 0
	if !member && l.cfg.MaxRooms >= 0 && c.onLoop.roomCount() >= l.cfg.MaxRooms {
		cmd.err = errTooManyRooms(l.cfg.MaxRooms)
		return
	}
	if r == nil {
		r = l.newRoom(c.world().scoped(cmd.room))
	}
	r.pos = advance(r.pos, cmd.head)
	if !member {
		l.add(&r.audience, c, r)
		l.noteRoom(c, cmd.room, true)
		l.arrive(&r.presence, c.User())
		cmd.fresh = true
	}
	if !r.known {
		l.lookUp(r.name, nil)
	}
	if cmd.hold {
		l.hold(c, &r.audience)
	}
	cmd.pos = r.pos
	if l.shows(&r.presence) {
		cmd.who, cmd.count = l.snapshotOf(&r.presence), r.presence.roster.Count()
	}
}

// roomOf returns the room that a client knows by a name, or nil.
func (l *loop) roomOf(c *Client, name string) *room { return l.rooms[c.world().scoped(name)] }

// newRoom makes a room. Name is scoped.
func (l *loop) newRoom(name string) *room {
	r := &room{name: name, hooked: l.hooked(name)}
	r.presence = l.newPresence(&r.audience, name)
	l.rooms[name] = r
	return r
}

// leave takes a client out of a room that it is in.
func (l *loop) leave(c *Client, r *room, grace bool) {
	l.stopTyping(c, r)
	l.remove(c, c.onLoop.seatIn(&r.audience))
	if c.onLoop.registered { // a client that is going keeps the names, for OnDisconnect
		l.noteRoom(c, plain(r.name), false)
	}
	l.depart(&r.presence, c.User().ID, grace)
	if len(r.members) == 0 && plain(r.name) == "" {
		l.worlds = slices.DeleteFunc(l.worlds, func(w *room) bool { return w == r })
		l.sweeping.world = min(l.sweeping.world, len(l.worlds))
	}
	l.hub.release(Topic{Room: r.name})
}

// leaveRoom takes a client out of a room for good, so without a grace. It
// reports whether the client was in it.
func (l *loop) leaveRoom(c *Client, name string) bool {
	r := l.roomOf(c, name)
	if r == nil || c.onLoop.seatIn(&r.audience) < 0 {
		return false
	}
	l.leave(c, r, false)
	return true
}

// dropIfUnused forgets a room that has neither members nor users in their
// grace, once its topic is released. Before that, a join may be under way that
// needs pos.
func (l *loop) dropIfUnused(r *room) {
	if r != nil && len(r.members) == 0 && r.presence.roster.Empty() && r.pos == (Position{}) {
		delete(l.rooms, r.name)
	}
}

// noteRoom keeps the copy of a client's memberships that other goroutines see.
func (l *loop) noteRoom(c *Client, name string, in bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in {
		c.mu.rooms = append(c.mu.rooms, name)
	} else if i := slices.Index(c.mu.rooms, name); i >= 0 {
		c.mu.rooms = slices.Delete(c.mu.rooms, i, i+1)
	}
}
