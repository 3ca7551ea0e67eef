package natsbroker

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/chathub-go/chathub"
)

// read is Read without retries.
func (s *session) read(ctx context.Context, t chathub.Topic, r chathub.Range) (chathub.Page, error) {
	p := s.broker.cfg.place(t)
	newestMessage, err := s.newestOf(ctx, p)
	if err != nil {
		return chathub.Page{}, err
	}
	head := newestMessage.seq
	if head == 0 {
		st, err := s.refresh(ctx)
		if err != nil {
			return chathub.Page{}, err
		}
		lost, err := s.lost(ctx, st)
		return chathub.Page{Trimmed: lost}, err
	}
	if r.Before == 0 {
		if page, ok := s.readTail(t, r, head); ok {
			return page, nil
		}
	}
	last := head
	if r.Before > 0 {
		last = min(last, r.Before-1)
	}
	if r.Ordinary {
		p.filter = p.ordinary
	}
	page := chathub.Page{Head: chathub.Position{Epoch: s.state.Load().epoch, Seq: head}}
	near := vicinity{known: r.After >= head, anchored: r.After == head && !newestMessage.isNamed()}
	if r.Limit > 0 && r.After < last {
		found := newest{limit: int(min(uint64(r.Limit), last-r.After)), size: bodyBound(r.MaxBytes), decode: func(m entry) (chathub.Message, bool) {
			if r.Ordinary && m.isNamed() {
				return chathub.Message{}, false
			}
			return s.stored(t, m)
		}}
		if r.Oldest {
			page.More, near, err = s.searchForward(ctx, p, r.After, last, &found)
		} else {
			near, err = s.search(ctx, p, r.After, last, &found)
			page.More = found.cut > 0
		}
		if err != nil {
			return chathub.Page{}, err
		}
		page.Messages = s.tidy(found.messages)
	}
	page.Trimmed, err = s.trimmed(ctx, s.broker.cfg.place(t), min(r.After, head), near)
	return page, err
}

// tidy removes what is only there because a node was killed before it could
// remove it: older messages of a name, and messages that were erased.
func (s *session) tidy(messages []chathub.Message) []chathub.Message {
	newest := make(map[string]uint64)
	for i := range messages {
		if m := &messages[i]; m.Name != "" {
			newest[m.Name] = m.Seq
		}
	}
	return slices.DeleteFunc(messages, func(m chathub.Message) bool {
		if m.Name == "" {
			return s.erasures.has(m.Seq)
		}
		return newest[m.Name] != m.Seq
	})
}

// stored decodes a message of the stream. If that fails, it logs an error and
// returns false.
func (s *session) stored(t chathub.Topic, m entry) (chathub.Message, bool) {
	msg, err := message(t, m.seq, m.header, m.data)
	if err != nil {
		s.log.Error("natsbroker: a stored message cannot be read", "topic", t, "seq", m.seq, "err", err)
		return msg, false
	}
	if msg.Erase {
		s.erasures.add(t, msg.Tied)
	}
	return msg, true
}

// bodyBound returns the bound of a Range as a number that is never exceeded
// if there is none.
func bodyBound(maxBytes int) int {
	if maxBytes <= 0 {
		return math.MaxInt
	}
	return maxBytes
}

// newest collects the newest messages up to a number and a size of their
// bodies. Each message that is added is newer than the one before.
type newest struct {
	limit, size int
	decode      func(entry) (chathub.Message, bool)

	messages []chathub.Message
	bytes    int    // of their bodies
	seen     int    // messages that were added
	read     int    // bytes of their bodies
	cut      uint64 // all messages up to this position are missing. 0: none is
}

func (n *newest) add(e entry) bool {
	if m, ok := n.decode(e); ok {
		n.seen++
		n.read += len(m.Body)
		n.append(m)
	}
	return true
}

func (n *newest) append(m chathub.Message) {
	n.messages = append(n.messages, m)
	n.bytes += len(m.Body)
	for len(n.messages) > n.limit || n.bytes > n.size {
		n.cut = n.messages[0].Seq
		n.bytes -= len(n.messages[0].Body)
		n.messages[0] = chathub.Message{}
		n.messages = n.messages[1:]
	}
}

