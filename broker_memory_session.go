package chathub

import (
	"context"
	"errors"
	"sync"
	"time"
)

// memorySession is one hub's attachment to a MemoryBroker.
type memorySession struct {
	broker  *MemoryBroker
	deliver func(Message)

	mu         sync.Mutex // taken before MemoryBroker.mu
	closed     bool
	delivering int
	drained    chan struct{} // closed once closed is set and delivering is 0
}

var (
	errSessionClosed = Unavailable(ErrClosed)
	errEveryTopic    = errors.New("chathub: Topic{} has no subscriptions")
	errNoLog         = errors.New("chathub: nothing can be published where there is no log")
	errOtherMessage  = &Error{Code: CodeConflict, Message: "This id was used for another message"}
)

func (ms *memorySession) Publish(ctx context.Context, m Message) (Receipt, error) {
	if !m.Topic.Kept() {
		return Receipt{}, errNoLog
	}
	if err := checkNamed(&m); err != nil {
		return Receipt{}, err
	}
	l, err := ms.enter(ctx, m.Topic, true)
	if err != nil {
		return Receipt{}, err
	}
	defer ms.leave(l)

	r, sessions, err := l.append(&m, time.Now().UnixMilli(), &ms.broker.limits, &ms.broker.ledger)
	if ms.broker.overfull() {
		ms.broker.relieve()
	}
	if err != nil || r.Duplicate {
		return r, err
	}
	m.Seq, m.Time, m.Expect = r.Seq, r.Time, nil
	for _, to := range sessions {
		to.receive(m)
	}
	return r, nil
}

func (ms *memorySession) Send(ctx context.Context, m Message) error {
	l, err := ms.enter(ctx, m.Topic, false)
	if err != nil || l == nil {
		return err
	}
	defer ms.leave(l)
	m.Seq, m.Time = 0, time.Now().UnixMilli()
	for _, to := range l.audience() {
		to.receive(m)
	}
	return nil
}

// Subscribe does not wait for a delivery of the topic that is going on. The
// position that it returns is past that message, which is not for ms.
func (ms *memorySession) Subscribe(ctx context.Context, t Topic) (Position, error) {
	if t == (Topic{}) {
		return Position{}, errEveryTopic
	}
	if err := ms.usable(ctx); err != nil {
		return Position{}, err
	}
	l := ms.broker.acquire(t, true)
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.closed {
		ms.broker.release(l)
		return Position{}, errSessionClosed
	}
	head, added := l.add(ms)
	if !added {
		ms.broker.release(l)
		return head, nil
	}
	ms.broker.mu.Lock()
	ms.broker.idle.remove(l)
	ms.broker.mu.Unlock()
	return head, nil
}

// Unsubscribe waits for a delivery of the topic that is going on. Otherwise,
// its message could come after a new Subscribe whose position is past it.
func (ms *memorySession) Unsubscribe(ctx context.Context, t Topic) error {
	l, err := ms.enter(ctx, t, false)
	if err != nil || l == nil {
		return err
	}
	defer ms.leave(l)
	if l.remove(ms) {
		ms.broker.release(l)
	}
	return nil
}

// Close detaches the session at once. Only a deliver that has begun may take
// longer. If ctx ends first, Close may be called again to wait for it.
func (ms *memorySession) Close(ctx context.Context) error {
	ms.mu.Lock()
	if !ms.closed {
		ms.closed = true
		if ms.delivering == 0 {
			close(ms.drained)
		}
	}
	ms.mu.Unlock()
	ms.broker.everyone.remove(ms)
	for _, l := range ms.broker.logs() {
		if l.remove(ms) {
			ms.broker.release(l)
		}
	}

	select {
	case <-ms.drained:
		return nil
	default:
	}
	select {
	case <-ms.drained:
		return nil
	case <-ctx.Done():
		return Unavailable(ctx.Err())
	}
}

func (ms *memorySession) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return Unavailable(err)
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.closed {
		return errSessionClosed
	}
	return nil
}

// enter acquires the log of a topic and waits for its turn in it. The log is
// nil if there is none and create is false.
func (ms *memorySession) enter(ctx context.Context, t Topic, create bool) (*memoryLog, error) {
	if err := ms.usable(ctx); err != nil {
		return nil, err
	}
	l := ms.broker.acquire(t, create)
	if l == nil {
		return nil, nil
	}
	line := l.line()
	select {
	case line <- struct{}{}: // mostly; this is cheaper than the select below
		return l, nil
	default:
	}
	select {
	case line <- struct{}{}:
		return l, nil
	case <-ctx.Done():
		ms.broker.release(l)
		return nil, Unavailable(ctx.Err())
	}
}

// leave ends what enter began.
func (ms *memorySession) leave(l *memoryLog) {
	<-l.turn // enter has seen it, so it does not change
	ms.broker.release(l)
}

// receive hands m to the hub, unless the session is closed.
func (ms *memorySession) receive(m Message) {
	ms.mu.Lock()
	if ms.closed {
		ms.mu.Unlock()
		return
	}
	ms.delivering++
	ms.mu.Unlock()
	defer func() {
		ms.mu.Lock()
		defer ms.mu.Unlock()
		if ms.delivering--; ms.closed && ms.delivering == 0 {
			close(ms.drained)
		}
	}()
	ms.deliver(m)
}
