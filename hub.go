package chathub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// Hub is a chat server: an http.Handler whose clients are WebSocket connections.
// All its methods may be called concurrently, from anywhere, handlers included. Several
// hubs in one program share nothing, unless they share a Broker.
type Hub struct {
	cfg     Config
	log     *slog.Logger
	session BrokerSession
	flusher *wire.Flusher
	poller  wire.Poller

	life     context.Context // ends when the hub does
	end      context.CancelFunc
	commands chan command
	done     chan struct{} // closed when the loop must end
	ended    chan struct{} // closed when it has
	draining atomic.Bool

	closing   sync.Once
	impatient chan error    // holds one: why to wait for nobody any more
	stopped   chan struct{} // closed when shutdown has finished, and set:
	cutShort  error         // what was in impatient
	closeErr  error         // of the session

	node  string       // its address; see Topic
	peers atomic.Int64 // other hubs that are there
	mute  atomic.Bool  // they could not be told something lately

	subs     subscriptions
	entrance entrance
	refusals refusalLog
	courier  courier
	lane     courier // what is said to peers
	laneRuns bool    // there was one; owned by the loop
	handlers registry
	figures  figures
	// deflating counts the registered clients that take compressed frames.
	deflating atomic.Int64
}

// New checks cfg, reporting all of its mistakes at once, and starts a hub, which
// runs until [Hub.Shutdown].
func New(cfg Config) (*Hub, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	h := &Hub{
		cfg:      cfg,
		log:      cfg.Logger,
		commands: make(chan command, commandQueue),
		done:     make(chan struct{}),
		ended:    make(chan struct{}),
		stopped:  make(chan struct{}),
		node:     newID("n_"),

		impatient: make(chan error, 1),
	}
	broker := cfg.Broker
	if broker == nil {
		broker = &MemoryBroker{}
	}
	h.life, h.end = context.WithCancel(context.Background())
	session, err := broker.Attach(context.Background(), h.deliver)
	if err != nil {
		h.end()
		return nil, fmt.Errorf("chathub: attach to the broker: %w", err)
	}
	h.session = session
	ctx, cancel := h.patience()
	defer cancel()
	if _, err := session.Subscribe(ctx, Topic{Node: h.node}); err != nil {
		h.end()
		err = fmt.Errorf("chathub: subscribe the node's own address: %w", err)
		return nil, errors.Join(err, session.Close(ctx))
	}
	h.subs.init(h)
	h.entrance.init(&h.cfg)
	h.courier.init()
	h.lane.init()
	h.handlers.init()
	h.flusher = wire.NewFlusher()
	l := &loop{
		hub:     h,
		cfg:     &h.cfg,
		clients: make(map[string]*Client),
		rooms:   make(map[string]*room),
		users:   make(map[string]*user),
		gather:  cfg.PresenceInterval,
	}
	if !l.presenceOn() {
		l.gather = time.Second // graces end all the same
	}
	l.online.audience = &l.everyone
	l.peers.init(h)
	go func() {
		l.run()
		close(h.ended)
		h.flusher.Close()
		h.poller.Close()
	}()
	go h.courier.run(h)
	_ = h.post(call(func(l *loop) { l.beat(time.Now()) })) // it runs
	return h, nil
}

// newID returns a random id of 80 bits that nobody can guess.
func newID(prefix string) string { return prefix + rand.Text()[:16] }

// post hands a command to the loop; it waits while the loop is behind.
func (h *Hub) post(cmd command) error {
	if err := h.open(); err != nil { // a free place in the queue would be a promise
		return err
	}
	select {
	case h.commands <- cmd:
		return nil
	case <-h.done:
		return ErrClosed
	}
}

// open returns ErrClosed once the hub has ended.
func (h *Hub) open() error {
	select {
	case <-h.done:
		return ErrClosed
	default:
		return nil
	}
}

// await posts cmd and waits until the loop has run it, which is soon.
func (h *Hub) await(cmd command, ran <-chan struct{}) error {
	if err := h.post(cmd); err != nil {
		return err
	}
	select {
	case <-ran:
		return nil
	case <-h.ended: // not done: cmd may be running, on what the caller looks at next
	}
	select {
	case <-ran:
		return nil
	default:
		return ErrClosed
	}
}

// ask runs f on the loop and waits for it.
func (h *Hub) ask(f func(l *loop)) error {
	ran := make(chan struct{})
	return h.await(call(func(l *loop) { f(l); close(ran) }), ran)
}

// settled waits until the loop and the courier have done what they were handed
// before.
func (h *Hub) settled(ctx context.Context) error {
	if err := h.ask(func(*loop) {}); err != nil {
		return err
	}
	ran := make(chan struct{})
	h.later(func(*Hub) { close(ran) })
	select {
	case <-ran:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-h.done:
		return ErrClosed
	}
}

// guard calls f, and turns a panic into an error and a line in the log.
func (h *Hub) guard(what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			h.log.Error("chathub: panic", "in", what, "panic", v, "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	if err = f(); err != nil {
		_, _ = publicError(err) // here: the methods of an error may panic
	}
	return err
}

// errPanic is what a callback that panicked has returned.
var errPanic = errors.New("chathub: panic")

// Use appends middleware around the handling of every client event. The first
// one is the outermost. It applies to events that arrive from then on; call it before
// the hub serves.
func (h *Hub) Use(m ...Middleware) { h.handlers.use(m) }

// OnlineUsers returns who has a connection to a hub of the cluster, or lost it a
// moment ago, by name, as far as this hub has heard. It fails where ctx or the hub has ended.
func (h *Hub) OnlineUsers(ctx context.Context) (users []User, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = h.ask(func(l *loop) { users = l.online.list() })
	return users, err
}

// RoomUsers returns who is in a room, or lost the connection a moment ago, on all
// hubs of the cluster, by name. Where this hub has no member of the room, it asks the others. It
// fails where ctx or the hub has ended. Where a node did not answer within a second or two, it returns who
// is there as far as is known, and an [Error] with [CodeUnavailable].
func (h *Hub) RoomUsers(ctx context.Context, room string) (users []User, err error) {
	if err := checkRoom(room); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	known := false
	list := func(l *loop) {
		r := l.rooms[room]
		known = len(l.peers.all) == 0 || r != nil && r.looked
		if r != nil {
			users = r.presence.list()
		}
	}
	if err := h.ask(list); err != nil || known {
		return users, err
	}
	t := Topic{Room: room} // to hear what changes while the others answer
	if _, err := h.subs.acquire(ctx, t); err != nil {
		return nil, err
	}
	defer h.release(t)
	looked := h.lookInto(ctx, room)
	return users, errors.Join(looked, h.ask(list))
}

// now is the time that events carry, in Unix milliseconds.
func now() int64 { return time.Now().UnixMilli() }
