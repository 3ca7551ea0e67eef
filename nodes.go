package chathub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// brokerPatience bounds a broker call that nobody's context bounds.
const brokerPatience = 5 * time.Second

// patience returns a context for such a call.
func (h *Hub) patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(h.life, brokerPatience)
}

// subscriptions counts who needs a topic on this hub, and subscribes it while
// someone does. Members of rooms and connections of users each hold one.
type subscriptions struct {
	hub    *Hub
	mu     sync.Mutex
	topics map[Topic]*subscription
}

type subscription struct {
	refs int // guarded by subscriptions.mu

	mu   sync.Mutex // held during the broker's call, so that calls do not overtake
	live bool
	head Position // when it became live
}

func (s *subscriptions) init(h *Hub) {
	s.hub = h
	s.topics = make(map[Topic]*subscription)
}

// acquire subscribes t, if nobody has, and returns the position of its log at
// that time: the loop has been handed all that came after, in order. Each acquire needs
// a release.
func (s *subscriptions) acquire(ctx context.Context, t Topic) (Position, error) {
	s.mu.Lock()
	sub := s.topics[t]
	if sub == nil {
		sub = &subscription{}
		s.topics[t] = sub
	}
	sub.refs++
	s.mu.Unlock()

	sub.mu.Lock()
	defer sub.mu.Unlock()
	if !sub.live {
		head, err := s.hub.session.Subscribe(ctx, t)
		if err != nil {
			s.drop(sub)
			s.forget(t, sub)
			return Position{}, err
		}
		sub.live, sub.head = true, head
	}
	return sub.head, nil
}

// release takes back one acquire, and unsubscribes after the last.
func (s *subscriptions) release(t Topic) {
	s.mu.Lock()
	sub := s.topics[t]
	s.mu.Unlock()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if s.drop(sub) > 0 {
		return
	}
	if sub.live && s.hub.life.Err() == nil { // a session that closes forgets all topics
		ctx, cancel := s.hub.patience()
		defer cancel()
		if err := s.hub.session.Unsubscribe(ctx, t); err != nil {
			// The broker goes on delivering. Who acquires it next finds it live.
			s.hub.log.Warn("chathub: unsubscribe", "topic", t, "err", err)
			return
		}
		sub.live = false
		_ = s.hub.post(call(func(l *loop) { l.released(t) })) // a closed hub forgets it anyway
	}
	s.forget(t, sub)
}

// drop takes back one reference and returns how many are left.
func (s *subscriptions) drop(sub *subscription) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.refs--
	return sub.refs
}

// forget takes a subscription that nobody refers to out of the map. The caller
// holds its mutex: whoever found it in the map meanwhile waits for that, and counts.
func (s *subscriptions) forget(t Topic, sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.refs == 0 {
		delete(s.topics, t)
	}
}

// released forgets the position of a topic that nobody has any more.
func (l *loop) released(t Topic) {
	if r := l.rooms[t.Room]; t.Room != "" && r != nil && len(r.members) == 0 {
		r.pos = Position{}
		l.unfollow(r)
		l.dropIfUnused(r)
	}
	if u := l.users[t.User]; t.User != "" && u != nil && len(u.members) == 0 {
		delete(l.users, t.User)
	}
}

// release is for the loop: it does not wait.
func (h *Hub) release(t Topic) {
	h.later(func(h *Hub) { h.subs.release(t) })
}

// courier does for the loop, in order, what may take time.
type courier struct {
	mu     sync.Mutex
	work   []func(*Hub)
	signal chan struct{} // holds one: there is work
	quit   chan struct{}
	ended  chan struct{}
}

func (c *courier) init() {
	c.signal = make(chan struct{}, 1)
	c.quit = make(chan struct{})
	c.ended = make(chan struct{})
}

func (c *courier) run(h *Hub) {
	defer close(c.ended)
	for {
		c.mu.Lock()
		work := c.work
		c.work = nil
		c.mu.Unlock()
		for _, f := range work {
			f(h)
		}
		if len(work) > 0 {
			continue
		}
		select {
		case <-c.signal:
		case <-c.quit:
			return
		}
	}
}

func (c *courier) stop() {
	close(c.quit)
	<-c.ended
}

// later has f run soon, on another goroutine, after everything that was handed
// over before. It does not wait.
func (h *Hub) later(f func(*Hub)) {
	h.courier.add(f)
}

