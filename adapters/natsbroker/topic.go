package natsbroker

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats.go"
)

// pendingSize is how many volatile messages wait while a topic catches up.
const pendingSize = 256

// topic is a subscription of a session.
type topic struct {
	s     *session
	name  chathub.Topic
	place place
	sub   *nats.Subscription
	life  context.Context // ends when the session unsubscribes
	end   context.CancelFunc
	tail  tail
	names index
	// delivers is set while all messages after the position of Subscribe are
	// delivered.
	delivers atomic.Bool

	// calls is held (full) during Subscribe and Unsubscribe, and indexing while
	// names are read into the index.
	calls, indexing chan struct{}
	// turn is held (full) while a message is delivered, and guards the fields
	// below. It is a channel so that a caller who waits for it can give up.
	turn chan struct{}

	live bool   // Subscribe has succeeded
	gone bool   // Unsubscribe has succeeded, or Subscribe failed
	seq  uint64 // of the newest message delivered, or the position of Subscribe
	// behind is set while messages up to target are missing and catchUp fetches
	// them. In the meantime, dispatch delivers nothing. Durable messages that
	// arrive raise the target, and volatile ones wait in pending. Durable ones
	// wait in arrived, as long as there is room, because they may be replaced
	// in the log before they are fetched.
	behind  bool
	target  uint64
	pending []chathub.Message
	arrived []entry // in order
	// risks is what may have lost messages before the topic was known to be
	// complete; see isComplete.
	risks risks
	// verified is the position up to which no named message is missing, and
	// named has the positions of those that were delivered after it; see
	// verify.
	verified uint64
	named    map[uint64]struct{}
}

func newTopic(s *session, name chathub.Topic) *topic {
	t := &topic{
		s:        s,
		name:     name,
		place:    s.broker.cfg.place(name),
		calls:    make(chan struct{}, 1),
		indexing: make(chan struct{}, 1),
		turn:     make(chan struct{}, 1),
	}
	t.life, t.end = context.WithCancel(s.life)
	return t
}

// listen starts the arrival of messages.
func (t *topic) listen() error {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errSessionClosed
	}
	sub, err := s.nc.ChanSubscribe(s.broker.cfg.hearSubject(t.name), s.arrivals)
	if err != nil {
		return err
	}
	t.sub = sub
	s.bySub[sub] = t
	return nil
}

// drop ends the arrival of messages and removes the topic from the session. The
// caller holds turn.
func (t *topic) drop() {
	t.gone = true
	t.delivers.Store(false)
	t.end()
	s := t.s
	s.cacheBytes.Add(-int64(t.tail.forget() + t.names.forget()))
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.topics, t.name)
	if t.sub != nil {
		delete(s.bySub, t.sub)
		_ = t.sub.Unsubscribe() // or the connection is closed
	}
}

func hold(ctx context.Context, lock chan struct{}) error {
	select {
	case lock <- struct{}{}:
		return nil
	default:
	}
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}

// enter returns a topic and holds its calls. If the session does not have the
// topic, it is created, or nil if create is false.
func (s *session) enter(ctx context.Context, name chathub.Topic, create bool) (*topic, error) {
	for {
		if err := s.usable(ctx); err != nil {
			return nil, err
		}
		s.mu.Lock()
		t := s.topics[name]
		if t == nil && create && !s.closed {
			t = newTopic(s, name)
			s.topics[name] = t
		}
		s.mu.Unlock()
		if t == nil {
			return nil, s.usable(ctx)
		}
		if err := hold(ctx, t.calls); err != nil {
			return nil, err
		}
		if t.life.Err() == nil {
			return t, nil
		}
		<-t.calls // dropped in the meantime
	}
}

// Subscribe implements [chathub.BrokerSession]. It starts to listen before it
// asks the leader for the head of the log. The leader learns of the
// subscription first, because both take the same way.
func (s *session) Subscribe(ctx context.Context, name chathub.Topic) (chathub.Position, error) {
	if name == (chathub.Topic{}) {
		return chathub.Position{}, errEveryone
	}
	t, err := s.enter(ctx, name, true)
	if err != nil {
		return chathub.Position{}, err
	}
	defer func() { <-t.calls }()
	if err := hold(ctx, t.turn); err != nil {
		return chathub.Position{}, err
	}
	live, seq := t.live, t.seq
	t.behind = t.behind || !live
	if !live {
		t.risks = t.present()
	}
	<-t.turn
	if live {
		head, err := s.position(ctx, t)
		return s.at(name, max(head, seq)), err
	}

	err = t.listen()
	if err == nil {
		seq, err = s.position(ctx, t)
	}
	t.turn <- struct{}{} // not for long, because nothing is delivered yet
	defer func() { <-t.turn }()
	if err != nil {
		t.drop()
		return chathub.Position{}, asUnavailable(err)
	}
	t.live = true
	t.seq, t.verified = seq, seq
	t.tail.begin(seq)
	t.delivers.Store(true)
	s.start(t.catchUp) // clears behind
	return s.at(name, seq), nil
}

