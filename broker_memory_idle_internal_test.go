package chathub

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
					t.Errorf("a subscribed log has epoch %q, and had %q", e, first)
				}
				h.unsubscribe("r")
				time.Sleep(c.keep)
				h.publish("other", "", "")
				if e := h.subscribe("r").Epoch; e != first {
					t.Errorf("a log not used for %v has epoch %q, and had %q", c.keep, e, first)
				}
				h.unsubscribe("r")
				time.Sleep(c.keep + time.Millisecond)
				h.publish("other", "", "")
				if p := h.read("r"); p.Head != (Position{}) {
					t.Errorf("a log not used for longer than %v is there: head %+v", c.keep, p.Head)
				}
				p := h.subscribe("r")
				if p.Seq != 0 || p.Epoch == "" || p.Epoch == first {
					t.Errorf("the new log begins at %+v, the old one had epoch %q", p, first)
				}
				if r := h.publish("r", "key", "1"); r.Duplicate || r.Seq != 1 {
					t.Errorf("first receipt of the new log: %+v", r)
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
	h.read("a") // a use
	h.publish("c", "", "0")
	want("ac")
	h.subscribe("c")
	h.publish("d", "", "0")
	h.subscribe("e")
	want("acde") // c and e, which have subscriptions, do not count
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

// No log exists without a message or a subscription.
func TestMemoryBrokerNoLog(t *testing.T) {
	b := &MemoryBroker{}
	h := attachMemory(t, b)
	none := func(after string) {
		t.Helper()
		if len(b.topics) > 0 || b.ledger.total.Load() != 0 || len(b.ledger.accounts) > 0 {
			t.Errorf("after %s there are %d logs and %d accounts", after, len(b.topics), len(b.ledger.accounts))
		}
		checkMemory(t, b)
	}
	room, user := Topic{Room: "r"}, Topic{User: "u"}
	h.has(room)
	none("Read")
	h.unsubscribe("r")
	none("Unsubscribe")
	if err := h.Send(t.Context(), Message{Topic: user}); err != nil {
		t.Error(err)
	}
	none("Send")
	for _, topic := range []Topic{room, user, {Node: "n"}} {
		for range 2 {
			if _, err := h.Subscribe(t.Context(), topic); err != nil {
				t.Error(err)
			}
		}
		if len(b.topics) != 1 {
			t.Errorf("%d logs after Subscribe", len(b.topics))
		}
		if err := h.Send(t.Context(), Message{Topic: topic}); err != nil {
			t.Error(err)
		}
		if err := h.Unsubscribe(t.Context(), topic); err != nil {
			t.Error(err)
		}
		none("Subscribe and Unsubscribe")
	}
	other := attachMemory(t, b)
	other.subscribe("r")
	h.subscribe("r")
	h.unsubscribe("r")
	if len(b.topics) != 1 {
		t.Errorf("%d logs while there is a subscription", len(b.topics))
	}
	if err := other.Close(t.Context()); err != nil {
		t.Error(err)
	}
	none("Close")
	if _, err := h.Publish(t.Context(), Message{Topic: Topic{Node: "n"}}); err == nil {
		t.Error("Publish to a node")
	}
	none("a Publish that is refused")
}

// An empty log is made again under the same epoch, unless it may have had a
// message meanwhile.
func TestMemoryBrokerEpochs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{MaxIdleTopics: 1}
		h := attachMemory(t, b)
		epoch := func(room string) string {
			t.Helper()
			p := h.subscribe(room)
			h.unsubscribe(room)
			if p.Seq != 0 || p.Epoch == "" {
				t.Errorf("%s begins at %+v", room, p)
			}
			return p.Epoch
		}
		first := epoch("r")
		if second := epoch("r"); second != first {
			t.Errorf("an empty log has epoch %q, then %q", first, second)
		}
		if other := epoch("other"); other == first {
			t.Error("two topics have the same epoch")
		}
		if e := attachMemory(t, &MemoryBroker{}).subscribe("r").Epoch; e == first {
			t.Error("two brokers have the same epoch")
		}

		// A log with a message is kept. Once it is dropped, it begins anew.
		if r := h.publish("r", "", "0"); r.Epoch != first || r.Seq != 1 {
			t.Errorf("the first message is at %+v, want epoch %q", r, first)
		}
		if p := h.subscribe("r"); p != (Position{first, 1}) {
			t.Errorf("with a message, the log is at %+v", p)
		}
		h.unsubscribe("r")
		h.publish("other", "", "0")
		if e := epoch("r"); e == first {
			t.Error("after a message was dropped, the epoch is the same")
		}

		// That holds for a log whose messages had their time, too.
		first = epoch("s")
		h.publish("s", "", "0")
		time.Sleep(24*time.Hour + time.Millisecond)
		h.publish("other", "", "0")
		if e := epoch("s"); e == first {
			t.Error("after a message had its time, the epoch is the same")
		}

		// Few other logs get a new epoch, too.
		before := make(map[string]string)
		for i := range 1000 {
			name := fmt.Sprint("room ", i)
			before[name] = epoch(name)
		}
		h.publish("r", "", "0")
		h.publish("s", "", "0")
		changed := 0
		for name, e := range before {
			if epoch(name) != e {
				changed++
			}
		}
		if changed > 20 {
			t.Errorf("two logs were dropped, and %d of 1000 empty ones have another epoch", changed)
		}
	})
}

