package chathub

import (
	"fmt"
	"slices"
	"time"

	"github.com/chathub-go/chathub/internal/change"
	"github.com/chathub-go/chathub/internal/wire"
)

// register is the command that makes a client known. The client gets its
// welcome, and then whatever everyone gets.
type register struct {
	c     *Client
	inbox Position // head of the log when the inbox was acquired
	joins []*join  // for which OnConnect asked
	right *check   // under which the client was authenticated
	done  chan struct{}
	err   error // result: not nil if the client is not registered
}

func (cmd *register) run(l *loop) {
	defer close(cmd.done)
	c := cmd.c
	if cmd.err = cmd.right.mayConnect(c); cmd.err != nil {
		return
	}
	u := l.userOf(c.inbox().User)
	u.pos = advance(u.pos, cmd.inbox)
	l.clients[c.id] = c
	c.onLoop.registered = true
	if c.takesCompressed {
		l.hub.compressedClients.Add(1)
	}
	l.addToWorld(c)
	l.add(&u.audience, c, nil)
	online := l.onlineOf(c)
	l.arrive(online, c.User())
	l.sendWelcome(c, u.pos)
	for _, j := range cmd.joins {
		j.run(l)
	}
}

// addToWorld puts a client among everyone of its tenant. Those are the members
// of a room, which the client does not know of, or else of the hub.
func (l *loop) addToWorld(c *Client) {
	if !c.hasTenant() {
		l.add(&l.everyone, c, nil)
		return
	}
	name := c.world().everyone().Room
	r := l.rooms[name]
	if r == nil {
		r = l.newRoom(name)
	}
	if len(r.members) == 0 {
		l.worlds = append(l.worlds, r)
	}
	l.add(&r.audience, c, r)
	if !r.known {
		l.lookUp(name, nil)
	}
}

// onlineOf returns the presence of everyone of a client's tenant. The client is
// registered.
func (l *loop) onlineOf(c *Client) *presence {
	if !c.hasTenant() {
		return &l.presence.online
	}
	return &l.rooms[c.world().everyone().Room].presence
}

// sendWelcome sends a client its first frames.
func (l *loop) sendWelcome(c *Client, inbox Position) {
	first, frames := l.welcome(c, inbox), 1
	if online := l.onlineOf(c); l.shows(online) {
		e := envelope{typ: eventOnlineUsers, data: l.snapshotOf(online)}
		first = append(first, e.frame()...)
		frames++
	}
	// This needs the lock. Nothing may overtake the first frames, and a
	// goroutine that acts on the welcome must find the client registered. The
	// connection may be sending already.
	c.mu.Lock()
	early := c.mu.preWelcome
	c.mu.preWelcome = nil
	for _, f := range early.frames {
		first = append(first, f...)
	}
	frames += len(early.frames)
	res := c.conn.Enqueue(first, wire.Durable)
	c.mu.Unlock()
	l.hub.counters.delivered.Add(uint64(frames))
	l.afterEnqueue(c, res)
	if len(early.rooms) > 0 { // from a goroutine of OnConnect, after the joins were prepared
		l.joinLater([]*Client{c}, early.rooms)
	}
}

// welcome returns the first frame of a client.
func (l *loop) welcome(c *Client, inbox Position) []byte {
	b := append([]byte(nil), `{"clientId":`...)
	b = appendQuoted(b, c.id)
	b = append(b, `,"user":`...)
	b = appendUser(b, c.User())
	b = fmt.Appendf(b, `,"time":%d,"inbox":{"epoch":%q,"seq":%d}`, timestamp(), inbox.Epoch, inbox.Seq)
	b = fmt.Appendf(b, `,"pingInterval":%d,"maxMessage":%d`, max(l.cfg.PingInterval.Milliseconds(), 0), max(l.cfg.MaxMessageBytes, 0))
	if exp := c.expires.Load(); exp != 0 {
		b = fmt.Appendf(b, `,"expires":%d`, exp/int64(time.Millisecond))
	}
	if off := l.cfg.off(); len(off) > 0 {
		b = append(b, `,"off":`...)
		b = change.AppendStrings(b, off)
	}
	e := envelope{typ: eventWelcome, data: append(b, '}')}
	return e.frame()
}

// off returns what clients do without, as the welcome names it.
func (cfg *Config) off() (off []string) {
	if !cfg.showsUsers(false) {
		off = append(off, eventOnlineUsers)
	}
	if !cfg.showsUsers(true) {
		off = append(off, "room-users")
	}
	if cfg.RefuseBroadcasts {
		off = append(off, eventMessage)
	}
	return off
}

// identify replaces the identity of a client after a refresh-token.
func (l *loop) identify(c *Client, id *Identity) {
	c.identify(id)
	if !c.onLoop.registered {
		return
	}
	if !c.hasTenant() {
		l.rename(&l.presence.online, id.User)
	}
	for _, s := range c.onLoop.seats {
		if s.room != nil {
			l.rename(&s.room.presence, id.User)
		}
	}
}

