package chathub

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"github.com/chathub-go/chathub/internal/wire"
)

// Client is one connection of a user. Its methods may be called by any goroutine,
// also after the connection has ended; they fail with [ErrClientGone] then.
//
// Its fields are grouped by owner. What stands in no group never changes once
// another goroutine knows the client, or is atomic.
type Client struct {
	hub    *Hub
	id     string
	user   User
	claims []byte
	conn   *wire.Conn
	place  place
	limits *userLimits // shared by all connections of the user
	// takesCompressed reports whether the client accepts compressed frames.
	takesCompressed bool

	expires      atomic.Int64 // Unix nanoseconds; 0: never
	handlerSince atomic.Int64 // when the running handler began, Unix nanoseconds; 0: none runs

	onRead    clientOnRead
	onHandler clientOnHandler
	mu        clientLocked
	onLoop    clientOnLoop
}

// clientOnRead belongs to the goroutine that reads from the connection. There is
// one at a time, and none while the connection is parked.
type clientOnRead struct {
	ws        *websocket.Conn // nil while parked
	limiter   lazyLimiter     // of events
	malformed strikes         // envelopes that could not be read
	overRate  strikes         // events over the rate
}

// clientOnHandler belongs to the goroutine that handles the client's events.
type clientOnHandler struct {
	catchUp *catchUp // not nil if older messages must follow the answer
}

// clientLocked is guarded by its mutex, which is held only to look or change,
// never to wait.
type clientLocked struct {
	sync.Mutex
	ctx          context.Context // made on first use
	cancel       context.CancelCauseFunc
	rooms        []string               // a copy of what the loop knows; only the loop writes it
	questions    map[string]chan answer // to the client, not yet answered
	lastQuestion uint64
	backlog      chan *Event // not nil once another goroutine reads beside the handler
	preWelcome   *preWelcome // nil once the client is registered
	values       map[any]any // the application's; nil until there are some
	handling     bool
	ended        bool
	end          Disconnect // set together with ended
}

// clientOnLoop belongs to the hub's loop.
type clientOnLoop struct {
	seats         []seat // everyone's, the user's, and one for each room
	registered    bool
	reconnectSent bool
	marked        bool      // within flushAudience
	pinged        time.Time // zero: no ping is unanswered
	recent        []uint64  // numbers of the last emits to several topics
}

// preWelcome is what OnConnect asked for, to be done once the client is welcome.
type preWelcome struct {
	rooms  []string
	frames [][]byte
}

// ID returns the id of the connection. It is not secret, and cannot be guessed.
func (c *Client) ID() string { return c.id }

// User returns the verified user.
func (c *Client) User() User { return c.user }

// Claims unmarshals the claims of the token that the client connected with into
// v, as encoding/json/v2 does: names are matched exactly.
func (c *Client) Claims(v any) error {
	if c.claims == nil {
		return json.Unmarshal([]byte("{}"), v)
	}
	return json.Unmarshal(c.claims, v)
}

// Context returns a context that ends when the connection does.
func (c *Client) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.ctx == nil {
		c.mu.ctx, c.mu.cancel = context.WithCancelCause(c.hub.life.ctx)
		if c.mu.ended {
			c.mu.cancel(ErrClientGone)
		}
	}
	return c.mu.ctx
}

// Rooms returns the rooms that the client is in, oldest first; once it has gone,
// those that it was in then.
func (c *Client) Rooms() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.rooms)
}

func (c *Client) inRoom(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.mu.rooms, name)
}

// Emit sends an event to this connection, at most once: it is not kept for a
// reconnect, and is dropped when the client's outbox is half full.
func (c *Client) Emit(_ context.Context, event string, data any) error {
	e, err := newEnvelope(event, data)
	if err != nil {
		return err
	}
	return c.send(e.frame(), wire.Volatile)
}

// send puts a frame of the client's own into its outbox.
func (c *Client) send(frame []byte, kind wire.Kind) error {
	c.mu.Lock()
	if c.mu.preWelcome != nil {
		c.mu.preWelcome.frames = append(c.mu.preWelcome.frames, frame)
		c.mu.Unlock()
		return nil
	}
	ended := c.mu.ended
	c.mu.Unlock()
	if ended {
		return ErrClientGone
	}
	switch c.conn.Enqueue(c.compress(frame), kind) {
	case wire.Ready:
		c.conn.Flush()
	case wire.Overflow:
		c.close(closeSlowConsumer, "slow consumer")
		return ErrClientGone
	case wire.Dropped:
		c.hub.counters.dropped.Add(1)
	case wire.Gone:
		return ErrClientGone
	case wire.Queued:
	}
	return nil
}

