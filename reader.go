package chathub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/chathub-go/chathub/internal/wire"
	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

func newClient(h *Hub, id Identity, addr netip.Addr, ws *websocket.Conn, conn *wire.Conn) *Client {
	c := &Client{
		hub:    h,
		id:     newID("c_"),
		user:   id.User,
		addr:   addr,
		claims: id.Claims,
		conn:   conn,
		ws:     ws,
		early:  &early{},
	}
	if !id.Expires.IsZero() {
		c.expires.Store(id.Expires.UnixNano())
	}
	return c
}

// serve begins the life of a connection, once greet has said whether it is
// refused.
func (c *Client) serve(refused error) {
	if refused != nil {
		go func() {
			c.turnAway(refused)
			c.leave()
		}()
		return
	}
	c.welcomed()
	if r := (*reader)(c); !c.conn.Park(r) {
		go r.Wake()
	}
}

// reader is a client from whose connection events come. It implements [wire.Sleeper].
type reader Client

// Sleep gives up what is only needed for reading.
func (r *reader) Sleep() {
	r.conn.Detach()
	closeLayer(r.ws)
	r.ws = nil
}

// Wake reads: there is something, or the connection has ended.
func (r *reader) Wake() { (*Client)(r).read() }

// read handles events until the connection ends, or is parked.
func (c *Client) read() {
	for {
		e, err := c.next()
		switch {
		case errors.Is(err, errParked):
			return
		case err != nil:
			c.left(err)
			c.leave()
			return
		case c.begin(): // else closing: the client will ask again elsewhere
			c.handle(e)
			c.finished()
		}
	}
}

// errParked says that another goroutine will read.
var errParked = errors.New("chathub: parked")

// leave is the last that happens to a connection.
func (c *Client) leave() {
	c.hub.dispose(c.ws, c.conn)
	c.hub.entrance.leaveUser(c.user.ID)
	c.hub.entrance.leave(c.addr)
}

// turnAway tells the client that it was refused after the handshake.
func (c *Client) turnAway(err error) {
	e, known := publicError(err)
	if !known {
		c.hub.log.Error("chathub: connect", "user", c.user.ID, "err", err)
	}
	c.hub.figures.refused.Add(1)
	c.hub.traceRefused(e)
	c.setEnd(Disconnect{Code: int(refusalOf(e).close), Reason: e.Message})
	c.hub.turnAway(c.ws, c.conn, e)
}

func (c *Client) welcomed() {
	c.hub.figures.accepted.Add(1)
	c.hub.traceConnected(c)
}

// left tells the application that the client, reading from which has ended, is gone.
func (c *Client) left(err error) {
	h := c.hub
	c.finish(err)
	c.mu.Lock()
	end := c.end
	c.mu.Unlock()
	if h.cfg.OnDisconnect != nil {
		_ = h.guard("OnDisconnect", func() error { h.cfg.OnDisconnect(c, end); return nil })
	}
	h.traceDisconnected(c, end)
}

// greet has the application look at the client, and makes it known.
func (c *Client) greet(r *http.Request) error {
	h := c.hub
	if h.cfg.OnConnect == nil {
		defer c.conn.Flush() // the response to the handshake, and the welcome with it
	} else {
		c.conn.Flush() // that response; the application may take its time
		if err := h.guard("OnConnect", func() error { return h.cfg.OnConnect(c.Context(), c, r) }); err != nil {
			return err
		}
	}
	ctx, cancel := h.patience()
	defer cancel()
	inbox := Topic{User: c.user.ID}
	head, err := h.subs.acquire(ctx, inbox)
	if err != nil {
		return err
	}
	if err := c.register(ctx, head); err != nil {
		h.release(inbox)
		return err
	}
	return nil
}

// register has the loop welcome the client and do what OnConnect asked for.
func (c *Client) register(ctx context.Context, inbox Position) error {
	c.mu.Lock()
	rooms := c.early.rooms
	c.early.rooms = nil
	c.mu.Unlock()
	reg := &register{c: c, inbox: inbox, done: make(chan struct{})}
	defer reg.settle()
	for _, name := range rooms {
		head, err := c.hub.subs.acquire(ctx, Topic{Room: name})
		if err != nil {
			return err
		}
		reg.joins = append(reg.joins, &join{c: c, room: name, head: head, done: make(chan struct{})})
	}
	if err := c.hub.await(reg, reg.done); err != nil {
		return err
	}
	if c.hub.draining.Load() {
		c.close(closeShutdown, shutdownReason)
	}
	return nil
}

// settle gives back what joins have acquired and do not need.
func (r *register) settle() {
	for _, j := range r.joins {
		if !j.fresh {
			r.c.hub.release(Topic{Room: j.room})
		}
		if j.err != nil {
			r.c.hub.log.Warn("chathub: join in OnConnect", "client", r.c.id, "room", j.room, "err", j.err)
		}
	}
}

// next returns the next event: from the connection, or from who reads ahead.
func (c *Client) next() (*Event, error) {
	c.mu.Lock()
	backlog := c.backlog
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
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.hub.draining.Load() {
		return false
	}
	c.handling = true
	c.busy.Store(time.Now().UnixNano())
	if len(c.asks) > 0 {
		c.readBeside() // the answer must not wait for the handler
	}
	return true
}

