package natsbroker

import (
	"slices"
	"sync"

	"github.com/chathub-go/chathub"
)

// The bounds of a tail. It is long enough for clients that reconnect after a
// short while.
const (
	tailMessages = 256
	tailBytes    = 64 << 10
	// tailCost is what a message takes in addition to its body and key, in
	// bytes.
	tailCost = 200
)

// tail is a cache of the newest messages of a topic, as they were delivered. It
// serves most calls of Read. JetStream has to search the messages of all
// subjects to find those of one. Its methods may be called concurrently.
type tail struct {
	mu sync.Mutex
	// messages are all messages of the topic with first < Seq <= last.
	first, last uint64
	messages    []chathub.Message
	bytes       int
}

// begin empties the tail of a topic whose delivery begins after seq.
func (l *tail) begin(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first, l.last = seq, seq
}

// reached says that all messages up to seq have been added.
func (l *tail) reached(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last, seq)
}

// add adds the next message, and drops the oldest ones beyond limit. It also
// drops what the message replaces or erases. It returns by how many bytes the
// tail has grown, which may be negative.
func (l *tail) add(m chathub.Message, limit int) (grown int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.bytes
	if m.Name != "" {
		l.replace(&m)
	}
	if m.Seq > l.last {
		l.last = m.Seq
		l.messages = append(l.messages, m)
		l.bytes += cost(&m)
	} else if at, _ := slices.BinarySearchFunc(l.messages, m.Seq, bySeq); m.Seq > l.first {
		l.messages = slices.Insert(l.messages, at, m)
		l.bytes += cost(&m)
	}
	for len(l.messages) > 0 && (len(l.messages) > limit || l.bytes > tailBytes) {
		l.first = l.messages[0].Seq
		l.bytes -= cost(&l.messages[0])
		l.messages[0] = chathub.Message{}
		l.messages = l.messages[1:]
	}
	return l.bytes - before
}

// replace removes what a named message replaces or erases. The caller holds mu.
func (l *tail) replace(m *chathub.Message) {
	l.messages = slices.DeleteFunc(l.messages, func(o chathub.Message) bool {
		if o.Seq < m.Seq && (o.Name == m.Name || m.Erase && o.Seq == m.Tied && o.Name == "") {
			l.bytes -= cost(&o)
			return true
		}
		return false
	})
}

// erase removes an ordinary message, and returns how many bytes that has freed.
func (l *tail) erase(seq uint64) (freed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, found := slices.BinarySearchFunc(l.messages, seq, bySeq)
	if !found || l.messages[at].Name != "" {
		return 0
	}
	freed = cost(&l.messages[at])
	l.messages = slices.Delete(l.messages, at, at+1)
	l.bytes -= freed
	return freed
}

// find returns a message that the tail has.
func (l *tail) find(seq uint64) (m chathub.Message, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, found := slices.BinarySearchFunc(l.messages, seq, bySeq)
	if found {
		m = l.messages[at]
	}
	return m, found
}

func cost(m *chathub.Message) int {
	return len(m.Body) + len(m.Key) + len(m.Owner) + len(m.Name) + tailCost
}

// forget drops all messages, and returns how many bytes that has freed.
func (l *tail) forget() (freed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	freed = l.bytes
	l.first, l.messages, l.bytes = l.last, nil, 0
	return freed
}

// read returns the page, and whether the tail has all of it. It returns no page
// if messages of the range are older than the time oldest.
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
	for i := range found {
		// The log may have dropped it. Messages with a name do not age.
		if m := &found[i]; m.Name == "" || m.Remove {
			if m.Time < oldest {
				return chathub.Page{}, false
			}
			break
		}
	}
	if r.Ordinary {
		found = slices.DeleteFunc(slices.Clone(found), func(m chathub.Message) bool { return m.Name != "" })
	}
	n := fitting(found, r)
	page.More = n < len(found)
	// Only the log knows whether there are older messages.
	if r.After < l.first && (r.Oldest || !page.More) {
		return chathub.Page{}, false
	}
	if r.Oldest {
		page.Messages = slices.Clone(found[:n])
	} else {
		page.Messages = slices.Clone(found[len(found)-n:])
	}
	page.Trimmed = after
	return page, true
}

// copy returns the messages up to end that the log still has, and the position
// after which they are all that the topic has. If the tail does not reach up to
// end, ok is false.
func (l *tail) copy(end uint64, oldest int64) (messages []chathub.Message, first uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if end > l.last {
		return nil, 0, false
	}
	for _, m := range l.messages {
		if m.Seq <= end && (m.Name != "" || m.Time >= oldest) {
			messages = append(messages, m)
		}
	}
	return messages, l.first, true
}

// fitting returns how many of the newest messages fit into a range, or of the
// oldest ones.
func fitting(messages []chathub.Message, r chathub.Range) (n int) {
	room := bodyBound(r.MaxBytes)
	for n < min(len(messages), r.Limit) {
		at := len(messages) - 1 - n
		if r.Oldest {
			at = n
		}
		if room -= len(messages[at].Body); room < 0 {
			break
		}
		n++
	}
	return n
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

// readTail is Read from the topic's tail. It reports whether the tail has the
// page.
func (s *session) readTail(t chathub.Topic, r chathub.Range, end uint64) (chathub.Page, bool) {
	s.mu.RLock()
	has := s.topics[t]
	s.mu.RUnlock()
	if has == nil || s.broker.cfg.cache < 0 {
		return chathub.Page{}, false
	}
	if r.Before == 0 { // or what is beyond end has become too old
		end = max(end, has.tail.newest())
	}
	oldest := int64(0)
	st := s.state.Load()
	if st.maxAge > 0 {
		oldest = s.now() - st.maxAge.Milliseconds()
	}
	page, ok := has.tail.read(r, end, oldest)
	if ok {
		page.Messages = s.tidy(page.Messages)
		page.Head = chathub.Position{Epoch: st.epoch, Seq: has.tail.newest()}
	}
	return page, ok
}

// newest returns the position up to which the topic has been delivered.
func (l *tail) newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// keep adds a delivered message to the topic's tail.
func (t *topic) keep(m chathub.Message) {
	s := t.s
	if s.broker.cfg.cache < 0 {
		return
	}
	limit := tailMessages
	if n := s.state.Load().maxMessages; n > 0 {
		limit = min(limit, n)
	}
	s.cached(t.tail.add(m, limit))
}
