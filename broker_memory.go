package chathub

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"
)

// MemoryBroker is a [Broker] within one process. Hubs that share one are the
// nodes of one cluster. What it keeps ends with the process. The zero value is
// ready to use. Its fields are read at the first Attach and must not change
// after that. Zero means the default, negative means off.
//
// Publish and Send deliver before they return, on the goroutine of their
// caller. If a hub is slow to take a message, the callers that publish, send or
// unsubscribe in the same topic wait, and nobody else does. A caller that waits
// gives up when its ctx ends, having done nothing. A deliver that has begun is
// not cut short. If its hub closes the session, Close waits for it.
//
// A topic without subscriptions keeps its log until MaxAge has passed since its
// last use (or DuplicateWindow, if that is longer), or until MaxIdleTopics or
// MaxTotalBytes asks for room. A log with named messages goes only if one of
// these two asks for room. A log that never had a message goes with its last
// subscription. If a topic is used again after that, its log begins anew.
// A client that was in the empty log has then missed nothing, and is told so.
// There are no goroutines and no timers: what is due goes when the broker is
// used next. It needs no closing.
//
// Everything that is kept is charged to the Owner of its message. If it is too
// much, the owners who have the most pay with their own messages. So a user who
// floods the broker loses what it has sent itself. The messages of others stay.
// docs/design.md says more about it, in "What a full store drops".
type MemoryBroker struct {
	// MaxMessages bounds the number of messages in the log of a topic. When a
	// room is full, its oldest message goes. If one owner has more than half of
	// the room, it is the oldest of that owner. When an inbox is full, it is
	// the oldest message of the owner who has the most in it. It is a notice if
	// notices have more than a quarter of the inbox. Default 1000.
	MaxMessages int
	// MaxBytes bounds the log of a topic, in the same way. A message counts
	// with its Body, its Key and 96 bytes more. One that is larger than
	// MaxBytes by itself is delivered but not kept. Default 1 MiB.
	MaxBytes int
	// MaxNames bounds the number of names in the log of a topic. Named messages
	// are in no other bound of the log, and have no age. Beyond the bound, a
	// message with a new name is refused with [CodeLimitExceeded]. So is one of
	// an owner, other than the application, who would have more than half of
	// the bound. A message that erases another for the first time is never
	// refused, because a deletion must not fail. Default 10,000.
	MaxNames int
	// MaxNameBytes bounds the named messages of a topic, in the same way. A
	// message counts with its Body, its Name, its Key and 224 bytes more. A
	// message that takes the place of one of its name is refused only if it is
	// larger. Default 4 MiB.
	MaxNameBytes int
	// MaxAge is how long a message without a name is kept. Older ones are never
	// read. Their memory is free once their log is used again or dropped.
	// Default 24 h.
	MaxAge time.Duration
	// MaxIdleTopics bounds the number of logs without subscriptions, such as
	// the inboxes of users who are away. Each counts for one owner who has
	// messages in it, at first for the one with the oldest. Beyond the bound,
	// logs without messages and keys go first, then those of the owners who
	// have the most, the least recently used before the others. If others have
	// messages in such a log, too, it stays with these, and counts for one of
	// them. A log costs about 300 bytes, and some 600 once it has had a
	// message, besides its messages and keys. Default 100,000.
	MaxIdleTopics int
	// MaxTotalBytes bounds all logs together: their messages, counted as in
	// MaxBytes and MaxNameBytes, their remembered keys, 192 bytes for each
	// owner in each log, and 576 bytes for each log without subscriptions.
	// Beyond the bound, the owners who have the most pay with their messages
	// and keys, the oldest before the others in each log, and with named
	// messages last. No owner pays who has less than the payers are left with.
	// The application pays as if it were 64 users. MaxTotalBytes cannot be off.
	// Without it, the bound would be MaxBytes times the number of topics, which
	// clients choose. Default 256 MiB.
	MaxTotalBytes int
	// DuplicateWindow is how long the Key of a message is remembered, even if
	// the message is gone sooner. The number of keys is not bounded. Each
	// counts in MaxTotalBytes with its length and 96 bytes, for the owner of
	// the message. It is forgotten sooner only if that owner has to pay,
	// because of MaxTotalBytes or MaxIdleTopics. Off: a repeated message is
	// stored again. Default 5 min.
	DuplicateWindow time.Duration

	once    sync.Once
	invalid error
	limits  memoryLimits
	// everyone has all sessions and keeps nothing: Topic{}.
	everyone  *memoryLog
	ledger    ledger
	collector collector

	mu     sync.RWMutex // taken before memoryLog.mu
	topics map[Topic]*memoryLog
	idle   idleLogs
	epochs epochs
}

