package chathub

import (
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
)

// memoryLog is the log of one topic and those who hear it.
type memoryLog struct {
	topic Topic
	epoch string
	// users counts subscriptions and running calls.
	users atomic.Int64

	// Under MemoryBroker.mu:
	idle    *list.Element
	used    int64 // when it last had users
	dropped bool

	// mu guards what follows, and is held only to look or change, never to wait.
	mu sync.Mutex
	// turn is held (full) from before a message is stored until it has been
	// delivered. A channel, so that who waits for it can give up; of those who wait it
	// goes to the first. See line.
	turn     chan struct{}
	sessions []*memorySession // replaced, not changed: append and audience hand it out
	head     uint64
	time     int64 // of the newest message
	*records       // never nil; nothing, and everyone's, until there is a message
}

// nothing is what a log has before its first message: most inboxes stay so.
var nothing = &records{}

// records is what a log keeps.
type records struct {
	messages ring[memoryMessage]
	bytes    int
	keys     ring[memoryKey]
	keyBytes int
	// index says where in keys a key is, counted from the first that ever was;
	// forgotten is how many of those have left.
	index     map[string]uint64
	forgotten uint64
}

func newMemoryLog(t Topic, epoch string) *memoryLog {
	return &memoryLog{topic: t, epoch: epoch, records: nothing}
}

// memoryMessage is a message in a log. The newest has Seq head, and there are no gaps.
type memoryMessage struct {
	body []byte
	key  string
	time int64
}

func (m *memoryMessage) cost() int { return len(m.body) + len(m.key) + messageCost }

// memoryKey is what is remembered of a message for its duplicates.
type memoryKey struct {
	key  string
	sum  uint64 // 0: unknown
	seq  uint64
	time int64
}

// line returns turn, made when somebody wants it.
func (log *memoryLog) line() chan struct{} {
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.turn == nil {
		log.turn = make(chan struct{}, 1)
	}
	return log.turn
}

// add reports whether s was added, rather than there already, and where the log
// stands.
func (log *memoryLog) add(s *memorySession) (Position, bool) {
	log.mu.Lock()
	defer log.mu.Unlock()
	head := Position{log.epoch, log.head}
	if slices.Contains(log.sessions, s) {
		return head, false
	}
	log.sessions = append(slices.Clip(log.sessions), s)
	return head, true
}

// remove reports whether s was there.
func (log *memoryLog) remove(s *memorySession) bool {
	log.mu.Lock()
	defer log.mu.Unlock()
	i := slices.Index(log.sessions, s)
	if i < 0 {
		return false
	}
	log.sessions = slices.Delete(slices.Clone(log.sessions), i, i+1)
	return true
}

func (log *memoryLog) audience() []*memorySession {
	log.mu.Lock()
	defer log.mu.Unlock()
	return log.sessions
}

func (log *memoryLog) cost() int {
	log.mu.Lock()
	defer log.mu.Unlock()
	return log.bytes + log.keyBytes
}

// append stores m, unless its key is remembered. It returns the sessions that
// are to have it, and by how much the log's cost has changed, on an error too.
func (log *memoryLog) append(m Message, now int64, limits *memoryLimits) (r Receipt, to []*memorySession, grown int, err error) {
	log.mu.Lock()
	defer log.mu.Unlock()
	before := log.bytes + log.keyBytes
	now = max(now, log.time) // the clock may have been set back
	log.expire(now, limits)
	if at, ok := log.index[m.Key]; ok && m.Key != "" {
		first := log.keys.at(int(at - log.forgotten))
		grown = log.bytes + log.keyBytes - before
		if first.sum != m.Sum && first.sum != 0 && m.Sum != 0 {
			return Receipt{}, nil, grown, errOtherMessage
		}
		return Receipt{Epoch: log.epoch, Seq: first.seq, Time: first.time, Duplicate: true}, nil, grown, nil
	}
	if log.records == nothing {
		log.records = &records{}
	}
	log.head++
	log.time = now
	e := memoryMessage{body: m.Body, key: m.Key, time: now}
	log.makeRoom(e.cost(), limits)
	if e.cost() <= limits.bytes {
		log.messages.push(e)
		log.bytes += e.cost()
	}
	if m.Key != "" && limits.window >= 0 {
		log.remember(memoryKey{key: m.Key, sum: m.Sum, seq: log.head, time: now}, limits)
	}
	return Receipt{Epoch: log.epoch, Seq: log.head, Time: now}, log.sessions, log.bytes + log.keyBytes - before, nil
}

