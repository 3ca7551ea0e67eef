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
	Type string         `json:"type"`
	ID   string         `json:"id,omitzero"`
	Room string         `json:"room,omitzero"`
	To   string         `json:"to,omitzero"`
	From *chathub.User  `json:"from,omitzero"`
	Seq  uint64         `json:"seq,omitzero"`
	TS   int64          `json:"ts,omitzero"`
	Ack  bool           `json:"ack,omitzero"`
	Data jsontext.Value `json:"data,omitzero"`
}

// Data returns v as the data of a [Frame]. It panics where v has no JSON.
func Data(v any) jsontext.Value {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// Code returns the code of an error or connect-error frame.
func (f Frame) Code() chathub.Code {
	var e struct {
		Code chathub.Code `json:"code"`
	}
	_ = json.Unmarshal(f.Data, &e) // no code is the empty one
	return e.Code
}

// Client is a connection to a hub in memory. A goroutine of its own reads, so
// that a test may look at what came when it likes; another writes. Its methods are for the
// goroutine of the test, and fail the test where the connection fails them.
type Client struct {
	t     testing.TB
	ws    *websocket.Conn
	valve *valve

	// Welcome is the first frame.
	Welcome Frame

	frames chan Frame
	closed chan struct{} // closed when reading has ended
	end    error         // why; after closed

	mu     sync.Mutex
	out    []message
	wake   chan struct{}
	quit   chan struct{}
	nextID int
}

// message is what waits to be written; without a type, it is the end.
type message struct {
	typ  websocket.MessageType
	data []byte
}

// patience is how long a client waits for what must come.
const patience = 10 * time.Second

// inbox is how many frames a client keeps unread before it stops reading.
const inbox = 1 << 16

// Dial connects to a hub, or to a handler that serves one at its root, with a
// token, and waits for the welcome. The connection is closed when the test ends.
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

// DialHeader connects with a handshake of the given header, and offers
// chathub.v1 unless that names another Sec-WebSocket-Protocol. Where the header has
// Sec-WebSocket-Extensions, whatever that is, compression is offered (permessage-deflate
// without context takeover), and used for all messages if the hub accepts. It waits for nothing: the first frame is
// welcome or connect-error. The error is that of the handshake.
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
				_ = c.ws.Close(websocket.StatusNormalClosure, "") // it may be closed already
				return
			}
			if c.ws.Write(context.Background(), m.typ, m.data) != nil {
				return // the reader has the reason
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

// Send sends a frame. It does not wait.
func (c *Client) Send(f Frame) {
	c.t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		c.t.Fatal(err)
	}
	c.SendText(string(b))
}

// SendText sends a text message as it is. It does not wait.
func (c *Client) SendText(s string) { c.SendRaw(false, []byte(s)) }

// SendRaw sends a message as it is, be it text or binary. It does not wait.
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

// Request sends a frame, with an id of its own unless it has one, and returns the
// ack or error that answers it. What comes before the answer is dropped.
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

// Must is [Client.Request] for what must be acknowledged.
func (c *Client) Must(f Frame) Frame {
	c.t.Helper()
	r := c.Request(f)
	if r.Type != "ack" {
		c.t.Fatalf("%s: %s", f.Type, r.Data)
	}
	return r
}

// Next returns the next frame.
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

// Wait returns the next frame of a type. What comes before it is dropped.
func (c *Client) Wait(typ string) Frame {
	c.t.Helper()
	for {
		if f := c.Next(); f.Type == typ {
			return f
		}
	}
}

// Pending returns the frames that have come and were not looked at. It does not
// wait: within testing/synctest, call synctest.Wait before.
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

// Closed waits for the end of the connection and returns the close code and
// reason; -1 where it ended without. Frames that came before stay to be looked at.
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

// Pause stops reading, perhaps after one more read, like a client that hangs.
func (c *Client) Pause() { c.valve.pause() }

// Resume goes on reading after Pause.
func (c *Client) Resume() { c.valve.resume() }

// Close closes the connection as a browser does, once what was sent before is on
// its way. It waits for the end.
func (c *Client) Close() {
	c.queue(message{})
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-c.closed:
	case <-timeout.C: // the hub does not answer
	}
}

// Drop breaks the connection off, as when a network fails.
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
