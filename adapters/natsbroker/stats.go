package natsbroker

import (
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Stats are the figures of a Broker.
type Stats struct {
	Sessions  int // hubs that are attached
	Connected int // of these, those with a connection to a server
	// Answering is how many of the sessions got an answer when they last asked
	// for the state of the stream, which they do once a second.
	Answering  int
	Topics     int   // rooms, users and nodes that are subscribed
	CacheBytes int64 // see the option CacheBytes
	// Since the Broker was made:
	Disconnects uint64 // connections that were lost
	Reconnects  uint64
	// Overflows is how often messages came faster than they were delivered, so
	// that some had to be fetched again.
	Overflows uint64
	// CatchUps is how often messages of a topic had to be fetched, after an
	// overflow, a reconnect, or a loss between two servers.
	CatchUps uint64
	// Stream is the newest known state of the stream. It is zero if no hub is
	// attached.
	Stream StreamStats
}

// StreamStats are the figures of a stream.
type StreamStats struct {
	Messages uint64 // those of the latest version of each name included
	Bytes    uint64
	// MaxBytes is when the stream drops its oldest messages. 0: never.
	MaxBytes int64
	FirstSeq uint64
	LastSeq  uint64
	// Oldest is when its oldest message was stored. Zero: there is none.
	Oldest time.Time
	// FreeBytes is what the disk of an embedded server has left. Negative: it
	// is not known.
	FreeBytes int64
}

// counters count what Stats reports, for all sessions of a Broker.
type counters struct {
	disconnects, reconnects, overflows, catchUps atomic.Uint64
}

// Stats returns the figures of this moment. It waits for no server.
func (b *Broker) Stats() Stats {
	n := &b.counters
	stats := Stats{
		Disconnects: n.disconnects.Load(),
		Reconnects:  n.reconnects.Load(),
		Overflows:   n.overflows.Load(),
		CatchUps:    n.catchUps.Load(),
	}
	b.mu.Lock()
	sessions := make([]*session, 0, len(b.sessions))
	for s := range b.sessions {
		sessions = append(sessions, s)
	}
	b.mu.Unlock()
	for _, s := range sessions {
		stats.Sessions++
		if s.nc.Status() == nats.CONNECTED {
			stats.Connected++
		}
		if s.answering.Load() {
			stats.Answering++
		}
		s.mu.RLock()
		stats.Topics += len(s.topics)
		s.mu.RUnlock()
		stats.CacheBytes += s.cacheBytes.Load()
		if st := s.state.Load(); st.lastSeq >= stats.Stream.LastSeq {
			stats.Stream = st.stats()
		}
	}
	stats.Stream.FreeBytes = -1
	if b.server != nil && !b.cfg.memory {
		stats.Stream.FreeBytes = freeBytes(b.server.path)
	}
	return stats
}

func (st *streamState) stats() StreamStats {
	r := StreamStats{
		Messages: st.messages,
		Bytes:    st.bytes,
		MaxBytes: max(st.maxBytes, 0),
		FirstSeq: st.firstSeq,
		LastSeq:  st.lastSeq,
	}
	if st.messages > 0 {
		r.Oldest = st.firstTime
	}
	return r
}
