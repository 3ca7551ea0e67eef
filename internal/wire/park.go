package wire

import (
	"errors"
	"os"
	"time"
)

// Sleeper is the reader of a connection that can be parked.
type Sleeper interface {
	// Sleep is called on the reading goroutine, before the connection is
	// parked.
	Sleep()
	// Wake is called on a goroutine of its own, once for each time that the
	// connection was parked, when there may be something to read or the
	// connection has ended.
	Wake()
}

// rest is the state of a connection that waits for input without a goroutine,
// or that is asked to do so.
type rest struct {
	poller *Poller // nil if it always has a goroutine
	known  bool    // the poller knows it; owned by the reading goroutine

	// Guarded by Poller.mu:
	sleeper Sleeper // not nil while it is parked
	fd      int     // while it is parked

	// Guarded by Conn.mu:
	waiting bool // Wait is reading
	asked   bool // Rest was called, and has interrupted Wait
}

// past is a deadline that ends a Read at once.
var past = time.Unix(1, 0)

// Wait waits until there is something to read, or the connection has ended.
// Then it returns true, and the next Read will not wait. It returns false if it
// has parked the connection instead. Then the caller's goroutine can end, and s
// will be woken. That happens after [Conn.Rest], and if only a pong came, or a
// ping, which Wait answers. A socket that waits holds no memory for its input.
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
// here, or in the buffer of the WebSocket library, which may hold the beginning
// of a frame that came with the end of another.
func (c *Conn) readable() bool {
	return len(c.in.unread) > 0 || c.in.err != nil || c.layer.ahead()
}

// heartbeat reports whether exactly one whole ping or pong frame came, and
// handles it. It leaves a frame with any fault to the WebSocket library.
func (c *Conn) heartbeat() bool {
	b := c.in.unread
	if len(b) < 2+maskBytes || len(b) > 2+maskBytes+maxControlPayload || int(b[1]) != maskBit|(len(b)-2-maskBytes) {
		return false
	}
	switch b[0] {
	case finBit | opPong: // heard is its purpose, and was set
	case finBit | opPing:
		_, _ = c.Write(pongFrame(b))
	default:
		return false
	}
	c.in.unread = nil
	c.in.release()
	return true
}

// Park makes s wake when there is something to read, and returns true. If it
// returns false, the caller has to Wait. Only the reading goroutine may call
// it, between two messages.
func (c *Conn) Park(s Sleeper) bool {
	p := c.rest.poller
	if p == nil || c.readable() || !c.in.scan.idle() {
		return false
	}
	s.Sleep()
	// A close may have come between, and s may have been woken already.
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

// Rest asks a connection from which nothing has come for a while to park. It
// does not wait, and does nothing if the connection cannot be parked.
func (c *Conn) Rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rest.poller != nil && c.rest.waiting && !c.rest.asked && !c.closing && !c.closed {
		c.rest.asked = true
		_ = c.raw.SetReadDeadline(past) // if it fails, Wait finds out
	}
}

// setWaiting notes that Wait begins or ends to read. It undoes Rest, and
// reports whether Rest was called.
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
