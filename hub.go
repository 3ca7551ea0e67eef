package chathub

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/chathub-go/chathub/internal/wire"
)

// Hub is a chat server: an http.Handler whose clients are WebSocket
// connections. All its methods may be called concurrently, from anywhere,
// handlers included. Several hubs in one program share nothing, unless they
// share a Broker.
type Hub struct {
	cfg     Config
	log     *slog.Logger
	node    string // its address; see Topic
	session *countedSession
	flusher *wire.Flusher
	poller  wire.Poller

	commands chan command // to the loop
	life     lifeCycle

	origins   *handshake.Origins
	admission admission
	rights    rights
	handlers  registry
	subs      subscriptions
	changes   changes
	receipts  receipts
	follows   follows
	tails     tails
	infos     infos
	states    stateLocks
	away      away
	courier   courier
	counters  counters
	readiness readiness

	lines             lineLimits
	nodeCount         atomic.Int64 // other nodes that are alive
	noteSentAt        atomic.Int64 // when a note was sent last, in Unix nanoseconds
	notesFailing      atomic.Bool  // other nodes could not be reached lately
	notesSince        atomic.Int64 // since when they can be, in Unix nanoseconds
	noteCourier       courier      // for what is sent to other nodes
	noteCourierRuns   bool         // owned by the loop, then by shutdown once the loop has ended
	compressedClients atomic.Int64 // registered clients that accept compressed frames
}

// New starts a hub, which runs until [Hub.Shutdown] or [Hub.Close]. It checks
// cfg first and reports all of its mistakes at once.
func New(cfg Config) (*Hub, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	h := &Hub{
		cfg:      cfg,
		log:      cfg.Logger,
		node:     newNodeID(),
		commands: make(chan command, commandQueue),
	}
	h.life.init()
	h.changes.hub, h.receipts.hub = h, h
	h.origins = h.cfg.origins()
	broker := cfg.Broker
	if broker == nil {
		broker = &MemoryBroker{}
	}
	session, err := broker.Attach(context.Background(), h.deliver)
	if err != nil {
		h.life.cancel()
		return nil, fmt.Errorf("chathub: attach to the broker: %w", err)
	}
	h.session = &countedSession{BrokerSession: session, calls: &h.counters.broker}
	ctx, cancel := h.brokerContext()
	defer cancel()
	if _, err := session.Subscribe(ctx, Topic{Node: h.node}); err != nil {
		h.life.cancel()
		err = fmt.Errorf("chathub: subscribe the node's own address: %w", err)
		return nil, errors.Join(err, session.Close(ctx))
	}
	h.subs.init(h)
	h.admission.init(&h.cfg)
	h.courier.init()
	h.noteCourier.init()
	h.handlers.init()
	h.flusher = wire.NewFlusher()
	h.away.init(h)
	h.notesSince.Store(time.Now().UnixNano())
	l := newLoop(h)
	go func() {
		l.run()
		close(h.life.loopEnded)
		h.flusher.Close()
		h.poller.Close()
	}()
	go h.courier.run(h)
	_ = h.post(call(func(l *loop) { l.beat(l.now()) })) // the loop is running
	// A node that does not know this one would not wait for it when it takes a
	// right away. So no right is checked here before the others were told.
	_ = h.barrier(ctx) // they find out within a second
	return h, nil
}

// newID returns a random id of 80 bits that nobody can guess.
func newID(prefix string) string {
	var random [10]byte
	_, _ = rand.Read(random[:]) // it never fails
	b := make([]byte, 0, 24)
	return string(idEncoding.AppendEncode(append(b, prefix...), random[:]))
}

// newNodeID returns the id of a hub. It begins with the time, so that ids of
// older nodes are lower.
func newNodeID() string { return newID(fmt.Sprintf("n_%012x_", time.Now().UnixMilli())) }

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// post hands a command to the loop. It waits while the queue is full.
func (h *Hub) post(cmd command) error {
	// Or a free place in the queue would be taken for a promise.
	if err := h.checkOpen(); err != nil {
		return err
	}
	select {
	case h.commands <- cmd:
		return nil
	case <-h.life.done:
		return ErrClosed
	}
}

// checkOpen returns ErrClosed once the hub has ended.
func (h *Hub) checkOpen() error {
	select {
	case <-h.life.done:
		return ErrClosed
	default:
		return nil
	}
}

// await posts cmd and waits until the loop has run it.
func (h *Hub) await(cmd command, ran <-chan struct{}) error {
	if err := h.post(cmd); err != nil {
		return err
	}
	select {
	case <-ran:
		return nil
	// Not life.done: cmd may still be running, on what the caller reads next.
	case <-h.life.loopEnded:
	}
	select {
	case <-ran:
		return nil
	default:
		return ErrClosed
	}
}

