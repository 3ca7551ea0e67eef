package wire

import (
	"bufio"
	"net"
	"net/http"
)

const (
	// readBuffer is as small as possible, since Conn has a buffer when it needs
	// one.
	readBuffer = 16
	// controlBuffer lets the WebSocket library write each control frame at once
	// (RFC 6455 section 5.5: at most 125 bytes and a header).
	controlBuffer = 131
)

// layer is the Conn that the WebSocket library gets. It can be replaced: what
// the library holds for a connection is more than everything else, and an idle
// connection does not need it.
type layer struct {
	*Conn
	in       *bufio.Reader // the library's read buffer
	detached bool
}

// Close implements net.Conn: see [Conn.CloseAfter].
func (l *layer) Close() error {
	if l.detached {
		return nil
	}
	return l.Conn.Close()
}

// ahead reports whether bytes are in the library's buffer that it has not read.
func (l *layer) ahead() bool { return l != nil && l.in.Buffered() > 0 }

// attach returns what a library needs to upgrade: a connection and its buffers.
func (c *Conn) attach() (net.Conn, *bufio.ReadWriter) {
	l := &layer{Conn: c}
	l.in = bufio.NewReaderSize(l, readBuffer)
	c.layer = l
	return l, bufio.NewReadWriter(l.in, bufio.NewWriterSize(l, controlBuffer))
}

// Detach takes the connection away from the WebSocket library, whose connection
// can then be closed without closing this one. Only the reading goroutine may
// call it, between two messages.
func (c *Conn) Detach() {
	if c.layer != nil {
		c.layer.detached = true
		c.layer = nil
	}
}

// Reattach is a ResponseWriter for a handshake that nobody sees, which puts the
// WebSocket library above a Conn again.
type Reattach struct {
	Conn   *Conn
	header http.Header
}

// Header implements http.ResponseWriter.
func (r *Reattach) Header() http.Header {
	if r.header == nil {
		r.header = make(http.Header)
	}
	return r.header
}

// WriteHeader implements http.ResponseWriter.
func (*Reattach) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (*Reattach) Write(p []byte) (int, error) { return len(p), nil }

// Hijack implements http.Hijacker.
func (r *Reattach) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers := r.Conn.attach()
	return conn, buffers, nil
}
