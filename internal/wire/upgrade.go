package wire

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
)

// Upgrade is a ResponseWriter whose Hijack method puts a Conn under the library
// that upgrades.
//
// Upgrade writes the 101 response itself, after it has the connection.
// Middleware may hold a status back until a body follows, and there is none.
// This way, a failure to hijack can also still be reported. The response waits
// in the outbox, so that the first frames can leave in the same write. The
// caller of the library must call [Conn.Flush] once.
type Upgrade struct {
	http.ResponseWriter
	Limits Limits
	// Extension is the answer to the extensions that the client offers; see
	// [Negotiate].
	Extension string
	// Poller can park the connection. If it is nil, the connection is never
	// parked.
	Poller *Poller
	// Conn is set by a successful Hijack.
	Conn *Conn
}

// Hijackable reports whether a connection can be taken over from w. It looks
// for a Hijack method in the innermost writer, under all that have an Unwrap
// method: a wrapper's own Hijack usually relies on the next.
func Hijackable(w http.ResponseWriter) bool {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			_, ok := w.(http.Hijacker)
			return ok
		}
		w = u.Unwrap()
	}
}

// WriteHeader implements http.ResponseWriter.
func (u *Upgrade) WriteHeader(status int) {
	if status != http.StatusSwitchingProtocols {
		u.ResponseWriter.WriteHeader(status)
	}
}

// Hijack implements http.Hijacker.
func (u *Upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	raw, rw, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	var early []byte
	if n := rw.Reader.Buffered(); n > 0 {
		early = make([]byte, n)
		if _, err := rw.Reader.Read(early); err != nil {
			_ = raw.Close()
			return nil, nil, err
		}
	}
	limits := u.Limits
	if limits.Deflate = u.Extension != ""; limits.Deflate {
		u.Header().Set("Sec-WebSocket-Extensions", u.Extension)
	}
	u.Conn = New(raw, early, limits)
	if u.Conn.sock != nil {
		u.Conn.rest.poller = u.Poller
	}
	u.Conn.push(u.head()) // the first frame, even in a tiny outbox
	u.Conn.headed = true
	conn, buffers := u.Conn.attach()
	return conn, buffers, nil
}

// ofBody are header fields that middleware may have set, but that a 101
// response cannot have (RFC 9110 sections 8.6 and 15.2, RFC 9112 section 6.1).
var ofBody = map[string]bool{
	"Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Transfer-Encoding": true,
}

// head returns the response that completes the handshake (RFC 6455 section
// 4.2.2).
func (u *Upgrade) head() []byte {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = u.Header().WriteSubset(&b, ofBody) // a Buffer does not fail
	b.WriteString("\r\n")
	return b.Bytes()
}
