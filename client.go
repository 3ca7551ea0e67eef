package chathub

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Client is one connection of a user. Its methods may be called from any
// goroutine, also after the connection has ended. Those that need the
// connection then fail with [ErrClientGone].
type Client struct {
	// Fields are grouped by owner. A field outside of the groups either is
	// atomic or never changes once another goroutine knows the client.

	hub   *Hub
	id    string
	conn  *wire.Conn
	place place // its tenant never changes
	// takesCompressed reports whether the client accepts compressed frames.
	takesCompressed bool

	// connected is who the client was at the handshake. latest points to it
	// until a refresh-token brings a new name.
	connected User
	latest    atomic.Pointer[User]
	// expires is when the newest token does, in Unix nanoseconds. 0: never.
	expires atomic.Int64
	// handlerSince is when the running handler began, in Unix nanoseconds. 0:
	// none runs.
	handlerSince atomic.Int64

	onRead    clientOnRead
	onHandler clientOnHandler
	mu        clientLocked
	onLoop    clientOnLoop
}

// clientOnRead belongs to the goroutine that reads from the connection. There
// is at most one at a time, and none while the connection is parked.
type clientOnRead struct {
	ws        *websocket.Conn // nil while parked
	events    lazyLimiter
	bytes     lazyLimiter // of events
	malformed strikes     // envelopes that could not be decoded
	overRate  strikes     // events over the rate
}

// clientOnHandler belongs to the goroutine that handles the client's events.
type clientOnHandler struct {
	catchUp *catchUp // not nil if missed messages must follow the answer
}

// clientLocked is guarded by its mutex, which is held only to read or change a
// field, never while waiting.
type clientLocked struct {
	sync.Mutex
	ctx        context.Context // made on first use
	cancel     context.CancelCauseFunc
	claims     jsontext.Value // of the newest token
	rooms      []string       // a copy of what the loop knows; only the loop writes it
	questions  *questions     // to the client; nil until there was one
	backlog    chan *Event    // not nil once a second goroutine reads beside the handler
	preWelcome *preWelcome    // nil once the client is registered
	values     map[any]any    // set by the application; nil until there are some
	handling   bool
	publishing bool          // a message is being stored
	published  chan struct{} // closed when it is; nil if nobody waits
	end        *Disconnect   // nil until the connection ends
}

// clientOnLoop belongs to the hub's loop.
type clientOnLoop struct {
	seats         []seat // everyone's, the user's, and one for each room
	registered    bool
	reconnectSent bool
	marked        bool      // set only within flushAudience
	pinged        time.Time // zero: no ping is unanswered
	recent        []uint64  // of the last emits to several topics, by their number
}

// preWelcome is what OnConnect asked for. It is carried out once the client has
// its welcome.
type preWelcome struct {
	rooms  []string
	frames [][]byte
}

// ID returns the id of the connection. It is not secret, and cannot be guessed.
// After a reconnect, the client has another one.
func (c *Client) ID() string { return c.id }

// lastExpiry is the last time that Unix nanoseconds can express, in the year
// 2262. A later expiry, which usually stands for never, is none.
var lastExpiry = time.Unix(0, math.MaxInt64)

// identify sets the identity, or replaces it by one of the same user.
func (c *Client) identify(id *Identity) {
	expires := int64(0)
	if !id.Expires.IsZero() && id.Expires.Before(lastExpiry) {
		expires = id.Expires.UnixNano()
	}
	c.mu.Lock()
	c.mu.claims = id.Claims
	c.mu.Unlock()
	switch u := c.latest.Load(); {
	case u == nil:
		c.connected = id.User
		c.latest.Store(&c.connected)
	case *u != id.User:
		renamed := id.User
		c.latest.Store(&renamed)
	}
	c.expires.Store(expires)
}

// Tenant returns the name of the client's tenant. It is empty if the
// [Authenticator] has named none.
func (c *Client) Tenant() string { return string(c.world()) }

func (c *Client) world() world {
	if c.place.tenant == nil {
		return ""
	}
	return c.place.tenant.world
}

func (c *Client) hasTenant() bool { return c.place.tenant != nil }

