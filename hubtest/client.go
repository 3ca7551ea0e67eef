package hubtest

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Frame is an envelope of the protocol, in either direction.
type Frame struct {
	Type  string         `json:"type"`
	ID    string         `json:"id,omitzero"`
	Room  string         `json:"room,omitzero"`
	To    string         `json:"to,omitzero"`
	From  *chathub.User  `json:"from,omitzero"`
	Seq   uint64         `json:"seq,omitzero"`
	TS    int64          `json:"ts,omitzero"`
	Re    jsontext.Value `json:"re,omitzero"`
	Ack   bool           `json:"ack,omitzero"`
	Trace string         `json:"trace,omitzero"`
	Data  jsontext.Value `json:"data,omitzero"`

	// What a message in its present form has besides.
	Edited    int64               `json:"edited,omitzero"`
	Deleted   int64               `json:"deleted,omitzero"`
	Reactions map[string]Reaction `json:"reactions,omitzero"`
	Version   uint64              `json:"version,omitzero"`
	Mine      []string            `json:"mine,omitzero"`
}

// Reaction is the part of a [Frame] about one key of a message's reactions.
type Reaction struct {
	Count int      `json:"count"`
	Users []string `json:"users"` // the first 20 ids
}

// Data returns v as the data of a [Frame]. It panics if v cannot be marshaled
// to JSON.
func Data(v any) jsontext.Value {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// Code returns the code of an error or connect-error frame, and "" for other
// frames.
func (f Frame) Code() chathub.Code {
	var e struct {
		Code chathub.Code `json:"code"`
	}
	_ = json.Unmarshal(f.Data, &e) // on an error, there is no code
	return e.Code
}

// Client is a connection to a hub in memory. Call its methods from the
// goroutine of the test. They fail the test if the connection has ended, or if
// something does not arrive within 10 s.
//
// A goroutine reads all frames as they arrive, so a test can look at them
// later. Another goroutine writes.
type Client struct {
	t     testing.TB
	ws    *websocket.Conn
	valve *valve

	// Welcome is the first frame. It is set by [Dial].
	Welcome Frame

	frames chan Frame
	closed chan struct{} // closed when reading has ended
	end    error         // the reason; set before closed

	mu     sync.Mutex
	out    []message
	wake   chan struct{}
	quit   chan struct{}
	nextID int
}

// message is a WebSocket message that waits to be written. Without a type, it
// stands for the end of the connection.
type message struct {
	typ  websocket.MessageType
	data []byte
}

// patience is how long a client waits for a frame.
const patience = 10 * time.Second

// inbox is how many frames a client receives before a test looks at them. Then
// it stops reading.
const inbox = 1 << 16

// Dial connects to h, a hub or a handler that serves one at its root, and waits
// for the welcome. The connection is dropped when the test ends.
func Dial(t testing.TB, h http.Handler, token string) *Client {
	t.Helper()
	c, err := DialHeader(t, h, http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Welcome = c.Next(); c.Welcome.Type != "welcome" {
		t.Fatalf("first frame is %q (%s), not welcome", c.Welcome.Type, c.Welcome.Data)
	}
	return c
}

// DialHeader connects with the given header in the handshake, and returns the
// error of the handshake. It does not wait for the first frame, which is
// welcome or connect-error.
//
// It offers the protocol chathub.v1 unless the header has a
// Sec-WebSocket-Protocol. If the header has a Sec-WebSocket-Extensions of any
// value, it offers compression (permessage-deflate without context takeover),
// and compresses all messages if the hub accepts.
func DialHeader(t testing.TB, h http.Handler, header http.Header) (*Client, error) {
	t.Helper()
	header = header.Clone()
	protocols := []string{"chathub.v1"}
	if own := header.Values("Sec-Websocket-Protocol"); len(own) > 0 {
		protocols = own
		header.Del("Sec-Websocket-Protocol")
	}
	compression := websocket.CompressionDisabled
	if header.Get("Sec-Websocket-Extensions") != "" {
		compression = websocket.CompressionNoContextTakeover
	}
	tr := &transport{handler: h}
	ws, _, err := websocket.Dial(t.Context(), "ws://hub.test/", &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: tr},
		HTTPHeader:   header,
		Subprotocols: protocols,

		CompressionMode:      compression,
		CompressionThreshold: 1,
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	c := &Client{
		t:      t,
		ws:     ws,
		valve:  tr.valve,
		frames: make(chan Frame, inbox),
		closed: make(chan struct{}),
		wake:   make(chan struct{}, 1),
		quit:   make(chan struct{}),
	}
	go c.read()
	go c.write()
	t.Cleanup(c.Drop)
	return c, nil
}

func (c *Client) read() {
	defer close(c.closed)
	for {
		_, b, err := c.ws.Read(context.Background())
		if err != nil {
			c.end = err
			return
		}
		var f Frame
		if err := json.Unmarshal(b, &f); err != nil {
			c.end = err
			return
		}
		c.frames <- f
	}
}

func (c *Client) write() {
	for {
		c.mu.Lock()
		out := c.out
		c.out = nil
		c.mu.Unlock()
		for _, m := range out {
			if m.typ == 0 {
				// The error does not matter: it may be closed already.
				_ = c.ws.Close(websocket.StatusNormalClosure, "")
				return
			}
			if c.ws.Write(context.Background(), m.typ, m.data) != nil {
				return // read has the error
			}
		}
		if len(out) > 0 {
			continue
		}
		select {
		case <-c.wake:
		case <-c.quit:
			return
		}
	}
}

// Send sends a frame. It does not wait until the frame is written.
func (c *Client) Send(f Frame) {
	c.t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		c.t.Fatal(err)
	}
	c.SendText(string(b))
}

// SendText sends a text message that need not be a valid frame. It does not
// wait until the message is written.
func (c *Client) SendText(s string) { c.SendRaw(false, []byte(s)) }

// SendRaw sends a text or binary message that need not be a valid frame. It
// does not wait until the message is written.
func (c *Client) SendRaw(binary bool, data []byte) {
	m := message{typ: websocket.MessageText, data: data}
	if binary {
		m.typ = websocket.MessageBinary
	}
	c.queue(m)
}

func (c *Client) queue(m message) {
	c.mu.Lock()
	c.out = append(c.out, m)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Request sends a frame and returns the ack or error that answers it. If the
// frame has no id, it gets one. Frames that arrive before the answer are
// dropped.
func (c *Client) Request(f Frame) Frame {
	c.t.Helper()
	if f.ID == "" {
		c.nextID++
		f.ID = "t" + strconv.Itoa(c.nextID)
	}
	c.Send(f)
	for {
		if r := c.Next(); r.ID == f.ID && (r.Type == "ack" || r.Type == "error") {
			return r
		}
	}
}

// Must is [Client.Request], and fails the test unless the answer is an ack.
func (c *Client) Must(f Frame) Frame {
	c.t.Helper()
	r := c.Request(f)
	if r.Type != "ack" {
		c.t.Fatalf("%s: %s", f.Type, r.Data)
	}
	return r
}

// Next returns the next frame, and waits for it if necessary.
func (c *Client) Next() Frame {
	c.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case f := <-c.frames:
		return f
	case <-timeout.C:
		c.t.Fatalf("no frame within %v", patience)
	case <-c.closed:
		select {
		case f := <-c.frames:
			return f
		default:
			c.t.Fatalf("connection ended: %v", c.end)
		}
	}
	return Frame{}
}

// Wait returns the next frame of a type. Frames that arrive before it are
// dropped.
func (c *Client) Wait(typ string) Frame {
	c.t.Helper()
	for {
		if f := c.Next(); f.Type == typ {
			return f
		}
	}
}

// Pending returns the frames that have arrived and that no other call has
// returned. It does not wait. Within testing/synctest, call synctest.Wait
// first.
func (c *Client) Pending() []Frame {
	var all []Frame
	for {
		select {
		case f := <-c.frames:
			all = append(all, f)
		default:
			return all
		}
	}
}

// Closed waits up to a minute for the end of the connection, and returns the
// close code and reason. The code is -1 if the connection ended without one.
// Frames that arrived before can still be read.
func (c *Client) Closed() (int, string) {
	c.t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	select {
	case <-c.closed:
	case <-timeout.C:
		c.t.Fatal("connection is still open")
	}
	var ce websocket.CloseError
	if errors.As(c.end, &ce) {
		return int(ce.Code), ce.Reason
	}
	return -1, ""
}

// Pause stops reading from the connection, perhaps after one more read, like a
// client that hangs.
func (c *Client) Pause() { c.valve.pause() }

// Resume undoes Pause.
func (c *Client) Resume() { c.valve.resume() }

// Close closes the connection as a browser does, after everything that was sent
// before. It waits up to 10 s for the answer of the hub.
func (c *Client) Close() {
	c.queue(message{})
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-c.closed:
	case <-timeout.C:
	}
}

// Drop ends the connection without closing it, as if the network had failed.
func (c *Client) Drop() {
	c.mu.Lock()
	select {
	case <-c.quit:
	default:
		close(c.quit)
	}
	c.mu.Unlock()
	_ = c.valve.Close()
}
