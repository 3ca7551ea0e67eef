package chathub

import (
	"slices"
	"sync"
	"time"
)

// collector knows who pays if the logs together are over their bound.
type collector struct {
	mu sync.Mutex // held while they pay; taken before MemoryBroker.mu

	// Finding the payers takes a look at all owners. So it is done once for a
	// part of the bound.
	payers []claim // those over the level who have not paid yet
	level  int
	found  time.Time
}

const (
	// spare is how many times that part is in the bound.
	spare = 64
	// payersAge is how long the payers are good for. In the meantime, others
	// may have come to hold more.
	payersAge = time.Second
)

func (b *MemoryBroker) overfull() bool { return b.ledger.total.Load() > int64(b.limits.total) }

// relieve brings the total below its bound. The caller holds no mutex of the
// broker.
func (b *MemoryBroker) relieve() {
	c := &b.collector
	c.mu.Lock()
	defer c.mu.Unlock()
	if !b.overfull() {
		return // another caller has done it
	}
	b.dropVoid()
	// A little more than that, because the next message is about to come.
	bound := b.limits.total - b.limits.total/(spare*spare)
	if time.Since(c.found) > payersAge {
		c.payers = nil
	}
	isNew := false
	for {
		over := int(b.ledger.total.Load()) - bound
		switch {
		case over <= 0:
			return
		case len(c.payers) > 0:
			if b.collect(c.payers[0].account, c.level, over) {
				isNew = false
			} else {
				c.payers = c.payers[1:]
			}
		case isNew:
			return // the rest is logs that are in use, which are few
		default:
			c.find(&b.ledger, over+b.limits.total/spare)
			isNew = true
		}
	}
}

// find finds the owners who must pay so that need is free.
func (c *collector) find(ledger *ledger, need int) {
	claims := ledger.claims(func(a *account) int64 { return a.held.Load() })
	c.level, c.found = levelOf(claims, need), time.Now()
	c.payers = slices.DeleteFunc(claims, func(p claim) bool { return p.over(c.level) == 0 })
}

// dropVoid drops the idle logs without messages and keys.
func (b *MemoryBroker) dropVoid() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := b.idle.void.first; l != nil && b.overfull(); l = b.idle.void.first {
		b.dropUnused(l)
	}
}

// collect has an owner pay from one log, about amount, and not more than what
// it has over the level. It reports whether the owner could pay.
func (b *MemoryBroker) collect(a *account, level, amount int) bool {
	if amount = min(amount, int(a.held.Load())-level*a.weighs()); amount <= 0 {
		return false
	}
	// A share with less than half of the average does not pay, so that what is
	// quiet does not go because of what is busy.
	s, n := b.ledger.first(a)
	for range n {
		if s == nil {
			return false
		}
		free, isEmpty := s.pay(amount, int(a.held.Load())/n/2)
		if isEmpty {
			b.dropEmpty(s.log)
		}
		if free > 0 {
			return true
		}
		s = b.ledger.postpone(s)
	}
	return false
}

// pay frees at least amount, or half of the share if that is less. It frees
// nothing if the share holds less than least. It reports whether the log is
// idle and empty then.
func (s *share) pay(amount, least int) (free int, isEmpty bool) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	held := s.held()
	if s.log.holder == s.account {
		held += logCost
	}
	if held < least {
		return 0, false
	}
	free = s.log.cut(s, min(amount, (held+1)/2))
	return free, s.log.holder != nil && len(s.log.shares.list) == 0
}

// dropEmpty drops a log, unless something uses it or has filled it again.
func (b *MemoryBroker) dropEmpty(l *memoryLog) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !l.dropped && l.users.Load() == 0 && l.isEmpty() {
		b.drop(l)
	}
}
