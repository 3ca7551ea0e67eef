package natsbroker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats.go"
)

const (
	reconnectWait = 100 * time.Millisecond // and up to as much again
	pingInterval  = 2 * time.Second        // at most two without an answer
	writeTimeout  = 5 * time.Second
	// arrivalsSize is how many messages may wait for delivery. Further ones are
	// dropped. Durable messages are then fetched from the log; volatile ones
	// are lost.
	arrivalsSize = 8192
)

// session is one hub's connection to the broker. Its methods may be called
// concurrently. The goroutine of dispatch delivers all topics. A topic that
// misses messages is delivered by a goroutine of its catchUp instead, until it
// has them all.
type session struct {
	broker  *Broker
	log     *slog.Logger
	deliver func(chathub.Message)
	api     struct{ info, get, direct, delete string }
	nc      *nats.Conn
	replies replies

	arrivals chan *nats.Msg // from all subscriptions
	everyone *topic
	state    atomic.Pointer[streamState]
	// offset is how far the leader's clock is ahead of ours, in milliseconds.
	offset atomic.Int64
	// broken is set once the stream has been replaced by another one, to which
	// the positions do not apply.
	broken atomic.Pointer[error]
	// resync asks watch to compare all topics with the stream. One request is
	// enough, so it has room for one.
	resync     chan struct{}
	overflow   atomic.Bool // arrivals has been full since watch last looked
	answering  atomic.Bool // the stream, when it was asked last
	link       atomic.Pointer[link]
	cacheBytes atomic.Int64 // in the tails of all topics
	// old is the position of the newest message that an earlier version stored.
	// 0: the stream has none.
	old    atomic.Uint64
	direct atomic.Uint64 // see isDirect
	// hazards counts lost connections and overflows, as soon as nats.go has
	// told of them.
	hazards atomic.Uint64
	inboxes inboxes
	owners  ledger
	// reading is held (up to full) by calls that read the stream; see turn.
	reading chan struct{}
	// What the session has seen of other messages than those of its topics.
	erasures erasures
	versions versions
	census   census

	life context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup // all goroutines of the session
	idle chan struct{}  // closed after Close, once work is done

	mu     sync.RWMutex
	topics map[chathub.Topic]*topic
	bySub  map[*nats.Subscription]*topic
	closed bool
}

var errSessionClosed = chathub.Unavailable(chathub.ErrClosed)

var (
	errOtherMessage = &chathub.Error{Code: chathub.CodeConflict, Message: "This id was used for another message"}

	errNotKept  = errors.New("natsbroker: Topic{} and nodes have no log")
	errEveryone = errors.New("natsbroker: every session receives Topic{} without a subscription")
)

func newSession(b *Broker, deliver func(chathub.Message)) *session {
	s := &session{
		broker:   b,
		log:      b.cfg.log,
		deliver:  deliver,
		arrivals: make(chan *nats.Msg, arrivalsSize),
		resync:   make(chan struct{}, 1),
		reading:  make(chan struct{}, readers),
		idle:     make(chan struct{}),
		topics:   make(map[chathub.Topic]*topic),
		bySub:    make(map[*nats.Subscription]*topic),
	}
	api := apiPrefix(b.cfg.domain)
	s.api.info = api + "STREAM.INFO." + b.cfg.name
	s.api.get = api + "STREAM.MSG.GET." + b.cfg.name
	s.api.delete = api + "STREAM.MSG.DELETE." + b.cfg.name
	s.api.direct = api + "DIRECT.GET." + b.cfg.name
	s.life, s.end = context.WithCancel(context.Background())
	s.newLink()
	s.inboxes.init()
	s.erasures.init()
	s.census.turn = make(chan struct{}, 1)
	s.owners.auditing = make(chan struct{}, 1)
	return s
}

// open connects to the server and starts the goroutines of the session.
func (s *session) open(ctx context.Context) error {
	var err error
	if s.nc, err = nats.Connect(s.broker.url, s.broker.connectOptions(ctx, s)...); err != nil {
		return unavailable(err)
	}
	if err := s.replies.open(s.nc); err != nil {
		return unavailable(err)
	}
	s.everyone = newTopic(s, chathub.Topic{})
	if err := s.everyone.listen(); err != nil {
		return unavailable(err)
	}
	// After this round trip, the server knows the subscriptions.
	var st *streamState
	if err := s.persist(ctx, func(ctx context.Context) (err error) {
		st, err = s.broker.openStream(ctx, s.nc)
		return err
	}); err != nil {
		return err
	}
	s.state.Store(st)
	if err := s.persist(ctx, s.findOld); err != nil {
		return err
	}
	_ = s.observe(ctx) // for the clock; the server has just answered
	s.answering.Store(true)
	s.work.Go(s.dispatch)
	s.work.Go(s.watch)
	s.work.Go(s.completeErasures)
	return nil
}

// Publish implements [chathub.BrokerSession]. It repeats the request until
// there is an answer. All repetitions have the same message id, so a message is
// stored once even if its answer was lost.
func (s *session) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	if !m.Topic.Kept() {
		return chathub.Receipt{}, errNotKept
	}
	if err := checkNamed(&m); err != nil {
		return chathub.Receipt{}, err
	}
	if err := s.usable(ctx); err != nil {
		return chathub.Receipt{}, err
	}
	if err := s.admit(ctx, m.Owner); err != nil {
		return chathub.Receipt{}, err
	}
	f := frame{attempt: rand.Uint64(), sum: m.Sum, time: s.now(), key: m.Key, body: m.Body}
	key := m.Key
	if key == "" { // for the repetitions of this call
		key = "\x00" + formatSeq(f.attempt) + formatSeq(rand.Uint64())
	}
	id := messageID(s.broker.cfg.oldSubject(m.Topic), key)
	r, err := s.publish(ctx, &m, &f, id)
	if errors.Is(err, errFirstDropped) {
		// Another node may have stored it, or another message with the same
		// key. With the sum in the id, only the former is a repetition.
		id = messageID(s.broker.cfg.oldSubject(m.Topic), key+"\x00"+formatSeq(m.Sum))
		if r, err = s.publish(ctx, &m, &f, id); errors.Is(err, errFirstDropped) {
			r.Duplicate, err = true, nil
		}
	}
	return r, err
}

