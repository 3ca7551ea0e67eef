package main

import (
	"fmt"
	"slices"
	"sync"

	"github.com/chathub-go/chathub"
)

// ledger is what all clients together know of the logs, from acks and from the
// messages that they received. There may be gaps between positions. So a client
// has lost a message if it lacks one that the ledger has.
type ledger struct {
	mu       sync.Mutex
	books    map[string]*book // by topic
	findings []string         // contradictions
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
	become   map[uint64]became // what messages have become, by their positions
	// gone are positions that a client that was away need not hear of: deleted
	// messages, and changes, since what matters is what its messages are now.
	gone map[uint64]bool
}

// became is what a message has become.
type became struct {
	version uint64 // 0: it has not changed
	text    string // what has changed, as JSON
	deleted bool
}

func newLedger() *ledger { return &ledger{books: make(map[string]*book)} }

func (l *ledger) book(topic string) *book {
	b := l.books[topic]
	if b == nil {
		b = &book{
			ids: make(map[uint64]string), where: make(map[string]uint64), from: make(map[uint64]string),
			become: make(map[uint64]became), gone: make(map[uint64]bool),
		}
		l.books[topic] = b
	}
	return b
}

// put notes that a message has a position. From is empty if it does not count
// as unread.
func (l *ledger) put(topic string, seq uint64, id, from string) {
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

// change notes what a message has become.
func (l *ledger) change(topic string, seq uint64, now became) {
	if now.version == 0 {
		return
	}
	l.put(topic, now.version, fmt.Sprintf("change %d of %d", now.version, seq), "")
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(topic)
	old := b.become[seq]
	switch {
	case old.version == now.version && old != now:
		l.find("%s: version %d of %d is %s and %s", topic, now.version, seq, old.text, now.text)
	case min(old.version, now.version) > 0 && (old.version < now.version && old.deleted || now.version < old.version && now.deleted) && old.text != now.text:
		l.find("%s: %d was deleted, and is %s and %s", topic, seq, old.text, now.text)
	}
	b.gone[now.version] = true
	if now.version > old.version {
		b.become[seq] = now
		b.gone[seq] = now.deleted
	}
}

// now returns what a message has become, as far as is known.
func (l *ledger) now(topic string, seq uint64) became {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book(topic).become[seq]
}

// unread counts what a user has not read after a marker, and up to a head.
func (l *ledger) unread(topic, user string, marker, head uint64) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(topic)
	i, _ := slices.BinarySearch(b.seqs, marker+1)
	for _, seq := range b.seqs[i:] {
		if from := b.from[seq]; seq <= head && from != "" && from != user && !b.become[seq].deleted {
			n++
		}
	}
	return min(n, mostUnread)
}

// mostUnread stands for that many unread messages or more.
const mostUnread = 100

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
	if b := l.books[topic]; b != nil && len(b.seqs) > 0 {
		return b.seqs[len(b.seqs)-1]
	}
	return 0
}

// lacks returns how many positions of a stretch are known to have a message
// that a client should have, and has not if it is not in own.
func (l *ledger) lacks(topic string, g stretch, own map[uint64]bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(topic)
	i, _ := slices.BinarySearch(b.seqs, g.from)
	for _, seq := range b.seqs[i:] {
		if seq > g.to {
			break
		}
		if !own[seq] && !b.gone[seq] {
			n++
		}
	}
	return n
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
	// shown is what the client shows of the messages that it has.
	shown map[uint64]became
	read  uint64 // the marker, as far as the client knows
}

func newTrack(topic string, p chathub.Position) *track {
	return &track{topic: topic, epoch: p.Epoch, last: p.Seq, own: make(map[uint64]bool), shown: make(map[uint64]became)}
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

// fillable returns the newest gap that history may fill. Positions of a log are
// not dense on every broker, so most gaps are no messages. The page before the
// newest one says so of many at once.
func (t *track) fillable() (stretch, bool) {
	for _, g := range slices.Backward(t.gaps) {
		if g.from <= t.hole {
			return g, true
		}
	}
	return stretch{}, false
}

// show takes what a message has become, unless the client has a newer version.
// A change of a message that the client does not have is nothing to it.
func (t *track) show(seq uint64, now became, isChange bool) {
	if had, ok := t.shown[seq]; isChange && !ok || ok && now.version < had.version {
		return
	}
	t.shown[seq] = now
}

// stale returns how many messages the client shows in another form than the one
// that they have.
func (t *track) stale(l *ledger) (n int) {
	for seq, had := range t.shown {
		if l.now(t.topic, seq) != had {
			n++
		}
	}
	return n
}

// searched notes that a page of history has reached from one position to
// another: what is missing there is not in the log, unless the ledger has it.
// It reports whether that closed a gap.
func (t *track) searched(l *ledger, from, to uint64) (closed bool) {
	var rest []stretch
	for _, g := range t.gaps {
		in := stretch{max(g.from, from), min(g.to, to)}
		if in.from > in.to || l.lacks(t.topic, in, t.own) > 0 {
			rest = append(rest, g)
			continue
		}
		closed = true
		if g.from < in.from {
			rest = append(rest, stretch{g.from, in.from - 1})
		}
		if in.to < g.to {
			rest = append(rest, stretch{in.to + 1, g.to})
		}
	}
	t.gaps = rest
	return closed
}

// missing returns how many messages the client should have seen but has not.
func (t *track) missing(l *ledger) (n int) {
	for _, g := range append(slices.Clone(t.gaps), stretch{t.last + 1, l.head(t.topic)}) {
		n += l.lacks(t.topic, g, t.own)
	}
	return n
}
