package chathub

import (
	"slices"

	"github.com/chathub-go/chathub/internal/wire"
)

// audience is everyone who hears a topic: a room, a user's connections, or all
// clients.
type audience struct {
	members    []member
	compressed int        // members that accept compressed frames
	pending    []delivery // for all members, not in their outboxes yet
	bytes      int        // of pending, uncompressed
}

// member is a client in an audience.
type member struct {
	c    *Client
	hold *hold // not nil while older messages are being read for it
}

// seat is a client's place in an audience. A client has few seats, so a slice
// of them is searched faster than a map.
type seat struct {
	a    *audience
	i    int
	room *room // nil if the audience is not a room's
}

// hold keeps what arrives for a member until older messages have been sent.
type hold struct {
	deliveries []delivery
	bytes      int
	// skip is set if another node was ahead of this one: the member has the log
	// up to there already. Once released, the hold only drops these messages
	// when they arrive.
	skip     uint64
	released bool
}

// delivery is a frame on its way to an audience.
type delivery struct {
	frame      []byte
	compressed []byte // the same, compressed; nil if there is no such form
	kind       wire.Kind
	seq        uint64   // position in the log; 0 if it has none
	except     []string // ids of clients that do not get it
	once       uint64   // number of an emit to several topics; 0: of one
}

// onceKept is how many emits to several topics a client remembers. That many
// may overtake each other on their way through a broker.
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

// pendingBytes bounds what is joined into one write during a burst.
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
	// Parts of many emits, batched by audience, would come too far apart for
	// onceKept.
	l.out.bytes += len(d.frame)
	if a.bytes += len(d.frame); a.bytes >= pendingBytes || d.once != 0 {
		l.flushAudience(a)
	}
}

// flushAudience puts what is pending into the outboxes of all members. They
// share one chunk of bytes. Members that are excepted from a part of it, or
// whose outbox is filling up, get it frame by frame.
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

// kinds returns the most lenient kind among the pending frames, and whether
// each client has to be asked if it has one of them already.
func (a *audience) kinds() (kind wire.Kind, once bool) {
	for i := range a.pending {
		kind = max(kind, a.pending[i].kind)
		once = once || a.pending[i].once != 0
	}
	return kind, once
}

// markExcepted marks the clients that one of ds excepts.
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

// deliverTo delivers d to one member.
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
	l.put(m.c, m.c.pick(d.frame, d.compressed), d.kind)
}

// put puts a frame into a client's outbox, and counts it.
func (l *loop) put(c *Client, frame []byte, kind wire.Kind) {
	if l.enqueue(c, frame, kind) == wire.Dropped {
		l.hub.counters.dropped.Add(1)
		return
	}
	l.hub.counters.delivered.Add(1)
}

// enqueue puts b into a client's outbox and deals with the result, except for
// wire.Dropped.
func (l *loop) enqueue(c *Client, b []byte, kind wire.Kind) wire.Result {
	res := c.conn.Enqueue(b, kind)
	l.afterEnqueue(c, res)
	return res
}

// afterEnqueue deals with the result of putting something into a client's
// outbox.
func (l *loop) afterEnqueue(c *Client, res wire.Result) {
	switch res {
	case wire.Ready:
		l.out.ready = append(l.out.ready, c.conn)
	case wire.Overflow:
		l.close(c, closeSlowConsumer, "slow consumer")
	case wire.Queued, wire.Dropped, wire.Gone:
	}
}

// send sends a frame to one client, behind what its audiences have pending for
// it.
func (l *loop) send(c *Client, frame []byte, kind wire.Kind) {
	l.flushFor(c)
	l.put(c, frame, kind)
}

// flushFor moves everything that is pending for c into its outbox.
func (l *loop) flushFor(c *Client) {
	for _, s := range c.onLoop.seats {
		l.flushAudience(s.a)
	}
}

// add gives c a seat in a. If r is not nil, a is its audience.
func (l *loop) add(a *audience, c *Client, r *room) {
	l.flushAudience(a) // c does not get what came before
	c.onLoop.seats = append(c.onLoop.seats, seat{a: a, i: len(a.members), room: r})
	a.members = append(a.members, member{c: c})
	if c.takesCompressed {
		a.compressed++
	}
}

// remove takes c out of the audience of its seat with index s.
func (l *loop) remove(c *Client, s int) {
	a, i := c.onLoop.seats[s].a, c.onLoop.seats[s].i
	l.flushAudience(a) // c gets what came before
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
		a.members = slices.Clone(a.members) // give back the memory of a storm
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

// roomCount is the number of rooms that a registered client is in. Its other
// two seats are everyone's and its user's.
func (on *clientOnLoop) roomCount() int { return len(on.seats) - 2 }

// hold keeps back everything that a has for c from now on.
func (l *loop) hold(c *Client, a *audience) {
	l.flushAudience(a)
	switch m := c.onLoop.memberOf(a); {
	case m.hold == nil:
		m.hold = &hold{}
	case m.hold.released:
		m.hold = &hold{skip: m.hold.skip}
	}
}

// release ends a hold. What was kept is delivered, without what the client has
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

// sharedChunks are the pending frames of an audience, joined in order: one
// chunk for all members that take plain frames, and one for those that accept
// compressed frames.
type sharedChunks struct {
	plain, compressed []byte // nil if no member takes that form
}

// of returns the chunk for c.
func (chunks *sharedChunks) of(c *Client) []byte {
	if c.takesCompressed {
		return chunks.compressed
	}
	return chunks.plain
}

// chunks joins the pending frames.
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

// compressedChunk joins the pending frames in their compressed forms, if they
// have one. If none has, it returns plain, unless that is nil.
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