// publish stores a message under an id. If the id is known, but its message has
// been dropped and the session has not stored it, the error is errFirstDropped.
func (s *session) publish(ctx context.Context, m *chathub.Message, f *frame, id string) (chathub.Receipt, error) {
	subject := s.broker.cfg.logSubject(m)
	data := f.encode()
	var ack pubAck
	var err error
	var n *naming
	if m.Name != "" {
		n, ack, err = s.storeNamed(ctx, m, f, id, data)
	} else {
		header := metaOf(m)
		meta := header.encode()
		err = s.persist(ctx, func(ctx context.Context) (err error) {
			msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{headerID: {id}}}
			if meta != "" {
				msg.Header[headerMeta] = []string{meta}
			}
			if m.Topic.User != "" && !s.isDirect() {
				ack, err = s.storeNext(ctx, m.Topic, msg)
			} else {
				ack, err = s.store(ctx, msg)
			}
			return err
		})
	}
	if err != nil {
		return chathub.Receipt{}, err
	}
	r := chathub.Receipt{Epoch: s.state.Load().epoch, Seq: ack.Seq, Time: f.time}
	if !ack.Duplicate {
		s.owners.charge(m.Owner, len(subject)+len(data)+storedOverhead, ack.Seq)
		s.broker.recent.add(id, f)
	} else if err := s.judge(ctx, m, f, id, &r); errors.Is(err, errFirstDropped) {
		return r, err
	} else if err != nil {
		return chathub.Receipt{}, err
	}
	if n != nil {
		if err := n.finish(ctx, ack); err != nil {
			return chathub.Receipt{}, err
		}
	}
	return r, nil
}

// pubAck is JetStream's answer to a publish.
type pubAck struct {
	answer
	Stream    string `json:"stream"`
	Seq       uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"`
}

func (s *session) store(ctx context.Context, msg *nats.Msg) (ack pubAck, err error) {
	answer, err := s.nc.RequestMsgWithContext(ctx, msg)
	if errors.Is(err, nats.ErrMaxPayload) {
		return ack, finalError{tooLarge(err)}
	}
	if err != nil {
		return ack, err
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return ack, err
	}
	switch {
	case ack.Error != nil && ack.Error.ErrCode == codeMessageTooLarge:
		return ack, finalError{tooLarge(ack.Error)}
	case ack.Error != nil:
		return ack, ack.Error
	case ack.Seq == 0 || ack.Stream != s.broker.cfg.name:
		return ack, errors.New("the ack is not from the stream")
	}
	return ack, nil
}

func tooLarge(cause error) error {
	return &chathub.Error{Code: chathub.CodeTooLarge, Message: "Message too large", Err: cause}
}

// Send implements [chathub.BrokerSession]. It fails at once if the connection
// is down, because a volatile message is of no use later.
func (s *session) Send(ctx context.Context, m chathub.Message) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	f := frame{time: s.now(), key: m.Key, body: m.Body}
	err := s.nc.Publish(s.broker.cfg.hearSubject(m.Topic), f.encode())
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return tooLarge(err)
	case err != nil:
		return unavailable(err)
	}
	return nil
}

// Read implements [chathub.BrokerSession].
func (s *session) Read(ctx context.Context, t chathub.Topic, r chathub.Range) (page chathub.Page, err error) {
	if !t.Kept() {
		return chathub.Page{}, s.usable(ctx)
	}
	if r.Before > 0 { // a hub reads what a client has missed
		if err := s.usable(ctx); err != nil {
			return chathub.Page{}, err
		}
		if page, ok := s.readTail(t, r, r.Before-1); ok {
			return page, nil
		}
	}
	done, err := s.turn(ctx)
	if err != nil {
		return chathub.Page{}, err
	}
	defer done()
	err = s.persist(ctx, func(ctx context.Context) (err error) {
		page, err = s.read(ctx, t, r)
		return err
	})
	return page, err
}

// Close implements [chathub.BrokerSession].
func (s *session) Close(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		s.broker.mu.Lock()
		delete(s.broker.sessions, s)
		s.broker.mu.Unlock()
		s.end()
		if s.nc != nil {
			s.nc.Close() // after everything that was sent
		}
		go func() {
			s.work.Wait()
			close(s.idle)
		}()
	}
	select {
	case <-s.idle:
		return nil
	default:
	}
	select {
	case <-s.idle:
		return nil
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}

func (s *session) usable(ctx context.Context) error {
	if s.life.Err() != nil {
		return errSessionClosed
	}
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	if err := s.broken.Load(); err != nil {
		return unavailable(*err)
	}
	return nil
}

// start runs f in a goroutine that Close waits for. It does nothing if the
// session is closed.
func (s *session) start(f func()) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.closed {
		s.work.Go(f)
	}
}

// now returns the time on the clock of the stream's leader, in Unix
// milliseconds, up to the time of a round trip. So the times of messages are
// comparable even if the clocks of the nodes differ.
func (s *session) now() int64 { return s.broker.cfg.clock().UnixMilli() + s.offset.Load() }
