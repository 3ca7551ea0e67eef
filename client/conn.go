package client

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxFrame bounds a message from the server, in bytes. The server bounds
	// its own to what may wait for one connection, 1 MiB by default.
	maxFrame = 16 << 20
	// maxWaiting bounds the bytes that wait to be written. MaxOutbox and the
	// limit of a message bound them too; beyond this the server is dead.
	maxWaiting = 16 << 20
	// closeGrace is how long a server may take to answer a close frame.
	closeGrace = time.Second
)

// conn is one WebSocket. One goroutine reads and one writes; the loop calls the
// methods.
type conn struct {
	ws     *websocket.Conn
	cancel context.CancelFunc // ends both goroutines
	frames chan frame         // closed when reading has ended
	err    error              // why; set before frames is closed
	quiet  chan struct{}      // closed when nobody takes the frames any more
	over   chan struct{}      // closed when writing has ended
	heard  *atomic.Int64      // when the server was last heard, in Unix nanoseconds

	mu     sync.Mutex
	out    [][]byte
	bytes  int
	finish bool          // close once out is written
	wake   chan struct{} // has room for one
}

// newConn starts the goroutines. running counts them.
func newConn(ws *websocket.Conn, heard *atomic.Int64, running *sync.WaitGroup) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	c := &conn{
		ws: ws, cancel: cancel, heard: heard,
		frames: make(chan frame), quiet: make(chan struct{}), over: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	heard.Store(time.Now().UnixNano())
	ws.SetReadLimit(maxFrame)
	running.Go(func() { c.read(ctx) })
	running.Go(func() { c.write(ctx) })
	return c
}

func (c *conn) read(ctx context.Context) {
	defer close(c.frames)
	defer c.ws.CloseNow()
	for {
		typ, b, err := c.ws.Read(ctx)
		if err != nil {
			c.err = err
			return
		}
		c.heard.Store(time.Now().UnixNano())
		f, ok := parse(b)
		if !ok || typ != websocket.MessageText {
			continue // not a frame of this protocol
		}
		select {
		case c.frames <- f:
		case <-c.quiet:
		}
	}
}

func (c *conn) write(ctx context.Context) {
	defer close(c.over)
	for {
		c.mu.Lock()
		out, finish := c.out, c.finish
		c.out, c.bytes = nil, 0
		c.mu.Unlock()
		for _, b := range out {
			if c.ws.Write(ctx, websocket.MessageText, b) != nil {
				c.cancel() // reading ends as well, and has the reason
				return
			}
		}
		if len(out) > 0 {
			continue
		}
		if finish {
			_ = c.ws.Close(websocket.StatusNormalClosure, "") // an error has no consequence
			return
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
	}
}

// send hands a message to the writer. It reports false if too much waits.
func (c *conn) send(b []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes+len(b) > maxWaiting {
		return false
	}
	c.out = append(c.out, b)
	c.bytes += len(b)
	signal(c.wake)
	return true
}

// drop ends the connection at once. It does not wait.
func (c *conn) drop() {
	close(c.quiet)
	c.cancel()
}

// close writes what waits, and closes the connection. It waits for the server,
// but not longer than closeGrace.
func (c *conn) close() {
	close(c.quiet)
	c.mu.Lock()
	c.finish = true
	c.mu.Unlock()
	signal(c.wake)
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	select {
	case <-c.over:
	case <-timer.C:
	}
	c.cancel()
}
