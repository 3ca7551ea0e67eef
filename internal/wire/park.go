package wire

import (
	"errors"
	"os"
	"time"
)

// Sleeper is who reads a connection that can be parked.
type Sleeper interface {
	// Sleep is called by who reads, before the connection is parked.
	Sleep()
	// Wake is called on a goroutine of its own, once for each time that the
	// connection was parked, when there may be something to read or it has ended.
	Wake()
}

// rest is the state of a connection that waits for input without a goroutine, or
// that is asked to.
type rest struct {
	poller *Poller // nil: it always has a goroutine
	known  bool    // to the poller; owned by the reading goroutine

	// Under Poller.mu:
	sleeper Sleeper // not nil while it is parked
	fd      int     // while it is parked

	// Under Conn.mu:
	waiting bool // Wait reads
	asked   bool // by Rest, which has interrupted it
}

// past is a deadline that ends a Read at once.
var past = time.Unix(1, 0)

// Wait waits until there is something to read, or the connection has ended: the
// next Read will not wait. It reports false where the connection was parked instead: s is
// woken then, and the caller's goroutine can end. That happens after [Conn.Rest], and
// where all that came is a ping, which is answered, or a pong. A socket that waits holds no
// memory for what may come.
func (c *Conn) Wait(s Sleeper) bool {
	for !c.readable() {
		c.setWaiting(true)
		c.fill()
		idle := c.setWaiting(false)
		if idle && errors.Is(c.in.err, os.ErrDeadlineExceeded) {
			c.in.err = nil
		}
		if c.in.scan.idle() && c.heartbeat() {
			idle = true
		}
		if idle && c.Park(s) {
			return false
		}
	}
	return true
}

// readable reports whether there is something to read, or an error: here, or in the buffer
// of the layer above, where the beginning of a frame may be that came with another's end.
func (c *Conn) readable() bool {
	return len(c.in.unread) > 0 || c.in.err != nil || c.layer.ahead()
}

// heartbeat reports whether what came is one whole ping or pong frame and nothing else,
// with which it deals then. What is wrong with such a frame in any way is left to the
// layer above to see.
func (c *Conn) heartbeat() bool {
	b := c.in.unread
	if len(b) < 2+maskBytes || len(b) > 2+maskBytes+maxControlPayload || int(b[1]) != maskBit|(len(b)-2-maskBytes) {
		return false
	}
	switch b[0] {
	case finBit | opPong: // it was heard, which is its purpose
	case finBit | opPing:
		_, _ = c.Write(pongFrame(b))
	default:
		return false
	}
	c.in.unread = nil
	c.in.release()
	return true
}

// Park has s woken once there is something to read, and reports whether it has:
// where it cannot, the caller has to Wait. It is for who reads, between two messages.
func (c *Conn) Park(s Sleeper) bool {
	p := c.rest.poller
	if p == nil || c.readable() || !c.in.scan.idle() {
		return false
	}
	s.Sleep()
	// Who closes it may have come between; and somebody may have woken it already.
	return p.park(c, s) && (!c.isClosing() || p.take(c) == nil)
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing || c.closed
}

// wake wakes the connection if it is parked.
func (c *Conn) wake() {
	if c.rest.poller == nil {
		return
	}
	if s := c.rest.poller.take(c); s != nil {
		go s.Wake()
	}
}

// Rest asks a connection from which nothing has come for a while to park. It does
// not wait, and changes nothing where that cannot be.
func (c *Conn) Rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rest.poller != nil && c.rest.waiting && !c.rest.asked && !c.closing && !c.closed {
		c.rest.asked = true
		_ = c.raw.SetReadDeadline(past) // where it has ended, Wait knows
	}
}

// setWaiting notes that Wait begins or ends to read. It takes back what Rest did,
// and reports whether it had.
func (c *Conn) setWaiting(waiting bool) (asked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked = c.rest.asked
	c.rest.waiting, c.rest.asked = waiting, false
	if asked && !c.closing && !c.closed {
		_ = c.raw.SetReadDeadline(time.Time{})
	}
	return asked
}
