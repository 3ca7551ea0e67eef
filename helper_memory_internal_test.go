package chathub

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// memoryHub is a session that notes the bodies that are delivered to it.
type memoryHub struct {
	*memorySession
	t   *testing.T
	mu  sync.Mutex
	got []string
}

func attachMemory(t *testing.T, b *MemoryBroker) *memoryHub {
	t.Helper()
	h := &memoryHub{t: t}
	h.memorySession = attachMemoryFunc(t, b, func(m Message) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got = append(h.got, string(m.Body))
	})
	return h
}

func attachMemoryFunc(t testing.TB, b *MemoryBroker, deliver func(Message)) *memorySession {
	t.Helper()
	s, err := b.Attach(t.Context(), deliver)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*memorySession)
}

func (h *memoryHub) publish(room, key, body string) Receipt {
	h.t.Helper()
	r, err := h.Publish(h.t.Context(), Message{Topic: Topic{Room: room}, Key: key, Body: []byte(body)})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// put publishes a message without a key. Its body is the name of its owner and
// a number, filled up to size with zeros. A name in capitals makes it a notice.
func (h *memoryHub) put(topic Topic, owner string, n, size int) Receipt {
	h.t.Helper()
	name := fmt.Sprint(owner, n)
	m := Message{
		Topic:  topic,
		Owner:  strings.ToLower(owner),
		Notice: owner != strings.ToLower(owner),
		Body:   make([]byte, max(size, len(name))),
	}
	copy(m.Body, name)
	r, err := h.Publish(h.t.Context(), m)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *memoryHub) subscribe(room string) Position {
	h.t.Helper()
	p, err := h.Subscribe(h.t.Context(), Topic{Room: room})
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (h *memoryHub) unsubscribe(room string) {
	h.t.Helper()
	if err := h.Unsubscribe(h.t.Context(), Topic{Room: room}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *memoryHub) read(room string) Page {
	h.t.Helper()
	p, err := h.Read(h.t.Context(), Topic{Room: room}, Range{Limit: 1 << 20})
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// has reports whether a log has messages.
func (h *memoryHub) has(topic Topic) bool {
	h.t.Helper()
	p, err := h.Read(h.t.Context(), topic, Range{Limit: 1})
	if err != nil {
		h.t.Fatal(err)
	}
	return len(p.Messages) > 0
}

// wantLog checks the bodies in a room's log, and that all before is trimmed.
func (h *memoryHub) wantLog(room string, bodies ...string) {
	h.t.Helper()
	p := h.read(room)
	var got []string
	for i, m := range p.Messages {
		got = append(got, string(m.Body))
		if want := p.Trimmed + 1 + uint64(i); m.Seq != want {
			h.t.Errorf("%s: message %d has seq %d, want %d", room, i, m.Seq, want)
		}
	}
	if !slices.Equal(got, bodies) || p.Head.Seq != p.Trimmed+uint64(len(bodies)) {
		h.t.Errorf("%s: log has %q up to %d and is trimmed to %d, want %q", room, got, p.Head.Seq, p.Trimmed, bodies)
	}
}

// wantKept checks which messages of put a log has. There may be gaps up to
// Trimmed.
func (h *memoryHub) wantKept(topic Topic, want string) {
	h.t.Helper()
	p, err := h.Read(h.t.Context(), topic, Range{Limit: 1 << 20})
	if err != nil {
		h.t.Fatal(err)
	}
	var got []string
	kept := make(map[uint64]bool)
	for _, m := range p.Messages {
		body, _, _ := strings.Cut(string(m.Body), "\x00")
		got = append(got, body)
		kept[m.Seq] = true
	}
	if strings.Join(got, " ") != want {
		h.t.Errorf("%+v has %q, want %q", topic, strings.Join(got, " "), want)
	}
	for seq := p.Trimmed + 1; seq <= p.Head.Seq; seq++ {
		if !kept[seq] {
			h.t.Errorf("%+v: trimmed to %d, but %d is missing", topic, p.Trimmed, seq)
		}
	}
}

// checkMemory checks what holds for a broker that no call is using.
func checkMemory(t *testing.T, b *MemoryBroker) {
	t.Helper()
	held, logs := make(map[string]int), make(map[string]int)
	for topic, l := range b.topics {
		checkMemoryLog(t, l, &b.limits)
		for _, s := range l.shares.list {
			held[s.account.owner] += s.size[byBytes] + s.keyBytes + s.names()[byBytes] + shareCost
		}
		if l.holder != nil {
			held[l.holder.owner] += logCost
			logs[l.holder.owner]++
		}
		users, idle := l.users.Load(), l.in != nil
		if users != int64(len(l.sessions)) || (users == 0) != idle || idle != (l.holder != nil) || l.dropped {
			t.Errorf("%v: %d users, %d sessions, idle %v, holder %v, dropped %v", topic, users, len(l.sessions), idle, l.holder, l.dropped)
		}
		if idle && l.head == 0 {
			t.Errorf("%v: nothing and nobody needs this log", topic)
		}
	}
	total := 0
	for owner, a := range b.ledger.accounts {
		if int(a.held.Load()) != held[owner] || int(a.logs.Load()) != logs[owner] || held[owner] == 0 {
			t.Errorf("%q is charged for %d bytes and %d logs, has %d and %d", owner, a.held.Load(), a.logs.Load(), held[owner], logs[owner])
		}
		n := 0
		for s := a.shares.first; s != nil; s = s.next {
			if n++; s.in != &a.shares || s.account != a || s.at < 0 {
				t.Errorf("%q has a share at %d of %q", owner, s.at, s.account.owner)
			}
		}
		if n != a.shares.n {
			t.Errorf("%q counts %d shares, has %d", owner, a.shares.n, n)
		}
		total += held[owner]
		delete(held, owner)
	}
	if got := b.ledger.total.Load(); int(got) != total || len(held) > 0 {
		t.Errorf("counts %d bytes in all, has %d; without account: %v", got, total, held)
	}
	if n := b.idle.size(); n > b.limits.idleTopics || total > b.limits.total {
		t.Errorf("%d idle logs and %d bytes exceed the limits %+v", n, total, b.limits)
	}
}

// checkMemoryLog recounts what a log has.
func checkMemoryLog(t *testing.T, l *memoryLog, limits *memoryLimits) {
	t.Helper()
	want := make(map[*share]*share)
	for i, s := range l.shares.list {
		if int(s.at) != i || s.log != l {
			t.Errorf("%v: share of %q at %d says %d", l.topic, s.account.owner, i, s.at)
		}
		want[s] = &share{nextMessage: s.nextMessage, nextKey: s.nextKey}
	}
	var size, notices measure
	last := uint64(0)
	for i := range l.messages.len() {
		e := l.messages.at(i)
		if e.seq <= last || e.seq > l.head {
			t.Errorf("%v: message %d after %d, head %d", l.topic, e.seq, last, l.head)
		}
		last = e.seq
		s := want[e.share]
		if s == nil {
			if e.share != nil || i == 0 {
				t.Errorf("%v: message %d has no share", l.topic, e.seq)
			}
			continue
		}
		cost := costOfMessage(e)
		for _, size := range []*measure{&size, &s.size} {
			size[byNumber]++
			size[byBytes] += cost
		}
		if e.share.notice {
			notices[byNumber]++
			notices[byBytes] += cost
		}
		if e.seq < s.nextMessage {
			t.Errorf("%v: message %d is before %d", l.topic, e.seq, s.nextMessage)
		}
	}
	if size != l.size || notices != l.shares.notices || l.messages.size() != size[byNumber] {
		t.Errorf("%v: counts %v, notices %v, and %d messages, has %v and %v", l.topic, l.size, l.shares.notices, l.messages.size(), size, notices)
	}
	for by, limit := range limits.log {
		if size[by] > limit {
			t.Errorf("%v: has %v, limits %v", l.topic, size, limits.log)
		}
	}
	keys := 0
	for i := range l.keys.len() {
		e := l.keys.at(i)
		s := want[e.share]
		if s == nil {
			if e.share != nil || i == 0 {
				t.Errorf("%v: key %q has no share", l.topic, e.key)
			}
			continue
		}
		keys++
		s.keys++
		s.keyBytes += costOfKey(e)
		if l.remembered(e.key) != e || e.seq < s.nextKey {
			t.Errorf("%v: key %q of %d is not found, or before %d", l.topic, e.key, e.seq, s.nextKey)
		}
	}
	if keys != l.keys.size() || l.index.m != nil && len(l.index.m) != keys {
		t.Errorf("%v: counts %d and %d keys, has %d", l.topic, l.keys.size(), len(l.index.m), keys)
	}
	checkNames(t, l, limits)
	for s, w := range want {
		if s.size != w.size || s.keys != w.keys || s.keyBytes != w.keyBytes || w.keys == 0 && w.size[byNumber] == 0 && s.named == 0 {
			t.Errorf("%v: %q counts %v, %d keys of %d bytes, has %v, %d, %d", l.topic, s.account.owner,
				s.size, s.keys, s.keyBytes, w.size, w.keys, w.keyBytes)
		}
		if got := l.share(s.account.owner, s.notice, nil); got != s {
			t.Errorf("%v: the share of %q is not found", l.topic, s.account.owner)
		}
	}
}

// checkNames recounts the names of a log.
func checkNames(t *testing.T, l *memoryLog, limits *memoryLimits) {
	t.Helper()
	n := l.names
	if n == nil {
		for _, s := range l.shares.list {
			if s.named != 0 {
				t.Errorf("%v: %q has names in a log without", l.topic, s.account.owner)
			}
		}
		return
	}
	owners := make(map[*share]measure)
	var size measure
	last, tied := uint64(0), 0
	for i := range n.messages.len() {
		e := n.messages.at(i)
		if e.seq <= last || e.seq > l.head {
			t.Errorf("%v: name %d after %d, head %d", l.topic, e.seq, last, l.head)
		}
		last = e.seq
		if e.share == nil {
			continue
		}
		size.add(1, costOfName(e))
		of := owners[e.share]
		of.add(1, costOfName(e))
		owners[e.share] = of
		if n.find(e.value.name) != i || e.share.at < 0 || e.share.notice || e.seq < n.owners[e.share.named-1].next {
			t.Errorf("%v: name %q at %d is at %d, of a share at %d", l.topic, e.value.name, i, n.find(e.value.name), e.share.at)
		}
		if e.value.tied > 0 {
			tied++
			if l.messages.entry(e.value.tied) == nil || n.index.m != nil && !slices.Contains(n.tied.m[e.value.tied], e.value.name) {
				t.Errorf("%v: name %q is not tied to %d", l.topic, e.value.name, e.value.tied)
			}
		}
	}
	for _, list := range n.tied.m {
		tied -= len(list)
	}
	if n.index.m == nil {
		tied = len(n.tied.m)
	}
	if size != n.size || size[byNumber] != n.messages.size() || size[byNumber] == 0 || tied != 0 ||
		n.index.m != nil && len(n.index.m) != size[byNumber] || len(owners) != len(n.owners) {
		t.Errorf("%v: counts names %v, %d in the index, of %d owners, %d tied too few; has %v of %d", l.topic,
			n.size, len(n.index.m), len(n.owners), tied, size, len(owners))
	}
	for i, o := range n.owners {
		if int(o.share.named) != i+1 || o.size != owners[o.share] {
			t.Errorf("%v: names of %q at %d of %d count %v, has %v", l.topic, o.share.account.owner, o.share.named, i+1, o.size, owners[o.share])
		}
	}
}
