package wire

import (
	"bufio"
	"net"
	"net/http"
)

const (
	// readBuffer holds headers and small messages; larger payloads bypass it.
	readBuffer = 512
	// controlBuffer lets the layer above write each control frame at once
	// (RFC 6455 section 5.5: at most 125 bytes and a header).
	controlBuffer = 131
)

// Upgrade is a ResponseWriter whose Hijack puts a Conn under whoever upgrades.
type Upgrade struct {
	http.ResponseWriter
	Limits Limits
	// Conn is set once Hijack has succeeded.
	Conn *Conn
}

// Hijack implements http.Hijacker.
func (u *Upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	// Gin notes the status that was set and writes it only when told to.
	if w, ok := u.ResponseWriter.(interface{ WriteHeaderNow() }); ok {
		w.WriteHeaderNow()
	}
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
	u.Conn = New(raw, early, u.Limits)
	return u.Conn, bufio.NewReadWriter(
		bufio.NewReaderSize(u.Conn, readBuffer),
		bufio.NewWriterSize(u.Conn, controlBuffer)), nil
}