// inbox is the topic of the client's user.
func (c *Client) inbox() Topic { return c.world().user(c.user().ID) }

// home returns the tenant of the client.
func (c *Client) home() Tenant { return Tenant{c.hub, c.world()} }

// User returns the verified user. A refresh-token may bring a new name, never a
// new id.
func (c *Client) User() User { return *c.latest.Load() }

// user is User without a copy.
func (c *Client) user() *User { return c.latest.Load() }

// Claims unmarshals into v the claims of the newest token of the client. It
// does so as encoding/json/v2 does: names are matched exactly. If the
// [Authenticator] gave no claims, they count as an empty object.
func (c *Client) Claims(v any) error {
	c.mu.Lock()
	claims := c.mu.claims
	c.mu.Unlock()
	if claims == nil {
		claims = []byte("{}")
	}
	return withRemedy("claims", json.Unmarshal(claims, v))
}

// Context returns a context that ends when the connection does.
func (c *Client) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.ctx == nil {
		c.mu.ctx, c.mu.cancel = context.WithCancelCause(c.hub.life.ctx)
		if c.mu.end != nil {
			c.mu.cancel(ErrClientGone)
		}
	}
	return c.mu.ctx
}

// Rooms returns the names of the rooms that the client is in, oldest first.
// After the client has gone, it returns the rooms that the client was in at the
// end.
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

// Emit sends an event to this connection alone, at most once. The event is not
// kept for a reconnect, and it is dropped if the client's outbox would be more
// than half full. Emit does not wait for the client. Within OnConnect, the
// event is sent after the welcome.
//
// It returns [ErrClientGone] if the connection has ended. See [Target.Emit] for
// the form of data, and for the error if event or data is not valid.
func (c *Client) Emit(_ context.Context, event string, data any) error {
	e, err := c.hub.newEnvelope(event, data)
	if err != nil {
		return err
	}
	return c.send(e.frame(), wire.Volatile)
}

// send puts a frame that is for this client alone into its outbox.
func (c *Client) send(frame []byte, kind wire.Kind) error {
	c.mu.Lock()
	if c.mu.preWelcome != nil {
		c.mu.preWelcome.frames = append(c.mu.preWelcome.frames, frame)
		c.mu.Unlock()
		return nil
	}
	ended := c.mu.end != nil
	c.mu.Unlock()
	if ended {
		return ErrClientGone
	}
	switch c.conn.Enqueue(c.compress(frame), kind) {
	case wire.Ready:
		c.hub.counters.delivered.Add(1)
		c.conn.Flush()
	case wire.Overflow:
		c.close(closeSlowConsumer, "slow consumer")
		return ErrClientGone
	case wire.Dropped:
		c.hub.counters.dropped.Add(1)
	case wire.Gone:
		return ErrClientGone
	case wire.Queued:
		c.hub.counters.delivered.Add(1)
	}
	return nil
}

// To returns the members of the given rooms, without this connection.
func (c *Client) To(rooms ...string) Target { return c.home().To(rooms...).Except(c.id) }

// Broadcast returns every connection of the client's tenant, on every node,
// without this one.
func (c *Client) Broadcast() Target { return c.home().Broadcast().Except(c.id) }

// Set stores a value under a key for as long as the connection lasts. The
// library itself uses no keys.
func (c *Client) Set(key, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.values == nil {
		c.mu.values = make(map[any]any)
	}
	c.mu.values[key] = value
}

// Value returns the value that was stored under a key, or nil if there is none.
func (c *Client) Value(key any) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.values[key]
}

// Join puts the client into rooms. It does not ask Config.Authorize. When it
// returns nil, the client is a member of all of them; within OnConnect, it
// becomes one with its welcome. After an error, the client may be in some of
// them.
//
// In a handler of [On] or [OnAck], called with its ctx, Join fails with
// [CodeForbidden] if the client has been taken out of the room since the event
// came, by other than the handler itself: what the handler has checked does not
// hold any more.
//
// It returns an [Error] with [CodeBadRequest] if a name is not valid, and one
// with [CodeLimitExceeded] if the client would be in more than Config.MaxRooms.
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
		if _, err := c.join(ctx, &join{room: name, right: rightOf(ctx)}); err != nil {
			return err
		}
	}
	return nil
}

