package chathub

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memoryHub is a session that records the bodies that are delivered to it.
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

// wantLog checks the bodies in a room's log, and that everything before them is
// trimmed.
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

// checkMemory checks the invariants of a broker that no call is using.
func checkMemory(t *testing.T, b *MemoryBroker) {
	t.Helper()
	var total int64
	for topic, l := range b.topics {
		bytes, keyBytes := 0, 0
		for i := range l.messages.len() {
			bytes += l.messages.at(i).cost()
		}
		for i := range l.keys.len() {
			keyBytes += len(l.keys.at(i).key) + keyCost
		}
		if l.bytes != bytes || l.keyBytes != keyBytes || len(l.index) != l.keys.len() {
			t.Errorf("%v: counts %d and %d bytes and %d keys, has %d, %d and %d",
				topic, l.bytes, l.keyBytes, len(l.index), bytes, keyBytes, l.keys.len())
		}
		if users := l.users.Load(); users != int64(len(l.sessions)) || (users == 0) != (l.idle != nil) || l.dropped {
			t.Errorf("%v: %d users, %d sessions, idle %v, dropped %v", topic, users, len(l.sessions), l.idle != nil, l.dropped)
		}
		total += int64(bytes + keyBytes)
	}
	if got := b.total.Load(); got != total {
		t.Errorf("counts %d bytes in all, has %d", got, total)
	}
	if b.idle.Len() > b.limits.idleTopics || total > int64(b.limits.total) {
		t.Errorf("%d idle logs and %d bytes exceed the limits %+v", b.idle.Len(), total, b.limits)
	}
}

func TestMemoryBrokerValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		broker *MemoryBroker
		want   []string // text of the error; empty: no error
	}{
		{"zero", &MemoryBroker{}, nil},
		{"all off that may be", &MemoryBroker{MaxMessages: -1, MaxBytes: -1, MaxAge: -1, MaxIdleTopics: -1, DuplicateWindow: -1}, nil},
		{"unbounded", &MemoryBroker{MaxTotalBytes: -1}, []string{"MaxTotalBytes"}},
		{"no unit", &MemoryBroker{MaxAge: 24, DuplicateWindow: 5}, []string{"MaxAge (24ns)", "DuplicateWindow (5ns)"}},
		{"all mistakes", &MemoryBroker{MaxTotalBytes: -1, MaxAge: 1}, []string{"MaxTotalBytes", "MaxAge"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.broker.validate()
			_, attachErr := c.broker.Attach(t.Context(), func(Message) {})
			if (err != nil) != (len(c.want) > 0) || (attachErr != nil) != (err != nil) {
				t.Fatalf("validate: %v; Attach: %v", err, attachErr)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) || !strings.Contains(attachErr.Error(), want) {
					t.Errorf("validate: %v; Attach: %v; want %s in both", err, attachErr, want)
				}
			}
		})
	}
}

func TestMemoryBrokerMaxMessages(t *testing.T) {
	b := &MemoryBroker{MaxMessages: 3}
	h := attachMemory(t, b)
	for i, want := range [][]string{{"0"}, {"0", "1"}, {"0", "1", "2"}, {"1", "2", "3"}, {"2", "3", "4"}} {
		h.publish("r", "", fmt.Sprint(i))
		h.wantLog("r", want...)
	}
	p, err := h.Read(t.Context(), Topic{Room: "r"}, Range{After: 1, Limit: 2})
	if err != nil || len(p.Messages) != 2 || !p.More || p.Trimmed != 2 {
		t.Errorf("page %+v, error %v", p, err)
	}
	p, err = h.Read(t.Context(), Topic{Room: "r"}, Range{Before: 3, Limit: 2})
	if err != nil || len(p.Messages) != 0 || p.More {
		t.Errorf("page of a trimmed part: %+v, error %v", p, err)
	}
	checkMemory(t, b)
}

