package chathub

import "slices"

// measure is an amount of messages: their number, and their bytes with what
// they cost besides.
type measure [2]int

const (
	byNumber = iota
	byBytes
)

func (m *measure) add(number, bytes int) {
	m[byNumber] += number
	m[byBytes] += bytes
}

// share is what one owner has in one log: messages, or notices, the keys that
// are remembered of them, and names, which are with the messages even if they
// are notices. It is closed when it has none of these.
type share struct {
	account *account
	log     *memoryLog

	// Under the mutex of the log:
	notice   bool
	at       int32 // place in the list of the log; negative: closed
	keys     int32
	named    int32   // place in the owners of names, counted from 1; 0: it has none
	size     measure // of the messages
	keyBytes int
	// No message of the share has a lower seq than nextMessage, and no key has
	// a lower one than nextKey.
	nextMessage, nextKey uint64

	links[share] // of the account; under ledger.mu
}

func (s *share) link() *links[share] { return &s.links }

// shareCost is what a share occupies, with its part of an account and its
// places in lists.
const shareCost = 192

// held returns what the owner is charged for.
func (s *share) held() int {
	if s.at < 0 {
		return 0
	}
	return s.bytes() + shareCost
}

// bytes returns what the messages, keys and names of the share cost.
func (s *share) bytes() int {
	n := s.size[byBytes] + s.keyBytes
	if s.named > 0 {
		n += s.names()[byBytes]
	}
	return n
}

// addMessage counts a message. A negative cost takes one out.
func (s *share) addMessage(cost int) {
	n := 1
	if cost < 0 {
		n = -1
	}
	s.add(n, cost)
}

// add counts a number of messages, and bytes.
func (s *share) add(number, bytes int) {
	s.size.add(number, bytes)
	s.log.size.add(number, bytes)
	if s.notice {
		s.log.shares.notices.add(number, bytes)
	}
}

// addKey counts a key. A negative cost takes one out.
func (s *share) addKey(cost int) {
	if cost < 0 {
		s.keys--
	} else {
		s.keys++
	}
	s.keyBytes += cost
}

// shares are the shares of a log.
type shares struct {
	list    []*share
	byOwner shrinkingMap[shareKey, *share] // none while there are few
	notices measure                        // of all notices
	// major has the share that was last seen to have more than half of the
	// bound, by number and by bytes. It is for rooms.
	major [2]*share
}

type shareKey struct {
	owner  string
	notice bool
}

// fewShares are found without a map.
const fewShares = 8

// of returns the share of an owner, or nil.
func (ss *shares) of(owner string, notice bool) *share {
	if ss.byOwner.m != nil {
		return ss.byOwner.m[shareKey{owner, notice}]
	}
	for _, s := range ss.list {
		if s.notice == notice && s.account.owner == owner {
			return s
		}
	}
	return nil
}

// share returns the share of an owner, and opens one if there is none.
func (log *memoryLog) share(owner string, notice bool, ledger *ledger) *share {
	ss := &log.shares
	if s := ss.of(owner, notice); s != nil {
		return s
	}
	s := &share{log: log, notice: notice, at: int32(len(ss.list)), nextMessage: log.head, nextKey: log.head}
	ledger.open(s, owner)
	if ss.list = append(ss.list, s); len(ss.list) == 1 && log.holder != nil {
		ledger.reassign(log, s.account)
	}
	if ss.byOwner.m != nil {
		ss.byOwner.set(shareKey{owner, notice}, s)
	} else if len(ss.list) > fewShares {
		for _, s := range ss.list {
			ss.byOwner.set(shareKey{s.account.owner, s.notice}, s)
		}
	}
	return s
}

// closeIfEmpty closes a share that has nothing left. If its owner holds the
// idle log, another one does so from then on.
func (log *memoryLog) closeIfEmpty(s *share) {
	if s.size[byNumber] > 0 || s.keys > 0 || s.named > 0 || s.at < 0 {
		return
	}
	ss := &log.shares
	last := ss.list[len(ss.list)-1]
	ss.list[s.at], last.at = last, s.at
	ss.list = shorten(ss.list)
	s.at = -1
	if ss.byOwner.m != nil {
		ss.byOwner.remove(shareKey{s.account.owner, s.notice})
	}
	for by := range ss.major {
		if ss.major[by] == s {
			ss.major[by] = nil
		}
	}
	if log.holder == s.account {
		if to := log.heir(); to != nil {
			to.ledger.reassign(log, to)
		}
	}
	s.account.ledger.close(s)
}

// shorten removes the last element.
func shorten[T any](list []T) []T {
	last := len(list) - 1
	clear(list[last:])
	if list = list[:last]; last <= cap(list)/4 {
		list = slices.Clone(list) // a slice does not shrink
	}
	return list
}

