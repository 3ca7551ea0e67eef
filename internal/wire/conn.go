// Package wire is the connection under a WebSocket. It sends ready frames and
// joins those that wait together into one write. It never blocks a goroutine
// that hands it a frame, and it bounds what a peer can make it hold.
package wire

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Result says what happened to a frame given to [Conn.Enqueue].
type Result int

const (
	// Queued: the frame waits behind others, which are being written.
	Queued Result = iota
	// Ready: the frame waits, and nobody is writing. The caller must see to it
	// that [Conn.Flush] is called soon and exactly once, on any goroutine.
	Ready
	// Dropped: a volatile frame was not taken, because the outbox is too full.
	Dropped
	// Overflow: the frame was not taken, because the outbox is full. The caller
	// should close the connection.
	Overflow
	// Gone: the frame was not taken, because the connection is closing or
	// closed.
	Gone
)

// drainPart is the number of bytes that a blocking write takes at a time, so
// that progress is noticed.
const drainPart = 16 << 10

// Conn is a net.Conn with an outbox. All methods except those for reading may
// be called from any goroutine, and do not wait for the peer. Read, Discard,
// Wait, Park, Detach and Compressed are for the goroutine that reads, of which
// there is one at a time. Write takes exactly one control frame per call, which
// is what the WebSocket library above writes.
type Conn struct {
	raw  net.Conn
	fast rawWriter // nil if raw has no non-blocking write

	sock *socket // nil if raw is not a plain socket

	// Owned by the reading goroutine.
	in    input
	layer *layer

	rest rest

	// Readings of clock.
	heard atomic.Int64 // when bytes last arrived
	begun atomic.Int64 // when the unfinished message began, or 0
	stuck atomic.Int64 // since when a write waits for the peer, or 0; set by the flushing goroutine

	mu      sync.Mutex
	queue   [][]byte
	waiting int // bytes not yet written, in the queue and the batch
	limit   int // maximum of waiting
	grace   time.Duration
	owned   bool // a goroutine flushes, or was told to
	headed  bool // queue[0] is the response to the handshake
	sealed  bool // a close frame is queued, and nothing may follow it
	closing bool // close the connection once the queue is empty
	closed  bool
	discard bool        // drop the frames of the batch that are not begun
	timer   *time.Timer // aborts the connection; runs once sealed or closing

	// Owned by the flushing goroutine.
	spare   [][]byte // the whole slice under batch, to be used again
	batch   [][]byte // taken from the queue; batch[0] is what is left to write of it
	partial bool     // a part of batch[0] has been written
}

// rawWriter writes without waiting.
type rawWriter interface {
	// tryWrite writes as much as the socket takes now. That is nothing if the
	// socket is full.
	tryWrite(p []byte) (int, error)
}

// Limits are the bounds of a Conn.
type Limits struct {
	Message int // bytes of an incoming message; 0: no limit
	Outbox  int // bytes that wait to be sent
	// Grace bounds a close that the layer above begins; see [Conn.CloseAfter].
	Grace time.Duration
	// Deflate says that both sides may compress messages.
	Deflate bool
}

// New returns a Conn over raw. early holds the bytes that were read from raw
// before.
func New(raw net.Conn, early []byte, l Limits) *Conn {
	c := &Conn{raw: raw, sock: newSocket(raw), limit: l.Outbox, grace: l.Grace}
	if c.sock != nil {
		c.fast = c.sock
	}
	c.in.scan.limit, c.in.scan.deflate = uint64(max(l.Message, 0)), l.Deflate
	if len(early) > 0 {
		c.took(nil, early)
	}
	c.heard.Store(clock())
	return c
}

var start = time.Now()

// clock returns the nanoseconds since start, on a steady clock. If the wall
// clock is set, nobody must look silent or stuck.
func clock() int64 { return int64(time.Since(start)) }

// timeOf returns the time of a reading of clock. It is zero for a reading of 0.
func timeOf(reading int64) time.Time {
	if reading == 0 {
		return time.Time{}
	}
	return start.Add(time.Duration(reading))
}

// Kind says how much of the outbox a frame may fill.
type Kind uint8

const (
	// Durable frames may fill all of the outbox. One that does not fit ends the
	// connection.
	Durable Kind = iota
	// Volatile frames may fill half of the outbox. One that does not fit is
	// dropped.
	Volatile
)

// Enqueue appends a frame, or several in one slice, to the outbox. It keeps b,
// which must not change afterwards.
func (c *Conn) Enqueue(b []byte, kind Kind) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enqueue(b, kind)
}

