package chathub

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// MemoryBroker is a [Broker] within one process; hubs that share one are the
// nodes of one cluster. What it keeps ends with the process. The zero value is
// ready. Its fields are read at the first Attach and must not change after that:
// zero means the default, negative means off.
//
// Publish and Send deliver before they return, on the goroutine of their
// caller. A hub that is slow to take a message makes those wait who publish,
// send or unsubscribe in the same topic, and nobody else; who waits gives up when
// its ctx ends, having done nothing. A deliver that has begun is not cut short: a
// hub that closes its session lets it return, and Close waits for that.
//
// A topic without subscriptions keeps its log until MaxAge (or DuplicateWindow,
// where that is longer) has passed since it was last used, or MaxIdleTopics
// or MaxTotalBytes asks for room. If it is used again, its log begins anew, under
// another epoch. There are no goroutines and timers: what is due goes when the
// broker is used next, and it needs no closing.
type MemoryBroker struct {
	// MaxMessages bounds the number of messages in the log of a topic. Default 1000.
	MaxMessages int
	// MaxBytes bounds the log of a topic. A message counts with its Body, its
	// Key and 96 bytes more. One that is larger than that by itself is delivered
	// but not kept. Default 1 MiB.
	MaxBytes int
	// MaxAge is how long a message is kept. The memory of older ones is free once
	// their log is used again or dropped; they are never read. Default 24 h.
	MaxAge time.Duration
	// MaxIdleTopics bounds the number of logs without subscriptions, such as the
	// inboxes of users who are not there: beyond it, the least recently used one is
	// dropped. A log costs about 300 bytes, and some 500 once it has had a message, besides those. Default 100,000.
	MaxIdleTopics int
	// MaxTotalBytes bounds all logs together: their messages, counted as in
	// MaxBytes, and their remembered keys. Beyond it, logs without subscriptions are
	// dropped, the least recently used first; then larger ones lose the older half of
	// their messages, or, without messages, of their keys. It cannot be off: without
	// it, the bound would be MaxBytes times the number of topics, which clients
	// choose. Default 256 MiB.
	MaxTotalBytes int
	// DuplicateWindow is how long the Key of a message is remembered, while its
	// topic has a log, even where the message is gone sooner. Of one topic the newest
	// 4 × MaxMessages keys are remembered (4000 where that is off), each at the cost of
	// the key and 96 bytes. Off: a repeated message is stored again. Default 5 min.
	DuplicateWindow time.Duration

	once    sync.Once
	invalid error
	limits  memoryLimits
	// everyone has all sessions and keeps nothing: Topic{}.
	everyone *memoryLog
	// total is what the messages and keys of all logs cost.
	total atomic.Int64

	mu     sync.RWMutex // taken before memoryLog.mu
	topics map[Topic]*memoryLog
	// idle has the logs without users, the least recently used first. One that a
	// call is using at this moment may be among them, one with subscriptions is not.
	idle list.List
}

// What a message and a remembered key occupy besides their bytes: their place
// in a ring that is between a quarter and wholly full, and in the index.
const (
	messageCost = 96
	keyCost     = 96
)

// memoryLimits are the fields of a MemoryBroker with their defaults; what is off
// is too large to matter. Times are in milliseconds.
type memoryLimits struct {
	messages, bytes, idleTopics, total, keys int

	age    int64
	window int64 // negative: no keys
	idle   int64 // how long an unused log is kept
}

func (b *MemoryBroker) validate() error {
	var errs []error
	if b.MaxTotalBytes < 0 {
		errs = append(errs, errors.New("MemoryBroker: MaxTotalBytes cannot be off: memory must be bounded"))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"MaxAge", b.MaxAge}, {"DuplicateWindow", b.DuplicateWindow}} {
		if 0 < d.value && d.value < time.Millisecond {
			errs = append(errs, fmt.Errorf("MemoryBroker: %s (%v) is less than a millisecond", d.name, d.value))
		}
	}
	return errors.Join(errs...)
}

func (b *MemoryBroker) start() {
	if b.invalid = b.validate(); b.invalid != nil {
		return
	}
	orOff := func(v, byDefault int) int {
		def(&v, byDefault)
		if v < 0 {
			return math.MaxInt
		}
		return v
	}
	b.limits = memoryLimits{
		messages:   orOff(b.MaxMessages, 1000),
		bytes:      orOff(b.MaxBytes, 1<<20),
		idleTopics: orOff(b.MaxIdleTopics, 100_000),
		total:      orOff(b.MaxTotalBytes, 256<<20),
		keys:       4000,
		age:        math.MaxInt64,
		window:     -1,
		idle:       math.MaxInt64,
	}
	if b.MaxMessages > 0 {
		b.limits.keys = 4 * min(b.MaxMessages, math.MaxInt/4)
	}
	age, window := b.MaxAge, b.DuplicateWindow
	def(&age, 24*time.Hour)
	def(&window, 5*time.Minute)
	if window > 0 {
		b.limits.window = window.Milliseconds()
	}
	if age > 0 {
		b.limits.age = age.Milliseconds()
		b.limits.idle = max(b.limits.age, b.limits.window)
	}
	b.topics = make(map[Topic]*memoryLog)
	b.everyone = newMemoryLog(Topic{}, "")
	b.everyone.users.Add(1) // for ever
}