// heir returns the account that is to hold an idle log, because its holder has
// nothing in it any more. It returns nil if the holder has, or nobody.
func (log *memoryLog) heir() (to *account) {
	for _, s := range log.shares.list {
		if s.account == log.holder {
			return nil
		}
		to = s.account
	}
	return to
}

// makeRoom drops messages until the log is within its bounds. The newest one is
// of share s, if it is kept at all.
func (log *memoryLog) makeRoom(s *share, limits *memoryLimits) {
	for by, limit := range limits.log {
		for log.size[by] > limit {
			i := 0
			if log.topic.User != "" {
				i = log.oldest(log.inboxPayer(s, by, limit))
			} else {
				i = log.roomPayer(s, by, limit)
			}
			log.dropMessage(i, s)
		}
		if s.size[by] > limit/2 {
			log.shares.major[by] = s
		}
	}
}

// fairPart returns the messages that would be left if they came one after
// another to a log with such limits. Named ones are messages like the others.
func fairPart(t Topic, messages []Message, limits measure) []Message {
	var ledger ledger
	log := newMemoryLog(t, "")
	for _, m := range messages {
		// Without keys and names, nothing is refused.
		m = Message{Owner: m.Owner, Notice: m.Notice, Body: m.Body}
		_, _, _ = log.append(&m, 0, &memoryLimits{log: limits}, &ledger)
	}
	part := make([]Message, 0, log.messages.size())
	for i := range log.messages.len() {
		if e := log.messages.at(i); e.share != nil {
			part = append(part, messages[e.seq-1])
		}
	}
	return part
}

// roomPayer returns the place of the message that must leave a full room. The
// newest message is of share newest.
func (log *memoryLog) roomPayer(newest *share, by, limit int) int {
	leaves, most := 0, limit/2
	if n := newest.size[by]; n > most {
		// The newest message stays, however large it is.
		if i := log.oldest(newest); log.messages.at(i).seq < log.head {
			leaves, most = i, n
		}
	}
	if s := log.shares.major[by]; s != nil && s != newest && s.size[by] >= most && s.size[by] > limit/2 {
		if i := log.oldest(s); s.size[by] > most || i < leaves {
			leaves = i
		}
	}
	return leaves
}

// inboxPayer returns the share whose oldest message must leave a full inbox.
// The newest message is of share newest.
func (log *memoryLog) inboxPayer(newest *share, by, limit int) *share {
	if log.shares.notices[by] > limit/4 {
		return log.largest(by, func(s *share) bool { return s.notice })
	}
	// The newest message stays, or a large one could never reach an inbox that
	// is full of small ones.
	s := log.largest(by, func(s *share) bool { return !s.notice && (s != newest || s.size[byNumber] > 1) })
	if s == nil { // a large message, and little besides but notices
		s = log.largest(by, func(s *share) bool { return s.notice })
	}
	return s
}

// largest returns the share with the most messages or bytes, of those that can
// pay. Of two equal ones, it is the one with the older message.
func (log *memoryLog) largest(by int, can func(*share) bool) (most *share) {
	for _, s := range log.shares.list {
		if s.size[byNumber] > 0 && can(s) && (most == nil || s.size[by] > most.size[by] ||
			s.size[by] == most.size[by] && log.older(s, most)) {
			most = s
		}
	}
	return most
}

// older reports whether the oldest message of s is older than that of t.
func (log *memoryLog) older(s, t *share) bool {
	log.oldest(t)
	if s.nextMessage > t.nextMessage {
		return false
	}
	log.oldest(s)
	return s.nextMessage < t.nextMessage
}

// oldest returns the place of the oldest message of a share, which has one.
func (log *memoryLog) oldest(s *share) int {
	i := log.messages.next(s, s.nextMessage)
	s.nextMessage = log.messages.at(i).seq
	return i
}

// oldestKey is oldest for keys.
func (log *memoryLog) oldestKey(s *share) int {
	i := log.keys.next(s, s.nextKey)
	s.nextKey = log.keys.at(i).seq
	return i
}

// cut drops the oldest messages and keys of a share, then its oldest names,
// until at least amount is free or nothing is left. It returns how much is free
// then.
func (log *memoryLog) cut(s *share, amount int) int {
	before := s.held()
	for s.at >= 0 && before-s.held() < amount {
		i, k := -1, -1
		if s.size[byNumber] > 0 {
			i = log.oldest(s)
		}
		if s.keys > 0 {
			k = log.oldestKey(s)
		}
		switch {
		case i < 0 && k < 0:
			log.dropName(log.oldestName(s), nil)
		case k < 0 || i >= 0 && log.messages.at(i).seq <= log.keys.at(k).seq:
			log.dropMessage(i, nil)
		default:
			log.forgetKey(k)
		}
	}
	return before - s.held()
}
