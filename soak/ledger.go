package main

import (
	"fmt"
	"slices"
	"sync"
)

// ledger is what all clients together know of the logs, from acks and from the
// messages that they received. The soak's broker leaves no gaps between
// positions, so a client that lacks one has lost a message.
type ledger struct {
	mu       sync.Mutex
	books    map[string]*book // by topic
	findings []string         // contradictions
}

// book is a log.
type book struct {
	ids   []string // of the messages at positions 1, 2, ...; "" if unknown
	where map[string]uint64
	// promised are messages that are in this log, as their senders were told,
	// but at an unknown position.
	promised []string
}

func newLedger() *ledger { return &ledger{books: make(map[string]*book)} }

func (l *ledger) book(topic string) *book {
	b := l.books[topic]
	if b == nil {
		b = &book{where: make(map[string]uint64)}
		l.books[topic] = b
	}
	return b
}

// put notes that a message has a position.
func (l *ledger) put(topic string, seq uint64, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(topic)
	if n := int(seq) - len(b.ids); n > 0 {
		b.ids = append(b.ids, make([]string, n)...)
	}
	if old := b.ids[seq-1]; old != "" && old != id {
		l.find("%s: position %d is of %s and of %s", topic, seq, old, id)
	}
	if at, ok := b.where[id]; ok && at != seq {
		l.find("%s: %s is at %d and at %d", topic, id, at, seq)
	}
	b.ids[seq-1], b.where[id] = id, seq
}

// promise notes that a message is somewhere in a log.
func (l *ledger) promise(topic, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(topic)
	b.promised = append(b.promised, id)
}

// broken returns the promised messages that no client has seen.
func (l *ledger) broken() (ids []string) {
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

// find notes a contradiction. The first few are enough.
func (l *ledger) find(format string, args ...any) {
	if len(l.findings) < 20 {
		l.findings = append(l.findings, fmt.Sprintf(format, args...))
	}
}

// head returns the highest known position of a topic.
func (l *ledger) head(topic string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.books[topic]; b != nil {
		return uint64(len(b.ids))
	}
	return 0
}

// stretch is a run of positions, both ends included.
type stretch struct{ from, to uint64 }

// track is what one client has seen of one log. It belongs to its client.
type track struct {
	topic string
	epoch string
	// last is the position that the client remembers: that of the last message
	// that it saw, or the one at which it started.
	last uint64
	gaps []stretch // not seen
	// own are the positions of the client's own private messages. They do not
	// come back to the connection that sent them, except after a resume.
	own map[uint64]bool
	// hole is the end of the part that history may have to fill, since the
	// server does not replay all of it.
	hole uint64
}

// outcome is what a message means for a track.
type outcome int

const (
	expected outcome = iota
	filled           // it was missing
	repeated         // it came before
)

// saw notes a message that came as an event.
func (t *track) saw(seq uint64) outcome {
	if seq > t.last {
		if seq > t.last+1 {
			t.gaps = append(t.gaps, stretch{t.last + 1, seq - 1})
		}
		t.last = seq
		return expected
	}
	if t.own[seq] {
		return expected
	}
	return t.fill(seq)
}

// fill notes a message that came late or in a page of history.
func (t *track) fill(seq uint64) outcome {
	i := slices.IndexFunc(t.gaps, func(g stretch) bool { return g.from <= seq && seq <= g.to })
	if i < 0 {
		return repeated
	}
	g := t.gaps[i]
	var rest []stretch
	if g.from < seq {
		rest = append(rest, stretch{g.from, seq - 1})
	}
	if seq < g.to {
		rest = append(rest, stretch{seq + 1, g.to})
	}
	t.gaps = slices.Replace(t.gaps, i, i+1, rest...)
	return filled
}

// fillable returns a gap that history may fill.
func (t *track) fillable() (stretch, bool) {
	for _, g := range t.gaps {
		if g.from <= t.hole {
			return g, true
		}
	}
	return stretch{}, false
}

// missing returns how many messages the client should have seen but has not.
func (t *track) missing(l *ledger) (n int) {
	for _, g := range append(slices.Clone(t.gaps), stretch{t.last + 1, l.head(t.topic)}) {
		for seq := g.from; seq <= g.to; seq++ {
			if !t.own[seq] {
				n++
			}
		}
	}
	return n
}