func (c *Conn) enqueue(b []byte, kind Kind) Result {
	switch n := c.waiting + len(b); {
	case c.ending():
		return Gone
	case kind == Volatile && n > c.limit/2:
		return Dropped
	case n > c.limit:
		return Overflow
	}
	return c.push(b)
}

// ending reports whether frames are no longer taken.
func (c *Conn) ending() bool { return c.sealed || c.closing || c.closed }

func (c *Conn) push(b []byte) Result {
	c.queue = append(c.queue, b)
	c.waiting += len(b)
	if c.owned {
		return Queued
	}
	c.owned = true
	return Ready
}

// Write implements io.Writer for the layer above. p is exactly one control
// frame. It is queued like any other frame, so it neither splits one nor blocks
// the reader. A close frame is the last frame, as with [Conn.CloseWith]. Write
// returns no errors. If the outbox is full or closed, a pong is lost, and the
// goroutine that filled or closed the outbox deals with that.
func (c *Conn) Write(p []byte) (int, error) {
	b := bytes.Clone(p)
	var res Result
	c.mu.Lock()
	if b[0]&0x0f == opClose {
		if len(b) > 4 && !utf8.Valid(b[4:]) {
			// This answers a close frame whose reason was not checked (RFC 6455
			// section 8.1).
			b = closeFrame(closeInvalidPayload, "")
		}
		res = c.seal(b, false, c.grace)
	} else {
		res = c.enqueue(b, Durable)
	}
	c.mu.Unlock()
	if res == Ready {
		c.Flush()
	}
	return len(p), nil
}

// CloseWith queues a close frame, even if the outbox is full. Nothing is sent
// after it. The connection is closed for good when grace has passed, or
// earlier, when the peer has answered and the reading goroutine sees that.
//
// If discard is set, frames that wait are dropped. Three things are still sent:
// the frame that is being written, the response to the handshake, and the close
// frame.
//
// The results are those of [Conn.Enqueue]. Gone means that the connection is
// closing already.
func (c *Conn) CloseWith(code uint16, reason string, discard bool, grace time.Duration) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seal(closeFrame(code, reason), discard, grace)
}

func (c *Conn) seal(frame []byte, discard bool, grace time.Duration) Result {
	if c.ending() {
		return Gone
	}
	c.sealed = true
	if discard {
		keep := 0
		if c.headed {
			keep = 1
		}
		c.waiting -= size(c.queue[keep:])
		clear(c.queue[keep:])
		c.queue = c.queue[:keep]
		c.discard = true
	}
	c.timer = time.AfterFunc(grace, c.Abort)
	return c.push(frame)
}

// CloseAfter closes the connection when everything that waits has been sent,
// but at the latest after grace, or after the grace of an earlier
// [Conn.CloseWith]. Reading ends at once.
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
	c.wakeReader()
}

// Close implements net.Conn; see [Conn.CloseAfter].
func (c *Conn) Close() error {
	c.CloseAfter(c.grace)
	return nil
}

// Abort closes the connection at once. Frames that wait are lost.
func (c *Conn) Abort() {
	c.mu.Lock()
	already := c.closed
	c.closed = true
	c.waiting -= size(c.queue)
	c.queue = nil
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	switch {
	case already:
	case c.fast != nil:
		_ = c.raw.Close()
		c.wake()
	default: // closing TLS writes an alert, which may block
		c.wakeReader()
		go func() { _ = c.raw.Close() }()
	}
}

// wakeReader ends the present Read and all later ones.
func (c *Conn) wakeReader() {
	_ = c.raw.SetReadDeadline(past)
	c.wake()
}

// Heard returns when bytes last came from the peer.
func (c *Conn) Heard() time.Time { return timeOf(c.heard.Load()) }

// Waiting returns the number of bytes that wait to be written.
func (c *Conn) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting
}

// MessageBegun returns when the message began that is still arriving. It is
// zero if there is none.
func (c *Conn) MessageBegun() time.Time { return timeOf(c.begun.Load()) }

// StuckSince returns since when the peer has taken nothing of what waits for
// it. It is zero if nothing waits.
func (c *Conn) StuckSince() time.Time { return timeOf(c.stuck.Load()) }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline implements net.Conn. It is for reading only: writes do not block.
func (c *Conn) SetDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. It does nothing.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

var _ net.Conn = (*Conn)(nil)
