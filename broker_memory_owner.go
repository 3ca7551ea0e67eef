package chathub

import (
	"slices"
	"sync"
	"sync/atomic"
)

// ledger says what each owner is charged for in a MemoryBroker.
type ledger struct {
	total atomic.Int64 // bytes, of all accounts

	mu       sync.Mutex // taken after all others
	accounts map[string]*account
}

// account is what one owner is charged for. It exists while there is anything.
type account struct {
	ledger *ledger
	owner  string
	held   atomic.Int64 // bytes
	logs   atomic.Int64 // idle logs that it pays for

	shares *share // the first; under ledger.mu
}

// applicationWeight is how many users the application counts as.
const applicationWeight = 64

func (a *account) weight() int {
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

// account returns the account of an owner. It needs mu.
func (l *ledger) account(owner string) *account {
	a := l.accounts[owner]
	if a == nil {
		a = &account{ledger: l, owner: owner}
		if l.accounts == nil {
			l.accounts = make(map[string]*account)
		}
		l.accounts[owner] = a
	}
	return a
}

// settle forgets an account that has nothing left. It needs mu.
func (l *ledger) settle(a *account) {
	if a.shares == nil && a.logs.Load() == 0 {
		delete(l.accounts, a.owner)
	}
}

// open charges a new share to an owner.
func (l *ledger) open(s *share, owner string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(owner)
	a.charge(shareCost)
	s.account, s.next = a, a.shares
	if s.next != nil {
		s.next.prev = s
	}
	a.shares = s
}

// close ends a share, which has neither messages nor keys.
func (l *ledger) close(s *share) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := s.account
	a.charge(-shareCost)
	if s.next != nil {
		s.next.prev = s.prev
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		a.shares = s.next
	}
	s.prev, s.next = nil, nil
	l.settle(a)
}

// logCost is what a log occupies besides its shares, messages and keys.
const logCost = 576

// pay charges an idle log to an account, or to the application if that is nil.
// It needs the mutex of the log.
func (l *ledger) pay(log *memoryLog, a *account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a == nil {
		a = l.account("")
	}
	a.logs.Add(1)
	a.charge(logCost)
	log.payer = a
}

// unpay undoes pay.
func (l *ledger) unpay(log *memoryLog) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := log.payer
	log.payer = nil
	a.logs.Add(-1)
	a.charge(-logCost)
	l.settle(a)
}

// passOn has another account pay for an idle log.
func (l *ledger) passOn(log *memoryLog, to *account) {
	l.unpay(log)
	l.pay(log, to)
}

// sharesOf returns the shares of an account, in the order of their opening.
func (l *ledger) sharesOf(a *account) (all []*share) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := a.shares; s != nil; s = s.next {
		all = append(all, s)
	}
	slices.Reverse(all)
	return all
}

// claims returns what each account has, in bytes or in idle logs.
func (l *ledger) claims(of func(*account) int64) []claim[*account] {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]claim[*account], 0, len(l.accounts))
	for _, a := range l.accounts {
		all = append(all, claim[*account]{a, int(of(a)), a.weight()})
	}
	return all
}

// claim is what somebody has of something that has become too much.
type claim[T any] struct {
	of     T
	has    int
	weight int // of two with the same weight, the one that has more pays
}

// over returns by how much a claim is over a level.
func (c *claim[T]) over(level int) int { return max(0, c.has-level*c.weight) }

// levelOf returns the level that all claims must be cut to so that need is
// free: those over it pay, and nobody pays who is not. It may be lower by one
// part in 256.
func levelOf[T any](claims []claim[T], need int) int {
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

// payers returns the claims over a level.
func payers[T any](claims []claim[T], level int) []claim[T] {
	return slices.DeleteFunc(claims, func(c claim[T]) bool { return c.over(level) == 0 })
}
