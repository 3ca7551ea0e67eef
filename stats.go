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

// figures are what Stats counts since the beginning.
type counters struct {
	accepted, refused, received atomic.Uint64
	droppedDirect               atomic.Uint64 // in Client.Emit, past the loop

	// Published by the loop.
	connections, users, rooms atomic.Int64
	delivered, dropped, slow  atomic.Uint64
	behind                    atomic.Int64 // since when the queue was never empty, Unix nanoseconds; 0: it was just now
}

// Stats returns figures of this moment. It does not wait for anything.
func (h *Hub) Stats() Stats {
	f := &h.counters
	stats := Stats{
		Connections:   int(f.connections.Load()),
		Users:         int(f.users.Load()),
		Rooms:         int(f.rooms.Load()),
		QueueLength:   len(h.commands),
		Accepted:      f.accepted.Load(),
		Refused:       f.refused.Load(),
		Received:      f.received.Load(),
		Delivered:     f.delivered.Load(),
		Dropped:       f.dropped.Load() + f.droppedDirect.Load(),
		SlowConsumers: f.slow.Load(),
	}
	if since := f.behind.Load(); since != 0 {
		stats.QueueAge = time.Since(time.Unix(0, since))
	}
	return stats
}