// To returns the rooms without this connection.
func (c *Client) To(rooms ...string) Target { return c.hub.To(rooms...).Except(c.id) }

// Broadcast returns everyone without this connection.
func (c *Client) Broadcast() Target { return c.hub.Broadcast().Except(c.id) }

// Set keeps a value of the application's for as long as the connection lasts.
func (c *Client) Set(key, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.values == nil {
		c.mu.values = make(map[any]any)
	}
	c.mu.values[key] = value
}

// Value returns what was set for a key; nil where nothing was.
func (c *Client) Value(key any) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.values[key]
}

// Join puts the client into rooms. It does not ask Config.Authorize. When it
// returns nil, the client is a member of all of them, or, within OnConnect, will be
// when it is welcomed; after an error it may be in some.
func (c *Client) Join(ctx context.Context, rooms ...string) error {
	for _, name := range rooms {
		if err := checkRoom(name); err != nil {
			return err
		}
	}
	c.mu.Lock()
	if c.mu.preWelcome != nil {
		c.mu.preWelcome.rooms = append(c.mu.preWelcome.rooms, rooms...)
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	for _, name := range rooms {
		if _, err := c.join(ctx, &join{room: name}); err != nil {
			return err
		}
	}
	return nil
}

// join has the loop carry out j.
func (c *Client) join(ctx context.Context, j *join) (*join, error) {
	j.c, j.done = c, make(chan struct{})
	t := Topic{Room: j.room}
	head, err := c.hub.subs.acquire(ctx, t)
	if err != nil {
		return nil, err
	}
	j.head = head
	if j.hold && c.hub.cfg.PresenceInterval > 0 { // its client is told who is there
		_ = c.hub.lookUp(ctx, j.room) // or not all of them, now
	}
	if err := c.hub.await(j, j.done); err != nil {
		return nil, err
	}
	if j.err != nil || !j.fresh { // the room keeps one reference per member
		c.hub.release(t)
	}
	return j, j.err
}

// Leave takes the client out of rooms. Rooms that it is not in are no error.
func (c *Client) Leave(_ context.Context, rooms ...string) error {
	return c.hub.onLoop(func(l *loop) {
		for _, name := range rooms {
			if r := l.rooms[name]; r != nil && c.onLoop.seatIn(&r.audience) >= 0 {
				l.leave(c, r, false)
			}
		}
	})
}

// Disconnect closes the connection with 4503, which tells the client not to come
// back by itself. What was emitted to it before is sent first. The reason reaches
// the client; it is cut at 123 bytes.
func (c *Client) Disconnect(reason string) { c.close(closeDisconnected, reason) }

// close begins the end of the connection, from any goroutine but the loop's.
func (c *Client) close(code closeCode, reason string) {
	if !c.setEnd(Disconnect{Code: int(code), Reason: reason}) {
		return
	}
	// Through the loop, so that what it has for the client goes out before.
	_ = c.hub.post(call(func(l *loop) {
		l.flushFor(c)
		if code == closeShutdown {
			l.tellReconnect(c)
		}
		l.sendClose(c, code, reason)
		l.unregister(c)
	}))
}

// sendClose queues a close frame. A slow consumer gets it instead of what waits
// for it; anyone else, behind that.
func (h *Hub) sendClose(conn *wire.Conn, code closeCode, reason string) wire.Result {
	return conn.CloseWith(uint16(code), reason, code == closeSlowConsumer, h.cfg.WriteTimeout)
}

// setEnd notes why the connection ends, and reports whether it is the first to.
func (c *Client) setEnd(d Disconnect) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.ended {
		return false
	}
	c.mu.ended, c.mu.end = true, d
	for id, ch := range c.mu.questions {
		delete(c.mu.questions, id)
		ch <- answer{err: ErrClientGone}
	}
	if c.mu.cancel != nil {
		c.mu.cancel(ErrClientGone)
	}
	return true
}

func (c *Client) isEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.ended
}

// Disconnect says why a connection ended.
type Disconnect struct {
	// Code is the WebSocket close code that was sent, or else received, or 1006
	// where there was neither.
	Code   int
	Reason string
	// Remote reports whether the client ended it.
	Remote bool
}
