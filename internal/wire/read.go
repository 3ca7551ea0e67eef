package wire

import (
	"sync"
	"time"
)

const (
	// readSize is how many bytes are read at once. It is longer than most
	// messages.
	readSize = 8 << 10
	// ownSize is the same if waiting needs a buffer. It is then the cost of an
	// idle connection.
	ownSize = 1 << 10
)

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// input is what came from the peer. It belongs to the reading goroutine.
type input struct {
	scan   scanner
	unread []byte          // came, and is not handed on yet
	buf    *[readSize]byte // the buffer of unread, if it is a borrowed one
	own    []byte          // used if nothing can be borrowed
	err    error           // comes after unread
}

// take scans input, and keeps what may be handed on.
func (in *input) take(buf *[readSize]byte, b []byte, now time.Duration) {
	n, err := in.scan.feed(b, now)
	if in.unread = b[:n]; err != nil && in.err == nil {
		in.err = err
	}
	in.buf = buf
	in.release()
}

// release returns the borrowed buffer once all of it has been handed on.
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

// took takes input, which is in a borrowed buffer unless buf is nil.
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
// the limits: [ErrMessageTooBig], [ErrFragments], [ErrControlFlood]. Everything
// before the frame that breaks a limit is handed on first.
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

// Compressed reports whether the message that the WebSocket library has begun
// to read is compressed. Then its payload is for [Inflate]. Only the reading
// goroutine may call it, once for each message.
func (c *Conn) Compressed() bool { return c.in.scan.compressed() }

// Discard replaces Read after an error of the limits or of the WebSocket
// library. It drops what the peer still sends, until a close frame or the end
// of the connection. To close the connection earlier, with input unread, would
// reset it, and the peer might not see the reason (RFC 9293 section 3.10.4).
func (c *Conn) Discard() {
	if isLimit(c.in.err) {
		c.in.err = nil
	}
	c.in.scan.deflate, c.in.scan.marks = false, nil // nobody asks any more
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