func (c *Client) finished() {
	c.mu.Lock()
	c.handling = false
	c.busy.Store(0)
	c.mu.Unlock()
	if c.hub.draining.Load() {
		c.close(closeShutdown, shutdownReason)
	}
}

func (c *Client) isHandling() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.handling
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

// watchHandler has a client read beside a handler that takes long. The loop calls it.
func (c *Client) watchHandler(now time.Time) {
	if since := c.busy.Load(); since == 0 || now.UnixNano()-since < int64(slowHandler) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readBeside()
}

// readBeside starts a goroutine that reads from now on, if a handler keeps the
// one that has done so until now. The caller holds c.mu.
func (c *Client) readBeside() {
	if c.handling && c.backlog == nil {
		c.backlog = make(chan *Event, backlogLength)
		go c.readAhead(c.backlog)
	}
}

func (c *Client) readAhead(backlog chan<- *Event) {
	defer close(backlog)
	wait := slowHandler // for a place
	for {
		e, err := c.receive()
		if err != nil {
			c.finish(err)
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
			c.limit(e, "Too many events wait", slowHandler)
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
	if c.ws == nil {
		ws, err := reattach(c.conn)
		if err != nil {
			return nil, err
		}
		c.ws = ws
	}
	// A context that can end would cost allocations for each message; the sweep
	// bounds reading instead.
	typ, r, err := c.ws.Reader(context.Background())
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
	case e.Type == "ack" || e.Type == "error":
		if !c.answered(e) {
			c.allow(e) // ignored, but not for free
		}
	case !c.allow(e):
	case e.Type == "ping":
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

// finish notes why reading has ended, answers what the peer did wrong, and takes
// the client out of everything.
func (c *Client) finish(err error) {
	end := c.endOf(err)
	if c.setEnd(end) && !end.Remote {
		if c.conn.CloseWith(uint16(end.Code), end.Reason, false, c.hub.cfg.WriteTimeout) == wire.Ready {
			c.conn.Flush()
		}
	}
	_ = c.hub.ask(func(l *loop) { l.unregister(c) }) // a closed hub knows nobody
	if !end.Remote {
		// Closing with unread input would reset the connection, and the peer
		// would not see why.
		c.conn.Discard()
	}
}

// endOf says what an error of reading means.
func (c *Client) endOf(err error) Disconnect {
	ce, closed := errors.AsType[websocket.CloseError](err)
	_, lost := errors.AsType[*net.OpError](err)
	switch {
	case closed:
		return Disconnect{Code: int(ce.Code), Reason: strings.ToValidUTF8(ce.Reason, "\uFFFD"), Remote: true}
	case errors.Is(err, wire.ErrMessageTooBig):
		return Disconnect{Code: int(closeMessageTooBig), Reason: fmt.Sprintf("message is over %d bytes", c.hub.cfg.MaxMessageBytes)}
	case errors.Is(err, wire.ErrDeflate):
		return Disconnect{Code: int(closeInvalidPayload), Reason: "message cannot be decompressed"}
	case errors.Is(err, errNotUTF8):
		return Disconnect{Code: int(closeInvalidPayload), Reason: "text is not UTF-8"}
	case errors.Is(err, wire.ErrFragments):
		return Disconnect{Code: int(closeViolations), Reason: "too many fragments"}
	case errors.Is(err, wire.ErrControlFlood):
		return Disconnect{Code: int(closeRateLimited), Reason: "too many control frames"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded), lost:
		return Disconnect{Code: 1006, Reason: "connection lost", Remote: true}
	}
	return Disconnect{Code: int(closeProtocolError), Reason: "protocol error"}
}

// refuseInput answers an envelope that could not be read.
func (c *Client) refuseInput(e *Event, fault *Error) {
	_ = c.send(errorFrame(e.ID, fault), false)
	if c.bad.hit(time.Now()) > badPerMinute {
		c.close(closeViolations, "too many bad messages")
	}
}

// allow applies the rate limits.
func (c *Client) allow(e *Event) bool {
	now, cfg := time.Now(), &c.hub.cfg
	wait := reserve(c.limiter.get(cfg.Rate, cfg.Burst), now)
	if wait == 0 { // what one connection has too many of costs the user's others nothing
		wait = reserve(c.visitor.limiter.get(cfg.UserRate, cfg.UserBurst), now)
	}
	if wait == 0 {
		return true
	}
	c.limit(e, "Too many events", wait)
	return false
}

// limit refuses an event that is one too many.
func (c *Client) limit(e *Event, message string, wait time.Duration) {
	_ = c.send(errorFrame(e.ID, &Error{Code: CodeRateLimited, Message: message, RetryAfter: wait}), false)
	if c.limited.hit(time.Now()) > limitsPerMinute {
		c.close(closeRateLimited, "rate limit exceeded repeatedly")
	}
}

// reserve takes a token and returns 0, or returns how long until there is one.
func reserve(l *rate.Limiter, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	r := l.ReserveN(now, 1)
	if !r.OK() {
		return time.Minute // a burst of zero: never
	}
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// strikes counts what may not happen often within a minute.
type strikes struct {
	since int64 // Unix nanoseconds
	n     int
}

func (s *strikes) hit(now time.Time) int {
	if t := now.UnixNano(); t-s.since >= int64(time.Minute) {
		s.since, s.n = t, 0
	}
	s.n++
	return s.n
}
