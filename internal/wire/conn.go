// Package wire is the connection under a WebSocket: it sends ready frames, joins
// those that wait together into one write, never blocks who hands it a frame, and
// bounds what a peer may make it hold.
package wire

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Result says what became of a frame handed to [Conn.Enqueue].
type Result int

const (
	// Queued: it waits behind others, which are being written.
	Queued Result = iota
	// Ready: it waits and nobody writes; the caller must see to it that
	// [Conn.Flush] is called, once, soon, by anyone.
	Ready
	// Dropped: it may be lost, and the outbox is too full for such.
	Dropped
	// Overflow: the outbox is full. The caller should close the connection.
	Overflow
	// Gone: the connection is closing or closed; the frame was not taken.
	Gone
)

// drainPart is how much a blocking write takes at once, so that progress shows.
const drainPart = 16 << 10

// Conn is a net.Conn with an outbox. Enqueue, Flush, CloseWith, Close, Abort and
// the observers may be called by any goroutine and do not block on the peer; Read is for one goroutine at a
// time. Write takes one whole control frame per call, which is what the
// WebSocket library above issues.
type Conn struct {
	raw  net.Conn
	fast rawWriter // nil where the connection cannot be written without blocking

	// Owned by the reading goroutine.
	early []byte // bytes that came with the handshake
	scan  scanner
	fault error // what the scanner found behind the bytes handed on already

	heard atomic.Int64 // when bytes last came, Unix nanoseconds
	begun atomic.Int64 // when the unfinished message began, or 0
	stuck atomic.Int64 // since when a write waits for the peer, or 0

	mu      sync.Mutex
	queue   [][]byte
	waiting int  // bytes not yet written, those being written included
	limit   int  // of waiting
	owned   bool // someone flushes, or was told to
	sealed  bool // a close frame is queued: nothing may follow it
	closing bool // close the connection once the queue is empty
	closed  bool
	discard bool        // drop what was taken for writing but is not begun
	timer   *time.Timer // closes for good, once closing

	// Owned by who flushes.
	spare   [][]byte // the batch's whole slice, to be used again
	batch   [][]byte // taken from the queue; batch[0] lacks what was written of it
	partial bool     // batch[0] was begun
}

// Limits bound a Conn.
type Limits struct {
	Message int // bytes of one incoming message; 0: no limit
	Outbox  int // bytes waiting to be sent
}

// New returns a Conn over raw. Early holds bytes that were read from raw already.
func New(raw net.Conn, early []byte, l Limits) *Conn {
	c := &Conn{raw: raw, fast: newRawWriter(raw), early: early, limit: l.Outbox}
	c.scan.limit = uint64(max(l.Message, 0))
	c.heard.Store(time.Now().UnixNano())
	return c
}

// Enqueue appends a frame, or several in one slice, to the outbox. It keeps b,
// which must not change any more. Volatile frames are refused when the outbox is
// half full.
func (c *Conn) Enqueue(b []byte, volatile bool) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enqueue(b, volatile)
}

func (c *Conn) enqueue(b []byte, volatile bool) Result {
	switch n := c.waiting + len(b); {
	case c.sealed || c.closed || c.closing:
		return Gone
	case volatile && n > c.limit/2:
		return Dropped
	case n > c.limit:
		return Overflow
	}
	return c.push(b)
}

func (c *Conn) push(b []byte) Result {
	c.queue = append(c.queue, b)
	c.waiting += len(b)
	if c.owned {
		return Queued
	}
	c.owned = true
	return Ready
}

// Congested reports whether n more bytes would go beyond half of the outbox,
// where volatile frames must be told from others.
func (c *Conn) Congested(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting+n > c.limit/2
}

// Write implements io.Writer for the layer above: p is one whole control frame.
// It is queued like any other, so it neither splits a frame nor blocks the reader.
func (c *Conn) Write(p []byte) (int, error) {
	b := append([]byte(nil), p...)
	c.mu.Lock()
	res := c.enqueue(b, false)
	if res <= Ready && p[0]&0x0f == opClose {
		c.sealed = true
	}
	c.mu.Unlock()
	switch res {
	case Ready:
		c.Flush()
	case Overflow:
		return 0, errors.New("wire: outbox is full")
	case Gone: // nothing may follow a close frame; losing a pong then is right
	}
	return len(p), nil
}

// CloseWith queues a close frame, after which nothing is sent, and closes the
// connection for good once grace has passed; the peer's answer, seen by who reads, closes it earlier. With
// discard, what waits is dropped, but for a frame that is partly written. Gone
// means that the connection is closing already.
func (c *Conn) CloseWith(code uint16, reason string, discard bool, grace time.Duration) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealed || c.closed || c.closing {
		return Gone
	}
	c.sealed = true
	if discard {
		c.waiting -= size(c.queue)
		clear(c.queue)
		c.queue = c.queue[:0]
		c.discard = true
	}
	c.timer = time.AfterFunc(grace, c.Abort)
	return c.push(closeFrame(code, reason))
}

// CloseAfter closes the connection once everything that waits has been sent, and
// after grace at the latest; it returns at once. Reading ends now.
func (c *Conn) CloseAfter(grace time.Duration) {
	c.mu.Lock()
	if c.closed || c.closing {
		c.mu.Unlock()
		return
	}
	c.closing = true
	if !c.owned {
		c.mu.Unlock()
		c.Abort()
		return
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(grace, c.Abort)
	}
	c.mu.Unlock()
	_ = c.raw.SetReadDeadline(time.Unix(1, 0)) // only wakes the reader
}

// closeGrace bounds a Close by the layer above.
const closeGrace = 5 * time.Second

// Close implements net.Conn: see [Conn.CloseAfter].
func (c *Conn) Close() error {
	c.CloseAfter(closeGrace)
	return nil
}

// Abort closes the connection at once. What waits is lost.
func (c *Conn) Abort() {
	c.mu.Lock()
	already := c.closed
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	if !already {
		_ = c.raw.Close()
	}
}

// Discard reads and forgets what the peer still sends, until it closes or the
// connection is closed for good. It takes the place of who reads.
func (c *Conn) Discard() {
	c.early = nil
	buf := scratch.Get().(*[joined]byte)
	defer scratch.Put(buf)
	for {
		if _, err := c.raw.Read(buf[:]); err != nil {
			return
		}
	}
}

// Waiting returns how many bytes are not sent yet.
func (c *Conn) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting
}

// Heard returns when the peer was last heard of.
func (c *Conn) Heard() time.Time { return time.Unix(0, c.heard.Load()) }

// MessageBegun returns since when a message is arriving; zero: none is.
func (c *Conn) MessageBegun() time.Time { return orZero(c.begun.Load()) }

// StuckSince returns since when the peer has taken nothing of what waits for it;
// zero: nothing waits.
func (c *Conn) StuckSince() time.Time { return orZero(c.stuck.Load()) }

func orZero(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (n int, err error) {
	if c.fault != nil {
		return 0, c.fault
	}
	if len(c.early) > 0 {
		n = copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
	} else if n, err = c.raw.Read(p); n == 0 {
		return 0, err
	}
	now := time.Now()
	c.heard.Store(now.UnixNano())
	n, c.fault = c.scan.feed(p[:n], now)
	if c.fault != nil && n == 0 {
		return 0, c.fault
	}
	switch {
	case c.scan.idle():
		c.begun.Store(0)
	case c.begun.Load() == 0:
		c.begun.Store(now.UnixNano())
	}
	return n, err
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline implements net.Conn. Writes do not block, so they have none.
func (c *Conn) SetDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. It does nothing.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

var _ net.Conn = (*Conn)(nil)