// TestMemoryBrokerIdleFlood: the owner of many idle logs pays with them.
func TestMemoryBrokerIdleFlood(t *testing.T) {
	// The application counts as 64 users, so v must have less than a 64th.
	for flooder, most := range map[string]int{"x": 20, "": 2} {
		b := &MemoryBroker{MaxIdleTopics: 200}
		h := attachMemory(t, b)
		user := func(i int) Topic { return Topic{User: fmt.Sprint(i)} }
		for i := range most / 2 {
			h.put(user(i), flooder, i, 10)
		}
		for i := range most {
			h.put(user(i), "v", i, 10) // half of them in logs of the flooder
		}
		if n := b.ledger.accounts["v"].logs.Load(); int(n) != most/2 {
			t.Errorf("v pays for %d logs, want %d", n, most/2)
		}
		for i := range 2000 {
			h.put(user(100+i), flooder, i, 10)
			if i%100 == 0 {
				checkMemory(t, b)
			}
		}
		checkMemory(t, b)
		for i := range most {
			h.wantKept(user(i), fmt.Sprint("v", i))
		}
		if n := b.ledger.accounts["v"].logs.Load(); int(n) != most {
			t.Errorf("v pays for %d logs, want %d", n, most)
		}
		for i := range 1000 { // the last thousand
			kept := ""
			if i >= 1000-(200-most) {
				kept = fmt.Sprint(flooder, 1000+i)
			}
			if i < 1000-(200-most) || i >= 1000-(200-most)+200/spare { // in between, both may be
				h.wantKept(user(1100+i), kept)
			}
		}
	}
}

// Logs without messages and keys go before all others.
func TestMemoryBrokerIdleVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{MaxIdleTopics: 4, MaxAge: time.Hour, DuplicateWindow: 2 * time.Hour}
		h := attachMemory(t, b)
		h.publish("key", "key", "")
		h.publish("void", "", "")
		h.publish("void, but subscribed", "", "")
		h.subscribe("void, but subscribed")
		time.Sleep(61 * time.Minute)
		h.publish("message", "", "")
		h.publish("key", "another key", "")
		h.read("void")
		h.unsubscribe("void, but subscribed")
		checkMemory(t, b)
		if b.idle.void.n != 2 || b.idle.kept.n != 2 {
			t.Errorf("%d logs are void, %d are not", b.idle.void.n, b.idle.kept.n)
		}
		h.publish("message 2", "", "")
		h.publish("message 3", "", "")
		checkMemory(t, b)
		if r := h.publish("key", "key", ""); !r.Duplicate {
			t.Error("a log with a key was dropped before one without anything")
		}
		for _, room := range []string{"key", "message", "message 2", "message 3"} {
			h.wantLog(room, "")
		}

		// One that was void and has a message again is kept like others.
		time.Sleep(61 * time.Minute)
		h.read("message")
		if b.idle.void.n != 1 {
			t.Errorf("%d logs are void", b.idle.void.n)
		}
		if _, err := h.Publish(t.Context(), Message{Topic: Topic{Room: "message"}, Owner: "v"}); err != nil {
			t.Error(err)
		}
		checkMemory(t, b)
		if a := b.ledger.accounts["v"]; a == nil || a.logs.Load() != 1 || b.idle.void.n != 0 {
			t.Errorf("the owner of the only message pays for %v, and %d logs are void", a, b.idle.void.n)
		}
	})
}

// TestStripDropsTiedNames: what a holder has in an idle log may take names of
// others with it.
func TestStripDropsTiedNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{MaxMessages: 1, MaxIdleTopics: 1}
		s, err := b.Attach(t.Context(), func(Message) {})
		if err != nil {
			t.Fatal(err)
		}
		publish := func(m Message) {
			t.Helper()
			if _, err := s.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		room := Topic{Room: "attic"}
		if _, err := s.Subscribe(t.Context(), room); err != nil {
			t.Fatal(err)
		}
		publish(Message{Topic: room, Owner: "bo", Key: "k"}) // only its key is kept
		publish(Message{Topic: room, Owner: "ana", Body: make([]byte, 1000)})
		publish(Message{Topic: room, Owner: "bo", Name: "m/2", Tied: 2})
		time.Sleep(10 * time.Minute) // the key is forgotten when the log is used
		if page, err := s.Read(t.Context(), room, Range{Limit: 10}); err != nil || len(page.Messages) != 2 {
			t.Fatalf("the log has %d messages; %v", len(page.Messages), err)
		}
		if err := s.Unsubscribe(t.Context(), room); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"b", "c", "d"} {
			publish(Message{Topic: Topic{Room: name}, Owner: "ana"})
		}
		if page, err := s.Read(t.Context(), room, Range{Limit: 10}); err != nil || len(page.Messages) > 0 {
			t.Errorf("the idle log still has %d messages; %v", len(page.Messages), err)
		}
	})
}
