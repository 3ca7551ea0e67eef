package chathub

import (
	"slices"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// loop owns rooms, users, clients and presence. Everything in it belongs to the
// one goroutine that runs it; others send it commands. It calls no user code, waits for no
// peer and no broker, and takes no lock that is held while something slow happens.
type loop struct {
	hub *Hub
	cfg *Config

	everyone audience
	clients  map[string]*Client
	rooms    map[string]*room
	users    map[string]*user
	online   presence
	gather   time.Duration // how long changes of presence are gathered

	dirty    []*audience  // have pending deliveries
	gathered int          // bytes of deliveries in this burst
	ready    []*wire.Conn // have something to send and nobody who does
	marked   []*Client    // scratch of flushAudience
	gone     []*Client    // closed by the loop, to be taken out of their audiences
	changed  []*presence  // have changes to tell, or users in their grace
	rounds   []*round     // are being told
	typing   []*room      // have someone who types
	peers    peers        // the other hubs
	swept    time.Time    // when a sweep began
	sweepAt  int          // the next of everyone to be looked at

	delivered, dropped, slow uint64 // for Stats
}

// command is work for the loop.
type command interface{ run(l *loop) }

// call is a command that is a function.
type call func(l *loop)

func (f call) run(l *loop) { f(l) }

const (
	// commandQueue lets readers go on while the loop is busy with a burst; when it
	// is full they wait, which is what slows senders down.
	commandQueue = 1024
	// burst is how many commands run before what they queued is sent: it bounds
	// how long a message waits for others to share its write with.
	burst = 256
	// burstBytes bounds how much they queue for one client.
	burstBytes = 64 << 10
)

// run runs the loop until the hub is done.
func (l *loop) run() {
	sweep := time.NewTimer(sweepInterval)
	defer sweep.Stop()
	var linger, gather, rounds <-chan time.Time // nil: nothing to wait for
	for {
		more := false // is waited for
		select {
		case cmd := <-l.hub.commands:
			cmd.run(l)
			l.drainBurst()
			more = l.cfg.Linger > 0 && l.gathered < l.burstLimit()
		case <-linger:
			linger = nil
		case <-sweep.C:
			sweep.Reset(l.sweep(time.Now()))
		case <-gather:
			gather = nil
			l.sayPresence()
			l.tellPresence(time.Now())
		case <-rounds:
			rounds = nil
			l.tellRounds()
		case <-l.hub.done:
			return
		}
		if !more {
			l.flush()
		}
		l.write()
		if linger == nil && len(l.dirty) > 0 {
			linger = time.After(l.cfg.Linger)
		}
		if gather == nil && len(l.changed)+len(l.peers.unsaid) > 0 {
			gather = time.After(l.gather)
		}
		if rounds == nil && len(l.rounds) > 0 {
			rounds = time.After(countsInterval)
		}
		l.publishStats()
	}
}

// drainBurst runs the commands that wait already.
func (l *loop) drainBurst() {
	for range burst {
		if l.gathered >= l.burstLimit() {
			return
		}
		select {
		case cmd := <-l.hub.commands:
			cmd.run(l)
		default:
			return
		}
	}
}

// flush moves what is pending into outboxes.
func (l *loop) flush() {
	for _, a := range l.dirty {
		l.flushAudience(a)
	}
	clear(l.dirty)
	l.dirty = l.dirty[:0]
}

// write has the outboxes sent that nobody sends, and takes out who was closed.
func (l *loop) write() {
	full := l.gathered >= l.burstLimit()
	for len(l.gone) > 0 { // taking one out may find another too slow
		c := l.gone[len(l.gone)-1]
		l.gone = l.gone[:len(l.gone)-1]
		l.unregister(c)
	}
	if len(l.ready) > 0 {
		l.hub.flusher.Flush(l.ready)
		clear(l.ready)
		l.ready = l.ready[:0]
	}
	if full {
		l.hub.flusher.Wait()
	}
	if len(l.dirty) == 0 {
		l.gathered = 0
	}
}

// burstLimit is a part of an outbox: that must not fill up before the socket was
// offered what is in it, or clients would be closed that are not slow.
func (l *loop) burstLimit() int { return min(burstBytes, l.cfg.MaxOutboxBytes/4) }

// audience is who hears a topic: a room, a user's connections, everyone.
type audience struct {
	members   []member
	deflating int        // members that get compressed frames
	pending   []delivery // for all members, not yet in their outboxes
	bytes     int        // of pending, before compression
}

// member is a client in an audience.
type member struct {
	c    *Client
	hold *hold // not nil while older messages are being fetched for it
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

// seat is where a client sits in an audience, so that it is found without a
// search. Clients are in few audiences, so a slice of seats serves.
type seat struct {
	a    *audience
	i    int
	room *room // nil: not a room
}

// delivery is a frame on its way to an audience.
type delivery struct {
	frame    []byte
	small    []byte // the same compressed; nil: not at hand
	volatile bool
	seq      uint64   // 0: not of a log
	except   []string // ids of clients that it is not for
	once     uint64   // see routed
}

// onceKept is how many emits to several topics a client remembers: as many may
// overtake each other on their way through a broker.
const onceKept = 128

// repeated reports whether c got another message of the same emit, and
// otherwise remembers this one.
func (c *Client) repeated(once uint64) bool {
	if once == 0 {
		return false
	}
	if slices.Contains(c.seen, once) {
		return true
	}
	if len(c.seen) == onceKept {
		c.seen = slices.Delete(c.seen, 0, 1)
	}
	c.seen = append(c.seen, once)
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
		l.dirty = append(l.dirty, a)
	}
	a.pending = append(a.pending, d)
	// Gathered by audience, the parts of many emits would come too far apart for
	// onceKept.
	l.gathered += len(d.frame)
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
	volatile, once := a.kinds()
	joined := a.join()
	l.mark(a.pending)
	for i := range a.members {
		m := &a.members[i]
		if !once && m.hold == nil && !m.c.marked && l.enqueue(m.c, joined.of(m.c), volatile) != wire.Dropped {
			l.delivered += uint64(len(a.pending))
			continue
		}
		for j := range a.pending {
			l.give(m, &a.pending[j])
		}
	}
	for _, c := range l.marked {
		c.marked = false
	}
	clear(l.marked)
	l.marked = l.marked[:0]
	clear(a.pending)
	a.pending = a.pending[:0]
	a.bytes = 0
}

// kinds reports whether anything pending is volatile, or must be looked at client by
// client.
func (a *audience) kinds() (volatile, once bool) {
	for i := range a.pending {
		volatile = volatile || a.pending[i].volatile
		once = once || a.pending[i].once != 0
	}
	return volatile, once
}

// mark marks the clients that one of ds is not for.
func (l *loop) mark(ds []delivery) {
	for i := range ds {
		for _, id := range ds[i].except {
			if c := l.clients[id]; c != nil && !c.marked {
				c.marked = true
				l.marked = append(l.marked, c)
			}
		}
	}
}

// give delivers d to one member.
func (l *loop) give(m *member, d *delivery) {
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
	if m.c.repeated(d.once) {
		return
	}
	if l.enqueue(m.c, m.c.pick(d.frame, d.small), d.volatile) == wire.Dropped {
		l.dropped++
		return
	}
	l.delivered++
}

// enqueue puts b into a client's outbox. Only Dropped is left to the caller.
func (l *loop) enqueue(c *Client, b []byte, volatile bool) wire.Result {
	res := c.conn.Enqueue(b, volatile)
	l.enqueued(c, res)
	return res
}

// enqueued does what follows from having put something into a client's outbox.
func (l *loop) enqueued(c *Client, res wire.Result) {
	switch res {
	case wire.Ready:
		l.ready = append(l.ready, c.conn)
	case wire.Overflow:
		l.close(c, closeSlowConsumer, "slow consumer")
	case wire.Queued, wire.Dropped, wire.Gone:
	}
}

// send sends something of its own to one client, behind what its audiences have
// for it already.
func (l *loop) send(c *Client, frame []byte, volatile bool) {
	l.flushFor(c)
	if l.enqueue(c, frame, volatile) == wire.Dropped {
		l.dropped++
	}
}

// flushFor puts into c's outbox what is on its way to it.
func (l *loop) flushFor(c *Client) {
	for _, s := range c.seats {
		l.flushAudience(s.a)
	}
}

// close begins the end of a connection for a reason of the loop's own. The client
// leaves its audiences when its goroutine says so: the loop may be walking through one now.
func (l *loop) close(c *Client, code closeCode, reason string) {
	if c.setEnd(Disconnect{Code: int(code), Reason: reason}) {
		if code == closeSlowConsumer {
			l.slow++
		}
		if c.conn.CloseWith(uint16(code), reason, code == closeSlowConsumer, l.cfg.WriteTimeout) == wire.Ready {
			l.ready = append(l.ready, c.conn)
		}
		l.gone = append(l.gone, c)
	}
}

// add seats c in a, which is the audience of r unless that is nil.
func (l *loop) add(a *audience, c *Client, r *room) {
	l.flushAudience(a) // what came before is not for it
	c.seats = append(c.seats, seat{a: a, i: len(a.members), room: r})
	a.members = append(a.members, member{c: c})
	if c.deflates {
		a.deflating++
	}
}

// remove takes the client out of the audience of its seat number s.
func (l *loop) remove(c *Client, s int) {
	a, i := c.seats[s].a, c.seats[s].i
	l.flushAudience(a) // what came before is for it
	if c.deflates {
		a.deflating--
	}
	last := len(a.members) - 1
	if i != last {
		moved := a.members[last]
		a.members[i] = moved
		moved.c.seats[moved.c.seatIn(a)].i = i
	}
	a.members[last] = member{}
	a.members = a.members[:last]
	if cap(a.members) > 64 && last < cap(a.members)/4 {
		a.members = slices.Clone(a.members) // give back what a storm took
	}
	c.seats = slices.Delete(c.seats, s, s+1)
}

// seatIn returns the number of the client's seat in a, or -1. Only the loop calls it.
func (c *Client) seatIn(a *audience) int {
	for i := range c.seats {
		if c.seats[i].a == a {
			return i
		}
	}
	return -1
}
