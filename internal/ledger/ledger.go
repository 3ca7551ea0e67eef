// Package ledger checks what clients see of logs: whether a message is lost,
// doubled or out of order.
package ledger

import (
	"fmt"
	"slices"
	"sync"
)

// Ledger is what all clients together know of the logs, from acks and from the
// messages that they received. There may be gaps between positions. So a client
// has lost a message if it lacks one that the ledger has. A ledger may be used
// concurrently.
type Ledger struct {
	mu       sync.Mutex
	books    map[string]*book // by topic
	findings []string         // contradictions; the first few
}

// book is a log.
type book struct {
	seqs  []uint64 // the known positions, in order
	ids   map[uint64]string
	where map[string]uint64
	from  map[uint64]string // who sent the message at a position
	// promised are messages that are in this log, as their senders were told,
	// but at an unknown position.
	promised []string
	become   map[uint64]Became // what messages have become, by their positions
	// gone are positions that a client that was away need not hear of: deleted
	// messages, and changes, since what matters is what its messages are now.
	gone map[uint64]bool
}

// Became is what a message has become.
type Became struct {
	Version uint64 // 0: it has not changed
	Text    string // what has changed, as JSON
	Deleted bool
}

// New returns an empty ledger.
func New() *Ledger { return &Ledger{books: make(map[string]*book)} }

func (l *Ledger) book(topic string) *book {
	b := l.books[topic]
	if b == nil {
		b = &book{
			ids: make(map[uint64]string), where: make(map[string]uint64), from: make(map[uint64]string),
			become: make(map[uint64]Became), gone: make(map[uint64]bool),
		}
		l.books[topic] = b
	}
	return b
}

// Put notes that a message has a position. From is empty if it does not count
// as unread.
func (l *Ledger) Put(topic string, seq uint64, id, from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(topic)
	old, known := b.ids[seq]
	if !known {
		i, _ := slices.BinarySearch(b.seqs, seq)
		b.seqs = slices.Insert(b.seqs, i, seq)
	}
	if known && old != id {
		l.find("%s: position %d is of %s and of %s", topic, seq, old, id)
	}
	if at, ok := b.where[id]; ok && at != seq {
		l.find("%s: %s is at %d and at %d", topic, id, at, seq)
	}
	b.ids[seq], b.where[id] = id, seq
	if from != "" {
		b.from[seq] = from
	}
}

// Change notes what a message has become.
func (l *Ledger) Change(topic string, seq uint64, now Became) {
	if now.Version == 0 {
		return
	}
	l.Put(topic, now.Version, fmt.Sprintf("change %d of %d", now.Version, seq), "")
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(topic)
	old := b.become[seq]
	switch {
	case old.Version == now.Version && old != now:
		l.find("%s: version %d of %d is %s and %s", topic, now.Version, seq, old.Text, now.Text)
	case min(old.Version, now.Version) > 0 && (old.Version < now.Version && old.Deleted || now.Version < old.Version && now.Deleted) && old.Text != now.Text:
		l.find("%s: %d was deleted, and is %s and %s", topic, seq, old.Text, now.Text)
	}
	b.gone[now.Version] = true
	if now.Version > old.Version {
		b.become[seq] = now
		b.gone[seq] = now.Deleted
	}
}

// Now returns what a message has become, as far as is known.
func (l *Ledger) Now(topic string, seq uint64) Became {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book(topic).become[seq]
}

// Unread counts what a user has not read after a marker, and up to a head.
func (l *Ledger) Unread(topic, user string, marker, head uint64) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(topic)
	i, _ := slices.BinarySearch(b.seqs, marker+1)
	for _, seq := range b.seqs[i:] {
		if from := b.from[seq]; seq <= head && from != "" && from != user && !b.become[seq].Deleted {
			n++
		}
	}
	return min(n, MostUnread)
}

// MostUnread stands for that many unread messages or more.
const MostUnread = 100

// Promise notes that a message is somewhere in a log.
func (l *Ledger) Promise(topic, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(topic)
	b.promised = append(b.promised, id)
}

// Broken returns the promised messages that no client has seen.
func (l *Ledger) Broken() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.books {
		for _, id := range b.promised {
			if b.where[id] == 0 {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// Author returns who sent the message at a position.
func (l *Ledger) Author(topic string, seq uint64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book(topic).from[seq]
}

// Findings returns the first few contradictions: two messages at one position,
// or one message at two.
func (l *Ledger) Findings() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.findings)
}

// find notes a contradiction. The first few are enough.
func (l *Ledger) find(format string, args ...any) {
	if len(l.findings) < 20 {
		l.findings = append(l.findings, fmt.Sprintf(format, args...))
	}
}

// Head returns the highest known position of a topic.
func (l *Ledger) Head(topic string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.books[topic]; b != nil && len(b.seqs) > 0 {
		return b.seqs[len(b.seqs)-1]
	}
	return 0
}

// Lacks returns how many positions of a stretch are known to have a message
// that a client should have, and has not if it is not in own.
func (l *Ledger) Lacks(topic string, g Stretch, own map[uint64]bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(topic)
	i, _ := slices.BinarySearch(b.seqs, g.From)
	for _, seq := range b.seqs[i:] {
		if seq > g.To {
			break
		}
		if !own[seq] && !b.gone[seq] {
			n++
		}
	}
	return n
}
