//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// patience is the longest wait for anything.
const patience = 60 * time.Second

// Opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// sender returns the id of the user that a frame is from, or "" if it is from
// the hub.
func sender(f hubtest.Frame) string {
	if f.From == nil {
		return ""
	}
	return f.From.ID
}

// ended is the end of a connection. The code is 0 if there was no close frame.
type ended struct{ code int }

func (e ended) Error() string { return fmt.Sprint("closed with ", e.code) }

// endOf returns the close code in an error of reading.
func endOf(err error) int {
	var e ended
	errors.As(err, &e)
	return e.code
}

// peer is a WebSocket client that does what it is told, right or wrong. One
// goroutine reads; any goroutine may write.
type peer struct {
	conn *net.TCPConn
	br   *bufio.Reader
	room chathub.Position // as of the last join
	// inbox is the position in the welcome.
	inbox    chathub.Position
	received atomic.Int64 // bytes of payload

	mu sync.Mutex // held while writing
}

// dialer is how to connect.
type dialer struct {
	addr    string
	from    net.IP // nil for any
	origin  string // empty for none
	receive int    // the size of the kernel's buffer in bytes, or 0 for its default
}

// open connects and makes the handshake.
func (d dialer) open(ctx context.Context, token string) (*peer, error) {
	nd := net.Dialer{Timeout: patience}
	if d.from != nil {
		nd.LocalAddr = &net.TCPAddr{IP: d.from}
	}
	c, err := nd.DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	p := &peer{conn: c.(*net.TCPConn), br: bufio.NewReaderSize(c, 1<<10)}
	if d.receive > 0 {
		_ = p.conn.SetReadBuffer(d.receive)
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Protocol: chathub.v1\r\n%s\r\n", d.addr, d.headers(token))
	if err == nil {
		var res *http.Response
		if res, err = http.ReadResponse(p.br, nil); err == nil {
			_ = res.Body.Close() // a 101 has none
			if res.StatusCode != http.StatusSwitchingProtocols {
				err = fmt.Errorf("HTTP %d", res.StatusCode)
			}
		}
	}
	if err != nil {
		p.drop() // a port that waits for the end could not be used again for a minute
		return nil, err
	}
	return p, nil
}

// headers returns the header lines that not all handshakes have.
func (d dialer) headers(token string) (lines string) {
	if token != "" {
		lines = "Authorization: Bearer " + token + "\r\n"
	}
	if d.origin != "" {
		lines += "Origin: " + d.origin + "\r\n"
	}
	return lines
}

// connect opens a connection and reads the welcome.
func (d dialer) connect(ctx context.Context, token string) (*peer, error) {
	p, err := d.open(ctx, token)
	if err != nil {
		return nil, err
	}
	e, err := p.next()
	if err == nil && e.Type != "welcome" {
		if _, err = p.next(); err == nil {
			err = errors.New("the first frame is " + e.Type)
		}
	}
	if err != nil {
		p.drop()
		return nil, err
	}
	welcome := struct {
		Inbox *chathub.Position `json:"inbox"`
	}{&p.inbox}
	return p, json.Unmarshal(e.Data, &welcome)
}

// masked appends a client's frame to b, with a mask of zeros. If claim is not
// negative, it is the length in the header.
func masked(b []byte, op byte, fin bool, payload []byte, claim int64) []byte {
	if fin {
		op |= 0x80
	}
	n := uint64(len(payload))
	if claim >= 0 {
		n = uint64(claim)
	}
	switch {
	case n < 126:
		b = append(b, op, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, op, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, op, 0x80|127), n)
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// text returns an envelope as a frame.
func text(e hubtest.Frame) []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return masked(nil, opText, true, b, -1)
}

// write writes bytes unchanged.
func (p *peer) write(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := p.conn.Write(b)
	return err
}

func (p *peer) send(e hubtest.Frame) error { return p.write(text(e)) }

// read returns the next frame.
func (p *peer) read() (op byte, payload []byte, err error) {
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	var h [8]byte
	if _, err := io.ReadFull(p.br, h[:2]); err != nil {
		return 0, nil, err
	}
	op = h[0] & 0x0f
	n := uint64(h[1] & 0x7f)
	switch n {
	case 126:
		_, err = io.ReadFull(p.br, h[:2])
		n = uint64(binary.BigEndian.Uint16(h[:2]))
	case 127:
		_, err = io.ReadFull(p.br, h[:8])
		n = binary.BigEndian.Uint64(h[:8])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	m, err := io.ReadFull(p.br, payload)
	p.received.Add(int64(m))
	return op, payload, err
}

// next returns the next envelope. It answers pings. When the connection has
// ended, the error is an ended.
func (p *peer) next() (e hubtest.Frame, err error) {
	for {
		op, payload, err := p.read()
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return e, err
		case err != nil:
			return e, ended{0}
		}
		switch op {
		case opPing:
			_ = p.write(masked(nil, opPong, true, payload, -1)) // the reader sees the end
		case opClose:
			code := 1005 // RFC 6455 section 7.1.5
			if len(payload) >= 2 {
				code = int(binary.BigEndian.Uint16(payload))
			}
			_ = p.write(masked(nil, opClose, true, payload, -1)) // the peer may have gone
			return e, ended{code}
		case opText:
			return e, json.Unmarshal(payload, &e)
		}
	}
}

// requests numbers requests. One with the id of another would count as a
// repetition.
var requests atomic.Uint64

// request sends an event and returns the answer. Frames before the answer are
// dropped.
func (p *peer) request(e hubtest.Frame) (hubtest.Frame, error) {
	e.ID = fmt.Sprint("request", requests.Add(1))
	if err := p.send(e); err != nil {
		return e, err
	}
	for {
		switch r, err := p.next(); {
		case err != nil:
			return r, err
		case r.ID == e.ID && (r.Type == "ack" || r.Type == "error"):
			return r, nil
		}
	}
}

// join joins a room.
func (p *peer) join(room string) error {
	r, err := p.request(hubtest.Frame{Type: "join-room", Room: room})
	if err == nil && r.Type == "error" {
		err = fmt.Errorf("join-room: %s", r.Code())
	}
	_ = json.Unmarshal(r.Data, &p.room) // after an error, room stays as it is
	return err
}

// readAll calls f for each envelope until the connection has ended, and returns
// the close code.
func (p *peer) readAll(f func(e hubtest.Frame)) (code int) {
	for {
		e, err := p.next()
		if err != nil {
			return endOf(err)
		}
		f(e)
	}
}

// end reads until the connection has ended, and returns the close code.
func (p *peer) end() (code int) {
	defer p.drop()
	return p.readAll(func(hubtest.Frame) {})
}

// drop breaks off the connection with a reset.
func (p *peer) drop() {
	_ = p.conn.SetLinger(0)
	_ = p.conn.Close()
}
