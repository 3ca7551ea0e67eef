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

// append stores m, unless its key is remembered, and returns the sessions that
// are to have it.
func (log *memoryLog) append(m *Message, now int64, limits *memoryLimits, ledger *ledger) (Receipt, []*memorySession, error) {
	log.mu.Lock()
	defer log.mu.Unlock()
	now = max(now, log.time) // the clock may have been set back
	log.expire(now, limits)
	if first := log.remembered(m.Key); first != nil {
		if first.value != m.Sum && first.value != 0 && m.Sum != 0 {
			return Receipt{}, nil, errOtherMessage
		}
		return Receipt{Epoch: log.epoch, Seq: first.seq, Time: first.time, Duplicate: true}, nil, nil
	}
	if log.records == nothing {
		log.records = &records{}
	}
	log.head++
	log.time = now
	s := log.share(m.Owner, m.Notice && log.topic.User != "", ledger)
	before := s.bytes()
	if cost := len(m.Body) + len(m.Key) + messageCost; cost > limits.log[byBytes] {
		log.trimmed = log.head
	} else {
		*log.messages.push() = entry[[]byte]{key: m.Key, seq: log.head, time: now, share: s, value: m.Body}
		s.addMessage(cost)
	}
	if m.Key != "" && limits.window >= 0 {
		log.remember(entry[uint64]{key: m.Key, seq: log.head, time: now, share: s, value: m.Sum})
	}
	log.makeRoom(s, limits)
	s.account.charge(s.bytes() - before) // mostly nothing, if the log is full
	log.closeIfEmpty(s)                  // if nothing of the message is kept
	return Receipt{Epoch: log.epoch, Seq: log.head, Time: now}, log.sessions, nil
}

// expire drops the messages and forgets the keys whose time is over.
func (log *memoryLog) expire(now int64, limits *memoryLimits) {
	for log.messages.size() > 0 && now-log.messages.at(0).time > limits.age {
		log.dropMessage(0, nil)
	}
	for log.keys.size() > 0 && now-log.keys.at(0).time > limits.window {
		log.forgetKey(0)
	}
}

// dropMessage drops the message at place i. The caller settles what share
// unsettled is charged for.
func (log *memoryLog) dropMessage(i int, unsettled *share) {
	e := log.messages.at(i)
	s, cost := e.share, costOfMessage(e)
	log.trimmed = max(log.trimmed, e.seq)
	s.nextMessage = max(s.nextMessage, e.seq+1)
	log.messages.remove(i)
	s.addMessage(-cost)
	if s != unsettled {
		s.account.charge(-cost)
		log.closeIfEmpty(s)
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

// read returns a page.
func (log *memoryLog) read(r Range, now int64, limits *memoryLimits) Page {
	log.mu.Lock()
	defer log.mu.Unlock()
	log.expire(now, limits)
	p := Page{Head: Position{log.epoch, log.head}, Trimmed: log.trimmed}
	if r.Limit <= 0 || r.After >= log.head {
		return p
	}
	end := log.messages.len()
	if r.Before > 0 {
		end = log.messages.find(r.Before)
	}
	from, n := end, 0
	room := r.MaxBytes
	for i := end - 1; i >= 0; i-- {
		e := log.messages.at(i)
		if e.seq <= r.After {
			break
		}
		if e.share == nil {
			continue
		}
		if n == r.Limit || r.MaxBytes > 0 && len(e.value) > room {
			p.More = true
			break
		}
		from, n, room = i, n+1, room-len(e.value)
	}
	if n == 0 {
		return p
	}
	p.Messages = make([]Message, 0, n)
	for i := from; i < end; i++ {
		if e := log.messages.at(i); e.share != nil {
			p.Messages = append(p.Messages, Message{
				Topic:  log.topic,
				Key:    e.key,
				Owner:  e.share.account.owner,
				Notice: e.share.notice,
				Body:   e.value,
				Seq:    e.seq,
				Time:   e.time,
			})
		}
	}
	return p
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
