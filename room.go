package chathub

import (
	"fmt"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// room is a room with someone in it, or in the grace after it. It belongs to the
// loop.
type room struct {
	audience
	presence presence
	name     string
	pos      Position // of what has been delivered
	typing   []typist
	typed    bool // in the loop's list of rooms with typists
	looked   bool // the other nodes have said who is there, and are heard since
	look     *look
}

// user is a user with at least one connection. It belongs to the loop.
type user struct {
	audience
	pos Position // of the inbox: what has been delivered
}

// register is the command that makes a client known: it gets its welcome, and
// from then on what everyone gets.
type register struct {
	c     *Client
	inbox Position // of the log when the inbox was acquired
	joins []*join  // asked for by OnConnect
	done  chan struct{}
}

func (r *register) run(l *loop) {
	defer close(r.done)
	c := r.c
	u := l.userOf(c.user.ID)
	u.pos = advance(u.pos, r.inbox)
	l.clients[c.id] = c
	c.registered = true
	if c.deflates {
		l.hub.deflating.Add(1)
	}
	l.add(&l.everyone, c, nil)
	l.add(&u.audience, c, nil)
	l.arrive(&l.online, c.user)
	l.greet(c, u.pos)
	for _, j := range r.joins {
		j.run(l)
	}
}

// greet sends a client its first frames.
func (l *loop) greet(c *Client, inbox Position) {
	first := l.welcome(c, inbox)
	if l.presenceOn() {
		e := envelope{typ: "online-users", data: l.snapshotOf(&l.online)}
		first = append(first, e.frame()...)
	}
	// Under the lock: nothing may overtake them, and who has seen the welcome must
	// find everything going the usual way. The connection may be sending already.
	c.mu.Lock()
	early := c.early
	c.early = nil
	for _, f := range early.frames {
		first = append(first, f...)
	}
	res := c.conn.Enqueue(first, false)
	c.mu.Unlock()
	l.enqueued(c, res)
	if len(early.rooms) > 0 { // by a goroutine of OnConnect, since the joins were prepared
		l.joinLater([]*Client{c}, early.rooms)
	}
}

// welcome returns the first frame that a client gets.
func (l *loop) welcome(c *Client, inbox Position) []byte {
	b := append([]byte(nil), `{"clientId":`...)
	b = appendQuoted(b, c.id)
	b = append(b, `,"user":`...)
	b = appendUser(b, c.user)
	b = fmt.Appendf(b, `,"time":%d,"inbox":{"epoch":%q,"seq":%d}`, now(), inbox.Epoch, inbox.Seq)
	b = fmt.Appendf(b, `,"pingInterval":%d,"maxMessage":%d`, max(l.cfg.PingInterval.Milliseconds(), 0), max(l.cfg.MaxMessageBytes, 0))
	if exp := c.expires.Load(); exp != 0 {
		b = fmt.Appendf(b, `,"expires":%d`, exp/int64(time.Millisecond))
	}
	e := envelope{typ: "welcome", data: append(b, '}')}
	return e.frame()
}

func (l *loop) userOf(id string) *user {
	u := l.users[id]
	if u == nil {
		u = &user{}
		l.users[id] = u
	}
	return u
}

// advance returns the later of two positions; another epoch is a new log.
func advance(old, now Position) Position {
	if old.Epoch == now.Epoch || now.Epoch == "" {
		return Position{Epoch: old.Epoch, Seq: max(old.Seq, now.Seq)}
	}
	if old.Epoch == "" {
		return Position{Epoch: now.Epoch, Seq: max(old.Seq, now.Seq)}
	}
	return now
}

// unregister takes a client out of everything. Doing it again changes nothing.
func (l *loop) unregister(c *Client) {
	if !c.registered {
		return
	}
	c.registered = false
	if c.deflates {
		l.hub.deflating.Add(-1)
	}
	delete(l.clients, c.id)
	for len(c.seats) > 0 {
		last := len(c.seats) - 1
		if r := c.seats[last].room; r != nil {
			l.leave(c, r, true)
		} else {
			l.remove(c, last)
		}
	}
	l.depart(&l.online, c.user.ID, true)
	l.hub.release(Topic{User: c.user.ID})
}

// join is the command that puts a client into a room. The caller has acquired
// the room's topic, and keeps it if the client was not in the room before.
type join struct {
	c    *Client
	room string
	head Position // of the log when the topic was acquired
	hold bool     // keep what arrives back until release
	done chan struct{}

	// Results.
	err   error
	fresh bool     // it was not in the room
	pos   Position // what comes after will be delivered
	who   []byte   // data of online-users for the room; nil where presence is off
	count int      // how many that are
}

func (j *join) run(l *loop) {
	defer close(j.done)
	c := j.c
	if !c.registered {
		j.err = ErrClientGone
		return
	}
	r := l.rooms[j.room]
	member := r != nil && c.seatIn(&r.audience) >= 0
	if !member && l.cfg.MaxRooms >= 0 && c.roomCount() >= l.cfg.MaxRooms {
		j.err = errorf(CodeLimitExceeded, "In %d rooms already", l.cfg.MaxRooms)
		return
	}
	if r == nil {
		r = l.newRoom(j.room)
	}
	r.pos = advance(r.pos, j.head)
	if !member {
		l.add(&r.audience, c, r)
		c.setRoom(j.room, true)
		l.arrive(&r.presence, c.user)
		j.fresh = true
	}
	if !r.looked {
		l.lookInto(r.name, nil)
	}
	if j.hold {
		l.hold(c, &r.audience)
	}
	j.pos = r.pos
	if l.presenceOn() {
		j.who, j.count = l.snapshotOf(&r.presence), r.presence.visible
	}
}

// hold keeps back what a has for c from now on.
func (l *loop) hold(c *Client, a *audience) {
	l.flushAudience(a)
	switch m := c.memberOf(a); {
	case m.hold == nil:
		m.hold = &hold{}
	case m.hold.released:
		m.hold = &hold{skip: m.hold.skip}
	}
}

// release ends a hold: what was held is delivered, but for what the client has
// already, up to skip.
func (l *loop) release(c *Client, a *audience, skip uint64) {
	m := c.memberOf(a)
	if m == nil || m.hold == nil {
		return
	}
	l.flushAudience(a)
	held := m.hold.deliveries
	if skip = max(skip, m.hold.skip); skip > 0 {
		m.hold = &hold{skip: skip, released: true}
	} else {
		m.hold = nil
	}
	for i := range held {
		l.give(m, &held[i])
	}
}

// memberOf returns the client's entry in an audience, nil where it has none. Only
// the loop calls it, and keeps it no longer than until the next add or remove.
func (c *Client) memberOf(a *audience) *member {
	if s := c.seatIn(a); s >= 0 {
		return &a.members[c.seats[s].i]
	}
	return nil
}

// audienceOf returns who hears a topic on this hub, nil where nobody does.
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

func (l *loop) newRoom(name string) *room {
	r := &room{name: name}
	r.presence.audience, r.presence.room = &r.audience, name
	l.rooms[name] = r
	return r
}

// leave takes a client out of a room it is in.
func (l *loop) leave(c *Client, r *room, grace bool) {
	l.stopTyping(c, r)
	l.remove(c, c.seatIn(&r.audience))
	if c.registered { // one that is going keeps the names, for OnDisconnect
		c.setRoom(r.name, false)
	}
	l.depart(&r.presence, c.user.ID, grace)
	l.hub.release(Topic{Room: r.name})
}

// dropIfUnused forgets a room that has neither members nor users in their grace,
// once its topic is released: until then someone may be about to join, who needs pos.
func (l *loop) dropIfUnused(r *room) {
	if r != nil && len(r.members) == 0 && len(r.presence.users) == 0 && r.pos == (Position{}) {
		delete(l.rooms, r.name)
	}
}

// sweepPart is how many clients are looked at before the loop does something else: they
// take it well under a millisecond.
const sweepPart = 1000

// sweep is the one timer that serves all clients: heartbeats, expiry, stuck peers, endless
// messages, typing. Where there are many it looks at a part of them, so that what is to be
// delivered does not wait for all, and at each once in sweepInterval, or in the next where another
// has gone. It returns when it is due again.
func (l *loop) sweep(now time.Time) time.Duration {
	if now.Sub(l.swept) >= sweepInterval {
		l.expireTyping(now)
		l.sweepPeers(now)
		l.swept = now
	}
	all := l.everyone.members
	end := min(l.sweepAt+sweepPart, len(all))
	for ; l.sweepAt < end; l.sweepAt++ {
		l.check(all[l.sweepAt].c, now)
	}
	if end == len(all) {
		l.sweepAt = 0
	}
	parts := (len(all) + sweepPart - 1) / sweepPart
	return sweepInterval / time.Duration(max(parts, 1))
}

// restAfter is for how long a connection from which nothing comes keeps a goroutine
// that waits for it.
const restAfter = 5 * time.Second

// check is what the sweep does for one client.
func (l *loop) check(c *Client, now time.Time) {
	if exp := c.expires.Load(); exp != 0 && now.UnixNano() >= exp {
		l.close(c, closeTokenExpired, "token expired")
		return
	}
	if s := c.conn.StuckSince(); !s.IsZero() && now.Sub(s) >= l.cfg.WriteTimeout {
		l.close(c, closeSlowConsumer, "slow consumer")
		return
	}
	if s := c.conn.MessageBegun(); l.cfg.MessageTimeout > 0 && !s.IsZero() && now.Sub(s) >= l.cfg.MessageTimeout {
		l.close(c, closeHeartbeat, "message took too long")
		return
	}
	c.watchHandler(now)
	heard := c.conn.Heard()
	silent := now.Sub(heard)
	if silent >= restAfter {
		c.conn.Rest()
	}
	if l.cfg.PingInterval < 0 {
		return
	}
	if !heard.Before(c.pinged) {
		c.pinged = time.Time{} // answered, however long ago that is when this sweep comes
	}
	switch {
	case silent < l.cfg.PingInterval:
	case c.pinged.IsZero():
		c.pinged = now
		l.enqueue(c, wire.Ping, false)
	case l.cfg.PongTimeout > 0 && now.Sub(c.pinged) >= l.cfg.PongTimeout:
		l.close(c, closeHeartbeat, "heartbeat timeout")
	}
}
