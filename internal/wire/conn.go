// Package wire is the connection under a WebSocket. It sends ready frames, and
// joins waiting frames into one write. It never blocks the sender of a frame,
// and bounds what a peer can make it hold.
package wire

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Result is what became of a frame handed to [Conn.Enqueue].
type Result int

const (
	// Queued: the frame waits behind others, which are being written.
	Queued Result = iota
	// Ready: the frame waits and nobody writes. The caller must make sure that
	// [Conn.Flush] is called once, soon, from any goroutine.
	Ready
	// Dropped: the frame was volatile and the outbox too full for it.
	Dropped
	// Overflow: the outbox is full. The caller should close the connection.
	Overflow
	// Gone: the connection is closing or closed. The frame was not taken.
	Gone
)

// drainPart is how many bytes a blocking write takes at once. It is small, so
// that progress shows.
const drainPart = 16 << 10

// Conn is a net.Conn with an outbox. Read and Discard are for one goroutine at
// a time. All other methods may be called from any goroutine, and do not wait
// for the peer. Each Write takes one whole control frame, which is what the
// WebSocket library above writes.
type Conn struct {
	raw  net.Conn
	fast rawWriter // nil if the connection cannot be written without blocking

	sock *socket // nil if it is not a plain socket

	// Owned by the reading goroutine.
	in    input
	layer *layer

	rest rest

	// Times by clock, or 0.
	heard atomic.Int64 // when bytes last came
	begun atomic.Int64 // when the unfinished message began
	stuck atomic.Int64 // since when a write waits for the peer; set by the flusher

	mu      sync.Mutex
	queue   [][]byte
	waiting int // bytes not written yet, including those of the batch
	limit   int // for waiting
	grace   time.Duration
	owned   bool // someone flushes, or was told to do so
	headed  bool // queue[0] is the response to the handshake
	sealed  bool // a close frame is queued, and nothing may follow it
	closing bool // close the connection once the queue is empty
	closed  bool
	discard bool        // drop the part of the batch that is not begun
	timer   *time.Timer // closes for good; runs while sealed or closing

	// Owned by the flusher.
	spare   [][]byte // the batch's whole slice, for reuse
	batch   [][]byte // taken from the queue; batch[0] lacks its written part
	partial bool     // batch[0] is begun
}

// rawWriter writes without waiting.
type rawWriter interface {
	// tryWrite sends what can be sent now, which is nothing if the socket is
	// full.
	tryWrite(p []byte) (int, error)
}

// Limits are the bounds of a Conn.
type Limits struct {
	Message int // bytes of an incoming message; 0 for no limit
	Outbox  int // bytes waiting to be sent
	// Grace bounds a close that the WebSocket library begins; see CloseAfter.
	Grace time.Duration
	// Deflate says that both sides may send compressed messages.
	Deflate bool
}

// New returns a Conn over raw. Early holds bytes that were already read from
// raw.
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

// clock returns a steady time in nanoseconds. If the wall clock is set, no peer
// must look silent or stuck.
func clock() int64 { return int64(time.Since(start)) }

// timeOf returns the time of a reading of clock, or the zero time for 0.
func timeOf(reading int64) time.Time {
	if reading == 0 {
		return time.Time{}
	}
	return start.Add(time.Duration(reading))
}

// Enqueue appends a frame, or several in one slice, to the outbox. It keeps b,
// which must not change any more. It refuses volatile frames when the outbox is
// half full.
func (c *Conn) Enqueue(b []byte, volatile bool) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enqueue(b, volatile)
}

func (c *Conn) enqueue(b []byte, volatile bool) Result {
	switch n := c.waiting + len(b); {
	case c.ending():
		return Gone
	case volatile && n > c.limit/2:
		return Dropped
	case n > c.limit:
		return Overflow
	}
	return c.push(b)
}

// ending reports whether no more frames are taken.
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

// Write implements io.Writer for the WebSocket library. p is one whole control
// frame. It is queued like any other, so it neither splits a frame nor blocks
// the reader. A close frame is the last frame, as with CloseWith. Write never
// fails: a pong is lost if the outbox is full or closed, and then the cause is
// known elsewhere.
func (c *Conn) Write(p []byte) (int, error) {
	b := bytes.Clone(p)
	var res Result
	c.mu.Lock()
	if b[0]&0x0f == opClose {
		if len(b) > 4 && !utf8.Valid(b[4:]) {
			// The library echoes the reason of a close without a check (RFC
			// 6455 section 8.1).
			b = closeFrame(closeInvalidPayload, "")
		}
		res = c.seal(b, false, c.grace)
	} else {
		res = c.enqueue(b, false)
	}
	c.mu.Unlock()
	if res == Ready {
		c.Flush()
	}
	return len(p), nil
}

// CloseWith queues a close frame, even if the outbox is full. Nothing is sent
// after it. The connection is closed for good once grace has passed, or earlier
// when the reader sees the peer's answer. With discard, waiting frames are
// dropped, except for the bytes being written, the rest of their last frame,
// and the response to the handshake. The results are those of Enqueue. Gone
// means that the connection is already closing.
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

// CloseAfter closes the connection once everything waiting has been sent. It
// does so after grace at the latest, or at the end of an earlier CloseWith.
// Reading ends at once.
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

// Close implements net.Conn: see [Conn.CloseAfter].
func (c *Conn) Close() error {
	c.CloseAfter(c.grace)
	return nil
}

// Abort closes the connection at once. Waiting frames are lost.
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
	default: // closing TLS writes an alert, which may wait for the peer
		c.wakeReader()
		go func() { _ = c.raw.Close() }()
	}
}

// wakeReader ends the Read that waits, and all later ones.
func (c *Conn) wakeReader() {
	_ = c.raw.SetReadDeadline(past)
	c.wake()
}

// Heard returns when bytes last came from the peer.
func (c *Conn) Heard() time.Time { return timeOf(c.heard.Load()) }

// MessageBegun returns when the message that is arriving began, or zero if
// there is none.
func (c *Conn) MessageBegun() time.Time { return timeOf(c.begun.Load()) }

// StuckSince returns since when the peer has taken nothing of what waits for
// it, or zero if nothing waits.
func (c *Conn) StuckSince() time.Time { return timeOf(c.stuck.Load()) }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline implements net.Conn. Writes do not block, so they have no
// deadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. It does nothing.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

var _ net.Conn = (*Conn)(nil)