// at returns a position in the log of a topic. Nodes have no log.
func (s *session) at(name chathub.Topic, seq uint64) chathub.Position {
	if !name.Kept() {
		return chathub.Position{}
	}
	return chathub.Position{Epoch: s.state.Load().epoch, Seq: seq}
}

// position returns the head of a topic's log. The head of an empty log is the
// end of the stream a moment ago, because every later message of the topic
// comes after it. A node has no log, and only needs the round trip.
func (s *session) position(ctx context.Context, t *topic) (head uint64, err error) {
	if !t.name.Kept() {
		return 0, s.persist(ctx, func(ctx context.Context) error { return s.nc.FlushWithContext(ctx) })
	}
	empty := s.state.Load().lastSeq
	err = s.persist(ctx, func(ctx context.Context) (err error) {
		head, err = s.head(ctx, t.place)
		return err
	})
	if head == 0 {
		head = empty
	}
	return head, err
}

// Unsubscribe implements [chathub.BrokerSession].
func (s *session) Unsubscribe(ctx context.Context, name chathub.Topic) error {
	t, err := s.enter(ctx, name, false)
	if err != nil || t == nil {
		return err
	}
	defer func() { <-t.calls }()
	if err := hold(ctx, t.turn); err != nil {
		return err
	}
	defer func() { <-t.turn }()
	t.drop()
	return nil
}

// dispatch delivers messages in the order of their arrival.
func (s *session) dispatch() {
	for {
		select {
		case m := <-s.arrivals:
			s.mu.RLock()
			t := s.bySub[m.Sub]
			s.mu.RUnlock()
			if t != nil {
				t.receive(m)
			}
		case <-s.life.Done():
			return
		}
	}
}

// receive delivers a message that has arrived, or leaves it to catchUp.
func (t *topic) receive(m *nats.Msg) {
	var seq, before uint64
	known := true
	if m.Header != nil {
		var bad error
		if seq, bad = number(m, "Nats-Sequence"); bad == nil {
			before, known, bad = predecessor(m, t.place.shared)
		}
		if bad != nil {
			t.s.log.Error("natsbroker: republished message", "topic", t.name, "err", bad)
			return
		}
	}
	if hold(t.life, t.turn) != nil {
		return
	}
	defer func() { <-t.turn }()
	switch {
	case t.gone:
	case seq == 0:
		t.volatile(m)
	case t.behind:
		t.target = max(t.target, seq)
		t.keepArrived(seq, m)
	case seq <= t.seq:
	case before > t.seq, seq > t.seq+1 && !t.isComplete(known):
		t.fallBehind(seq)
		t.keepArrived(seq, m)
	default:
		t.durable(seq, m.Header, m.Data)
	}
}

// volatile delivers a volatile message. The caller holds turn.
func (t *topic) volatile(m *nats.Msg) {
	msg, err := message(t.name, 0, nil, m.Data)
	switch {
	case err != nil:
		t.s.log.Error("natsbroker: volatile message", "topic", t.name, "err", err)
	case !t.behind:
		t.hand(msg)
	case len(t.pending) < pendingSize:
		t.pending = append(t.pending, msg)
	}
}

// durable delivers the next message of the log. The caller holds turn.
func (t *topic) durable(seq uint64, header nats.Header, data []byte) {
	msg, err := message(t.name, seq, header, data)
	if err != nil {
		t.s.log.Error("natsbroker: a stored message cannot be read", "topic", t.name, "seq", seq, "err", err)
		t.tail.reached(seq)
	} else {
		if msg.Name != "" {
			t.isNamed(&msg)
		}
		t.keep(msg) // after its name is known, see namesOfKind
		t.hand(msg)
	}
	t.seq = seq
}

// namedKept is how many positions of named messages a topic remembers if none
// is lost without a trace.
const namedKept = 64

// isNamed takes note of a named message that is being delivered. The caller
// holds turn.
func (t *topic) isNamed(m *chathub.Message) {
	t.s.saw(m)
	if m.Erase {
		t.s.erasures.add(t.name, m.Tied) // keep will drop it
	}
	if len(t.named) >= namedKept && t.s.isDirect() {
		t.verified, t.named = t.seq, nil
	}
	if t.named == nil {
		t.named = make(map[uint64]struct{})
	}
	t.named[m.Seq] = struct{}{}
}

// hand calls deliver, unless the session is closed. The caller holds turn.
func (t *topic) hand(m chathub.Message) {
	if t.s.life.Err() == nil {
		t.s.deliver(m)
	}
}

func asUnavailable(err error) error {
	var e *chathub.Error
	if errors.As(err, &e) {
		return err
	}
	return unavailable(err)
}
