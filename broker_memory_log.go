package chathub

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// memoryLog is the log of one topic, with the sessions that hear it.
type memoryLog struct {
	topic Topic
	epoch string
	// users counts subscriptions and running calls.
	users atomic.Int64

	// Under MemoryBroker.mu:
	links[memoryLog]       // of the idle logs
	used             int64 // when it last had users
	dropped          bool

	// mu guards what follows, and is held only to look or change, never to
	// wait.
	mu sync.Mutex
	// turn is held (full) from before a message is stored until it has been
	// delivered. It is a channel, so that a caller can give up waiting for it.
	// It goes to the caller that has waited longest. See line.
	turn     chan struct{}
	sessions []*memorySession // replaced, not changed: append and audience hand it out
	*records                  // never nil; nothing, and everyone's, until there is a message
}

// nothing is what a log has before its first message. Most inboxes stay so.
var nothing = &records{}

// records is what a log keeps.
type records struct {
	head     uint64 // seq of the newest message
	time     int64  // of the same
	messages queue[[]byte]
	keys     queue[uint64]
	index    shrinkingMap[string, uint64] // the seq of each key; none while there are few
	size     measure                      // of the messages
	trimmed  uint64                       // the highest seq that was dropped
	shares   shares
	holder   *account // the idle log is charged to it; nil: the log is not idle
	names    *names   // nil: there are none
}

func (log *memoryLog) link() *links[memoryLog] { return &log.links }

func newMemoryLog(t Topic, epoch string) *memoryLog {
	return &memoryLog{topic: t, epoch: epoch, records: nothing}
}

// What a message and a remembered key occupy besides their bytes: their place
// in a ring that is between a quarter and wholly full, and in the index.
const (
	messageCost = 96
	keyCost     = 96
)

func costOfMessage(e *entry[[]byte]) int { return len(e.value) + len(e.key) + messageCost }
func costOfKey(e *entry[uint64]) int     { return len(e.key) + keyCost }

// line returns turn, which is made for the first caller that wants it.
func (log *memoryLog) line() chan struct{} {
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.turn == nil {
		log.turn = make(chan struct{}, 1)
	}
	return log.turn
}

// add returns where the log stands, and whether s was added. It may have been
// there already.
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

// append stores m, unless its key is remembered or it is refused, and returns
// the sessions that are to have it.
func (log *memoryLog) append(m *Message, now int64, limits *memoryLimits, ledger *ledger) (Receipt, []*memorySession, error) {
	log.mu.Lock()
	defer log.mu.Unlock()
	now = max(now, log.time) // the clock may have been set back
	log.expire(now, limits)
	if first := log.remembered(m.Key); first != nil {
		if first.value != m.Sum && first.value != 0 && m.Sum != 0 {
			return Receipt{}, nil, errOtherMessage
		}
		return Receipt{Epoch: log.epoch, Seq: first.seq, Time: first.when.time(), Duplicate: true}, nil, nil
	}
	if m.Name != "" {
		if err := log.refuses(m, limits); err != nil {
			return Receipt{}, nil, err
		}
	}
	if log.records == nothing {
		log.records = &records{}
	}
	log.head++
	log.time = now
	isOrdinary := m.Name == "" || m.Remove
	s := log.share(m.Owner, m.Notice && isOrdinary && log.topic.User != "", ledger)
	before := s.bytes()
	key, when := m.Key, stampOf(now)
	if m.Notice {
		when |= isNotice
	}
	if m.Name != "" {
		log.rename(m, when, s)
		if m.Remove {
			key, when = joinName(m.Name, m.Key), when|isRemoval
		}
	}
	switch cost := len(m.Body) + len(key) + messageCost; {
	case !isOrdinary:
	case cost > limits.log[byBytes]:
		log.trimmed = log.head
	default:
		*log.messages.push() = entry[[]byte]{key: key, seq: log.head, when: when, share: s, value: m.Body}
		s.addMessage(cost)
	}
	if m.Key != "" && limits.window >= 0 {
		log.remember(entry[uint64]{key: m.Key, seq: log.head, when: when, share: s, value: m.Sum})
	}
	log.makeRoom(s, limits)
	s.account.charge(s.bytes() - before) // mostly nothing, if the log is full
	log.closeIfEmpty(s)                  // if nothing of the message is kept
	return Receipt{Epoch: log.epoch, Seq: log.head, Time: now}, log.sessions, nil
}

// expire drops the messages and forgets the keys whose time is over.
func (log *memoryLog) expire(now int64, limits *memoryLimits) {
	for log.messages.size() > 0 && now-log.messages.at(0).when.time() > limits.age {
		log.dropMessage(0, nil)
	}
	for log.keys.size() > 0 && now-log.keys.at(0).when.time() > limits.window {
		log.forgetKey(0)
	}
}

// dropMessage drops the message at place i, and the names that are tied to it.
// The caller settles what share unsettled is charged for.
func (log *memoryLog) dropMessage(i int, unsettled *share) {
	e := log.messages.at(i)
	s, seq, cost := e.share, e.seq, costOfMessage(e)
	log.trimmed = max(log.trimmed, seq)
	s.nextMessage = max(s.nextMessage, seq+1)
	log.messages.remove(i)
	s.addMessage(-cost)
	if s != unsettled {
		s.account.charge(-cost)
		log.closeIfEmpty(s)
	}
	if log.names != nil {
		log.dropTied(seq, unsettled)
	}
}

// fewKeys are found without an index.
const fewKeys = 8

// remembered returns the entry of a key, or nil.
func (log *memoryLog) remembered(key string) *entry[uint64] {
	if key == "" {
		return nil
	}
	if log.index.m != nil {
		if seq, ok := log.index.m[key]; ok {
			return log.keys.at(log.keys.find(seq))
		}
		return nil
	}
	for i := range log.keys.len() {
		if e := log.keys.at(i); e.key == key {
			return e
		}
	}
	return nil
}

func (log *memoryLog) remember(e entry[uint64]) {
	*log.keys.push() = e
	e.share.addKey(costOfKey(&e))
	if log.index.m != nil {
		log.index.set(e.key, e.seq)
	} else if log.keys.len() > fewKeys {
		for i := range log.keys.len() {
			if e := log.keys.at(i); e.share != nil {
				log.index.set(e.key, e.seq)
			}
		}
	}
}

// forgetKey forgets the key at place i.
func (log *memoryLog) forgetKey(i int) {
	e := log.keys.at(i)
	s, cost := e.share, costOfKey(e)
	s.nextKey = max(s.nextKey, e.seq+1)
	if log.index.m != nil {
		log.index.remove(e.key)
	}
	log.keys.remove(i)
	s.addKey(-cost)
	s.account.charge(-cost)
	log.closeIfEmpty(s)
}

// clear drops everything from a log that will not be used again. It reports
// whether the log ever had a message.
func (log *memoryLog) clear() bool {
	log.mu.Lock()
	defer log.mu.Unlock()
	for i := len(log.shares.list) - 1; i >= 0; i-- {
		log.cut(log.shares.list[i], math.MaxInt)
	}
	return log.head > 0
}
