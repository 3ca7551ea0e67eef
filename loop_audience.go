package chathub

import (
	"slices"

	"github.com/chathub-go/chathub/internal/wire"
)

// audience is who hears a topic: a room, a user's connections, everyone.
type audience struct {
	members    []member
	compressed int        // members that get compressed frames
	pending    []delivery // for all members, not yet in their outboxes
	bytes      int        // of pending, before compression
}

// member is a client in an audience.
type member struct {
	c    *Client
	hold *hold // not nil while older messages are being fetched for it
}

// seat is where a client sits in an audience, so that it is found without a
// search. Clients are in few audiences, so a slice of seats serves.
type seat struct {
	a    *audience
	i    int
	room *room // nil: not a room
}

// hold keeps what arrives for a member until what came before has been sent.
type hold struct {
	deliveries []delivery
	bytes      int
	// skip: the member has the log up to here from another hub, which was ahead of this
	// one. Once released, the hold only keeps these messages from coming again.
	skip     uint64
	released bool
}

// delivery is a frame on its way to an audience.
type delivery struct {
	frame      []byte
	compressed []byte // the same compressed; nil: not at hand
	kind       wire.Kind
	seq        uint64   // 0: not of a log
	except     []string // ids of clients that it is not for
	once       uint64   // see routed
}

// onceKept is how many emits to several topics a client remembers: as many may
// overtake each other on their way through a broker.
const onceKept = 128

// repeated reports whether the client got another message of the same emit, and
// otherwise remembers this one.
func (on *clientOnLoop) repeated(once uint64) bool {
	if once == 0 {
		return false
	}
	if slices.Contains(on.recent, once) {
		return true
	}
	if len(on.recent) == onceKept {
		on.recent = slices.Delete(on.recent, 0, 1)
	}
	on.recent = append(on.recent, once)
	return false
}

// pendingBytes bounds what waits to be joined, so that one write does not grow
// without end in a burst.
const pendingBytes = 64 << 10

// deliver queues d for all members of a, in order.
func (l *loop) deliver(a *audience, d delivery) {
	if len(a.members) == 0 {
		return
	}
	if len(a.pending) == 0 {
		l.out.dirty = append(l.out.dirty, a)
	}
	a.pending = append(a.pending, d)
	// Gathered by audience, the parts of many emits would come too far apart for
	// onceKept.
	l.out.bytes += len(d.frame)
	if a.bytes += len(d.frame); a.bytes >= pendingBytes || d.once != 0 {
		l.flushAudience(a)
	}
}

// flushAudience puts what is pending into the outboxes of all members: as a
// shared chunk, except for members that something in it is not for, or whose
// outbox is filling up.
func (l *loop) flushAudience(a *audience) {
	if len(a.pending) == 0 {
		return
	}
	kind, once := a.kinds()
	joined := a.chunks()
	l.markExcepted(a.pending)
	delivered := 0
	for i := range a.members {
		m := &a.members[i]
		if !once && m.hold == nil && !m.c.onLoop.marked && l.enqueue(m.c, joined.of(m.c), kind) != wire.Dropped {
			delivered += len(a.pending)
			continue
		}
		for j := range a.pending {
			l.deliverTo(m, &a.pending[j])
		}
	}
	l.hub.counters.delivered.Add(uint64(delivered))
	for _, c := range l.out.marked {
		c.onLoop.marked = false
	}
	clear(l.out.marked)
	l.out.marked = l.out.marked[:0]
	clear(a.pending)
	a.pending = a.pending[:0]
	a.bytes = 0
}

// kinds returns the kind of what is pending together, and whether each client has
// to be asked if it got some of it already.
func (a *audience) kinds() (kind wire.Kind, once bool) {
	for i := range a.pending {
		kind = max(kind, a.pending[i].kind)
		once = once || a.pending[i].once != 0
	}
	return kind, once
}

// mark marks the clients that one of ds is not for.
func (l *loop) markExcepted(ds []delivery) {
	for i := range ds {
		for _, id := range ds[i].except {
			if c := l.clients[id]; c != nil && !c.onLoop.marked {
				c.onLoop.marked = true
				l.out.marked = append(l.out.marked, c)
			}
		}
	}
}

// give delivers d to one member.
func (l *loop) deliverTo(m *member, d *delivery) {
	if slices.Contains(d.except, m.c.id) {
		return
	}
	if h := m.hold; h != nil && h.released {
		if 0 < d.seq && d.seq <= h.skip {
			return
		}
		if d.seq > 0 {
			m.hold = nil
		}
	} else if h != nil {
		if h.bytes += len(d.frame); h.bytes > l.cfg.MaxOutboxBytes {
			l.close(m.c, closeSlowConsumer, "slow consumer")
			return
		}
		h.deliveries = append(h.deliveries, *d)
		return
	}
	if m.c.onLoop.repeated(d.once) {
		return
	}
	if l.enqueue(m.c, m.c.pick(d.frame, d.compressed), d.kind) == wire.Dropped {
		l.hub.counters.dropped.Add(1)
		return
	}
	l.hub.counters.delivered.Add(1)
}

