package chathub

import (
	"cmp"
	"slices"
)

// spare is the part of a bound that is made free when it is exceeded. To find
// who must pay takes a look at all owners, and so it is done once for many
// messages.
const spare = 64

func (b *MemoryBroker) overfull() bool { return b.ledger.total.Load() > int64(b.limits.total) }

// relieve brings the total below its bound.
func (b *MemoryBroker) relieve() {
	b.relieving.Lock()
	defer b.relieving.Unlock()
	if b.overfull() {
		b.dropVoid()
	}
	for b.overfull() {
		need := int(b.ledger.total.Load()) - b.limits.total + b.limits.total/spare
		claims := b.ledger.claims(func(a *account) int64 { return a.held.Load() })
		level := levelOf(claims, need)
		claims = payers(claims, level)
		slices.SortFunc(claims, func(c, d claim[*account]) int {
			return cmp.Compare(d.over(level)/d.weight, c.over(level)/c.weight)
		})
		free := 0
		for _, c := range claims {
			if free >= need {
				break
			}
			free += b.collect(c.of, min(c.over(level), need-free))
		}
		if free == 0 {
			return // the rest is logs that are in use, which are few
		}
	}
}

// dropVoid drops the idle logs without messages and keys.
func (b *MemoryBroker) dropVoid() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := b.idle.void.first; l != nil && b.overfull(); l = b.idle.void.first {
		b.dropUnused(l)
	}
}

// collect has an owner pay at least amount: the oldest messages and keys of
// those shares that are larger than what is left of them. It returns how much
// is free.
func (b *MemoryBroker) collect(a *account, amount int) (free int) {
	type part struct {
		*share
		since int64
	}
	var claims []claim[part]
	for _, s := range b.ledger.sharesOf(a) {
		if held, since := s.oldest(); held > 0 {
			claims = append(claims, claim[part]{part{s, since}, held, 1})
		}
	}
	level := levelOf(claims, amount)
	claims = payers(claims, level)
	slices.SortStableFunc(claims, func(c, d claim[part]) int { return cmp.Compare(c.of.since, d.of.since) })
	var empty []*memoryLog
	for _, c := range claims {
		if free >= amount {
			break
		}
		n, isEmpty := c.of.pay(min(c.over(level), amount-free))
		if free += n; isEmpty {
			empty = append(empty, c.of.log)
			free += logCost
		}
	}
	b.dropEmpty(empty)
	return free
}

// oldest returns how much a share holds, with the log if it pays for that, and
// the time of its oldest message or key.
func (s *share) oldest() (held int, since int64) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if held = s.held(); held == 0 {
		return 0, 0
	}
	if s.log.payer == s.account {
		held += logCost
	}
	since = s.log.time
	if s.size[inNumber] > 0 {
		since = min(since, s.log.messages.at(s.log.oldest(s)).time)
	}
	if s.keys > 0 {
		since = min(since, s.log.keys.at(s.log.oldestKey(s)).time)
	}
	return held, since
}

// pay frees at least amount, and reports whether an idle log is empty then.
func (s *share) pay(amount int) (free int, isEmpty bool) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	free = s.log.cut(s, amount)
	return free, free > 0 && s.log.payer != nil && len(s.log.shares.list) == 0
}

// dropEmpty drops those logs that are still empty, and that nothing uses.
func (b *MemoryBroker) dropEmpty(logs []*memoryLog) {
	if len(logs) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range logs {
		if !l.dropped && l.users.Load() == 0 && l.isEmpty() {
			b.drop(l)
		}
	}
}
