package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/chathub-go/chathub/hubtest"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
)

// sender returns the id of the user that a frame is from, or "" if it is from
// the hub.
func sender(f hubtest.Frame) string {
	if f.From == nil {
		return ""
	}
	return f.From.ID
}

// link is a connection over TCP that can be made to fail as networks and
// programs do.
type link struct {
	ws   *websocket.Conn
	wire *faultyConn
}

// readBuffer is the size of the kernel's buffer for each client. It is small,
// so that the server soon notices a client that does not read.
const readBuffer = 16 << 10

// dial connects to a hub with a token.
func dial(ctx context.Context, addr, token string) (*link, error) {
	l := &link{}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		tcp := c.(*net.TCPConn) // dialing TCP returns this type
		_ = tcp.SetReadBuffer(readBuffer)
		l.wire = &faultyConn{TCPConn: tcp, closed: make(chan struct{})}
		return l.wire, nil
	}}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+addr+"/", &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: transport},
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + token}},
		Subprotocols: []string{"chathub.v1"},
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	l.ws = ws
	return l, nil
}

// read returns the next frame.
func (l *link) read() (f hubtest.Frame, err error) {
	_, b, err := l.ws.Read(context.Background())
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, err
	}
	return placed(f), nil
}

// send sends a frame. It fails if the connection has ended. Then its reader
// fails too.
func (l *link) send(f hubtest.Frame) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return l.ws.Write(context.Background(), websocket.MessageText, b)
}

// close closes as a browser does.
func (l *link) close() { _ = l.ws.Close(websocket.StatusNormalClosure, "") }

// abort breaks off the connection with a reset, as a crash or a middlebox does.
func (l *link) abort() {
	_ = l.wire.SetLinger(0)
	_ = l.wire.Close()
}

// endOf returns the close code in an error of reading, or 0 if there was none.
func endOf(err error) int {
	var ce websocket.CloseError
	if errors.As(err, &ce) {
		return int(ce.Code)
	}
	return 0
}

// faultyConn is a connection on which reading can be stopped and slowed down.
type faultyConn struct {
	*net.TCPConn
	once   sync.Once
	closed chan struct{}

	mu    sync.Mutex
	stop  chan struct{} // if not nil, nothing is read until it is closed
	pause time.Duration // after each read of slowRead bytes; 0 for full speed
}

const slowRead = 1 << 10

// Read implements net.Conn.
func (c *faultyConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	stop, pause := c.stop, c.pause
	c.mu.Unlock()
	if stop != nil {
		select {
		case <-stop:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	if pause > 0 {
		time.Sleep(pause)
		p = p[:min(len(p), slowRead)]
	}
	return c.TCPConn.Read(p)
}

// Close implements net.Conn.
func (c *faultyConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.TCPConn.Close()
}

// freeze stops reading, perhaps after one more read.
func (c *faultyConn) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop == nil {
		c.stop = make(chan struct{})
	}
}

// recover continues to read, at full speed.
func (c *faultyConn) recover() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pause = 0
	if c.stop != nil {
		close(c.stop)
		c.stop = nil
	}
}

// slow makes reading slow.
func (c *faultyConn) slow(pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pause = pause
}

// placed returns a frame with its position in the log. That of a read is in its
// data.
func placed(f hubtest.Frame) hubtest.Frame {
	var data struct {
		Seq      uint64 `json:"seq"`
		Unread   int    `json:"unread"`
		Head     uint64 `json:"head"`
		Position uint64 `json:"position,omitzero"`
	}
	if f.Type != "read" || f.From == nil || json.Unmarshal(f.Data, &data) != nil {
		return f
	}
	f.Seq, data.Position = data.Position, 0
	f.Data = hubtest.Data(data)
	return f
}
