//go:build linux

package load

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a client.
type Conn struct {
	ID   int
	Room *Room // nil if it is in none

	fleet   *Fleet
	fd      int
	tls     *tls.Conn // nil if it is plain, and read by a reader
	reader  *reader
	index   int // in the reader's table
	seat    int // in the room
	sampled bool
	total   atomic.Uint32 // messages seen
	closed  atomic.Bool   // it must not be used any more
	shut    atomic.Bool   // the descriptor is closed

	mu      sync.Mutex // held while bytes are read and parsed
	http    []byte     // the response to the handshake, so far
	open    bool       // the handshake is done
	stream  stream
	steps   []Step
	begun   bool // the first step's frame is sent
	settled bool // no steps are left
}

// Total returns how many messages the client has seen.
func (c *Conn) Total() int { return int(c.total.Load()) }

// feed takes bytes that came from the server. The caller holds c.mu.
func (c *Conn) feed(p []byte) {
	c.fleet.bytes.Add(uint64(len(p)))
	if !c.open {
		if p = c.handshake(p); !c.open {
			return
		}
	}
	c.saw(c.stream.feed(p, c))
}

// handshake takes bytes of the response, and returns those after its end.
func (c *Conn) handshake(p []byte) []byte {
	c.http = append(c.http, p...)
	head, rest, ok := bytes.Cut(c.http, []byte("\r\n\r\n"))
	if !ok {
		return nil
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		c.end(fmt.Errorf("handshake: %s: %s", line, rest))
		return nil
	}
	c.open, c.http = true, nil
	c.advance()
	return rest
}

func (c *Conn) saw(n int) {
	if n == 0 {
		return
	}
	c.total.Add(uint32(n))
	c.fleet.delivered.Add(uint64(n))
	if c.Room != nil {
		c.Room.counts[c.seat].Add(uint32(n))
	}
}

// want keeps the frames that must be parsed: all frames of a client that is
// sampled or has steps left, control frames, and possible pings of the dialect.
func (c *Conn) want(op byte, n uint64) bool {
	return c.sampled || !c.settled || op >= opClose || n == uint64(len(c.fleet.cfg.Dialect.Ping)) && n > 0
}

func (c *Conn) frame(op byte, p []byte) {
	switch op {
	case opPing:
		c.writeFrame(opPong, string(p))
		return
	case opPong:
		return
	case opClose:
		c.end(fmt.Errorf("closed by the server: %q", p))
		return
	}
	if d := c.fleet.cfg.Dialect; d.Ping != "" && string(p) == d.Ping {
		c.writeFrame(opText, d.Pong)
		return
	}
	c.saw(stamps(p, func(sent time.Duration) {
		if c.sampled && c.fleet.measuring.Load() {
			c.fleet.Latency.Record(c.fleet.now() - sent)
		}
	}))
	if !c.settled && bytes.Contains(p, []byte(c.steps[0].Expect)) {
		if f := c.steps[0].Seen; f != nil {
			f(p)
		}
		c.steps, c.begun = c.steps[1:], false
		c.advance()
	}
}

// advance does the steps up to one that waits for a frame.
func (c *Conn) advance() {
	for len(c.steps) > 0 {
		s := &c.steps[0]
		if s.Send != "" && !c.begun {
			c.begun = true
			c.writeFrame(opText, s.Send)
		}
		if s.Expect != "" {
			return
		}
		c.steps, c.begun = c.steps[1:], false
	}
	c.settled = true
	c.fleet.settle()
}

func (c *Conn) writeFrame(op byte, payload string) { c.write(ClientFrame(op, payload)) }

// write sends whole frames. They always fit into the socket, unless the server
// reads too slowly to be measured.
func (c *Conn) write(b []byte) {
	var n int
	var err error
	if c.tls != nil {
		n, err = c.tls.Write(b)
	} else {
		n, err = unix.Write(c.fd, b)
	}
	if err == nil && n < len(b) {
		err = errors.New("the server does not read")
	}
	if err != nil {
		c.end(fmt.Errorf("write: %w", err))
	}
}

// end marks the connection as unusable. Its descriptor stays open until the
// connection is cut or the fleet is closed.
func (c *Conn) end(err error) {
	if c.closed.CompareAndSwap(false, true) {
		c.fleet.lose(fmt.Errorf("client %d: %w", c.ID, err))
	}
}
