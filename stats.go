package chathub

import (
	"sync/atomic"
	"time"
)

// Stats are the figures of one hub, without those of other hubs on its Broker.
type Stats struct {
	Connections int `json:"connections"`
	Users       int `json:"users"`
	Rooms       int `json:"rooms"`
	// Tenants is how many tenants have clients here, besides the empty one.
	Tenants int `json:"tenants"`
	// Online is how many users are online on any node, those in their
	// PresenceGrace included. Users of tenants that have no client here are not
	// in it, and the others are looked at once a second.
	Online int `json:"online"`
	// Nodes is how many other nodes are alive.
	Nodes int `json:"nodes"`
	// OutboxBytes is what waited in the outboxes of all connections together,
	// when they were looked at last. That is once a second.
	OutboxBytes int64 `json:"outboxBytes"`
	// QueueLength is how many commands wait for the hub's loop.
	QueueLength int `json:"queueLength"`
	// QueueAge is how long commands have been waiting without a break. Above a
	// few milliseconds, the loop is at its limit and senders are being slowed
	// down.
	QueueAge time.Duration `json:"-"`
	// PresenceWaiting is how many calls of Config.OnPresence are due, or are to
	// be repeated.
	PresenceWaiting int `json:"presenceWaiting"`
	// Since the hub started:
	Accepted uint64 `json:"accepted"` // connections that were welcomed
	Refused  uint64 `json:"refused"`  // handshakes that were refused
	// Messages from clients, pings and refused ones included.
	Received      uint64 `json:"received"`
	Malformed     uint64 `json:"malformed"`     // of these, bad input
	RateLimited   uint64 `json:"rateLimited"`   // of these, events over a rate limit
	Delivered     uint64 `json:"delivered"`     // frames handed to outboxes
	Dropped       uint64 `json:"dropped"`       // volatile frames that found their outbox half full
	SlowConsumers uint64 `json:"slowConsumers"` // clients closed with 4001
	// Calls of Config.OnAway: those that returned nil, those that were given
	// up, of Config.Members too, and messages for which there was no room in
	// the queue.
	Away        uint64 `json:"away"`
	AwayFailed  uint64 `json:"awayFailed"`
	AwayDropped uint64 `json:"awayDropped"`
	// Panics of handlers, middleware and callbacks.
	Panics uint64 `json:"panics"`
}

// counters are what Stats and Metrics report. Any goroutine may read them and
// add to them.
type counters struct {
	accepted, refused                 atomic.Uint64
	received, malformed, rateLimited  atomic.Uint64
	delivered, dropped, slowConsumers atomic.Uint64
	away, awayFailed, awayDropped     atomic.Uint64
	panics                            atomic.Uint64

	refusedBy   counts[Code]
	events      tally[string, calls]
	disconnects counts[End]
	recoveries  counts[Recovery]
	broker      [brokerMethods]calls

	// Set by the loop at the end of each burst.
	connections, users, rooms, tenants, online, presenceWaiting atomic.Int64
	// Set by the loop's sweep.
	outboxBytes atomic.Int64
	// queuedSince is when commands began to wait without a break, in Unix
	// nanoseconds. It is 0 if none wait.
	queuedSince atomic.Int64
}

// Stats returns the figures of this moment. It does not wait for anything.
func (h *Hub) Stats() Stats {
	n := &h.counters
	stats := Stats{
		Connections:     int(n.connections.Load()),
		Users:           int(n.users.Load()),
		Rooms:           int(n.rooms.Load()),
		Tenants:         int(n.tenants.Load()),
		Online:          int(n.online.Load()),
		Nodes:           int(h.nodeCount.Load()),
		OutboxBytes:     n.outboxBytes.Load(),
		QueueLength:     len(h.commands),
		PresenceWaiting: int(n.presenceWaiting.Load()),
		Accepted:        n.accepted.Load(),
		Refused:         n.refused.Load(),
		Received:        n.received.Load(),
		Malformed:       n.malformed.Load(),
		RateLimited:     n.rateLimited.Load(),
		Delivered:       n.delivered.Load(),
		Dropped:         n.dropped.Load(),
		SlowConsumers:   n.slowConsumers.Load(),
		Away:            n.away.Load(),
		AwayFailed:      n.awayFailed.Load(),
		AwayDropped:     n.awayDropped.Load(),
		Panics:          n.panics.Load(),
	}
	if since := n.queuedSince.Load(); since != 0 {
		stats.QueueAge = time.Since(time.Unix(0, since))
	}
	return stats
}
