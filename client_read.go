package chathub

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// reader is a client in its role as the reader of its connection. It implements
// [wire.Sleeper].
type reader Client

// Sleep releases what is needed for reading only.
func (rd *reader) Sleep() {
	rd.conn.Detach()
	closeLayer(rd.onRead.ws)
	rd.onRead.ws = nil
}

// Wake goes on reading: there is input, or the connection has ended.
func (rd *reader) Wake() { (*Client)(rd).read() }

// read handles events until the connection ends or is parked.
func (c *Client) read() {
	for {
		e, err := c.nextEvent()
		switch {
		case errors.Is(err, errParked):
			return
		case err != nil:
			c.reportDisconnected(err)
			c.releasePlace()
			return
		case c.handlerBegins(): // if not, the client asks again after its reconnect
			c.handle(e)
			c.handlerDone()
		}
	}
}

// errParked means that the connection was parked, so another goroutine will
// read.
var errParked = errors.New("chathub: parked")

// nextEvent returns the next event, from the connection or from readAhead.
func (c *Client) nextEvent() (*Event, error) {
	c.mu.Lock()
	backlog := c.mu.backlog
	c.mu.Unlock()
	for backlog == nil {
		if !c.conn.Wait((*reader)(c)) {
			return nil, errParked
		}
		if e, err := c.receive(); e != nil || err != nil {
			return e, err
		}
	}
	if e, ok := <-backlog; ok {
		return e, nil
	}
	return nil, net.ErrClosed // readAhead has recorded why
}

// handlerBegins records that a handler runs. It reports false if no handler may
// begin any more.
func (c *Client) handlerBegins() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.end != nil || c.hub.life.draining.Load() {
		return false
	}
	c.mu.handling = true
	c.handlerSince.Store(time.Now().UnixNano())
	if c.mu.questions != nil && len(c.mu.questions.waiting) > 0 {
		c.readBeside() // the answer must not wait for the handler
	}
	return true
}

func (c *Client) handlerDone() {
	c.mu.Lock()
	c.mu.handling = false
	c.handlerSince.Store(0)
	c.mu.Unlock()
	if c.hub.life.draining.Load() {
		c.close(closeShutdown, shutdownReason)
	}
}

func (c *Client) isHandling() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.handling
}

const (
	// slowHandler is how long a handler may run before a second goroutine reads
	// from the connection, so that a close, a pong or an answer is noticed.
	slowHandler = time.Second
	// backlogLength is how many events are read ahead. If the backlog is full,
	// reading waits for slowHandler, which slows the client down. It does not
	// wait longer, because the next message may be the answer that the handler
	// waits for, or the end of the connection.
	backlogLength = 16
)

// readBeside starts a second goroutine that reads from the connection, if a
// handler occupies the first. The caller holds c.mu.
func (c *Client) readBeside() {
	if c.mu.handling && c.mu.backlog == nil {
		c.mu.backlog = make(chan *Event, backlogLength)
		go c.readAhead(c.mu.backlog)
	}
}

func (c *Client) readAhead(backlog chan<- *Event) {
	defer close(backlog)
	wait := slowHandler // for a free place in the backlog
	for {
		e, err := c.receive()
		if err != nil {
			c.readEnded(err)
			return
		}
		if e == nil {
			continue
		}
		select {
		case backlog <- e:
			wait = slowHandler
			continue
		default:
		}
		timer := time.NewTimer(wait)
		select {
		case backlog <- e:
		case <-c.Context().Done(): // closing: events are not handled any more
		case <-timer.C:
			wait = 0 // no more waiting until a place is free again
			c.refuseOverRate(e, "Too many events are waiting", slowHandler)
		}
		timer.Stop()
	}
}

// errNotUTF8 ends the connection (RFC 6455 section 8.1). If the message were
// passed on, it would end the connections of all recipients.
var errNotUTF8 = errors.New("chathub: text message is not UTF-8")

// receive reads one message and returns the event in it. It returns nil if
// there is none to handle: it deals with answers, bad input, pings and events
// over the rate itself. Only one goroutine may call it at a time.
func (c *Client) receive() (*Event, error) {
	if c.onRead.ws == nil {
		ws, err := reattach(c.conn)
		if err != nil {
			return nil, err
		}
		c.onRead.ws = ws
	}
	// A context that can end would cost allocations for each message. The sweep
	// limits the time of reading instead.
	typ, r, err := c.onRead.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	compressed := c.conn.Compressed()
	b, err := readMessage(r)
	if compressed && err == nil {
		// Only once the whole message has come, so that a slow one holds no
		// memory for decompression.
		b, err = c.inflate(b)
	}
	switch {
	case err != nil:
		return nil, err
	case c.isEnded():
		return nil, nil
	}
	c.hub.counters.received.Add(1)
	switch {
	case typ != websocket.MessageText:
		c.refuseInput(&Event{}, len(b), errorf(CodeBadRequest, "Binary messages are not part of the protocol"))
		return nil, nil
	case !utf8.Valid(b):
		return nil, errNotUTF8
	}
	e, fault := decodeEvent(b)
	switch {
	case fault != nil:
		c.refuseInput(e, len(b), fault)
	case e.Type == eventAck || e.Type == eventError:
		if !c.takeAnswer(e) {
			c.allow(e, len(b)) // ignored, but it counts as an event
		}
	case !c.allow(e, len(b)):
	case e.Type == eventPing:
		c.pong(e)
	default:
		return e, nil
	}
	return nil, nil
}

// scratch holds the beginning of a message while it is being read. Most
// messages fit into it.
var scratch = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// readMessage returns a message in a slice of its own, no larger than needed.
func readMessage(r io.Reader) ([]byte, error) {
	s := scratch.Get().(*[4 << 10]byte)
	defer scratch.Put(s)
	n := 0
	for n < len(s) {
		k, err := r.Read(s[n:])
		n += k
		if errors.Is(err, io.EOF) {
			return append([]byte(nil), s[:n]...), nil
		}
		if err != nil {
			return nil, err
		}
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return append(append(make([]byte, 0, n+len(rest)), s[:]...), rest...), nil
}