func (c *courier) add(f func(*Hub)) {
	c.mu.Lock()
	c.work = append(c.work, f)
	c.mu.Unlock()
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// length is how much waits to be begun.
func (c *courier) length() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.work)
}

// sendVolatile sends an event that is not kept. While the broker is away, those on
// this hub get it at least: more was never promised.
func (h *Hub) sendVolatile(ctx context.Context, m Message) error {
	err := h.session.Send(ctx, m)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != CodeUnavailable || ctx.Err() != nil || h.open() != nil {
		return err
	}
	h.deliver(m)
	return nil
}

// deliver is what the broker calls with every message for this hub.
func (h *Hub) deliver(m Message) {
	if isNote(m.Body) {
		h.hearNote(m)
		return
	}
	d := &delivered{topic: m.Topic, seq: m.Seq}
	if err := d.decode(m.Body); err != nil {
		h.log.Error("chathub: message from another node cannot be read", "topic", m.Topic, "seq", m.Seq, "err", err)
		return
	}
	if d.op == opEmit {
		d.frame = frameOf(d.body, m.Seq, m.Time)
		d.small = h.shrinkShared(d.frame)
		if m.Seq == 0 && m.Topic.Room != "" {
			d.typing = typingOf(d.body)
		}
	}
	_ = h.post(d) // a closed hub has nobody to deliver to
}

// delivered is the command that carries out a message from the broker.
type delivered struct {
	routed
	topic Topic
	seq   uint64
	frame []byte
	small []byte // the same compressed; nil: not at hand

	typing *heardTyping // not nil: that is what it is about
}

func (d *delivered) run(l *loop) {
	a := l.audienceOf(d.topic)
	if d.seq > 0 {
		a = l.reached(d.topic, d.seq)
	}
	switch {
	case a == nil:
	case d.op == opEmit && len(d.clients) == 0:
		l.deliver(a, delivery{frame: d.frame, small: d.small, volatile: d.seq == 0, seq: d.seq, except: d.except, once: d.once})
		if d.typing != nil && !l.isHere(d.except) {
			l.hearTyping(l.rooms[d.topic.Room], d.typing, time.Now())
		}
	default:
		l.act(d, l.named(a, d))
	}
}

// isHere reports whether one of the clients of these ids is connected to this hub.
func (l *loop) isHere(ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return l.clients[id] != nil })
}

// reached notes how far a topic's log has been delivered, and returns its
// audience. Delivery may begin before the first member's join is through.
func (l *loop) reached(t Topic, seq uint64) *audience {
	if t.Room != "" {
		r := l.rooms[t.Room]
		if r == nil {
			r = l.newRoom(t.Room)
		}
		r.pos.Seq = seq
		return &r.audience
	}
	u := l.userOf(t.User)
	u.pos.Seq = seq
	return &u.audience
}

// named returns the clients that a message is for.
func (l *loop) named(a *audience, d *delivered) (clients []*Client) {
	if len(d.clients) > 0 {
		for _, id := range d.clients {
			if c := l.clients[id]; c != nil && !slices.Contains(d.except, id) {
				clients = append(clients, c)
			}
		}
		return clients
	}
	for i := range a.members {
		if c := a.members[i].c; !slices.Contains(d.except, c.id) {
			clients = append(clients, c)
		}
	}
	return clients
}

// act does what a message says with each of clients.
func (l *loop) act(d *delivered, clients []*Client) {
	switch d.op {
	case opEmit:
		for _, c := range clients {
			if !c.repeated(d.once) {
				l.send(c, c.pick(d.frame, d.small), true)
			}
		}
	case opJoin:
		l.joinLater(clients, d.rooms)
	case opLeave:
		for _, c := range clients {
			for _, name := range d.rooms {
				if r := l.rooms[name]; r != nil && c.seatIn(&r.audience) >= 0 {
					l.leave(c, r, false)
				}
			}
		}
	case opDisconnect:
		for _, c := range clients {
			l.flushFor(c)
			l.close(c, closeDisconnected, string(d.body))
		}
	case opCount:
	}
}

// joinLater has clients join rooms, which takes the broker.
func (l *loop) joinLater(clients []*Client, rooms []string) {
	l.hub.later(func(h *Hub) {
		for _, c := range clients {
			ctx, cancel := h.patience()
			if err := c.Join(ctx, rooms...); err != nil {
				h.log.Warn("chathub: join", "client", c.id, "rooms", rooms, "err", err)
			}
			cancel()
		}
	})
}
