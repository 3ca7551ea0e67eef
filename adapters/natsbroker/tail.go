package natsbroker

import (
	"slices"
	"sync"

	"github.com/chathub-go/chathub"
)

// What a tail has at most: enough for those who come back after a short while.
const (
	tailMessages = 256
	tailBytes    = 64 << 10
	// tailCost is what a message in it occupies besides its body and key.
	tailCost = 160
)

// tail is the end of a topic's log as it was delivered, from which Read serves what is
// asked for most: JetStream finds messages of one subject among those of many by looking
// through all of them.
type tail struct {
	mu sync.Mutex
	// messages are all after the position first, up to last.
	first, last uint64
	messages    []chathub.Message
	bytes       int
}

// begin is for a topic whose delivery begins after seq.
func (l *tail) begin(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first, l.last = seq, seq
}

// reached notes that there is nothing up to seq that was not added.
func (l *tail) reached(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last, seq)
}

// add adds the next message, and returns by how many bytes the tail has grown.
func (l *tail) add(m chathub.Message, most int) (grown int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.bytes
	l.last = m.Seq
	l.messages = append(l.messages, m)
	l.bytes += cost(&m)
	for len(l.messages) > 0 && (len(l.messages) > most || l.bytes > tailBytes) {
		l.first = l.messages[0].Seq
		l.bytes -= cost(&l.messages[0])
		l.messages[0] = chathub.Message{}
		l.messages = l.messages[1:]
	}
	return l.bytes - before
}

func cost(m *chathub.Message) int { return len(m.Body) + len(m.Key) + tailCost }

// forget makes room, and returns how much.
func (l *tail) forget() (freed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	freed = l.bytes
	l.first, l.messages, l.bytes = l.last, nil, 0
	return freed
}

// read returns the page if all of it is here. What is older than the time oldest may
// not be given out any more.
func (l *tail) read(r chathub.Range, end uint64, oldest int64) (page chathub.Page, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Limit <= 0 || end > l.last || end < l.first {
		return chathub.Page{}, false
	}
	after := max(r.After, l.first)
	from, _ := slices.BinarySearchFunc(l.messages, after+1, bySeq)
	to, _ := slices.BinarySearchFunc(l.messages, end+1, bySeq)
	found := l.messages[min(from, to):to]
	// Whether there are more before those that are here, only the log knows.
	if r.After < l.first && len(found) <= r.Limit {
		return chathub.Page{}, false
	}
	if page.More = len(found) > r.Limit; page.More {
		found = found[len(found)-r.Limit:]
	}
	if len(found) > 0 && found[0].Time < oldest {
		return chathub.Page{}, false
	}
	page.Messages = slices.Clone(found)
	page.Trimmed = after
	return page, true
}

func bySeq(m chathub.Message, seq uint64) int {
	switch {
	case m.Seq < seq:
		return -1
	case m.Seq > seq:
		return 1
	}
	return 0
}

// keep adds a delivered message to the topic's tail, and makes room elsewhere
// where that is too much.
func (t *topic) keep(m chathub.Message) {
	s := t.s
	if s.broker.cfg.cache < 0 {
		return
	}
	most := tailMessages
	if n := s.state.Load().maxMessages; n > 0 {
		most = min(most, n)
	}
	bound := int64(s.broker.cfg.cache)
	if s.cached.Add(int64(t.tail.add(m, most))) <= bound {
		return
	}
	for _, other := range s.list() { // in random order
		if s.cached.Add(-int64(other.tail.forget())) <= bound/8*7 {
			return
		}
	}
}

// readTail is Read from what the session has of the topic itself.
func (s *session) readTail(t chathub.Topic, r chathub.Range, end uint64) (chathub.Page, bool) {
	s.mu.RLock()
	has := s.topics[t]
	s.mu.RUnlock()
	if has == nil || s.broker.cfg.cache < 0 {
		return chathub.Page{}, false
	}
	oldest := int64(0)
	st := s.state.Load()
	if st.maxAge > 0 {
		oldest = s.now() - st.maxAge.Milliseconds()
	}
	page, ok := has.tail.read(r, end, oldest)
	if ok {
		page.Head = chathub.Position{Epoch: st.epoch, Seq: has.tail.newest()}
	}
	return page, ok
}

// newest is how far the topic has been delivered.
func (l *tail) newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}
