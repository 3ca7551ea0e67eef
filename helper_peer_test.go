package chathub_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// enter joins a room and returns the ack.
func enter(c *hubtest.Client, room string) hubtest.Frame {
	return c.Must(hubtest.Frame{Type: "join-room", Room: room})
}

// say sends a room-message as a member, waits until it has come back, and
// returns the ack.
func say(c *hubtest.Client, room, text string) (ack hubtest.Frame) {
	id := rand.Text()
	c.Send(hubtest.Frame{Type: "room-message", ID: id, Room: room, Data: hubtest.Data(text)})
	for came := 0; came < 2; {
		f := c.Next()
		if f.ID == id {
			came++
		}
		if f.ID == id && f.Type != "room-message" {
			ack = f
		}
	}
	return ack
}

// arrived returns what has come for c, after everything has come to rest.
func arrived(c *hubtest.Client) []hubtest.Frame {
	synctest.Wait()
	return c.Pending()
}

// expectNothing fails the test if anything has come for one of clients.
func expectNothing(t testing.TB, clients ...*hubtest.Client) {
	t.Helper()
	for _, c := range clients {
		for _, f := range arrived(c) {
			t.Errorf("unexpected %s %s %s", f.Type, f.ID, f.Data)
		}
	}
}

// expectRefused sends a frame, and fails the test unless the answer is an error
// with the given code.
func expectRefused(t testing.TB, c *hubtest.Client, f hubtest.Frame, code chathub.Code) hubtest.Frame {
	t.Helper()
	r := c.Request(f)
	if r.Type != "error" || r.Code() != code {
		t.Errorf("%s was answered with %s %s, want error %s", f.Type, r.Type, r.Data, code)
	}
	return r
}

// dataOf decodes the data of a frame.
func dataOf[T any](t testing.TB, f hubtest.Frame) (v T) {
	t.Helper()
	if err := json.Unmarshal(f.Data, &v, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("data of %s %s: %v", f.Type, f.Data, err)
	}
	return v
}

// texts returns the data of frames, without quotes.
func texts(frames []hubtest.Frame) []string {
	all := make([]string, 0, len(frames))
	for _, f := range frames {
		s := string(f.Data)
		_ = json.Unmarshal(f.Data, &s)
		all = append(all, s)
	}
	return all
}

// ofType returns the frames of the given type, in order.
func ofType(frames []hubtest.Frame, typ string) (some []hubtest.Frame) {
	for _, f := range frames {
		if f.Type == typ {
			some = append(some, f)
		}
	}
	return some
}

func sameFrame(a, b hubtest.Frame) bool {
	return bytes.Equal(hubtest.Data(a), hubtest.Data(b))
}

// Opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// rawPeer is a client that can do what hubtest's cannot. It shows its
// handshake, sends frames in any form, and answers neither pings nor a close.
type rawPeer struct {
	t        testing.TB
	conn     net.Conn
	response http.Header
	frames   chan peerFrame // closed at the end of the connection
	again    []peerFrame    // to be read once more
}

type peerFrame struct {
	op     byte
	packed bool // RSV1, which marks a compressed message (RFC 7692 section 6)
	data   []byte
	at     time.Time
}

// handshake returns the request of a WebSocket handshake (RFC 6455 section 1.3)
// that offers the given subprotocols.
func handshake(t testing.TB, protocols ...string) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://hub.test/ws", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	for _, p := range protocols {
		r.Header.Add("Sec-WebSocket-Protocol", p)
	}
	return r
}

// dialPeer makes a handshake, which must succeed.
func dialPeer(t testing.TB, h http.Handler, r *http.Request) *rawPeer {
	t.Helper()
	w := &hijackable{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(w, r)
	if w.peer == nil {
		t.Fatalf("handshake: %d %s", w.Code, w.Body)
	}
	return newRawPeer(t, w.peer, r)
}

// dialPeerTCP is dialPeer over a socket.
func dialPeerTCP(t testing.TB, h http.Handler, r *http.Request) *rawPeer {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	return newRawPeer(t, conn, r)
}

// newRawPeer finishes the handshake after the request r was sent.
func newRawPeer(t testing.TB, conn net.Conn, r *http.Request) *rawPeer {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close() // a 101 response has none
	p := &rawPeer{t: t, conn: conn, response: res.Header, frames: make(chan peerFrame, 1<<10)}
	go p.read(br)
	return p
}

// hijackable is a ResponseWriter that hands out one end of a pipe.
type hijackable struct {
	*httptest.ResponseRecorder
	peer net.Conn
}

func (w *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	server, client := net.Pipe()
	w.peer = client
	return server, bufio.NewReadWriter(bufio.NewReader(server), bufio.NewWriter(server)), nil
}

func (p *rawPeer) read(r io.Reader) {
	defer close(p.frames)
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		p.frames <- f
	}
}

