package natsbroker

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
)

var errStoredTooMuch = &chathub.Error{Code: chathub.CodeLimitExceeded, Message: "You have stored too much"}

const (
	// Owners may be refused while more than this part of MaxBytes is in use.
	crowded = 1. / 2
	// Anyone may hold this part of MaxBytes, ...
	fairShare = 1. / 16
	// ... and so many times what the owner with the rank comparable holds. So
	// nobody is refused if a few owners have filled the stream in like parts.
	comparable = 3
	multiple   = 3

	// ownersKept bounds the owners that a ledger remembers.
	ownersKept = 4096
	// samples is how many messages of an owner stand for all of them.
	samples = 64
	// auditInterval is for how long an audit is good.
	auditInterval = time.Second
	// storedOverhead is about what the stream needs for a message in addition
	// to its subject and data, in bytes.
	storedOverhead = 90
)

// ledger estimates what each owner has in the stream, of what the session has
// stored. A full stream drops its oldest messages, whoever owns them. So owners
// who have filled it are refused before it is full. The zero ledger refuses
// nobody. Its methods may be called concurrently.
//
// JetStream does not say which messages it has dropped. So the ledger counts
// what an owner has stored, and remembers a random sample. An audit looks how
// many of these are still there. It is made before anybody is refused.
type ledger struct {
	mu       sync.Mutex
	held     map[string]*holding
	bound    int64  // of the stream; 0 or less: none
	used     int64  // of the stream, when it was last asked
	since    int64  // stored since that request was sent
	pending  int64  // stored since the request that is under way was sent
	firstSeq uint64 // of the stream
	most     int64  // what an owner may hold if the stream is crowded

	auditing chan struct{} // held (full) during an audit
}

// holding is what one owner has.
type holding struct {
	bytes  int64
	sample [samples]uint64 // positions; each is of any stored byte with equal probability
	// The last audit, and what it found.
	audited time.Time
	found   int64
}

// asking says that the stream is about to be asked for its state.
func (l *ledger) asking() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = 0
}

// observe takes note of the state of the stream.
func (l *ledger) observe(st *streamState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bound, l.used, l.firstSeq = st.maxBytes, int64(st.bytes), st.firstSeq
	l.since = l.pending
	l.setMost()
}

// largest returns the owners who hold most, in descending order.
func (l *ledger) largest() (top [comparable]string) {
	for owner := range l.held {
		for i, other := range top {
			if other == "" || l.held[owner].bytes > l.held[other].bytes {
				owner, top[i] = other, owner
				if owner == "" {
					break
				}
			}
		}
	}
	return top
}

func (l *ledger) setMost() {
	l.most = int64(fairShare * float64(l.bound))
	if h := l.held[l.largest()[comparable-1]]; h != nil {
		l.most = max(l.most, multiple*h.bytes)
	}
}

func (l *ledger) isCrowded() bool {
	return l.bound > 0 && float64(l.used+l.since) > crowded*float64(l.bound)
}

// charge counts a message that was stored at a position.
func (l *ledger) charge(owner string, size int, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since += int64(size)
	l.pending += int64(size)
	if owner == "" || l.bound <= 0 {
		return
	}
	h := l.held[owner]
	if h == nil {
		if l.held == nil {
			l.held = make(map[string]*holding)
		}
		if len(l.held) >= ownersKept {
			l.forgetSmall()
		}
		h = &holding{}
		l.held[owner] = h
	}
	h.add(int64(size), seq)
}

func (h *holding) add(size int64, seq uint64) {
	h.bytes += size
	switch p := samples * float64(size) / float64(h.bytes); {
	case p < 1:
		if rand.Float64() < p {
			h.sample[rand.IntN(samples)] = seq
		}
	default:
		for i := range h.sample {
			if rand.Float64() < p/samples {
				h.sample[i] = seq
			}
		}
	}
}

// forgetSmall forgets the smaller half of the owners.
func (l *ledger) forgetSmall() {
	sizes := make([]int64, 0, len(l.held))
	for _, h := range l.held {
		sizes = append(sizes, h.bytes)
	}
	slices.Sort(sizes)
	most, n := sizes[len(sizes)/2], len(sizes)/2
	for owner, h := range l.held {
		if h.bytes <= most && n > 0 {
			delete(l.held, owner)
			n--
		}
	}
}

// suspects reports whether an owner must be refused, unless an audit finds that
// it holds less than it has stored. If that is known already, it is final.
func (l *ledger) suspects(owner string) (suspect, final bool) {
	if owner == "" {
		return false, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[owner]
	if h == nil || h.bytes < l.most || !l.isCrowded() {
		return false, false
	}
	return true, h.bytes <= h.found && time.Since(h.audited) < auditInterval
}

// admit returns an error if an owner must not store another message.
func (s *session) admit(ctx context.Context, owner string) error {
	l := &s.owners
	switch suspect, final := l.suspects(owner); {
	case !suspect:
		return nil
	case final:
		return errStoredTooMuch
	}
	if err := hold(ctx, l.auditing); err != nil {
		return err
	}
	defer func() { <-l.auditing }()
	if suspect, final := l.suspects(owner); suspect && !final {
		if err := s.audit(ctx, owner); err != nil {
			return unavailable(err)
		}
	}
	if suspect, _ := l.suspects(owner); suspect {
		return errStoredTooMuch
	}
	return nil
}

// auditLargest audits the owners with whom others are compared.
func (s *session) auditLargest(ctx context.Context) error {
	l := &s.owners
	if err := hold(ctx, l.auditing); err != nil {
		return err
	}
	defer func() { <-l.auditing }()
	l.mu.Lock()
	owners, needed := l.largest(), l.isCrowded()
	l.mu.Unlock()
	for _, owner := range owners {
		if needed && owner != "" {
			if err := s.audit(ctx, owner); err != nil {
				return err
			}
		}
	}
	return nil
}

// audit looks how much of what an owner has stored is still there. The caller
// holds auditing.
func (s *session) audit(ctx context.Context, owner string) error {
	l := &s.owners
	l.mu.Lock()
	h := l.held[owner]
	if h == nil {
		l.mu.Unlock()
		return nil
	}
	sample, firstSeq := h.sample, l.firstSeq
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	exists := make(map[uint64]bool, samples)
	for _, seq := range sample {
		if _, known := exists[seq]; known || seq < firstSeq {
			continue
		}
		m, err := s.get(ctx, `{"seq":`+formatSeq(seq)+`}`)
		if err != nil {
			return err
		}
		exists[seq] = m.seq != 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h.keep(func(seq uint64) bool { there, known := exists[seq]; return there || !known && seq >= firstSeq })
	h.audited, h.found = time.Now(), h.bytes
	if h.bytes == 0 && l.held[owner] == h {
		delete(l.held, owner)
	}
	l.setMost()
	return nil
}

// keep leaves the part of a holding that exists.
func (h *holding) keep(exists func(seq uint64) bool) {
	var left []uint64
	for _, seq := range h.sample {
		if exists(seq) {
			left = append(left, seq)
		}
	}
	h.bytes = h.bytes * int64(len(left)) / samples
	if len(left) == 0 {
		h.bytes = 0
		return
	}
	for i, seq := range h.sample {
		if !exists(seq) {
			h.sample[i] = left[rand.IntN(len(left))]
		}
	}
}
