package wire

import (
	"sync"
	"time"
)

const (
	// readSize is the number of bytes read at a time. Most messages are
	// shorter.
	readSize = 8 << 10
	// ownSize is the same for a connection that cannot wait without a buffer.
	// An idle one holds that much.
	ownSize = 1 << 10
)

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// input is the input from the peer. It belongs to the goroutine that reads.
type input struct {
	scan   scanner
	unread []byte          // arrived, but not yet handed on
	buf    *[readSize]byte // holds unread if that is in a borrowed buffer
	own    []byte          // used if no buffer can be borrowed
	err    error           // follows unread
}

// take scans b, and keeps the part of it that may be handed on.
func (in *input) take(buf *[readSize]byte, b []byte, now time.Duration) {
	n, err := in.scan.feed(b, now)
	if in.unread = b[:n]; err != nil && in.err == nil {
		in.err = err
	}
	in.buf = buf
	in.release()
}

// release gives the borrowed buffer back if everything in it has been handed
// on.
func (in *input) release() {
	if len(in.unread) > 0 {
		return
	}
	in.unread = nil
	if in.buf != nil {
		readBuffers.Put(in.buf)
		in.buf = nil
	}
}

// fill reads once from the connection below.
func (c *Conn) fill() {
	if c.sock != nil {
		buf, n, err := c.sock.read()
		if c.in.err = err; err == nil {
			c.took(buf, buf[:n])
		}
		return
	}
	if c.in.own == nil {
		c.in.own = make([]byte, ownSize)
	}
	n, err := c.raw.Read(c.in.own)
	c.in.err = err
	c.took(nil, c.in.own[:n])
}

// took takes in bytes that have arrived. buf is the borrowed buffer that they
// are in, or nil.
func (c *Conn) took(buf *[readSize]byte, b []byte) {
	now := clock()
	if len(b) > 0 {
		c.heard.Store(now)
	}
	c.in.take(buf, b, time.Duration(now))
	if c.in.scan.idle() {
		c.begun.Store(0)
	} else {
		c.begun.Store(int64(c.in.scan.begun))
	}
}

// Read implements net.Conn. Its errors are those of the connection below and of
// the limits: [ErrMessageTooBig], [ErrFragments], [ErrControlFlood]. Bytes
// before the frame that breaks a limit are handed on first.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.in.unread) == 0 {
		if c.in.err == nil {
			c.fill()
		}
		if len(c.in.unread) == 0 {
			return 0, c.in.err
		}
	}
	n := copy(p, c.in.unread)
	c.in.unread = c.in.unread[n:]
	c.in.release()
	return n, nil
}

// Compressed reports whether the message that the layer above has begun to read
// is compressed. If so, its payload is for [Inflate]. It is for the goroutine
// that reads, which must call it exactly once for each message.
func (c *Conn) Compressed() bool { return c.in.scan.compressed() }

// Discard reads instead of Read, after an error of the limits or of the layer
// above. It drops the input until the peer sends a close frame or the
// connection ends. Closing the connection earlier, with unread input, would
// reset it, and the peer might not see why it was closed (RFC 9293 section
// 3.10.4).
func (c *Conn) Discard() {
	if isLimit(c.in.err) {
		c.in.err = nil
	}
	c.in.scan.deflate, c.in.scan.marks = false, nil // no caller asks for marks any more
	for {
		c.in.unread = nil
		c.in.release()
		if c.in.scan.closed || c.in.err != nil {
			return
		}
		c.fill()
		if isLimit(c.in.err) {
			c.in.err = nil
		}
	}
}
