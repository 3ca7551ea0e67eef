package chathub

import "slices"

// idleLogs are the logs without subscriptions, the least recently used first.
// One that a call is using at this moment may be among them. They belong to
// MemoryBroker.mu.
type idleLogs struct {
	void  chain[memoryLog] // logs without messages, keys and names
	named chain[memoryLog] // logs with names, of which all else has expired
	kept  chain[memoryLog] // all others, used after those
}

func (idle *idleLogs) size() int { return idle.void.n + idle.named.n + idle.kept.n }

// rest makes a log without users the one that was used last, and reports
// whether it ever had a message. If not, rest does nothing. It needs mu.
func (b *MemoryBroker) rest(l *memoryLog, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == 0 {
		return false
	}
	if l.in != nil {
		unlink(l)
	} else {
		l.expire(max(now, l.time), &b.limits)
		b.ledger.assign(l, l.oldestOwner())
	}
	l.used = now
	if len(l.shares.list) > 0 {
		push(&b.idle.kept, l)
	} else {
		push(&b.idle.void, l)
	}
	return true
}

// remove takes out a log that has a subscription now, or will be dropped.
func (idle *idleLogs) remove(l *memoryLog) {
	if l.in == nil {
		return
	}
	unlink(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holder.ledger.release(l)
}

// oldestOwner returns the account of the oldest message, or of the oldest key
// if there is none, or else of the oldest name, or nil.
func (log *memoryLog) oldestOwner() *account {
	switch {
	case log.messages.size() > 0:
		return log.messages.at(0).share.account
	case log.keys.size() > 0:
		return log.keys.at(0).share.account
	case log.names != nil:
		return log.names.messages.at(0).share.account
	}
	return nil
}

// sweep drops idle logs that are too old or too many. It needs mu.
func (b *MemoryBroker) sweep(now int64) {
	for _, logs := range []*chain[memoryLog]{&b.idle.void, &b.idle.kept} {
		for l := logs.first; l != nil && now-l.used > b.limits.idle; l = logs.first {
			if l.expireToNames(now, &b.limits) {
				unlink(l)
				push(&b.idle.named, l)
			} else {
				b.dropUnused(l)
			}
		}
	}
	for b.tooManyIdle() > 0 && b.idle.void.n > 0 {
		b.dropUnused(b.idle.void.first)
	}
	for b.tooManyIdle() > 0 {
		b.thin(b.tooManyIdle() + b.limits.idleTopics/spare)
	}
}

// expireToNames reports whether a log has names when its other messages have
// expired.
func (log *memoryLog) expireToNames(now int64, limits *memoryLimits) bool {
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.names == nil {
		return false
	}
	log.expire(max(now, log.time), limits)
	return log.names != nil
}

func (b *MemoryBroker) tooManyIdle() int { return b.idle.size() - b.limits.idleTopics }

// dropUnused takes an idle log out of its list, and drops it unless a call is
// using it. That call then puts it back.
func (b *MemoryBroker) dropUnused(l *memoryLog) {
	if l.users.Load() == 0 {
		b.drop(l)
	} else {
		b.idle.remove(l)
	}
}

// thin drops idle logs, need in all: those of the owners who have the most, the
// least recently used first. It needs mu.
func (b *MemoryBroker) thin(need int) {
	claims := b.ledger.claims(func(a *account) int64 { return a.logs.Load() })
	level := int64(levelOf(claims, need))
	for _, logs := range []*chain[memoryLog]{&b.idle.named, &b.idle.kept} {
		for l := logs.first; l != nil && need > 0; {
			next := l.next
			if p := l.heldBy(); p.logs.Load() > level*int64(p.weighs()) && b.giveUp(l) {
				need--
			}
			l = next
		}
	}
}

// giveUp drops an idle log. If others have anything in it, only what its holder
// has goes, and one of the others is the holder then. It reports
// whether the log is no longer idle. It needs mu.
func (b *MemoryBroker) giveUp(l *memoryLog) bool {
	if l.users.Load() == 0 && l.strip() {
		return false
	}
	b.dropUnused(l)
	return true
}

func (log *memoryLog) heldBy() *account {
	log.mu.Lock()
	defer log.mu.Unlock()
	return log.holder
}

// strip drops what the holder has in the log, and reports whether anything of
// others is left. One of them is the holder then.
func (log *memoryLog) strip() bool {
	log.mu.Lock()
	defer log.mu.Unlock()
	holder := log.holder
	for {
		// A cut can end other shares, too: of names that are tied to messages.
		i := slices.IndexFunc(log.shares.list, func(s *share) bool { return s.account == holder })
		if i < 0 {
			return len(log.shares.list) > 0
		}
		s := log.shares.list[i]
		log.cut(s, s.held())
	}
}

func (log *memoryLog) isEmpty() bool {
	log.mu.Lock()
	defer log.mu.Unlock()
	return len(log.shares.list) == 0
}
