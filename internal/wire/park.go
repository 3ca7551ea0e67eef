package wire

import (
	"errors"
	"os"
	"time"
)

// Sleeper is the reader of a connection that can be parked.
type Sleeper interface {
	// Sleep is called before the connection is parked, on the goroutine that
	// reads.
	Sleep()
	// Wake is called on a goroutine of its own, once each time that the
	// connection was parked. There may be something to read then, or the
	// connection has ended.
	Wake()
}

// rest is the state of a connection that waits for input without a goroutine,
// or was asked to.
type rest struct {
	poller *Poller // nil: the connection always has a goroutine
	known  bool    // to the poller; owned by the reading goroutine

	// Guarded by Poller.mu:
	sleeper Sleeper // not nil while parked
	fd      int     // valid while parked

	// Guarded by Conn.mu:
	waiting bool // Wait is reading
	asked   bool // Rest has interrupted it
}

// past is a deadline that ends a Read at once.
var past = time.Unix(1, 0)

// Wait waits until the next Read will not block: there is something to read, or
// the connection has ended. A plain socket holds no memory for input while it
// waits.
//
// Wait reports false if the connection was parked instead. The goroutine of the
// caller can then end, and s is woken later. That happens after [Conn.Rest],
// and after a single ping or pong, which Wait deals with itself.
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

// readable reports whether there is something to read, or an error. It may be
// in the buffer of the layer above, if the beginning of a frame came with the
// end of another.
func (c *Conn) readable() bool {
	return len(c.in.unread) > 0 || c.in.err != nil || c.layer.ahead()
}

// heartbeat reports whether the input is exactly one ping or pong frame, and
// then deals with it. A frame that breaks any rule is left to the layer above.
func (c *Conn) heartbeat() bool {
	b := c.in.unread
	if len(b) < 2+maskBytes || len(b) > 2+maskBytes+maxControlPayload || int(b[1]) != maskBit|(len(b)-2-maskBytes) {
		return false
	}
	switch b[0] {
	case finBit | opPong: // its arrival is all that counts
	case finBit | opPing:
		_, _ = c.Write(pongFrame(b))
	default:
		return false
	}
	c.in.unread = nil
	c.in.release()
	return true
}

// Park parks the connection and reports true. s is woken once there is
// something to read. If Park reports false, the caller has to Wait. It is for
// the goroutine that reads, between two messages.
func (c *Conn) Park(s Sleeper) bool {
	p := c.rest.poller
	if p == nil || c.readable() || !c.in.scan.idle() {
		return false
	}
	s.Sleep()
	// The connection may have been closed meanwhile, and s may have been woken
	// already.
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

// Rest asks an idle connection to park. It does not wait, and does nothing if
// the connection cannot park.
func (c *Conn) Rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rest.poller != nil && c.rest.waiting && !c.rest.asked && !c.closing && !c.closed {
		c.rest.asked = true
		_ = c.raw.SetReadDeadline(past) // if this fails, the connection has ended, and Wait notices
	}
}

// setWaiting records that Wait begins or ends to read. It undoes what Rest did,
// and reports whether Rest did anything.
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