// unregister takes a client out of everything. It may be called again.
func (l *loop) unregister(c *Client) {
	if !c.onLoop.registered {
		return
	}
	c.onLoop.registered = false
	l.noteUnstored(c)
	if c.takesCompressed {
		l.hub.compressedClients.Add(-1)
	}
	delete(l.clients, c.id)
	for len(c.onLoop.seats) > 0 {
		last := len(c.onLoop.seats) - 1
		if r := c.onLoop.seats[last].room; r != nil {
			l.leave(c, r, true)
		} else {
			l.remove(c, last)
		}
	}
	if !c.hasTenant() {
		l.depart(&l.presence.online, c.User().ID, true)
	}
	l.hub.release(c.inbox())
}

// close begins the end of a connection for a reason of the loop's own. The
// client leaves its audiences at the end of the burst, since the loop may be
// walking through one of them.
func (l *loop) close(c *Client, code closeCode, reason string) {
	if c.setEnd(Disconnect{Code: int(code), Reason: reason}) {
		l.sendClose(c, code, reason)
		l.out.closed = append(l.out.closed, c)
	}
}

// sendClose queues the close frame of a client whose end is set.
func (l *loop) sendClose(c *Client, code closeCode, reason string) {
	if code == closeSlowConsumer {
		l.hub.counters.slowConsumers.Add(1)
	}
	if l.hub.sendClose(c.conn, code, reason) == wire.Ready {
		l.out.ready = append(l.out.ready, c.conn)
	}
}

// drain tells every client when to come back, and closes the idle ones. The
// others close when their handler has returned.
func (l *loop) drain() {
	for _, c := range l.clients {
		l.tellReconnect(c)
		if !c.isHandling() {
			l.close(c, closeShutdown, shutdownReason)
		}
	}
}

// closeAll closes every client that is left, whether its handler runs or not.
func (l *loop) closeAll() {
	for _, c := range l.clients {
		l.tellReconnect(c)
		l.close(c, closeShutdown, shutdownReason)
	}
}

// drainRate is how many clients per second are told to come back, if there are
// too few to fill the DrainWindow.
const drainRate = 500

// tellReconnect tells a client once when to come back. A handler that returns
// right after draining was set closes its client before drain can tell it.
func (l *loop) tellReconnect(c *Client) {
	if c.onLoop.reconnectSent {
		return
	}
	c.onLoop.reconnectSent = true
	window := min(l.cfg.DrainWindow, time.Duration(len(l.clients))*time.Second/drainRate)
	after := spread(window).Milliseconds()
	e := envelope{typ: eventReconnect, data: fmt.Appendf(nil, `{"afterMs":%d}`, after)}
	l.send(c, e.frame(), wire.Durable)
}

// revoke carries out a Leave or Disconnect with each of clients, and notes it
// for checks that are under way. It returns what is left to wait for: messages
// that are being stored, of these clients and of those that an earlier one has
// taken out.
func (l *loop) revoke(r revocation, clients []*Client) (published publishes) {
	l.hub.rights.revoke(r)
	for _, c := range clients {
		if len(r.rooms) == 0 {
			l.flushFor(c)
			l.close(c, closeDisconnected, r.reason)
		}
		for _, name := range r.rooms {
			l.removeFrom(c, name, r.reason)
		}
		l.noteUnstored(c)
	}
	for _, m := range l.unstored {
		if r.mayConcern(m.sender) {
			published = append(published, m.stored)
		}
	}
	return published
}

// unstored is a message that was being stored when its sender lost a right, or
// left.
type unstored struct {
	sender *Client
	stored <-chan struct{} // closed when it is stored, or refused
}

// noteUnstored keeps what a client is publishing. A revocation that comes later
// waits for it too, although it may not find the client any more: the same
// revocation reaches a node twice, as a message and as a note.
func (l *loop) noteUnstored(c *Client) {
	l.unstored = slices.DeleteFunc(l.unstored, func(m unstored) bool {
		select {
		case <-m.stored:
			return true
		default:
			return m.sender == c // there is one at a time
		}
	})
	if stored := c.publishing(); stored != nil {
		l.unstored = append(l.unstored, unstored{c, stored})
	}
}

// removeFrom takes a client out of a room, and tells it, if it is a member.
func (l *loop) removeFrom(c *Client, name, reason string) {
	if l.leaveRoom(c, name) {
		l.tellRemoved(c, name, reason)
	}
}

// tellRemoved tells a client that it is not in a room any more.
func (l *loop) tellRemoved(c *Client, room, reason string) {
	e := envelope{typ: eventRemoved, room: room, ts: timestamp(), data: []byte("{}")}
	if reason != "" {
		e.data = append(appendQuoted([]byte(`{"reason":`), reason), '}')
	}
	l.send(c, e.frame(), wire.Durable)
}