// Attach implements [Broker]. It fails where a field has no meaning.
func (b *MemoryBroker) Attach(ctx context.Context, deliver func(Message)) (BrokerSession, error) {
	b.once.Do(b.start)
	if b.invalid != nil {
		return nil, b.invalid
	}
	if err := ctx.Err(); err != nil {
		return nil, Unavailable(err)
	}
	s := &memorySession{
		broker:  b,
		deliver: deliver,
		drained: make(chan struct{}),
	}
	b.everyone.add(s)
	return s, nil
}

// acquire returns the log of a topic, which will not be dropped before its
// release. Where there is none, it is created, or nil.
func (b *MemoryBroker) acquire(t Topic, create bool) *memoryLog {
	if t == (Topic{}) {
		b.everyone.users.Add(1)
		return b.everyone
	}
	b.mu.RLock()
	l := b.topics[t]
	if l != nil {
		l.users.Add(1) // under mu: whoever holds it alone may drop l
	}
	b.mu.RUnlock()
	if l != nil || !create {
		return l
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	if l = b.topics[t]; l == nil {
		epoch := ""
		if t.Kept() {
			epoch = strings.ToLower(rand.Text()[:10])
		}
		l = newMemoryLog(t, epoch)
		b.topics[t] = l
	}
	l.users.Add(1)
	b.sweep(time.Now().UnixMilli())
	return l
}

// logs returns all logs of this moment.
func (b *MemoryBroker) logs() []*memoryLog {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Collect(maps.Values(b.topics))
}

func (b *MemoryBroker) release(l *memoryLog) {
	if l.users.Add(-1) > 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.dropped || l.users.Load() > 0 {
		return
	}
	if !l.topic.Kept() {
		delete(b.topics, l.topic)
		l.dropped = true
		return
	}
	l.used = time.Now().UnixMilli()
	if l.idle == nil {
		l.idle = b.idle.PushBack(l)
	} else {
		b.idle.MoveToBack(l.idle)
	}
	b.sweep(l.used)
}

// sweep drops idle logs that are too old or too many. It needs mu.
func (b *MemoryBroker) sweep(now int64) {
	for e := b.idle.Front(); e != nil; e = b.idle.Front() {
		l := e.Value.(*memoryLog)
		if b.idle.Len() <= b.limits.idleTopics && now-l.used <= b.limits.idle && !b.overfull() {
			return
		}
		b.busy(l)
		if l.users.Load() == 0 {
			delete(b.topics, l.topic)
			l.dropped = true
			b.total.Add(-int64(l.bytes + l.keyBytes))
		}
	}
}

// busy takes a log out of the idle ones. It needs mu.
func (b *MemoryBroker) busy(l *memoryLog) {
	if l.idle != nil {
		b.idle.Remove(l.idle)
		l.idle = nil
	}
}

func (b *MemoryBroker) overfull() bool { return b.total.Load() > int64(b.limits.total) }

// relieve brings the total below its bound. The larger of a few logs that the
// map's random order offers is the one to give, so that a topic full of
// messages does not starve the others.
func (b *MemoryBroker) relieve() {
	const sample = 8
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now().UnixMilli()
	b.sweep(now)
	for b.overfull() {
		var largest *memoryLog
		seen, most := 0, 0
		for _, l := range b.topics {
			if n := l.cost(); n > 0 {
				seen++
				if n > most {
					largest, most = l, n
				}
			}
			if seen == sample {
				break
			}
		}
		if largest == nil {
			return
		}
		b.total.Add(-int64(largest.halve(now, &b.limits)))
	}
}

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
	l, err := ms.enter(ctx, m.Topic, true)
	if err != nil {
		return Receipt{}, err
	}
	defer ms.leave(l)

	r, sessions, grown, err := l.append(m, time.Now().UnixMilli(), &ms.broker.limits)
	if ms.broker.total.Add(int64(grown)); ms.broker.overfull() {
		ms.broker.relieve()
	}
	if err != nil || r.Duplicate {
		return r, err
	}
	m.Seq, m.Time = r.Seq, r.Time
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

// Subscribe does not wait for a delivery of the topic that is going on: that
// delivery's message is at the position already, and not for s.
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
	ms.broker.busy(l)
	ms.broker.mu.Unlock()
	return head, nil
}

// Unsubscribe waits for a delivery of the topic that is going on: it would
// otherwise come in after a new Subscribe, whose position it precedes.
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

func (ms *memorySession) Read(ctx context.Context, t Topic, r Range) (Page, error) {
	if err := ms.usable(ctx); err != nil || !t.Kept() {
		return Page{}, err
	}
	l := ms.broker.acquire(t, false)
	if l == nil {
		return Page{}, nil
	}
	defer ms.broker.release(l)
	page, shrunk := l.read(r, time.Now().UnixMilli(), &ms.broker.limits)
	ms.broker.total.Add(-int64(shrunk))
	return page, nil
}

// Close detaches the session at once. What may take longer is a deliver that
// has begun: where ctx ends first, Close may be called again to wait for it.
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

// enter acquires the log of a topic and waits for its turn in it. The log is nil
// where there is none and create is false.
func (ms *memorySession) enter(ctx context.Context, t Topic, create bool) (*memoryLog, error) {
	if err := ms.usable(ctx); err != nil {
		return nil, err
	}
	l := ms.broker.acquire(t, create)
	if l == nil {
		return nil, nil
	}
	select {
	case l.line() <- struct{}{}:
		return l, nil
	case <-ctx.Done():
		ms.broker.release(l)
		return nil, Unavailable(ctx.Err())
	}
}

func (ms *memorySession) leave(l *memoryLog) {
	<-l.line()
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
