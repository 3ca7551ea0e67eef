package chathub

import (
	"sync/atomic"
	"time"
)

// Stats are a hub's own figures at one moment, without those of other hubs on its
// Broker.
type Stats struct {
	Connections int `json:"connections"`
	Users       int `json:"users"`
	Rooms       int `json:"rooms"`
	// QueueLength is how many commands wait for the hub's loop.
	QueueLength int `json:"queueLength"`
	// QueueAge is for how long some have waited without a break: above a few
	// milliseconds, the loop is at its limit, and senders are being slowed down.
	QueueAge time.Duration `json:"-"`
	// Since the hub began:
	Accepted      uint64 `json:"accepted"`      // connections that were welcomed
	Refused       uint64 `json:"refused"`       // handshakes that were turned away
	Received      uint64 `json:"received"`      // events from clients
	Delivered     uint64 `json:"delivered"`     // frames handed to outboxes
	Dropped       uint64 `json:"dropped"`       // volatile frames that found an outbox half full
	SlowConsumers uint64 `json:"slowConsumers"` // clients closed with 4001
}

// counters are what Stats reports. Any goroutine may read them and add to them.
type counters struct {
	accepted, refused, received       atomic.Uint64
	delivered, dropped, slowConsumers atomic.Uint64

	// Set by the loop at the end of each burst.
	connections, users, rooms atomic.Int64
	// queuedSince is when commands began to wait without a break, in Unix
	// nanoseconds; 0: none wait.
	queuedSince atomic.Int64
}

// Stats returns the figures of this moment. It does not wait for anything.
func (h *Hub) Stats() Stats {
	n := &h.counters
	stats := Stats{
		Connections:   int(n.connections.Load()),
		Users:         int(n.users.Load()),
		Rooms:         int(n.rooms.Load()),
		QueueLength:   len(h.commands),
		Accepted:      n.accepted.Load(),
		Refused:       n.refused.Load(),
		Received:      n.received.Load(),
		Delivered:     n.delivered.Load(),
		Dropped:       n.dropped.Load(),
		SlowConsumers: n.slowConsumers.Load(),
	}
	if since := n.queuedSince.Load(); since != 0 {
		stats.QueueAge = time.Since(time.Unix(0, since))
	}
	return stats
}
