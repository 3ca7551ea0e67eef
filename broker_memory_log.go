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
func (l *memoryLog) line() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn == nil {
		l.turn = make(chan struct{}, 1)
	}
	return l.turn
}

// add reports whether s was added, rather than there already, and where the log
// stands.
func (l *memoryLog) add(s *memorySession) (Position, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	head := Position{l.epoch, l.head}
	if slices.Contains(l.sessions, s) {
		return head, false
	}
	l.sessions = append(slices.Clip(l.sessions), s)
	return head, true
}

// remove reports whether s was there.
func (l *memoryLog) remove(s *memorySession) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.sessions, s)
	if i < 0 {
		return false
	}
	l.sessions = slices.Delete(slices.Clone(l.sessions), i, i+1)
	return true
}

func (l *memoryLog) audience() []*memorySession {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions
}

func (l *memoryLog) cost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes + l.keyBytes
}

// append stores m, unless its key is remembered. It returns the sessions that
// are to have it, and by how much the log's cost has changed, on an error too.
func (l *memoryLog) append(m Message, now int64, limits *memoryLimits) (r Receipt, to []*memorySession, grown int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.bytes + l.keyBytes
	now = max(now, l.time) // the clock may have been set back
	l.expire(now, limits)
	if at, ok := l.index[m.Key]; ok && m.Key != "" {
		first := l.keys.at(int(at - l.forgotten))
		grown = l.bytes + l.keyBytes - before
		if first.sum != m.Sum && first.sum != 0 && m.Sum != 0 {
			return Receipt{}, nil, grown, errOtherMessage
		}
		return Receipt{Epoch: l.epoch, Seq: first.seq, Time: first.time, Duplicate: true}, nil, grown, nil
	}
	if l.records == nothing {
		l.records = &records{}
	}
	l.head++
	l.time = now
	e := memoryMessage{body: m.Body, key: m.Key, time: now}
	l.makeRoom(e.cost(), limits)
	if e.cost() <= limits.bytes {
		l.messages.push(e)
		l.bytes += e.cost()
	}
	if m.Key != "" && limits.window >= 0 {
		l.remember(memoryKey{key: m.Key, sum: m.Sum, seq: l.head, time: now}, limits)
	}
	return Receipt{Epoch: l.epoch, Seq: l.head, Time: now}, l.sessions, l.bytes + l.keyBytes - before, nil
}

// expire drops the messages and forgets the keys whose time is over.
func (l *memoryLog) expire(now int64, limits *memoryLimits) {
	for l.messages.len() > 0 && now-l.messages.at(0).time > limits.age {
		l.drop()
	}
	for l.keys.len() > 0 && now-l.keys.at(0).time > limits.window {
		l.forget()
	}
}

// makeRoom drops the oldest messages until one of the given cost has room.
func (l *memoryLog) makeRoom(cost int, limits *memoryLimits) {
	for l.messages.len() > 0 && (l.messages.len() >= limits.messages || l.bytes > limits.bytes-cost) {
		l.drop()
	}
}

// drop drops the oldest message.
func (l *memoryLog) drop() {
	m := l.messages.pop()
	l.bytes -= m.cost()
}

func (l *memoryLog) remember(k memoryKey, limits *memoryLimits) {
	if l.keys.len() == limits.keys {
		l.forget()
	}
	if l.index == nil {
		l.index = make(map[string]uint64)
	}
	l.index[k.key] = l.forgotten + uint64(l.keys.len())
	l.keys.push(k)
	l.keyBytes += len(k.key) + keyCost
}

// forget forgets the oldest key.
func (l *memoryLog) forget() {
	k := l.keys.pop()
	l.forgotten++
	l.keyBytes -= len(k.key) + keyCost
	delete(l.index, k.key)
	if l.keys.len() == 0 {
		l.index = nil // a map does not shrink
	}
}

// halve makes room: the older half of the messages goes, or, where there are
// none, of the keys. It returns by how much the log's cost has fallen.
func (l *memoryLog) halve(now int64, limits *memoryLimits) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.bytes + l.keyBytes
	l.expire(now, limits)
	if n := l.messages.len(); n > 0 {
		for range (n + 1) / 2 {
			l.drop()
		}
	} else {
		for range (l.keys.len() + 1) / 2 {
			l.forget()
		}
	}
	return before - l.bytes - l.keyBytes
}

// read returns a page, and by how much the log's cost has fallen.
func (l *memoryLog) read(r Range, now int64, limits *memoryLimits) (Page, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.bytes + l.keyBytes
	l.expire(now, limits)
	shrunk := before - l.bytes - l.keyBytes

	trimmed := l.head - uint64(l.messages.len())
	p := Page{Head: Position{l.epoch, l.head}, Trimmed: trimmed}
	after, end := max(r.After, trimmed), l.head // the range is (after, end]
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
		m := l.messages.at(int(seq - trimmed - 1))
		p.Messages = append(p.Messages, Message{Topic: l.topic, Key: m.key, Body: m.body, Seq: seq, Time: m.time})
	}
	return p, shrunk
}

// ring is a queue whose memory follows what is in it.
type ring[T any] struct {
	buf   []T // its length is 0 or a power of two
	first int
	n     int
}

func (r *ring[T]) len() int { return r.n }

// at returns the element i of those in the ring, the oldest being 0.
func (r *ring[T]) at(i int) *T { return &r.buf[(r.first+i)&(len(r.buf)-1)] }

func (r *ring[T]) push(v T) {
	if r.n == len(r.buf) {
		r.resize(max(4, 2*r.n))
	}
	r.n++
	*r.at(r.n - 1) = v
}

// pop removes the oldest.
func (r *ring[T]) pop() T {
	var zero T
	v := *r.at(0)
	*r.at(0) = zero
	r.first = (r.first + 1) & (len(r.buf) - 1)
	if r.n--; r.n == 0 {
		*r = ring[T]{}
	} else if r.n == len(r.buf)/4 {
		r.resize(len(r.buf) / 2)
	}
	return v
}

func (r *ring[T]) resize(size int) {
	buf := make([]T, size)
	for i := range r.n {
		buf[i] = *r.at(i)
	}
	r.buf, r.first = buf, 0
}
