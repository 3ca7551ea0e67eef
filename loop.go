package chathub

import (
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// loop owns rooms, users, clients, presence and typing. All of it belongs to
// the one goroutine that runs the loop; others send commands. The loop calls no
// code of the application, waits for no peer and no broker, and takes no lock
// that is held during anything slow.
type loop struct {
	hub *Hub
	cfg *Config
	// clock is what now returned to the running command, zero if it was not
	// called.
	clock time.Time

	everyone audience // those without a tenant
	worlds   []*room  // everyone of each tenant that has clients here
	clients  map[string]*Client
	rooms    map[string]*room // by scoped name
	users    map[string]*user // by scoped id

	out      outgoing
	presence presences
	typing   []*room // rooms in which someone types
	nodes    nodes   // the other nodes
	hook     presenceHook
	sweeping sweeping
	unstored []unstored
}

// outgoing is what the commands of a burst leave to be sent.
type outgoing struct {
	dirty  []*audience  // with pending deliveries
	bytes  int          // of this burst's deliveries
	ready  []*wire.Conn // with something to send and no goroutine that sends it
	marked []*Client    // scratch space of flushAudience
	closed []*Client    // leave their audiences at the end of the burst
}

// presences are the presence of the hub, and what is due in the presence of the
// hub and of rooms.
type presences struct {
	online   presence
	interval time.Duration // over which changes are batched
	changed  []*presence   // with changes to send, or users in their grace
	rounds   []*round      // counts that are being sent
}

// sweeping is how far the sweep has come.
type sweeping struct {
	began  time.Time
	world  int // 0: everyone; else one more than the index in worlds
	next   int // index in that audience of the next client to check
	online int // users of all tenants, but those of none, at the last sweep
	// waiting is what the clients that were checked have in their outboxes, in
	// bytes.
	waiting int64
}

// newLoop returns the loop of a hub. The caller runs it.
func newLoop(h *Hub) *loop {
	l := &loop{
		hub:     h,
		cfg:     &h.cfg,
		clients: make(map[string]*Client),
		rooms:   make(map[string]*room),
		users:   make(map[string]*user),
	}
	l.presence.interval = h.cfg.PresenceInterval
	if l.cfg.PresenceInterval <= 0 {
		l.presence.interval = time.Second // the interval still ends graces
	}
	l.nodes.init(h)
	l.hook.init(&h.cfg)
	l.presence.online = l.newPresence(&l.everyone, "")
	return l
}

// command is work for the loop.
type command interface{ run(l *loop) }

// call is a command that is a function.
type call func(l *loop)

func (f call) run(l *loop) { f(l) }

const (
	// commandQueue lets readers go on while the loop is busy with a burst. If
	// the queue is full they wait, which slows senders down.
	commandQueue = 1024
	// burst is how many commands run before their output is sent. It bounds how
	// long a message waits for others to share its write with.
	burst = 256
	// burstBytes bounds the output of a burst for one client.
	burstBytes = 64 << 10
)

// now is the time of the running command: one reading of the clock serves all
// of it.
func (l *loop) now() time.Time {
	if l.clock.IsZero() {
		l.clock = time.Now()
	}
	return l.clock
}

// do runs a command.
func (l *loop) do(cmd command) {
	l.clock = time.Time{}
	cmd.run(l)
}

// run runs the loop until the hub is done.
func (l *loop) run() {
	sweep := time.NewTimer(sweepInterval)
	defer sweep.Stop()
	var linger, gather, rounds <-chan time.Time // nil: nothing is due
	for {
		more := false // to come before the flush
		select {
		case cmd := <-l.hub.commands:
			l.do(cmd)
			l.drainBurst()
			more = l.cfg.Linger > 0 && l.out.bytes < l.burstLimit()
		case <-linger:
			linger = nil
		case <-sweep.C:
			l.do(call(func(l *loop) { sweep.Reset(l.sweep(l.now())) }))
		case <-gather:
			gather = nil
			l.do(call((*loop).gatherPresence))
		case <-rounds:
			rounds = nil
			l.do(call((*loop).tellRounds))
		case <-l.hub.life.done:
			return
		}
		if !more {
			l.flush()
		}
		l.write()
		if linger == nil && len(l.out.dirty) > 0 {
			linger = time.After(l.cfg.Linger)
		}
		if gather == nil && len(l.presence.changed)+len(l.nodes.pending)+len(l.hook.told) > 0 {
			gather = time.After(l.presence.interval)
		}
		if rounds == nil && len(l.presence.rounds) > 0 {
			rounds = time.After(countsInterval)
		}
		l.publishStats()
	}
}

// drainBurst runs the commands that are waiting.
func (l *loop) drainBurst() {
	for range burst {
		if l.out.bytes >= l.burstLimit() {
			return
		}
		select {
		case cmd := <-l.hub.commands:
			l.do(cmd)
		default:
			return
		}
	}
}

// flush moves pending deliveries into outboxes.
func (l *loop) flush() {
	for _, a := range l.out.dirty {
		l.flushAudience(a)
	}
	clear(l.out.dirty)
	l.out.dirty = l.out.dirty[:0]
}

// write has outboxes sent that no goroutine is sending, and takes closed
// clients out of their audiences.
func (l *loop) write() {
	full := l.out.bytes >= l.burstLimit()
	for len(l.out.closed) > 0 { // taking out one may find that another is too slow
		c := l.out.closed[len(l.out.closed)-1]
		l.out.closed = l.out.closed[:len(l.out.closed)-1]
		l.unregister(c)
	}
	if len(l.out.ready) > 0 {
		l.hub.flusher.Flush(l.out.ready)
		clear(l.out.ready)
		l.out.ready = l.out.ready[:0]
	}
	if full {
		l.hub.flusher.Wait()
	}
	if len(l.out.dirty) == 0 {
		l.out.bytes = 0
	}
}

// burstLimit is a part of an outbox. A larger burst could fill an outbox before
// its socket was offered anything, and close clients that are not slow.
func (l *loop) burstLimit() int { return min(burstBytes, l.cfg.MaxOutboxBytes/4) }

// publishStats sets the counters of what exists at the moment.
func (l *loop) publishStats() {
	n := &l.hub.counters
	n.connections.Store(int64(len(l.clients)))
	n.users.Store(int64(len(l.users)))
	n.rooms.Store(int64(len(l.rooms)))
	n.tenants.Store(int64(len(l.worlds)))
	n.online.Store(int64(l.presence.online.roster.Count() + l.sweeping.online))
	switch waiting := len(l.hub.commands) > 0; {
	case !waiting:
		n.queuedSince.Store(0)
	case n.queuedSince.Load() == 0:
		n.queuedSince.Store(time.Now().UnixNano())
	}
}
