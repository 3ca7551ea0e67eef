package wire

import (
	"bufio"
	"net"
	"net/http"
)

const (
	// readBuffer is as small as it can be: Conn has a buffer when it needs one.
	readBuffer = 16
	// controlBuffer lets the layer above write each control frame at once
	// (RFC 6455 section 5.5: at most 125 bytes and a header).
	controlBuffer = 131
)

// layer is the Conn that the WebSocket library above has. It has a life of its own: what the
// library holds for a connection is more than all the rest, and is not needed by one that
// nothing comes from.
type layer struct {
	*Conn
	in       *bufio.Reader // what the library reads ahead into
	detached bool
}

// Close implements net.Conn: see [Conn.CloseAfter].
func (l *layer) Close() error {
	if l.detached {
		return nil
	}
	return l.Conn.Close()
}

// ahead reports whether something has been read that the library has not looked at.
func (l *layer) ahead() bool { return l != nil && l.in.Buffered() > 0 }

// attach returns what a library that upgrades has to have: a connection, and its buffers.
func (c *Conn) attach() (net.Conn, *bufio.ReadWriter) {
	l := &layer{Conn: c}
	l.in = bufio.NewReaderSize(l, readBuffer)
	c.layer = l
	return l, bufio.NewReadWriter(l.in, bufio.NewWriterSize(l, controlBuffer))
}

// Detach takes the connection away from the library above, which can then be closed
// without closing it. It is for who reads, between two messages.
func (c *Conn) Detach() {
	if c.layer != nil {
		c.layer.detached = true
		c.layer = nil
	}
}

// Reattach is a ResponseWriter for the handshake that puts a library above a Conn anew,
// and that nobody sees.
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