// readFrame reads a frame from the server, which is not masked.
func readFrame(r io.Reader) (peerFrame, error) {
	var h [8]byte
	if _, err := io.ReadFull(r, h[:2]); err != nil {
		return peerFrame{}, err
	}
	op, packed, n := h[0]&0x0f, h[0]&0x40 != 0, uint64(h[1])
	switch n {
	case 126:
		if _, err := io.ReadFull(r, h[:2]); err != nil {
			return peerFrame{}, err
		}
		n = uint64(binary.BigEndian.Uint16(h[:]))
	case 127:
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return peerFrame{}, err
		}
		n = binary.BigEndian.Uint64(h[:])
	}
	data := make([]byte, n)
	_, err := io.ReadFull(r, data)
	return peerFrame{op: op, packed: packed, data: data, at: time.Now()}, err
}

// maskedFrame returns a frame from a client, with a mask that changes nothing.
func maskedFrame(op byte, fin bool, data []byte) []byte {
	b := []byte{op, 0x80}
	if fin {
		b[0] |= 0x80
	}
	switch n := len(data); {
	case n < 126:
		b[1] |= byte(n)
	case n < 1<<16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, 0, 0, 0, 0)
	return append(b, data...)
}

// send sends a whole message. It ignores errors: if the server has closed, a
// read shows that.
func (p *rawPeer) send(text string) { p.write(maskedFrame(opText, true, []byte(text))) }

func (p *rawPeer) write(b []byte) { _, _ = p.conn.Write(b) }

// next returns the next frame with the given opcode, and drops those before it.
func (p *rawPeer) next(op byte) peerFrame {
	p.t.Helper()
	for _, f := range p.again {
		p.again = p.again[1:]
		if f.op == op {
			return f
		}
	}
	timeout := time.NewTimer(5 * time.Minute)
	defer timeout.Stop()
	for {
		select {
		case f, ok := <-p.frames:
			if !ok {
				p.t.Fatalf("connection ended without a frame of opcode %#x", op)
			}
			if f.op == op {
				return f
			}
		case <-timeout.C:
			p.t.Fatalf("no frame of opcode %#x", op)
		}
	}
}

// seen reports whether a frame with the given opcode has come, and drops those
// before it.
func (p *rawPeer) seen(op byte) bool {
	synctest.Wait()
	for {
		select {
		case f, ok := <-p.frames:
			if ok && f.op == op {
				p.again = append(p.again, f)
				return true
			}
			if !ok {
				return false
			}
		default:
			return false
		}
	}
}

// envelope returns the next text message.
func (p *rawPeer) envelope() (f hubtest.Frame) {
	p.t.Helper()
	if err := json.Unmarshal(p.next(opText).data, &f); err != nil {
		p.t.Fatal(err)
	}
	return f
}

// closed waits for the close frame and the end of the connection. It returns
// the code, and the time at which the frame came.
func (p *rawPeer) closed() (code int, at time.Time) {
	p.t.Helper()
	f := p.next(opClose)
	if len(f.data) < 2 {
		p.t.Fatalf("close frame of %d bytes", len(f.data))
	}
	for f := range p.frames {
		p.t.Errorf("a frame of opcode %#x after the close frame", f.op)
	}
	return int(binary.BigEndian.Uint16(f.data)), f.at
}

// open fails the test unless the connection is still open.
func (p *rawPeer) open() {
	p.t.Helper()
	p.send(`{"type":"ping"}`)
	for p.envelope().Type != "pong" { // earlier frames do not matter
	}
}
