package chathub

import (
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// sweepPart is how many clients are checked at a time. It takes well under a
// millisecond.
const sweepPart = 1000

// sweep does what is due once per sweepInterval: heartbeats, expiry, stuck
// peers, endless messages, typing, the other nodes. It checks a part of the
// clients at a time, so that deliveries do not wait for all of them. Each
// client is checked once per sweepInterval, or in the next one if another
// client has left. It returns the time until the next part.
func (l *loop) sweep(now time.Time) time.Duration {
	if now.Sub(l.sweeping.began) >= sweepInterval {
		l.expireTyping(now)
		l.sweepNodes(now)
		l.sweeping.began = now
		l.sweeping.online = 0
		for _, r := range l.worlds {
			l.sweeping.online += r.presence.roster.Count()
		}
	}
	parts := (l.sweepClients(now) + sweepPart - 1) / sweepPart
	return sweepInterval / time.Duration(max(parts, 1))
}

// sweepClients checks the next part of the clients, and returns how many there
// are in all.
func (l *loop) sweepClients(now time.Time) (all int) {
	all = len(l.everyone.members)
	for _, r := range l.worlds {
		all += len(r.members)
	}
	s := &l.sweeping
	for left := sweepPart; left > 0; {
		members := l.everyone.members
		if s.world > 0 {
			members = l.worlds[s.world-1].members
		}
		end := min(s.next+left, len(members))
		left -= max(end-s.next, 0)
		for ; s.next < end; s.next++ {
			c := members[s.next].c
			s.waiting += int64(c.conn.Waiting())
			l.check(c, now)
		}
		if end < len(members) {
			break
		}
		s.next = 0
		if s.world++; s.world > len(l.worlds) {
			l.hub.counters.outboxBytes.Store(s.waiting)
			s.world, s.waiting = 0, 0
			break
		}
	}
	return all
}

// restAfter is how long a silent connection keeps a goroutine that waits for
// it.
const restAfter = 5 * time.Second

// check is the part of the sweep for one client.
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
	l.watchHandler(c, now)
	heard := c.conn.Heard()
	silent := now.Sub(heard)
	if silent >= restAfter {
		c.conn.Rest()
	}
	if l.cfg.PingInterval < 0 {
		return
	}
	if !heard.Before(c.onLoop.pinged) {
		c.onLoop.pinged = time.Time{} // answered, even if this sweep comes late
	}
	switch {
	case silent < l.cfg.PingInterval:
	case c.onLoop.pinged.IsZero():
		c.onLoop.pinged = now
		l.enqueue(c, wire.Ping, wire.Durable)
	case l.cfg.PongTimeout > 0 && now.Sub(c.onLoop.pinged) >= l.cfg.PongTimeout:
		l.close(c, closeHeartbeat, "heartbeat timeout")
	}
}

// watchHandler has a connection read beside a handler that takes long.
func (l *loop) watchHandler(c *Client, now time.Time) {
	if since := c.handlerSince.Load(); since == 0 || now.UnixNano()-since < int64(slowHandler) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readBeside()
}
