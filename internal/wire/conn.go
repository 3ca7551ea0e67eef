// Package wire is the connection under a WebSocket: it sends ready frames, joins
// those that wait together into one write, never blocks who hands it a frame, and
// bounds what a peer may make it hold.
package wire

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
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

// Conn is a net.Conn with an outbox. All methods but Read and Discard may be called
// by any goroutine and do not wait for the peer; those two are for one goroutine at
// a time. Write takes one whole control frame per call, which is what the WebSocket
// library above issues.
type Conn struct {
	raw  net.Conn
	fast rawWriter // nil where the connection cannot be written without blocking

	sock *socket // nil where it is not a plain socket

	// Owned by the reading goroutine.
	in    input
	layer *layer

	rest rest

	// Times by clock.
	heard atomic.Int64 // when bytes last came
	begun atomic.Int64 // when the unfinished message began, or 0
	stuck atomic.Int64 // since when a write waits for the peer, or 0; set by who flushes

	mu      sync.Mutex
	queue   [][]byte
	waiting int // bytes not yet written, those of the batch included
	limit   int // of waiting
	grace   time.Duration
	owned   bool // someone flushes, or was told to
	headed  bool // queue[0] is the response to the handshake
	sealed  bool // a close frame is queued: nothing may follow it
	closing bool // close the connection once the queue is empty
	closed  bool
	discard bool        // drop what is in the batch but not begun
	timer   *time.Timer // closes for good; runs once sealed or closing

	// Owned by who flushes.
	spare   [][]byte // the batch's whole slice, to be used again
	batch   [][]byte // taken from the queue; batch[0] lacks what was written of it
	partial bool     // batch[0] was begun
}

// rawWriter writes without waiting.
type rawWriter interface {
	// tryWrite sends what can be sent now, which is nothing where the socket is full.
	tryWrite(p []byte) (int, error)
}

// Limits bound a Conn.
type Limits struct {
	Message int // bytes of one incoming message; 0: no limit
	Outbox  int // bytes waiting to be sent
	// Grace bounds a close that the layer above begins; see CloseAfter.
	Grace time.Duration
	// Deflate says that the peer may compress messages, and be sent compressed ones.
	Deflate bool
}

// New returns a Conn over raw. Early holds bytes that were read from raw already.
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

// clock is a steady clock, in nanoseconds: where the wall clock is set anew, nobody
// must look silent or stuck.
func clock() int64 { return int64(time.Since(start)) }

// timeOf is the time of a reading of clock; zero for 0.
func timeOf(reading int64) time.Time {
	if reading == 0 {
		return time.Time{}
	}
	return start.Add(time.Duration(reading))
}

// Kind says how much of an outbox a frame may fill.
type Kind uint8

const (
	// Durable frames may fill all of it. One more ends the connection.
	Durable Kind = iota
	// Volatile frames may fill half of it. One more is dropped.
	Volatile
)

// Enqueue appends a frame, or several in one slice, to the outbox. It keeps b,
// which must not change any more.
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

// ending reports whether nothing more is taken.
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

// Write implements io.Writer for the layer above: p is one whole control frame.
// It is queued like any other, so it neither splits a frame nor blocks the reader.
// A close frame is the last, as with CloseWith. There are no errors: a pong that
// finds the outbox full, or closed, is lost, and who fills or closes it knows why.
func (c *Conn) Write(p []byte) (int, error) {
	b := bytes.Clone(p)
	var res Result
	c.mu.Lock()
	if b[0]&0x0f == opClose {
		if len(b) > 4 && !utf8.Valid(b[4:]) {
			// The answer to a close whose reason nobody has looked at (RFC 6455 section 8.1).
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

// CloseWith queues a close frame, after which nothing is sent, even where the outbox
// is full, and closes the connection for good once grace has passed; the peer's
// answer, seen by who reads, closes it earlier. With discard, what waits is dropped,
// but for what is being written, the frame that this ends in, and the response to
// the handshake. The results are those of Enqueue; Gone means that the connection is
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

// CloseAfter closes the connection once everything that waits has been sent, and at
// the latest after grace, or after what is left of an earlier CloseWith's. Reading
// ends now.
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

// Abort closes the connection at once. What waits is lost.
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

// wakeReader ends a Read that waits, and all to come.
func (c *Conn) wakeReader() {
	_ = c.raw.SetReadDeadline(past)
	c.wake()
}

// Heard returns when the peer was last heard of.
func (c *Conn) Heard() time.Time { return timeOf(c.heard.Load()) }

// MessageBegun returns since when a message is arriving; zero: none is.
func (c *Conn) MessageBegun() time.Time { return timeOf(c.begun.Load()) }

// StuckSince returns since when the peer has taken nothing of what waits for it;
// zero: nothing waits.
func (c *Conn) StuckSince() time.Time { return timeOf(c.stuck.Load()) }

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
