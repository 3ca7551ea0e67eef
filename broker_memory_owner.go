package chathub

import (
	"sync"
	"sync/atomic"
)

// ledger says what each owner is charged for in a MemoryBroker.
type ledger struct {
	total atomic.Int64 // bytes, of all accounts

	mu       sync.Mutex          // taken after all others
	accounts map[string]*account // by scoped owner
}

// account is what one owner is charged for. It exists while there is anything.
type account struct {
	ledger *ledger
	owner  string
	key    string       // in accounts: users of two tenants are two, even if their ids are equal
	held   atomic.Int64 // bytes
	logs   atomic.Int64 // idle logs that are charged to it

	shares chain[share] // in the order in which they pay; under ledger.mu
}

// applicationWeight is how many users the application counts as.
const applicationWeight = 64

func (a *account) weighs() int {
	if a.owner == "" {
		return applicationWeight
	}
	return 1
}

func (a *account) charge(n int) {
	if n != 0 {
		a.held.Add(int64(n))
		a.ledger.total.Add(int64(n))
	}
}

// account returns the account of an owner of messages of a topic. It needs mu.
func (l *ledger) account(of Topic, owner string) *account {
	key := of.world().scoped(owner)
	a := l.accounts[key]
	if a == nil {
		a = &account{ledger: l, owner: owner, key: key}
		if l.accounts == nil {
			l.accounts = make(map[string]*account)
		}
		l.accounts[key] = a
	}
	return a
}

// settle forgets an account that has nothing left. It needs mu.
func (l *ledger) settle(a *account) {
	if a.shares.n == 0 && a.logs.Load() == 0 {
		delete(l.accounts, a.key)
	}
}

// open charges a new share to an owner.
func (l *ledger) open(s *share, owner string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(s.log.topic, owner)
	a.charge(shareCost)
	s.account = a
	push(&a.shares, s)
}

// close ends a share that has neither messages nor keys.
func (l *ledger) close(s *share) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := s.account
	a.charge(-shareCost)
	unlink(s)
	l.settle(a)
}

// logCost is what a log occupies besides its shares, messages and keys.
const logCost = 576

// assign charges an idle log to an account, or to the application if that is
// nil. The account is the log's holder then. It needs the mutex of the log.
func (l *ledger) assign(log *memoryLog, a *account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a == nil {
		a = l.account(log.topic, "")
	}
	a.logs.Add(1)
	a.charge(logCost)
	log.holder = a
}

// release undoes assign.
func (l *ledger) release(log *memoryLog) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := log.holder
	log.holder = nil
	a.logs.Add(-1)
	a.charge(-logCost)
	l.settle(a)
}

// reassign gives an idle log another holder.
func (l *ledger) reassign(log *memoryLog, to *account) {
	l.release(log)
	l.assign(log, to)
}

// first returns the share of an account that pays next, or nil, and the number
// of its shares.
func (l *ledger) first(a *account) (*share, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return a.shares.first, a.shares.n
}

// postpone has all other shares of the account pay before s does again, and
// returns the next one, or nil.
func (l *ledger) postpone(s *share) *share {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.in != nil {
		unlink(s)
		push(&s.account.shares, s)
	}
	return s.account.shares.first
}

// claims returns what each account has, in bytes or in idle logs.
func (l *ledger) claims(of func(*account) int64) []claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]claim, 0, len(l.accounts))
	for _, a := range l.accounts {
		all = append(all, claim{a, int(of(a)), a.weighs()})
	}
	return all
}

// claim is what an owner has of something of which there is too much.
type claim struct {
	*account
	has    int
	weight int // of two with the same weight, the one that has more pays
}

// over returns by how much a claim is over a level.
func (c *claim) over(level int) int { return max(0, c.has-level*c.weight) }

// levelOf returns the level that claims must be cut to so that need is free.
// Those over it pay, and the others do not. The level may be too low by one
// part in 256.
func levelOf(claims []claim, need int) int {
	level, above := 0, 1
	for i := range claims {
		above = max(above, claims[i].has/claims[i].weight+1)
	}
	for above-level > 1+level/256 {
		middle := level + (above-level)/2
		free := 0
		for i := range claims {
			free += claims[i].over(middle)
		}
		if free >= need {
			level = middle
		} else {
			above = middle
		}
	}
	return level
}
