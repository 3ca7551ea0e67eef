package chathub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/chathub-go/chathub/internal/wire"
	"github.com/coder/websocket"
)

func newClient(h *Hub, id Identity, place place, ws *websocket.Conn, conn *wire.Conn) *Client {
	c := &Client{
		hub:   h,
		id:    newID("c_"),
		conn:  conn,
		place: place,
	}
	c.onRead.ws = ws
	c.mu.preWelcome = &preWelcome{}
	c.identify(&id)
	return c
}

// serve begins to read from the connection, or turns it away if connect has
// refused it.
func (c *Client) serve(refused error) {
	if refused != nil {
		go func() {
			c.turnAway(refused)
			c.releasePlace()
		}()
		return
	}
	c.reportConnected()
	if r := (*reader)(c); !c.conn.Park(r) {
		go r.Wake()
	}
}

// connect calls OnConnect and makes the client known to the loop. An error
// refuses the client.
func (c *Client) connect(r *http.Request, right *check) error {
	h := c.hub
	if h.cfg.OnConnect == nil {
		defer c.conn.Flush() // the response to the handshake, together with the welcome
	} else {
		c.conn.Flush() // the same response, now: OnConnect may take its time
		ctx := context.WithValue(c.Context(), connectingKey{}, c)
		if err := h.guard("OnConnect", func() error { return h.cfg.OnConnect(ctx, c, r) }); err != nil {
			return err
		}
	}
	ctx, cancel := h.brokerContext()
	defer cancel()
	inbox := c.inbox()
	head, err := h.subs.acquire(ctx, inbox)
	if err != nil {
		return err
	}
	err = c.enterWorld(ctx)
	if err == nil {
		if err = c.register(ctx, head, right); err == nil {
			return nil
		}
		c.leaveWorld()
	}
	h.release(inbox)
	return err
}

// enterWorld acquires the topic of everyone of the client's tenant, and finds
// out who is online there.
func (c *Client) enterWorld(ctx context.Context) error {
	if !c.hasTenant() {
		return nil // every hub hears of everyone
	}
	t := c.world().everyone()
	if _, err := c.hub.subs.acquire(ctx, t); err != nil {
		return err
	}
	if c.hub.cfg.showsUsers(false) {
		_ = c.hub.lookUp(ctx, t.Room) // without an answer, the list is incomplete
	}
	return nil
}

// leaveWorld undoes enterWorld for a client that is not registered.
func (c *Client) leaveWorld() {
	if c.hasTenant() {
		c.hub.release(c.world().everyone())
	}
}

// register has the loop welcome the client and join it to the rooms that
// OnConnect chose.
func (c *Client) register(ctx context.Context, inbox Position, right *check) error {
	c.mu.Lock()
	rooms := c.mu.preWelcome.rooms
	c.mu.preWelcome.rooms = nil
	c.mu.Unlock()
	reg := &register{c: c, inbox: inbox, right: right, done: make(chan struct{})}
	defer reg.settle()
	for _, name := range rooms {
		head, err := c.hub.subs.acquire(ctx, c.world().room(name))
		if err != nil {
			return err
		}
		reg.joins = append(reg.joins, &join{c: c, room: name, right: right, head: head, done: make(chan struct{})})
	}
	if err := c.hub.await(reg, reg.done); err != nil {
		return err
	}
	if reg.err != nil {
		return reg.err
	}
	if c.hub.life.draining.Load() {
		c.close(closeShutdown, shutdownReason)
	}
	return nil
}

// settle releases the topics of joins that failed or were not needed.
func (cmd *register) settle() {
	for _, j := range cmd.joins {
		if !j.fresh {
			cmd.c.hub.release(cmd.c.world().room(j.room))
		}
		if j.err != nil {
			cmd.c.hub.logLimited("join in OnConnect", slog.LevelWarn, "chathub: cannot join a room in OnConnect", func() []any {
				return []any{"client", cmd.c.id, "room", j.room, "err", j.err}
			})
		}
	}
}

func (c *Client) reportConnected() {
	c.hub.counters.accepted.Add(1)
	c.hub.traceConnected(c)
}

// turnAway tells a client why it was refused. Its handshake is complete, so it
// gets an envelope and a close code.
func (c *Client) turnAway(err error) {
	e, _ := publicError(err) // ServeHTTP has logged it
	c.hub.countRefused(e)
	c.setEnd(Disconnect{Code: int(refusalOf(e).close), Reason: e.Message})
	if c.hub.admission.refuse(&c.place) { // else it is cut off: too many are being refused
		c.hub.turnAway(c.onRead.ws, c.conn, e)
	}
}

// reportDisconnected ends the client after its connection could not be read any
// more, with err, and tells the application.
func (c *Client) reportDisconnected(err error) {
	h := c.hub
	c.readEnded(err)
	c.mu.Lock()
	end := *c.mu.end // readEnded has set it
	c.mu.Unlock()
	if h.cfg.OnDisconnect != nil {
		_ = h.guard("OnDisconnect", func() error { h.cfg.OnDisconnect(c, end); return nil })
	}
	h.countDisconnect(end)
	h.traceDisconnected(c, end)
}

// releasePlace disposes of the connection and gives its place back. It is the
// last step in the life of a connection.
func (c *Client) releasePlace() {
	c.hub.dispose(c.onRead.ws, c.conn)
	c.hub.infos.remove(c)
	c.place.release()
}

// readEnded records why reading has ended, sends the close frame if the peer
// broke a rule, and unregisters the client.
func (c *Client) readEnded(err error) {
	end := c.endOf(err)
	if c.setEnd(end) && !end.Remote {
		if c.hub.sendClose(c.conn, closeCode(end.Code), end.Reason) == wire.Ready {
			c.conn.Flush()
		}
	}
	_ = c.hub.onLoop(func(l *loop) { l.unregister(c) }) // an ended hub has no clients
	if !end.Remote {
		// Closing with unread input would reset the connection, and the peer
		// would not learn the reason.
		c.conn.Discard()
	}
}

// endOf returns how the connection ends after an error of reading.
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