// expire drops the messages and forgets the keys whose time is over.
func (log *memoryLog) expire(now int64, limits *memoryLimits) {
	for log.messages.len() > 0 && now-log.messages.at(0).time > limits.age {
		log.drop()
	}
	for log.keys.len() > 0 && now-log.keys.at(0).time > limits.window {
		log.forget()
	}
}

// makeRoom drops the oldest messages until one of the given cost has room.
func (log *memoryLog) makeRoom(cost int, limits *memoryLimits) {
	for log.messages.len() > 0 && (log.messages.len() >= limits.messages || log.bytes > limits.bytes-cost) {
		log.drop()
	}
}

// drop drops the oldest message.
func (log *memoryLog) drop() {
	m := log.messages.pop()
	log.bytes -= m.cost()
}

func (log *memoryLog) remember(k memoryKey, limits *memoryLimits) {
	if log.keys.len() == limits.keys {
		log.forget()
	}
	if log.index == nil {
		log.index = make(map[string]uint64)
	}
	log.index[k.key] = log.forgotten + uint64(log.keys.len())
	log.keys.push(k)
	log.keyBytes += len(k.key) + keyCost
}

// forget forgets the oldest key.
func (log *memoryLog) forget() {
	k := log.keys.pop()
	log.forgotten++
	log.keyBytes -= len(k.key) + keyCost
	delete(log.index, k.key)
	if log.keys.len() == 0 {
		log.index = nil // a map does not shrink
	}
}

// halve makes room: the older half of the messages goes, or, where there are
// none, of the keys. It returns by how much the log's cost has fallen.
func (log *memoryLog) halve(now int64, limits *memoryLimits) int {
	log.mu.Lock()
	defer log.mu.Unlock()
	before := log.bytes + log.keyBytes
	log.expire(now, limits)
	if n := log.messages.len(); n > 0 {
		for range (n + 1) / 2 {
			log.drop()
		}
	} else {
		for range (log.keys.len() + 1) / 2 {
			log.forget()
		}
	}
	return before - log.bytes - log.keyBytes
}

// read returns a page, and by how much the log's cost has fallen.
func (log *memoryLog) read(r Range, now int64, limits *memoryLimits) (Page, int) {
	log.mu.Lock()
	defer log.mu.Unlock()
	before := log.bytes + log.keyBytes
	log.expire(now, limits)
	shrunk := before - log.bytes - log.keyBytes

	trimmed := log.head - uint64(log.messages.len())
	p := Page{Head: Position{log.epoch, log.head}, Trimmed: trimmed}
	after, end := max(r.After, trimmed), log.head // the range is (after, end]
	if r.Before > 0 {
		end = min(end, r.Before-1)
	}
	if after >= end || r.Limit <= 0 {
		return p, shrunk
	}
	if limit := uint64(r.Limit); end-after > limit {
		after = end - limit
		p.More = true
	}
	p.Messages = make([]Message, 0, end-after)
	for seq := after + 1; seq <= end; seq++ {
		m := log.messages.at(int(seq - trimmed - 1))
		p.Messages = append(p.Messages, Message{Topic: log.topic, Key: m.key, Body: m.body, Seq: seq, Time: m.time})
	}
	return p, shrunk
}

// ring is a queue whose memory follows what is in it.
type ring[T any] struct {
	buf   []T // its length is 0 or a power of two
	first int
	n     int
}

func (q *ring[T]) len() int { return q.n }

// at returns the element i of those in the ring, the oldest being 0.
func (q *ring[T]) at(i int) *T { return &q.buf[(q.first+i)&(len(q.buf)-1)] }

func (q *ring[T]) push(v T) {
	if q.n == len(q.buf) {
		q.resize(max(4, 2*q.n))
	}
	q.n++
	*q.at(q.n - 1) = v
}

// pop removes the oldest.
func (q *ring[T]) pop() T {
	var zero T
	v := *q.at(0)
	*q.at(0) = zero
	q.first = (q.first + 1) & (len(q.buf) - 1)
	if q.n--; q.n == 0 {
		*q = ring[T]{}
	} else if q.n == len(q.buf)/4 {
		q.resize(len(q.buf) / 2)
	}
	return v
}

func (q *ring[T]) resize(size int) {
	buf := make([]T, size)
	for i := range q.n {
		buf[i] = *q.at(i)
	}
	q.buf, q.first = buf, 0
}
