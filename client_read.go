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

// reader is a client from whose connection events come. It implements [wire.Sleeper].
type reader Client

// Sleep gives up what is only needed for reading.
func (rd *reader) Sleep() {
	rd.conn.Detach()
	closeLayer(rd.onRead.ws)
	rd.onRead.ws = nil
}

// Wake reads: there is something, or the connection has ended.
func (rd *reader) Wake() { (*Client)(rd).read() }

// read handles events until the connection ends, or is parked.
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
		case c.handlerBegins(): // else closing: the client will ask again elsewhere
			c.handle(e)
			c.handlerDone()
		}
	}
}

// errParked says that another goroutine will read.
var errParked = errors.New("chathub: parked")

// next returns the next event: from the connection, or from who reads ahead.
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
	return nil, net.ErrClosed // readAhead has said why
}

// begin notes that a handler runs. It reports false where none may any more.
func (c *Client) handlerBegins() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.ended || c.hub.life.draining.Load() {
		return false
	}
	c.mu.handling = true
	c.handlerSince.Store(time.Now().UnixNano())
	if len(c.mu.questions) > 0 {
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
	// slowHandler is how long a handler may run before the connection is read
	// beside it, so that a close, a pong or an answer is noticed.
	slowHandler = time.Second
	// backlogLength is how many events are read ahead. Then reading waits for as
	// long as slowHandler, which slows the client down; but not longer, since what comes
	// behind may be the answer that the handler waits for, or the end of the connection.
	backlogLength = 16
)

// readBeside starts a goroutine that reads from now on, if a handler keeps the
// one that has done so until now. The caller holds c.mu.
func (c *Client) readBeside() {
	if c.mu.handling && c.mu.backlog == nil {
		c.mu.backlog = make(chan *Event, backlogLength)
		go c.readAhead(c.mu.backlog)
	}
}

func (c *Client) readAhead(backlog chan<- *Event) {
	defer close(backlog)
	wait := slowHandler // for a place
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
		case <-c.Context().Done(): // closing: what it asked for is not done any more
		case <-timer.C:
			wait = 0 // in vain once is enough, until a place is free again
			c.refuseOverRate(e, "Too many events wait", slowHandler)
		}
		timer.Stop()
	}
}

// errNotUTF8 ends a connection (RFC 6455 section 8.1): relayed, the message
// would end those of all its recipients.
var errNotUTF8 = errors.New("chathub: text message is not UTF-8")

// receive reads one message. It returns the event to be handled, and nil where it
// was no such: answers, bad input, pings and events over the rate it deals with itself. One
// goroutine at a time calls it.
func (c *Client) receive() (*Event, error) {
	if c.onRead.ws == nil {
		ws, err := reattach(c.conn)
		if err != nil {
			return nil, err
		}
		c.onRead.ws = ws
	}
	// A context that can end would cost allocations for each message; the sweep
	// bounds reading instead.
	typ, r, err := c.onRead.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	compressed := c.conn.Compressed()
	b, err := readMessage(r)
	if compressed && err == nil {
		// Once all of it is there, so that a slow one holds no memory for this.
		b, err = c.inflate(b)
	}
	switch {
	case err != nil:
		return nil, err
	case c.isEnded():
		return nil, nil
	case typ != websocket.MessageText:
		c.refuseInput(&Event{}, errorf(CodeBadRequest, "Binary messages are not part of the protocol"))
		return nil, nil
	case !utf8.Valid(b):
		return nil, errNotUTF8
	}
	e, fault := decodeEvent(b)
	switch {
	case fault != nil:
		c.refuseInput(e, fault)
	case e.Type == eventAck || e.Type == eventError:
		if !c.takeAnswer(e) {
			c.allow(e) // ignored, but not for free
		}
	case !c.allow(e):
	case e.Type == eventPing:
		c.pong(e)
	default:
		return e, nil
	}
	return nil, nil
}

// scratch holds the beginning of a message while it is being read: most fit.
var scratch = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// readMessage returns a message in memory of its own, and of its size.
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