// onLoop runs f on the loop and waits for it.
func (h *Hub) onLoop(f func(l *loop)) error {
	ran := make(chan struct{})
	return h.await(call(func(l *loop) { f(l); close(ran) }), ran)
}

// barrier waits until the loop and the courier have done everything that they
// were handed before.
func (h *Hub) barrier(ctx context.Context) error {
	if err := h.onLoop(func(*loop) {}); err != nil {
		return err
	}
	ran := make(chan struct{})
	h.later(func(*Hub) { close(ran) })
	select {
	case <-ran:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-h.life.done:
		return ErrClosed
	}
}

// guard calls f, and turns a panic into an error and a log line. The lines are
// limited, since a client that finds a handler's fault can repeat it.
func (h *Hub) guard(what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			h.counters.panics.Add(1)
			h.logLimited("panic in "+what, slog.LevelError, "chathub: panic", func() []any {
				return []any{"in", what, "panic", v, "stack", string(debug.Stack())}
			})
			err = errPanic
		}
	}()
	if err = f(); err != nil {
		_, _ = publicError(err) // called here, since the methods of an error may panic
	}
	return err
}

// errPanic stands for the result of a callback that panicked.
var errPanic = errors.New("chathub: panic")

// Use appends middleware around the handling of every client event. The first
// one is the outermost. It applies to events that arrive after the call, so
// call it before the hub serves.
func (h *Hub) Use(m ...Middleware) { h.handlers.use(m) }

// OnlineUsers returns the users that are online on any node, sorted by name. It
// includes users in their PresenceGrace. A negative PresenceInterval, which
// hides presence from clients, changes nothing here. It fails if ctx or the hub
// has ended.
func (h *Hub) OnlineUsers(ctx context.Context) (users []User, err error) {
	return h.Tenant("").OnlineUsers(ctx)
}

// OnlineUsers returns the users of the tenant that are online. If this hub has
// no client of the tenant, it asks the other nodes, as RoomUsers does. See
// [Hub.OnlineUsers].
func (t Tenant) OnlineUsers(ctx context.Context) (users []User, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if t.world != "" {
		if err := t.world.check(); err != nil {
			return nil, err
		}
		return t.hub.usersIn(ctx, t.world.everyone())
	}
	err = t.hub.onLoop(func(l *loop) { users = l.presence.online.users() })
	return users, err
}

// RoomUsers returns the users that are in a room on any node, sorted by name.
// It includes users in their PresenceGrace. A negative PresenceInterval, which
// hides presence from clients, changes nothing here. If this hub has no member
// in the room, it asks the other nodes. If a node does not answer within two
// seconds, RoomUsers returns the users it knows of, and an [Error] with
// [CodeUnavailable]. It fails if ctx or the hub has ended.
func (h *Hub) RoomUsers(ctx context.Context, room string) (users []User, err error) {
	return h.Tenant("").RoomUsers(ctx, room)
}

// RoomUsers returns the users that are in a room. See [Hub.RoomUsers].
func (t Tenant) RoomUsers(ctx context.Context, room string) (users []User, err error) {
	topic, err := t.room(room)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return t.hub.usersIn(ctx, topic)
}

// usersIn returns the users that are in a room, or in the world of a tenant.
func (h *Hub) usersIn(ctx context.Context, t Topic) (users []User, err error) {
	err = h.readPresence(ctx, t, func(p *presence) {
		if p != nil {
			users = p.users()
		}
	})
	return users, err
}

// readPresence has the loop call read with the presence of a room, or of the
// world of a tenant. Nil: nobody is there. It may call it twice. The second
// call, after the other nodes have been asked, is the better one.
func (h *Hub) readPresence(ctx context.Context, t Topic, read func(p *presence)) error {
	known := false
	look := func(l *loop) {
		r := l.rooms[t.Room]
		known = len(l.nodes.all) == 0 || r != nil && r.known
		if r == nil {
			read(nil)
			return
		}
		read(&r.presence)
	}
	if err := h.onLoop(look); err != nil || known {
		return err
	}
	// To hear of changes while the others answer.
	if _, err := h.subs.acquire(ctx, t); err != nil {
		return err
	}
	defer h.release(t)
	return errors.Join(h.lookUp(ctx, t.Room), h.onLoop(look))
}

// timestamp is the time that events carry, in Unix milliseconds.
func timestamp() int64 { return time.Now().UnixMilli() }
