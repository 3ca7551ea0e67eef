package chathub

import (
	"context"
	"time"
)

// Read implements [BrokerSession].
func (ms *memorySession) Read(ctx context.Context, t Topic, r Range) (Page, error) {
	if err := ms.usable(ctx); err != nil || !t.Kept() {
		return Page{}, err
	}
	l := ms.broker.acquire(t, false)
	if l == nil {
		return Page{}, nil
	}
	defer ms.broker.release(l)
	return l.read(r, time.Now().UnixMilli(), &ms.broker.limits), nil
}

// ReadNamed implements [BrokerSession].
func (ms *memorySession) ReadNamed(ctx context.Context, queries []NameQuery) ([][]Message, error) {
	if err := ms.usable(ctx); err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	found := make([][]Message, len(queries))
	for i := range queries {
		q := &queries[i]
		if !q.Topic.Kept() {
			continue
		}
		if l := ms.broker.acquire(q.Topic, false); l != nil {
			found[i] = l.readNamed(q, now, &ms.broker.limits)
			ms.broker.release(l)
		}
	}
	return found, nil
}

// Survey implements [BrokerSession]. It does not count as a use of the topics,
// since clients may ask for all of theirs again and again.
func (ms *memorySession) Survey(ctx context.Context, queries []SurveyQuery) ([]Standing, error) {
	if err := ms.usable(ctx); err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	standings := make([]Standing, len(queries))
	for i := range queries {
		ms.broker.survey(&queries[i], &standings[i], now)
	}
	return standings, nil
}

func (b *MemoryBroker) survey(q *SurveyQuery, into *Standing, now int64) {
	b.mu.RLock() // so that the log is not dropped
	defer b.mu.RUnlock()
	if l := b.topics[q.Topic]; l != nil && q.Topic.Kept() {
		l.survey(q, into, now, &b.limits)
	}
}

// read returns a page.
func (log *memoryLog) read(r Range, now int64, limits *memoryLimits) Page {
	log.mu.Lock()
	defer log.mu.Unlock()
	log.expire(now, limits)
	p := Page{Head: Position{log.epoch, log.head}, Trimmed: log.trimmed}
	if r.Limit <= 0 || r.After >= log.head {
		return p
	}
	start := log.walk(&r)
	n, room := 0, r.MaxBytes
	for w, m := start, (record{}); w.next(&m); n++ {
		size := len(m.body())
		if n == r.Limit || r.MaxBytes > 0 && size > room {
			p.More = true
			break
		}
		room -= size
	}
	if n == 0 {
		return p
	}
	p.Messages = make([]Message, n)
	w, m := start, record{}
	for i := range p.Messages {
		if w.next(&m); !r.Oldest {
			i = n - 1 - i
		}
		m.message(log, &p.Messages[i])
	}
	return p
}

// walk goes through what a log has in a range, from the newest message to the
// oldest, or the other way round.
type walk struct {
	log             *memoryLog
	step            int // 1 or -1
	ordinary, named stretch
	hidden          stamp // the marks of messages to pass over
}

// stretch is the part of a queue that is still before a walk.
type stretch struct{ at, end int }

func stretchOf[T any](q *queue[T], r *Range) stretch {
	from, to := q.find(r.After+1), q.len()
	if r.Before > 0 {
		to = q.find(r.Before)
	}
	switch {
	case from >= to:
		return stretch{}
	case r.Oldest:
		return stretch{from, to}
	}
	return stretch{to - 1, from - 1}
}

func (log *memoryLog) walk(r *Range) walk {
	w := walk{log: log, step: -1, hidden: isErased, ordinary: stretchOf(&log.messages, r)}
	if r.Oldest {
		w.step = 1
	}
	if r.Ordinary {
		w.hidden |= isRemoval
	} else if log.names != nil {
		w.named = stretchOf(&log.names.messages, r)
	}
	return w
}

// next sets m to the next message, or returns false if there is none.
func (w *walk) next(m *record) bool {
	*m = record{}
	for o := &w.ordinary; o.at != o.end; o.at += w.step {
		if e := w.log.messages.at(o.at); e.share != nil && !e.when.is(w.hidden) {
			m.ordinary = e
			break
		}
	}
	for n := &w.named; n.at != n.end; n.at += w.step {
		if e := w.log.names.messages.at(n.at); e.share != nil {
			m.named = e
			break
		}
	}
	switch {
	case m.ordinary == nil && m.named == nil:
		return false
	case m.named == nil || m.ordinary != nil && (m.ordinary.seq < m.named.seq) == (w.step > 0):
		m.named = nil
		w.ordinary.at += w.step
	default:
		m.ordinary = nil
		w.named.at += w.step
	}
	return true
}

// record is a message as a log has it: one of the two.
type record struct {
	ordinary *entry[[]byte] // or a removal
	named    *entry[named]
}

func (m *record) body() []byte {
	if m.named != nil {
		return m.named.value.body
	}
	return m.ordinary.value
}

func (m *record) message(log *memoryLog, into *Message) {
	if e := m.named; e != nil {
		setMessage(into, log, e)
		into.Name, into.Tied, into.Body = e.value.name, e.value.tied, e.value.body
		return
	}
	e := m.ordinary
	setMessage(into, log, e)
	into.Body = e.value
	if e.when.is(isRemoval) {
		into.Remove = true
		into.Name, into.Key = splitName(e.key)
	}
}

func setMessage[T any](m *Message, log *memoryLog, e *entry[T]) {
	*m = Message{
		Topic:  log.topic,
		Key:    e.key,
		Owner:  e.share.account.owner,
		Notice: e.when.is(isNotice),
		Seq:    e.seq,
		Time:   e.when.time(),
	}
}

// survey says where the log stands. It changes nothing, so it passes over what
// has expired.
func (log *memoryLog) survey(q *SurveyQuery, into *Standing, now int64, limits *memoryLimits) {
	log.mu.Lock()
	defer log.mu.Unlock()
	into.Head = Position{log.epoch, log.head}
	count, last := q.Most > 0, q.Last
	for i := log.messages.len() - 1; i >= 0 && (count || last); i-- {
		e := log.messages.at(i)
		if e.share == nil || e.when.is(isNotice|isErased|isRemoval) {
			continue
		}
		if now-e.when.time() > limits.age {
			break
		}
		if last {
			m := record{ordinary: e}
			m.message(log, &into.Last)
			last = false
		}
		if count = count && e.seq > q.After; !count {
			continue
		}
		if owner := e.share.account.owner; owner != q.Reader && (q.From == "" || owner == q.From) {
			into.Unread++
			count = into.Unread < q.Most
		}
	}
}