// rest returns a newest for the messages before those of n.
func (n *newest) rest() *newest {
	return &newest{limit: n.limit - len(n.messages), size: n.size - n.bytes, decode: n.decode}
}

// again returns what is left of a rest when n has got more messages.
func (n *newest) again(rest *newest) *newest {
	less := n.rest()
	less.seen, less.read, less.cut = rest.seen, rest.read, rest.cut
	for _, m := range rest.messages {
		less.append(m)
	}
	return less
}

// prepend adds what the rest has collected.
func (n *newest) prepend(rest *newest) {
	n.messages = append(rest.messages, n.messages...)
	n.bytes += rest.bytes
	n.seen += rest.seen
	n.read += rest.read
	n.cut = max(n.cut, rest.cut)
}

// merged adds what was collected from two subjects in one stretch of the log.
func (n *newest) merged(a, b *newest) {
	all := n.rest()
	all.seen, all.read, all.cut = a.seen+b.seen, a.read+b.read, max(a.cut, b.cut)
	messages := append(a.messages, b.messages...)
	slices.SortFunc(messages, func(m, o chathub.Message) int { return cmp.Compare(m.Seq, o.Seq) })
	for _, m := range messages {
		if m.Seq > all.cut {
			all.append(m)
		}
	}
	n.prepend(all)
}

// isFull reports whether no further message can be added.
func (n *newest) isFull() bool { return len(n.messages) == n.limit || n.bytes == n.size }

// wanted estimates how many messages would fill n.
func (n *newest) wanted(average int) int {
	return min(n.limit-len(n.messages), max(1, (n.size-n.bytes)/max(average, 1)))
}

// vicinity is what search has seen of the messages around Range.After.
type vicinity struct {
	known    bool
	anchored bool   // the message at Range.After exists, and is an ordinary one
	later    uint64 // how many messages come after it; if anchored
}

// searchForward collects the oldest messages of a topic after a position, up to
// last, and reports whether there are more.
func (s *session) searchForward(ctx context.Context, p place, after, last uint64, found *newest) (more bool, near vicinity, err error) {
	near.later = math.MaxUint64 // unknown
	yield := func(e entry) bool {
		if e.seq <= after {
			near.anchored = !e.isNamed()
			return true
		}
		m, ok := found.decode(e)
		if !ok {
			return true
		}
		if len(found.messages) == found.limit || found.bytes+len(m.Body) > found.size {
			more = true
			return false
		}
		found.messages = append(found.messages, m)
		found.bytes += len(m.Body)
		return true
	}
	if after < s.old.Load() {
		err = s.scan(ctx, p, max(after, 1), last, yield)
	} else {
		err = s.scanSubject(ctx, p.filter, max(after, 1), last, bounds{min(pageSize, found.limit+2), pageBytes}, yield)
	}
	return more, near, err
}

// search collects the newest messages of a topic after a position, up to last.
func (s *session) search(ctx context.Context, p place, after, last uint64, found *newest) (near vicinity, err error) {
	old := s.old.Load()
	if after >= old {
		return s.searchSubject(ctx, p.filter, after, last, found)
	}
	if last > old {
		if _, err := s.searchSubject(ctx, p.filter, old, last, found); err != nil || found.cut > 0 {
			return vicinity{}, err
		}
	}
	var parts [2]*newest
	for i, subject := range []string{p.old, p.filter} {
		parts[i] = found.rest()
		if _, err := s.searchSubject(ctx, subject, after, min(last, old), parts[i]); err != nil {
			return vicinity{}, err
		}
	}
	found.merged(parts[0], parts[1])
	return vicinity{}, nil
}

