package wire

import (
	"bufio"
	"net"
	"net/http"
)

const (
	// readBuffer is as small as possible, because Conn has a buffer itself when
	// it needs one.
	readBuffer = 16
	// controlBuffer lets the layer above write each control frame in one call
	// (RFC 6455 section 5.5: at most 125 bytes and a header).
	controlBuffer = 131
)

// layer is the net.Conn that the WebSocket library above holds. It can be given
// up before its Conn: the library's memory for a connection is larger than all
// the rest, and an idle connection does not need it.
type layer struct {
	*Conn
	in       *bufio.Reader // what the library has read ahead
	detached bool
}

// Close implements net.Conn; see [Conn.CloseAfter]. It does nothing once the
// layer is detached.
func (l *layer) Close() error {
	if l.detached {
		return nil
	}
	return l.Conn.Close()
}

// ahead reports whether the library has read bytes that it has not used.
func (l *layer) ahead() bool { return l != nil && l.in.Buffered() > 0 }

// attach returns what a library gets from a hijacked connection: the connection
// and its buffers.
func (c *Conn) attach() (net.Conn, *bufio.ReadWriter) {
	l := &layer{Conn: c}
	l.in = bufio.NewReaderSize(l, readBuffer)
	c.layer = l
	return l, bufio.NewReadWriter(l.in, bufio.NewWriterSize(l, controlBuffer))
}

// Detach takes the connection away from the library above, which can then be
// closed while the connection stays open. It is for the goroutine that reads,
// between two messages.
func (c *Conn) Detach() {
	if c.layer != nil {
		c.layer.detached = true
		c.layer = nil
	}
}

// Reattach is the ResponseWriter of a handshake that no peer sees. It puts a
// library above a Conn again.
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
