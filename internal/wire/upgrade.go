package wire

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
)

// Upgrade is a ResponseWriter whose Hijack puts a Conn under whoever upgrades.
//
// The 101 response is its own, queued once it has the connection: middleware may
// hold a status back until a body follows, and there is none; and a hijacking that
// fails can still be told. It waits in the outbox, so that what is said first can leave in
// the same write: whoever upgrades calls Flush, once.
type Upgrade struct {
	http.ResponseWriter
	Limits Limits
	// Extension is the answer to what the client offers of extensions; see [Negotiate].
	Extension string
	// Poller is where the connection may be parked; nil: it may not.
	Poller *Poller
	// Conn is set once Hijack has succeeded.
	Conn *Conn
}

// Hijackable reports whether a connection can be taken over from w: whether the
// writer under all those with an Unwrap method has a Hijack method. Wrappers tend to
// have one that relies on the next.
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
	u.Conn.push(u.head()) // the first, whatever the outbox holds
	u.Conn.headed = true
	conn, buffers := u.Conn.attach()
	return conn, buffers, nil
}

// ofBody are the fields that middleware may have set and a 101 cannot have
// (RFC 9110 sections 8.6 and 15.2, RFC 9112 section 6.1).
var ofBody = map[string]bool{
	"Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Transfer-Encoding": true,
}

// head returns the response that completes the handshake (RFC 6455 section 4.2.2).
func (u *Upgrade) head() []byte {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = u.Header().WriteSubset(&b, ofBody) // a Buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}