// enqueue puts b into a client's outbox. Only Dropped is left to the caller.
func (l *loop) enqueue(c *Client, b []byte, kind wire.Kind) wire.Result {
	res := c.conn.Enqueue(b, kind)
	l.afterEnqueue(c, res)
	return res
}

// enqueued does what follows from having put something into a client's outbox.
func (l *loop) afterEnqueue(c *Client, res wire.Result) {
	switch res {
	case wire.Ready:
		l.out.ready = append(l.out.ready, c.conn)
	case wire.Overflow:
		l.close(c, closeSlowConsumer, "slow consumer")
	case wire.Queued, wire.Dropped, wire.Gone:
	}
}

// send sends something of its own to one client, behind what its audiences have
// for it already.
func (l *loop) send(c *Client, frame []byte, kind wire.Kind) {
	l.flushFor(c)
	if l.enqueue(c, frame, kind) == wire.Dropped {
		l.hub.counters.dropped.Add(1)
	}
}

// flushFor puts into c's outbox what is on its way to it.
func (l *loop) flushFor(c *Client) {
	for _, s := range c.onLoop.seats {
		l.flushAudience(s.a)
	}
}

// add seats c in a, which is the audience of r unless that is nil.
func (l *loop) add(a *audience, c *Client, r *room) {
	l.flushAudience(a) // what came before is not for it
	c.onLoop.seats = append(c.onLoop.seats, seat{a: a, i: len(a.members), room: r})
	a.members = append(a.members, member{c: c})
	if c.takesCompressed {
		a.compressed++
	}
}

// remove takes the client out of the audience of its seat number s.
func (l *loop) remove(c *Client, s int) {
	a, i := c.onLoop.seats[s].a, c.onLoop.seats[s].i
	l.flushAudience(a) // what came before is for it
	if c.takesCompressed {
		a.compressed--
	}
	last := len(a.members) - 1
	if i != last {
		moved := a.members[last]
		a.members[i] = moved
		moved.c.onLoop.seats[moved.c.onLoop.seatIn(a)].i = i
	}
	a.members[last] = member{}
	a.members = a.members[:last]
	if cap(a.members) > 64 && last < cap(a.members)/4 {
		a.members = slices.Clone(a.members) // give back what a storm took
	}
	c.onLoop.seats = slices.Delete(c.onLoop.seats, s, s+1)
}

// seatIn returns the index of the client's seat in a, or -1.
func (on *clientOnLoop) seatIn(a *audience) int {
	return slices.IndexFunc(on.seats, func(s seat) bool { return s.a == a })
}

// memberOf returns the client's entry in an audience, nil if it has none. It is
// valid until the next add or remove.
func (on *clientOnLoop) memberOf(a *audience) *member {
	if s := on.seatIn(a); s >= 0 {
		return &a.members[on.seats[s].i]
	}
	return nil
}

// roomCount is the number of rooms that a registered client is in. Its other two
// seats are everyone's and its user's.
func (on *clientOnLoop) roomCount() int { return len(on.seats) - 2 }

// hold keeps back what a has for c from now on.
func (l *loop) hold(c *Client, a *audience) {
	l.flushAudience(a)
	switch m := c.onLoop.memberOf(a); {
	case m.hold == nil:
		m.hold = &hold{}
	case m.hold.released:
		m.hold = &hold{skip: m.hold.skip}
	}
}

// release ends a hold: what was held is delivered, but for what the client has
// already, up to skip.
func (l *loop) release(c *Client, a *audience, skip uint64) {
	m := c.onLoop.memberOf(a)
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
		l.deliverTo(m, &held[i])
	}
}

// sharedChunks are the pending frames of an audience, in order, as one slice for each kind of
// member: bytes that all of a kind share.
type sharedChunks struct {
	plain, compressed []byte // each nil where nobody is of that kind
}

// of returns the one for c.
func (chunks *sharedChunks) of(c *Client) []byte {
	if c.takesCompressed {
		return chunks.compressed
	}
	return chunks.plain
}

// join joins what is pending.
func (a *audience) chunks() (s sharedChunks) {
	first := &a.pending[0]
	if len(a.pending) == 1 {
		s.plain, s.compressed = first.frame, first.frame
		if first.compressed != nil {
			s.compressed = first.compressed
		}
		return s
	}
	if a.compressed < len(a.members) {
		s.plain = make([]byte, 0, a.bytes)
		for i := range a.pending {
			s.plain = append(s.plain, a.pending[i].frame...)
		}
	}
	if a.compressed > 0 {
		s.compressed = a.compressedChunk(s.plain)
	}
	return s
}

// smallChunk joins what is pending in its compressed forms, where it has them. Where
// nothing has, that is plain, if there is such a chunk.
func (a *audience) compressedChunk(plain []byte) []byte {
	saved := 0
	for i := range a.pending {
		if d := &a.pending[i]; d.compressed != nil {
			saved += len(d.frame) - len(d.compressed)
		}
	}
	if saved == 0 && plain != nil {
		return plain
	}
	small := make([]byte, 0, a.bytes-saved)
	for i := range a.pending {
		if d := &a.pending[i]; d.compressed != nil {
			small = append(small, d.compressed...)
		} else {
			small = append(small, d.frame...)
		}
	}
	return small
}
