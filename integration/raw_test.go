package integration

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// Opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// frame is a client's frame, as RFC 6455 section 5.2 defines it, or as it must
// not be. Except for op and payload, a zero field means the correct value.
type frame struct {
	op       byte
	more     bool // without FIN: another fragment follows
	rsv      byte // RSV1 is 4, RSV2 is 2, RSV3 is 1
	unmasked bool
	key      string // the masking key of four bytes; if empty, some key
	width    int    // how many bytes hold the length (1, 2 or 8); 0 for the fewest
	claims   uint64 // the length in the header; 0 for that of payload
	payload  string
}

// bytes returns the frame as it is sent.
func (f frame) bytes() []byte {
	b0 := f.rsv<<4 | f.op
	if !f.more {
		b0 |= 0x80
	}
	n := uint64(len(f.payload))
	if f.claims > 0 {
		n = f.claims
	}
	width := f.width
	if width == 0 {
		switch width = 8; {
		case n <= 125:
			width = 1
		case n <= 0xffff:
			width = 2
		}
	}
	b := []byte{b0, 0}
	switch width {
	case 1:
		b[1] = byte(n)
	case 2:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	case 8:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, n)
	}
	if f.unmasked {
		return append(b, f.payload...)
	}
	key := f.key
	if key == "" {
		key = "\x37\xfa\x21\x3d" // from the examples in section 5.7
	}
	b[1] |= 0x80
	b = append(b, key...)
	for i := range len(f.payload) {
		b = append(b, f.payload[i]^key[i%4])
	}
	return b
}

// text returns a text message in one frame.
func text(payload string) frame { return frame{op: opText, payload: payload} }

// closing returns a close frame of section 5.5.1.
func closing(code uint16, reason string) frame {
	return frame{op: opClose, payload: string(binary.BigEndian.AppendUint16(nil, code)) + reason}
}

// raw is a WebSocket client that does what it is told, right or wrong.
type raw struct {
	t    *testing.T
	conn net.Conn
	br   *bufio.Reader
}

// sampleKey and sampleAccept are from RFC 6455 section 1.3.
const (
	sampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	sampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// handshake sends a request to a server, and returns the connection with the
// status and header of the answer. Everything on the connection has to happen
// within patience.
func handshake(t *testing.T, addr, request string) (*raw, int, http.Header) {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, conn: conn, br: bufio.NewReader(conn)}
	res, err := http.ReadResponse(r.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return r, res.StatusCode, res.Header
}

// upgradeRequest returns the handshake of RFC 6455 section 4.1 with more lines
// at its end.
func upgradeRequest(token string, lines ...string) string {
	return strings.Join(append([]string{
		"GET / HTTP/1.1",
		"Host: chat.example",
		"Connection: Upgrade",
		"Upgrade: websocket",
		"Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: " + sampleKey,
		"Sec-WebSocket-Protocol: chathub.v1",
		"Authorization: Bearer " + token,
	}, lines...), "\r\n") + "\r\n\r\n"
}

// connectRaw makes a handshake and reads the welcome.
func connectRaw(t *testing.T, addr, token string) *raw {
	t.Helper()
	r, status, _ := handshake(t, addr, upgradeRequest(token))
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake was answered with %d", status)
	}
	if got := r.next(); got != "welcome" {
		t.Fatalf("first frame is %s", got)
	}
	return r
}

// send sends frames in one write.
func (r *raw) send(frames ...frame) {
	r.t.Helper()
	var b []byte
	for _, f := range frames {
		b = append(b, f.bytes()...)
	}
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// sendBytewise sends frames with each byte in a packet of its own.
func (r *raw) sendBytewise(frames ...frame) {
	r.t.Helper()
	for _, f := range frames {
		for _, b := range f.bytes() {
			if _, err := r.conn.Write([]byte{b}); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// hangUp closes the client's side of the connection, and leaves the other side
// open.
func (r *raw) hangUp() {
	r.t.Helper()
	if err := r.conn.(*net.TCPConn).CloseWrite(); err != nil {
		r.t.Fatal(err)
	}
}

// next returns a description of the next frame from the server: see describe.
// At the end of the connection it returns "EOF".
func (r *raw) next() string {
	r.t.Helper()
	op, payload, err := r.read()
	if errors.Is(err, io.EOF) {
		return "EOF"
	}
	if err != nil {
		r.t.Fatalf("reading from the server: %v", err)
	}
	return r.describe(op, payload)
}

// describe describes a frame of the server for tests: "pong PAYLOAD", "close
// CODE" ("close" if there is no code), or an event with its contents.
func (r *raw) describe(op byte, payload string) string {
	r.t.Helper()
	switch op {
	case opPing, opPong:
		return fmt.Sprintf("%s %s", map[byte]string{opPing: "ping", opPong: "pong"}[op], payload)
	case opClose:
		if payload == "" {
			return "close"
		}
		return fmt.Sprintf("close %d", binary.BigEndian.Uint16([]byte(payload)))
	}
	var f hubtest.Frame
	if err := json.Unmarshal([]byte(payload), &f); err != nil {
		r.t.Fatalf("server sent %q: %v", payload, err)
	}
	switch f.Type {
	case "error":
		return "error " + string(f.Code())
	case "room-message":
		return "message " + string(f.Data)
	}
	return f.Type
}

// read reads a frame, which must be as a server has to send it: unmasked (RFC
// 6455 section 5.1), nothing reserved, of the shortest length (5.2), whole (as
// our hub sends them), and a close with a reason in UTF-8 (5.5.1).
func (r *raw) read() (op byte, payload string, err error) {
	r.t.Helper()
	var h [2]byte
	if _, err := io.ReadFull(r.br, h[:]); err != nil {
		return 0, "", err
	}
	op = h[0] & 0x0f
	if h[0]&^0x0f != 0x80 || h[1]&0x80 != 0 {
		r.t.Fatalf("server sent a frame with the header % x", h)
	}
	n, least := uint64(h[1]), uint64(0)
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(r.br, b[:])
		n, least = uint64(binary.BigEndian.Uint16(b[:])), 126
	case 127:
		var b [8]byte
		_, err = io.ReadFull(r.br, b[:])
		n, least = binary.BigEndian.Uint64(b[:]), 1<<16
	}
	if err != nil {
		return 0, "", err
	}
	if n < least || n > 1<<20 || op >= opClose && n > 125 {
		r.t.Fatalf("server sent a frame of opcode %d with %d bytes, % x", op, n, h)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r.br, b); err != nil {
		return 0, "", err
	}
	if op == opClose && len(b) > 2 && strings.ToValidUTF8(string(b[2:]), "") != string(b[2:]) {
		r.t.Errorf("server sent a close with the reason %q", b[2:])
	}
	return op, string(b), nil
}

// accept computes Sec-WebSocket-Accept (RFC 6455 section 4.2.2).
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
