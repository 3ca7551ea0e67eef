package wire

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
)

// Upgrade is a ResponseWriter whose Hijack puts a Conn under the library that
// upgrades.
//
// Upgrade writes the 101 response itself, after it has the connection.
// Middleware may hold back a status until a body follows, and here none does;
// and a failed Hijack can still be reported. The response waits in the outbox,
// so that the first frames can leave in the same write. The user of Upgrade
// must call Flush, once.
type Upgrade struct {
	http.ResponseWriter
	Limits Limits
	// Extension is the answer to the extensions that the client offers; see
	// [Negotiate].
	Extension string
	// Poller is where the connection may be parked. It is nil if it may not.
	Poller *Poller
	// Conn is set once Hijack has succeeded.
	Conn *Conn
}

// Hijackable reports whether a connection can be taken over from w. It looks
// for the Hijack method of the innermost writer, below all those with an Unwrap
// method, since wrappers tend to have a Hijack that relies on the next.
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
	u.Conn.push(u.head()) // the first frame, even if the outbox is full
	u.Conn.headed = true
	conn, buffers := u.Conn.attach()
	return conn, buffers, nil
}

// ofBody are header fields that middleware may have set and a 101 must not have
// (RFC 9110 sections 8.6 and 15.2, RFC 9112 section 6.1).
var ofBody = map[string]bool{
	"Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Transfer-Encoding": true,
}

// head returns the response that completes the handshake (RFC 6455 section
// 4.2.2).
func (u *Upgrade) head() []byte {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = u.Header().WriteSubset(&b, ofBody) // a Buffer never fails
	b.WriteString("\r\n")
	return b.Bytes()
}