// searchSubject is search of one subject. JetStream only reads forwards, and
// the positions of a subject are not dense. So searchSubject guesses a position
// to start from, and tries an earlier one if it finds too few messages.
func (s *session) searchSubject(ctx context.Context, subject string, after, last uint64, found *newest) (near vicinity, err error) {
	if found.isFull() {
		return vicinity{}, s.cut(ctx, subject, after+1, last, found)
	}
	// The first page begins with the message at after. A client has missed a
	// few messages, as a rule, so they are all in this page. A reader without a
	// position wants the newest of a log that may be long.
	batch := min(found.limit, pageSize-1) + 1
	if after == 0 && last-min(last, s.state.Load().firstSeq) > 4*uint64(batch) {
		batch = 1
	}
	some, pending, err := s.page(ctx, subject, after, bounds{batch, min(pageBytes, found.size)})
	if err != nil {
		return vicinity{}, err
	}
	average := 0
	for _, m := range some {
		average += len(m.data) / len(some)
	}
	near = vicinity{known: true}
	if len(some) > 0 && some[0].seq == after {
		near.anchored = !some[0].isNamed()
		some = some[1:]
	}
	near.later = uint64(len(some)) + pending
	first := after + 1
	if len(some) > 0 {
		first = some[0].seq
		if some[len(some)-1].seq >= last { // these are all
			for _, m := range some {
				if m.seq <= last {
					found.add(m)
				}
			}
			return near, nil
		}
	}
	return near, s.searchBack(ctx, subject, first, last, near.later, average, found)
}

const (
	// leastWindow is how many messages searchBack expects to fetch at first.
	leastWindow = 16
	// largeBody is the size of a body, in bytes, of which it fetches as many as
	// there is room for.
	largeBody = 32 << 10
	// wasted is how many times the size of a page is fetched before searchBack
	// begins anew, nearer to the end.
	wasted = 4
)

// searchBack collects the newest messages of a subject from first to last.
// There are about total messages of an average size from first on.
func (s *session) searchBack(ctx context.Context, subject string, first, last, total uint64, average int, found *newest) error {
	span := last - first + 1
	all := max(last, s.state.Load().lastSeq) - first + 1 // where the total is
	want := found.wanted(average)
	if found.size < math.MaxInt { // the newest messages may be much larger
		want = min(want, max(leastWindow, found.size/largeBody))
	}
	// One request too many costs more than some messages too many.
	if n := uint64(want); total > 2*n+min(pageSize, n) {
		span = span/total*(n+n/4) + 1
	}
	for {
		begin := first
		if last-first >= span {
			begin = last - span + 1
		}
		rest := found.rest()
		reached := last
		expected := int(min(float64(total)*float64(last-begin+1)/float64(all), pageSize-2)) + 2
		batch := bounds{min(pageSize, max(expected, want/2)), min(pageBytes, found.size)}
		err := s.scanSubject(ctx, subject, begin, last, batch, func(m entry) bool {
			rest.add(m)
			if rest.read/wasted > found.size && m.seq < last {
				reached = m.seq
			}
			return reached == last
		})
		if err != nil {
			return err
		}
		if rest.seen > 0 {
			average = rest.read / rest.seen
		}
		if reached < last {
			later := found.rest()
			if err := s.searchBack(ctx, subject, reached+1, last, total, average, later); err != nil {
				return err
			}
			found.prepend(later)
			if found.cut > 0 {
				return nil
			}
			rest = found.again(rest)
		}
		found.prepend(rest)
		if found.cut > 0 || begin == first {
			return nil
		}
		last = begin - 1
		if found.isFull() {
			return s.cut(ctx, subject, first, last, found)
		}
		grow := uint64(4)
		if want = found.wanted(average); rest.seen > 0 {
			grow = min(grow, uint64((want+want/4)/rest.seen+1))
		}
		span *= grow
	}
}

// cut notes that messages are missing if a subject has any from first to last,
// for which there is no room.
func (s *session) cut(ctx context.Context, subject string, first, last uint64, found *newest) error {
	if first > last {
		return nil
	}
	return s.scanSubject(ctx, subject, first, last, bounds{1, pageBytes}, func(m entry) bool {
		if _, ok := found.decode(m); ok {
			found.cut = last
		}
		return found.cut == 0
	})
}