func TestMemoryBrokerMaxBytes(t *testing.T) {
	b := &MemoryBroker{MaxBytes: 3 * (messageCost + 10)}
	h := attachMemory(t, b)
	h.subscribe("r")
	h.publish("r", "", "0_________")
	h.publish("r", "key", "1______") // the key counts as well
	h.publish("r", "", "2_________")
	h.wantLog("r", "0_________", "1______", "2_________")
	h.publish("r", "", "3")
	h.wantLog("r", "1______", "2_________", "3")
	h.publish("r", "", "4_________")
	h.wantLog("r", "2_________", "3", "4_________")
	h.publish("r", "", strings.Repeat("5", 2*messageCost+31)) // one byte too large
	h.wantLog("r")
	h.publish("r", "", strings.Repeat("6", 2*messageCost+30))
	h.wantLog("r", strings.Repeat("6", 2*messageCost+30))
	if len(h.got) != 7 {
		t.Errorf("%d messages were delivered, want all 7", len(h.got))
	}
	checkMemory(t, b)
}

func TestMemoryBrokerMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{MaxAge: time.Hour}
		h := attachMemory(t, b)
		epoch := h.subscribe("r").Epoch
		h.publish("r", "", "0")
		time.Sleep(40 * time.Minute)
		h.publish("r", "", "1")
		time.Sleep(20 * time.Minute)
		h.wantLog("r", "0", "1")
		time.Sleep(time.Millisecond)
		h.wantLog("r", "1")
		time.Sleep(time.Hour)
		h.wantLog("r")
		if p := h.read("r"); p.Head != (Position{epoch, 2}) {
			t.Errorf("head of a subscribed log whose messages are gone: %+v", p.Head)
		}
		checkMemory(t, b)
	})
}

func TestMemoryBrokerIdle(t *testing.T) {
	for _, c := range []struct {
		name   string
		broker *MemoryBroker
		keep   time.Duration
	}{
		{"age", &MemoryBroker{MaxAge: time.Hour}, time.Hour},
		{"keys last longer", &MemoryBroker{MaxAge: time.Minute, DuplicateWindow: time.Hour}, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := attachMemory(t, c.broker)
				first := h.subscribe("r").Epoch
				h.publish("r", "key", "0")
				time.Sleep(2 * c.keep)
				h.publish("other", "", "")
				if e := h.read("r").Head.Epoch; e != first {
					t.Errorf("a subscribed log has epoch %q, but had %q", e, first)
				}
				h.unsubscribe("r")
				time.Sleep(c.keep)
				h.publish("other", "", "")
				if e := h.subscribe("r").Epoch; e != first {
					t.Errorf("a log not used for %v has epoch %q, but had %q", c.keep, e, first)
				}
				h.unsubscribe("r")
				time.Sleep(c.keep + time.Millisecond)
				h.publish("other", "", "")
				if p := h.read("r"); p.Head != (Position{}) {
					t.Errorf("a log not used for longer than %v still exists: head %+v", c.keep, p.Head)
				}
				p := h.subscribe("r")
				if p.Seq != 0 || p.Epoch == "" || p.Epoch == first {
					t.Errorf("the new log begins at %+v, the old one had epoch %q", p, first)
				}
				if r := h.publish("r", "key", "1"); r.Duplicate || r.Seq != 1 {
					t.Errorf("first receipt from the new log: %+v", r)
				}
				checkMemory(t, c.broker)
			})
		})
	}
}

func TestMemoryBrokerMaxIdleTopics(t *testing.T) {
	b := &MemoryBroker{MaxIdleTopics: 2}
	h := attachMemory(t, b)
	want := func(rooms string) {
		t.Helper()
		var all []string
		for topic := range b.topics {
			all = append(all, topic.Room)
		}
		slices.Sort(all)
		if got := strings.Join(all, ""); got != rooms {
			t.Errorf("logs of %q, want %q", got, rooms)
		}
		checkMemory(t, b)
	}
	h.publish("a", "", "0")
	h.publish("b", "", "0")
	want("ab")
	h.read("a") // this counts as a use
	h.publish("c", "", "0")
	want("ac")
	h.subscribe("c")
	h.publish("d", "", "0")
	h.subscribe("e")
	want("acde") // c and e have subscriptions, so they do not count
	h.publish("f", "", "0")
	want("cdef")
	h.unsubscribe("c")
	want("cef")
	h.publish("e", "", "0")
	want("cef")
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("ce")
}

func TestMemoryBrokerDuplicateWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{MaxMessages: 2, DuplicateWindow: time.Minute}
		h := attachMemory(t, b)
		first := h.publish("r", "first", "0")
		for i := range 7 {
			h.publish("r", fmt.Sprint(i), "more")
		}
		time.Sleep(time.Minute)
		if r := h.publish("r", "first", "again"); !r.Duplicate || r.Seq != first.Seq || r.Time != first.Time {
			t.Errorf("the key of an evicted message is forgotten: %+v", r)
		}
		h.wantLog("r", "more", "more")
		time.Sleep(time.Millisecond)
		if r := h.publish("r", "first", "again"); r.Duplicate || r.Seq != 9 {
			t.Errorf("after the window: %+v", r)
		}
		// Eight keys are remembered: four times MaxMessages.
		for i := range 7 {
			h.publish("r", fmt.Sprint(i), "more")
		}
		if r := h.publish("r", "first", "again"); !r.Duplicate || r.Seq != 9 {
			t.Errorf("the eighth key is forgotten: %+v", r)
		}
		h.publish("r", "ninth", "more")
		if r := h.publish("r", "first", "again"); r.Duplicate {
			t.Errorf("the ninth key is remembered: %+v", r)
		}
		checkMemory(t, b)
	})
}

func TestMemoryBrokerDuplicatesOff(t *testing.T) {
	b := &MemoryBroker{DuplicateWindow: -1}
	h := attachMemory(t, b)
	h.publish("r", "key", "0")
	h.publish("r", "key", "1")
	h.wantLog("r", "0", "1")
	checkMemory(t, b)
}

// With all other bounds off, the total still holds. Idle logs go first,
// beginning with the least recently used.
func TestMemoryBrokerMaxTotalBytesIdle(t *testing.T) {
	const size = 1000
	b := &MemoryBroker{MaxTotalBytes: 10 * (size + messageCost), MaxMessages: -1, MaxBytes: -1, MaxAge: -1, MaxIdleTopics: -1}
	h := attachMemory(t, b)
	body := strings.Repeat("x", size)
	h.subscribe("subscribed")
	for range 5 {
		h.publish("subscribed", "", body)
	}
	for i := range 20 {
		h.publish(fmt.Sprint(i), "", body)
		checkMemory(t, b)
	}
	for i := range 20 {
		want := []string{body}
		if i < 15 {
			want = nil
		}
		h.wantLog(fmt.Sprint(i), want...)
	}
	h.wantLog("subscribed", body, body, body, body, body)
}

// Subscribed logs share the total. Quiet ones do not keep a busy one from
// having messages.
func TestMemoryBrokerMaxTotalBytesShared(t *testing.T) {
	const topics, share, size = 20, 10, 1000
	b := &MemoryBroker{MaxTotalBytes: topics * share * (size + messageCost), MaxBytes: -1}
	h := attachMemory(t, b)
	body := strings.Repeat("x", size)
	for i := range topics {
		h.subscribe(fmt.Sprint(i))
		for range share {
			h.publish(fmt.Sprint(i), "", body)
		}
	}
	h.subscribe("busy")
	least := 0
	for i := range 50 * share {
		h.publish("busy", "", body)
		checkMemory(t, b)
		if n := len(h.read("busy").Messages); i < share/2 {
			least = n
		} else {
			least = min(least, n)
		}
	}
	if least < share/4 {
		t.Errorf("the busy log had only %d messages", least)
	}
	if n := len(h.got); n != topics*share+50*share {
		t.Errorf("%d messages were delivered", n)
	}

	// The large log gives way, not the small ones.
	b = &MemoryBroker{MaxTotalBytes: 20 * (size + messageCost)}
	h = attachMemory(t, b)
	for i := range 5 {
		h.subscribe(fmt.Sprint(i))
		h.publish(fmt.Sprint(i), "", body)
	}
	h.subscribe("large")
	for range 100 {
		h.publish("large", "", body)
	}
	for i := range 5 {
		h.wantLog(fmt.Sprint(i), body)
	}

	// When no messages are left to drop, keys are forgotten.
	b = &MemoryBroker{MaxTotalBytes: 10 * keyCost, DuplicateWindow: time.Hour}
	h = attachMemory(t, b)
	h.subscribe("r")
	for i := range 100 {
		h.publish("r", fmt.Sprint(i), "")
		checkMemory(t, b)
	}
	if r := h.publish("r", "99", ""); !r.Duplicate {
		t.Error("the newest key is forgotten")
	}
}
