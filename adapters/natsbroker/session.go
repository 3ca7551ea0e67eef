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
	pingInterval  = 2 * time.Second        // two without an answer, and the connection is given up
	writeTimeout  = 5 * time.Second
	// arrivalsSize is how many messages may wait to be delivered. What comes beyond
	// that is dropped: volatile messages are lost, durable ones fetched again.
	arrivalsSize = 8192
)

// session is one hub's attachment. Its topics are delivered by the goroutine of
// dispatch, or, while one lacks messages, by one of catchUp.
type session struct {
	broker  *Broker
	log     *slog.Logger
	deliver func(chathub.Message)
	api     struct{ info, get, direct string }
	nc      *nats.Conn
	replies replies

	arrivals chan *nats.Msg // of all subscriptions
	everyone *topic
	state    atomic.Pointer[streamState]
	// offset is what the leader's clock is ahead of the one here, in milliseconds.
	offset atomic.Int64
	// broken is set when the stream is not the one any more that the positions are of.
	broken atomic.Pointer[error]
	// resync holds one: all topics must be compared with the stream.
	resync  chan struct{}
	dropped atomic.Bool // a message was, since the watch last looked
	link    atomic.Pointer[link]
	cached  atomic.Int64 // bytes in the tails of all topics

	life context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup // goroutines that may call deliver, and others
	idle chan struct{}  // closed once work has ended after Close

	mu     sync.RWMutex
	topics map[chathub.Topic]*topic
	bySub  map[*nats.Subscription]*topic
	closed bool
}

var errSessionClosed = &chathub.Error{Code: chathub.CodeUnavailable, Message: "Try again", Err: chathub.ErrClosed}

var (
	errOtherMessage = &chathub.Error{Code: chathub.CodeConflict, Message: "This id was used for another message"}

	errNotKept  = errors.New("natsbroker: Topic{} and nodes have no log")
	errEveryone = errors.New("natsbroker: every session hears Topic{}, and cannot subscribe it")
)

func newSession(b *Broker, deliver func(chathub.Message)) *session {
	s := &session{
		broker:   b,
		log:      b.cfg.log,
		deliver:  deliver,
		arrivals: make(chan *nats.Msg, arrivalsSize),
		resync:   make(chan struct{}, 1),
		idle:     make(chan struct{}),
		topics:   make(map[chathub.Topic]*topic),
		bySub:    make(map[*nats.Subscription]*topic),
	}
	api := apiPrefix(b.cfg.domain)
	s.api.info = api + "STREAM.INFO." + b.cfg.name
	s.api.get = api + "STREAM.MSG.GET." + b.cfg.name
	s.api.direct = api + "DIRECT.GET." + b.cfg.name
	s.life, s.end = context.WithCancel(context.Background())
	s.newLink()
	return s
}

// open connects, and starts what runs until Close.
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
	// A round trip: the subscriptions are known to the server.
	var st *streamState
	if err := s.persist(ctx, func(ctx context.Context) (err error) {
		st, err = s.broker.openStream(ctx, s.nc)
		return err
	}); err != nil {
		return err
	}
	s.state.Store(st)
	_ = s.observe(ctx) // for the clock; it has just answered
	s.work.Go(s.dispatch)
	s.work.Go(s.watch)
	return nil
}

// Publish tries until it is answered, or time is up. A repetition has the same message id, so
// one that was stored without an answer is found.
func (s *session) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	if !kept(m.Topic) {
		return chathub.Receipt{}, errNotKept
	}
	if err := s.usable(ctx); err != nil {
		return chathub.Receipt{}, err
	}
	f := frame{attempt: rand.Uint64(), sum: m.Sum, time: s.now(), key: m.Key, body: m.Body}
	subject := s.logSubject(m.Topic)
	id := m.Key
	if id == "" {
		id = "\x00" + formatSeq(f.attempt) + formatSeq(rand.Uint64()) // of this call alone
	}
	msg := &nats.Msg{Subject: subject, Data: f.encode(), Header: nats.Header{"Nats-Msg-Id": {messageID(subject, id)}}}
	var ack pubAck
	err := s.persist(ctx, func(ctx context.Context) error {
		ack = pubAck{}
		return s.store(ctx, msg, &ack)
	})
	if err != nil {
		return chathub.Receipt{}, err
	}
	r := chathub.Receipt{Epoch: s.state.Load().epoch, Seq: ack.Seq, Time: f.time}
	if ack.Duplicate {
		first, err := s.first(ctx, ack.Seq)
		if err != nil {
			return chathub.Receipt{}, err
		}
		if first.attempt != f.attempt { // else an earlier try of this call
			if first.sum != f.sum && first.sum != 0 && f.sum != 0 {
				return chathub.Receipt{}, errOtherMessage
			}
			r.Duplicate = true
			if first.time > 0 {
				r.Time = first.time
			}
		}
	}
	return r, nil
}

// pubAck is how JetStream answers a publish.
type pubAck struct {
	answer
	Stream    string `json:"stream"`
	Seq       uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"`
}

func (s *session) store(ctx context.Context, msg *nats.Msg, ack *pubAck) error {
	answer, err := s.nc.RequestMsgWithContext(ctx, msg)
	if errors.Is(err, nats.ErrMaxPayload) {
		return finalError{tooLarge(err)}
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer.Data, ack); err != nil {
		return err
	}
	switch {
	case ack.Error != nil && ack.Error.ErrCode == codeMessageTooLarge:
		return finalError{tooLarge(ack.Error)}
	case ack.Error != nil:
		return ack.Error
	case ack.Seq == 0 || ack.Stream != s.broker.cfg.name:
		return errors.New("an ack of something else")
	}
	return nil
}

func tooLarge(cause error) error {
	return &chathub.Error{Code: chathub.CodeTooLarge, Message: "Message too large", Err: cause}
}

// first returns the message that was stored under a repeated key. If the stream
// has dropped it since, its sum is not known any more, and the result is empty.
func (s *session) first(ctx context.Context, seq uint64) (f frame, err error) {
	var m stored
	err = s.persist(ctx, func(ctx context.Context) (err error) {
		m, err = s.get(ctx, `{"seq":`+formatSeq(seq)+`}`)
		return err
	})
	if err == nil && m.seq != 0 {
		err = f.decode(m.data)
	}
	return f, err
}

// Send does not wait for a connection that is down: what is volatile is of no
// use later.
func (s *session) Send(ctx context.Context, m chathub.Message) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	f := frame{time: s.now(), key: m.Key, body: m.Body}
	err := s.nc.Publish(s.hearSubject(m.Topic), f.encode())
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
	if !kept(t) {
		return chathub.Page{}, s.usable(ctx)
	}
	if r.Before > 0 { // how a hub asks what a client has missed
		if err := s.usable(ctx); err != nil {
			return chathub.Page{}, err
		}
		if page, ok := s.readTail(t, r, r.Before-1); ok {
			return page, nil
		}
	}
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
		s.end()
		if s.nc != nil {
			s.nc.Close() // what was sent leaves first
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

// start runs f unless the session is closed; Close waits for it.
func (s *session) start(f func()) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.closed {
		s.work.Go(f)
	}
}

// now is the time of the stream's leader, as far as it is known, in Unix
// milliseconds: nodes whose clocks differ give messages times that do not.
func (s *session) now() int64 { return s.broker.cfg.clock().UnixMilli() + s.offset.Load() }