// join has the loop carry out j, with its topic acquired.
func (c *Client) join(ctx context.Context, j *join) (*join, error) {
	j.c, j.done = c, make(chan struct{})
	if err := c.mayJoin(j.room); err != nil { // before anything is made for the room
		return nil, err
	}
	t := c.world().room(j.room)
	head, err := c.hub.subs.acquire(ctx, t)
	if err != nil {
		return nil, err
	}
	j.head = head
	if j.hold && c.hub.cfg.showsUsers(true) { // the answer will list the users
		_ = c.hub.lookUp(ctx, t.Room) // without an answer, the list is incomplete
	}
	if err := c.hub.await(j, j.done); err != nil {
		return nil, err
	}
	if j.err != nil || !j.fresh { // a room keeps one reference for each member
		c.hub.release(t)
	}
	return j, j.err
}

// mayJoin checks Config.MaxRooms, as the loop does again: other goroutines may
// join rooms meanwhile.
func (c *Client) mayJoin(room string) error {
	most := c.hub.cfg.MaxRooms
	c.mu.Lock()
	defer c.mu.Unlock()
	if most >= 0 && len(c.mu.rooms) >= most && !slices.Contains(c.mu.rooms, room) {
		return errTooManyRooms(most)
	}
	return nil
}

func errTooManyRooms(most int) *Error { return errorf(CodeLimitExceeded, "In %d rooms already", most) }

// Leave takes the client out of rooms and tells it so. It is no error if the
// client is not in one of them. When Leave returns nil, nothing of the
// membership works any more: a join that was authorized before is undone, and a
// message that was being stored has been stored.
func (c *Client) Leave(ctx context.Context, rooms ...string) error {
	if len(rooms) == 0 {
		return nil
	}
	var published publishes
	err := c.hub.onLoop(func(l *loop) {
		published = l.revoke(revocation{clients: []string{c.id}, rooms: rooms}, []*Client{c})
	})
	published.wait(c.hub)
	rightOf(ctx).renew()
	return err
}

// Disconnect closes the connection with code 4503, which tells the client not
// to reconnect by itself. Events that were emitted to the client before are
// sent first. The client gets the reason, cut at 123 bytes.
func (c *Client) Disconnect(reason string) { c.close(closeDisconnected, reason) }

// close begins the end of the connection. It may be called from any goroutine
// except the loop's, which has its own close.
func (c *Client) close(code closeCode, reason string) {
	if !c.setEnd(Disconnect{Code: int(code), Reason: reason}) {
		return
	}
	// This goes through the loop, so that the loop's pending deliveries to the
	// client are sent before the close frame.
	_ = c.hub.post(call(func(l *loop) {
		l.flushFor(c)
		if code == closeShutdown {
			l.tellReconnect(c)
		}
		l.sendClose(c, code, reason)
		l.unregister(c)
	}))
}

// sendClose queues a close frame. For a slow consumer it replaces the frames
// that wait; for any other client it goes behind them.
func (h *Hub) sendClose(conn *wire.Conn, code closeCode, reason string) wire.Result {
	return conn.CloseWith(uint16(code), reason, code == closeSlowConsumer, h.cfg.WriteTimeout)
}

// setEnd records why the connection ends. It reports false if another reason
// was recorded before.
func (c *Client) setEnd(d Disconnect) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.end != nil {
		return false
	}
	end := d // so that only the first reason is allocated
	c.mu.end = &end
	c.mu.questions.end()
	if c.mu.cancel != nil {
		c.mu.cancel(ErrClientGone)
	}
	return true
}

func (c *Client) isEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.end != nil
}

// Disconnect says why a connection ended.
type Disconnect struct {
	// Code is the WebSocket close code: the one that was sent, else the one
	// that was received, else 1006.
	Code   int
	Reason string
	// Remote reports whether the client closed the connection, or the
	// connection broke. It is false if the hub closed it.
	Remote bool
}