// memoryLimits are the fields of a MemoryBroker with their defaults. If one is
// off, the limit is too large to matter. Times are in milliseconds.
type memoryLimits struct {
	log, names        measure
	idleTopics, total int

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
		log:        measure{byNumber: orOff(b.MaxMessages, 1000), byBytes: orOff(b.MaxBytes, 1<<20)},
		names:      measure{byNumber: orOff(b.MaxNames, 10_000), byBytes: orOff(b.MaxNameBytes, 4<<20)},
		idleTopics: orOff(b.MaxIdleTopics, 100_000),
		total:      orOff(b.MaxTotalBytes, 256<<20),
		age:        math.MaxInt64,
		window:     -1,
		idle:       math.MaxInt64,
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
	b.epochs.seed = maphash.MakeSeed()
	b.everyone = newMemoryLog(Topic{}, "")
	b.everyone.users.Add(1) // for ever
}

// Attach implements [Broker]. It fails if a field has no meaning.
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
// release. If there is none, acquire makes one or returns nil.
func (b *MemoryBroker) acquire(t Topic, create bool) *memoryLog {
	if t == (Topic{}) {
		b.everyone.users.Add(1)
		return b.everyone
	}
	b.mu.RLock()
	l := b.topics[t]
	if l != nil {
		l.users.Add(1) // under mu, because a holder of mu alone may drop l
	}
	b.mu.RUnlock()
	if l != nil || !create {
		return l
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	if l = b.topics[t]; l == nil {
		l = newMemoryLog(t, b.epochs.of(t))
		b.topics[t] = l
	}
	l.users.Add(1)
	b.sweep(time.Now().UnixMilli())
	return l
}

// release undoes one acquire.
func (b *MemoryBroker) release(l *memoryLog) {
	if l.users.Add(-1) > 0 {
		return
	}
	b.unused(l)
	if b.overfull() {
		b.relieve()
	}
}

// unused puts a log among the idle ones, or drops it if it never had a message.
// It does nothing if the log has users again.
func (b *MemoryBroker) unused(l *memoryLog) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.dropped || l.users.Load() > 0 {
		return
	}
	now := time.Now().UnixMilli()
	if !b.rest(l, now) {
		b.drop(l)
	}
	b.sweep(now)
}

// drop forgets a log. It needs mu, and nothing may use the log.
func (b *MemoryBroker) drop(l *memoryLog) {
	b.idle.remove(l)
	delete(b.topics, l.topic)
	l.dropped = true
	if l.clear() {
		b.epochs.advance(l.topic)
	}
}

// logs returns all logs of this moment.
func (b *MemoryBroker) logs() []*memoryLog {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Collect(maps.Values(b.topics))
}

// epochs names the lives of logs. A log that has had a message takes its epoch
// with it when it is dropped. One that has not may be made again under the same
// epoch, since nothing can have been missed in it.
//
// To remember which names have had a message would grow with every name that
// was ever used. So topics share generations: dropping a log that had a message
// begins a new generation for one topic in 4096. If a log among these is empty,
// it has another epoch when it is made again, and its client is told that it
// may have missed something.
type epochs struct {
	seed        maphash.Seed
	generations [4096]uint32
}

// of returns the epoch of a log that is made now. Nodes have none.
func (e *epochs) of(t Topic) string {
	if !t.Kept() {
		return ""
	}
	hash := maphash.Comparable(e.seed, t) // no other broker has the seed
	epoch := strconv.FormatUint(hash, 36)
	if g := *e.generation(hash); g > 0 {
		epoch += "-" + strconv.FormatUint(uint64(g), 36)
	}
	return epoch
}

// advance is for the topic of a log that had a message and is dropped.
func (e *epochs) advance(t Topic) { *e.generation(maphash.Comparable(e.seed, t))++ }

func (e *epochs) generation(hash uint64) *uint32 {
	return &e.generations[hash%uint64(len(e.generations))]
}
