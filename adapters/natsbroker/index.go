package natsbroker

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/chathub-go/chathub"
)

// index has the newest messages of the names of a topic, of the kinds that were
// asked for. Deliveries keep it up to date. Its methods may be called
// concurrently.
type index struct {
	mu    sync.Mutex
	kinds map[string]*kindIndex
	bytes int
}

// kindIndex is the part of an index for one kind. Names that were removed are
// in it, so that an older message does not bring them back.
type kindIndex struct {
	complete bool // false while the names are being read
	names    map[string]*chathub.Message
}

// begin starts to keep a kind, before its names are read.
func (x *index) begin(kind string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.kinds == nil {
		x.kinds = make(map[string]*kindIndex)
	}
	if x.kinds[kind] == nil {
		x.kinds[kind] = &kindIndex{names: make(map[string]*chathub.Message)}
	}
}

// completed says that all names of a kind have been put. It reports false if
// the index has been forgotten since it began.
func (x *index) completed(kind string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.kinds[kind]
	if k != nil {
		k.complete = true
	}
	return k != nil
}

// put takes note of a named message, if its kind is kept. It returns by how
// many bytes the index has grown.
func (x *index) put(m chathub.Message) (grown int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.kinds[kindOf(m.Name)]
	if k == nil {
		return 0
	}
	old, there := k.names[m.Name]
	if there && old.Seq >= m.Seq {
		return 0
	}
	if m.Remove {
		m.Body, m.Key, m.Owner = nil, "", ""
	}
	k.names[m.Name] = &m
	grown = cost(&m)
	if there {
		grown -= cost(old)
	}
	x.bytes += grown
	return grown
}

// forget drops everything, and returns how many bytes that has freed.
func (x *index) forget() (freed int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	freed = x.bytes
	x.kinds, x.bytes = nil, 0
	return freed
}

// find returns the names of one kind that a query selects, if the index has
// them. Names that are tied to messages have gone if they are older than the
// time oldest.
func (x *index) find(q *chathub.NameQuery, oldest int64) (found []chathub.Message, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.kinds[q.Kind]
	if k == nil || !k.complete {
		return nil, false
	}
	for _, m := range k.names {
		if selects(q, m) && !m.Remove && (m.Tied == 0 || m.Time >= oldest) {
			found = append(found, *m)
		}
	}
	return inOrder(found), true
}

// selects reports whether a name of the kind is in the range of a query.
func selects(q *chathub.NameQuery, m *chathub.Message) bool {
	return q.To == 0 || m.Tied != 0 && q.From <= m.Tied && m.Tied <= q.To
}

// inOrder sorts messages, and leaves out those that occur twice.
func inOrder(messages []chathub.Message) []chathub.Message {
	slices.SortFunc(messages, func(a, b chathub.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	return slices.CompactFunc(messages, func(a, b chathub.Message) bool { return a.Seq == b.Seq })
}

// readIndex reads the names of a kind into the topic's index.
func (t *topic) readIndex(ctx context.Context, kind string) error {
	t.names.begin(kind)
	n := 0
	older := t.s.noteOlder()
	if err := t.s.scanAll(ctx, t.s.broker.cfg.kindFilter(t.name, kind), func(e entry) bool {
		if m, ok := t.s.stored(t.name, e); ok {
			older(&m, e)
			t.s.cached(t.names.put(m))
		}
		n++
		return n < namesKept
	}); err != nil {
		return err
	}
	if n == namesKept || !t.names.completed(kind) {
		t.s.cached(-t.names.forget())
	}
	return nil
}

// cached counts what the caches have grown by. If they become too large
// together, it empties some of them.
func (s *session) cached(grown int) {
	bound := int64(s.broker.cfg.cache)
	if s.cacheBytes.Add(int64(grown)) <= bound || grown <= 0 {
		return
	}
	for _, other := range s.list() { // in random order
		if s.cacheBytes.Add(-int64(other.tail.forget()+other.names.forget())) <= bound/8*7 {
			return
		}
	}
}
