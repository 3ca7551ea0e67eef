package chathub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
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
	courier  courier
	lane     courier // what is said to peers
	laneRuns bool    // there was one; owned by the loop
	handlers registry
	figures  figures
	// deflating counts the registered clients that take compressed frames.
	deflating atomic.Int64
}

// figures are what Stats counts since the beginning.
type figures struct {
	accepted, refused, received atomic.Uint64
	droppedDirect               atomic.Uint64 // in Client.Emit, past the loop

	// Published by the loop.
	connections, users, rooms atomic.Int64
	delivered, dropped, slow  atomic.Uint64
	behind                    atomic.Int64 // since when the queue was never empty, Unix nanoseconds; 0: it was just now
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

// now is the time that events carry, in Unix milliseconds.
func now() int64 { return time.Now().UnixMilli() }

// ask runs f on the loop and waits for it.
func (h *Hub) ask(f func(l *loop)) error {
	ran := make(chan struct{})
	return h.await(call(func(l *loop) { f(l); close(ran) }), ran)
}

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

// Stats returns figures of this moment. It does not wait for anything.
func (h *Hub) Stats() Stats {
	f := &h.figures
	stats := Stats{
		Connections:   int(f.connections.Load()),
		Users:         int(f.users.Load()),
		Rooms:         int(f.rooms.Load()),
		QueueLength:   len(h.commands),
		Accepted:      f.accepted.Load(),
		Refused:       f.refused.Load(),
		Received:      f.received.Load(),
		Delivered:     f.delivered.Load(),
		Dropped:       f.dropped.Load() + f.droppedDirect.Load(),
		SlowConsumers: f.slow.Load(),
	}
	if since := f.behind.Load(); since != 0 {
		stats.QueueAge = time.Since(time.Unix(0, since))
	}
	return stats
}

func (l *loop) publishStats() {
	f := &l.hub.figures
	f.connections.Store(int64(len(l.clients)))
	f.users.Store(int64(len(l.users)))
	f.rooms.Store(int64(len(l.rooms)))
	f.delivered.Store(l.delivered)
	f.dropped.Store(l.dropped)
	f.slow.Store(l.slow)
	switch waiting := len(l.hub.commands) > 0; {
	case !waiting:
		f.behind.Store(0)
	case f.behind.Load() == 0:
		f.behind.Store(time.Now().UnixNano())
	}
}

// Shutdown ends the hub: it refuses new connections, tells every client to come
// back at a time spread over Config.DrainWindow, lets the handlers that are running finish and
// be acknowledged, sends what waits, and closes with 4000. When ctx ends first, it
// closes the connections that are left at once, stops waiting for handlers, whose contexts
// end, and returns ctx's error. Where it is called several times, all calls wait for the same
// end, and the first ctx to end cuts it short. A handler must not call it: it would wait for
// itself. http.Server.Shutdown neither waits for nor closes WebSocket connections: call both.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.closing.Do(func() { go h.shutdown() })
	select {
	case <-h.stopped:
	case <-ctx.Done():
		h.hurry(ctx.Err())
	}
	return errors.Join(h.cutShort, h.closeErr)
}

// Close ends the hub at once; clients see their connections break off. A Shutdown
// that is going on returns [ErrClosed].
func (h *Hub) Close() error {
	h.closing.Do(func() { go h.shutdown() })
	h.hurry(ErrClosed)
	return h.closeErr
}

// hurry ends a shutdown at once.
func (h *Hub) hurry(why error) {
	select {
	case h.impatient <- why:
	default: // someone was faster
	}
	<-h.stopped
}

func (h *Hub) shutdown() {
	defer close(h.stopped)
	h.draining.Store(true)
	gone := h.entrance.close()
	_ = h.ask((*loop).drain)
	select {
	case <-gone:
		h.lastWords()
	case why := <-h.impatient:
		select {
		case <-gone: // nobody was left to wait for
		default:
			h.cutShort = why
			h.entrance.abort()
		}
	}
	close(h.done)
	h.end()
	h.courier.stop()
	<-h.ended
	if h.laneRuns {
		h.lane.stop()
		h.sayBye()
	}
	// What was acked is in the log: nothing is left to be said that would be worth
	// more patience.
	ctx, cancel := context.WithTimeout(context.Background(), brokerPatience)
	defer cancel()
	h.closeErr = h.session.Close(ctx)
}

// lastWords waits until the courier has said what clients that have gone leave to be
// said, such as that they do not type any more.
func (h *Hub) lastWords() {
	ctx, cancel := h.patience()
	defer cancel()
	said := make(chan struct{})
	go func() {
		defer close(said)
		_ = h.settled(ctx) // it is too late for anything else
	}()
	select {
	case <-said:
	case <-h.impatient: //nolint:errcheck // why does not matter: all clients were waited for
		cancel()
		<-said
	}
}

// drain tells every client when to come back, and closes those that are idle; the
// others close when their handler has returned.
func (l *loop) drain() {
	for _, c := range l.clients {
		l.tellReconnect(c)
		if !c.isHandling() {
			l.close(c, closeShutdown, shutdownReason)
		}
	}
}

// tellReconnect tells a client when to come back, once. A handler that returns right
// after draining was set closes its client before drain is there to tell it.
func (l *loop) tellReconnect(c *Client) {
	if c.told {
		return
	}
	c.told = true
	after := spread(l.cfg.DrainWindow).Milliseconds()
	e := envelope{typ: "reconnect", data: fmt.Appendf(nil, `{"afterMs":%d}`, after)}
	l.send(c, e.frame(), false)
}

const shutdownReason = "server is shutting down"

// newID returns a random id of 80 bits that nobody can guess.
func newID(prefix string) string { return prefix + rand.Text()[:16] }
