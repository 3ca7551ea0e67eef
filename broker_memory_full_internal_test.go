package chathub

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// With all other bounds off, the total holds. The oldest messages of an owner
// go first, whatever log they are in.
func TestMemoryBrokerMaxTotalBytesIdle(t *testing.T) {
	const size = 1000
	each := size + messageCost + shareCost + logCost
	b := &MemoryBroker{MaxTotalBytes: 10 * each, MaxMessages: -1, MaxBytes: -1, MaxAge: -1, MaxIdleTopics: -1}
	h := attachMemory(t, b)
	for i := range 50 {
		h.put(Topic{User: fmt.Sprint(i)}, "", i, size)
		checkMemory(t, b)
		kept := 0
		for k := range i + 1 {
			if k > i-9 { // the spare part of the bound costs one
				h.wantKept(Topic{User: fmt.Sprint(k)}, fmt.Sprint(k))
			}
			if h.has(Topic{User: fmt.Sprint(k)}) {
				kept++
			}
		}
		if kept > 10 {
			t.Errorf("%d messages are kept, and 10 have room", kept)
		}
	}
}

// Subscribed logs share the total: quiet ones do not keep a busy one from
// having any.
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
		t.Errorf("the busy log was down to %d messages", least)
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

	// If no messages are left to drop, keys are forgotten.
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

// TestMemoryBrokerFloods: whatever one user floods a small store with, the
// messages of others stay, and the flood has the rest of the store.
func TestMemoryBrokerFloods(t *testing.T) {
	const total = 200_000
	for _, tc := range []struct {
		name   string
		broker *MemoryBroker
		flood  func(i int) Message
	}{
		{"large notifications to many users", &MemoryBroker{}, func(i int) Message {
			return Message{Topic: Topic{User: fmt.Sprint("nobody ", i%400)}, Notice: true, Body: make([]byte, 5000)}
		}},
		{"small messages to many users", &MemoryBroker{}, func(i int) Message {
			return Message{Topic: Topic{User: fmt.Sprint("nobody ", i)}, Key: fmt.Sprint(i)}
		}},
		{"one room", &MemoryBroker{MaxMessages: -1, MaxBytes: -1}, func(i int) Message {
			return Message{Topic: Topic{Room: "room"}, Body: make([]byte, 500)}
		}},
		{"keys", &MemoryBroker{MaxMessages: 8}, func(i int) Message {
			return Message{Topic: Topic{Room: "room"}, Key: fmt.Sprint(i)}
		}},
		{"the same users and rooms", &MemoryBroker{MaxBytes: 20_000}, func(i int) Message {
			return Message{Topic: []Topic{{User: "ana"}, {User: "bob"}, {Room: "room"}}[i%3], Key: fmt.Sprint(i), Body: make([]byte, i%3000)}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := tc.broker
			b.MaxTotalBytes = total
			h := attachMemory(t, b)
			// Two private messages, a notification and a room message wait, in
			// logs that the flood has made.
			for i := range 3 {
				m := tc.flood(i)
				m.Owner = "mallory"
				if _, err := h.Publish(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			victims := []Message{
				{Topic: Topic{User: "ana"}, Owner: "bob", Key: "bob 1", Body: []byte("private")},
				{Topic: Topic{User: "nobody 1"}, Owner: "bob", Key: "bob 2", Body: []byte("private")},
				{Topic: Topic{User: "bob"}, Owner: "ana", Key: "ana 1", Notice: true, Body: []byte("notification")},
				{Topic: Topic{Room: "room"}, Owner: "ana", Key: "ana 2", Body: []byte("room")},
			}
			for i := range victims {
				r, err := h.Publish(t.Context(), victims[i])
				if err != nil {
					t.Fatal(err)
				}
				victims[i].Seq = r.Seq
			}
			for i := range 3000 {
				m := tc.flood(i + 3)
				m.Owner = "mallory"
				if _, err := h.Publish(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				if i%300 == 0 {
					checkMemory(t, b)
				}
			}
			checkMemory(t, b)
			for _, m := range victims {
				h.wantStored(m)
			}
			if held := b.ledger.accounts["mallory"].held.Load(); held < total/10 {
				t.Errorf("the flood itself has only %d bytes", held)
			}
		})
	}
}

// wantStored checks that a message is in its log, and its key remembered.
func (h *memoryHub) wantStored(m Message) {
	h.t.Helper()
	p, err := h.Read(h.t.Context(), m.Topic, Range{After: m.Seq - 1, Before: m.Seq + 1, Limit: 1})
	if err != nil || len(p.Messages) != 1 || string(p.Messages[0].Body) != string(m.Body) {
		h.t.Errorf("%+v: message %d of %q is %+v, %v", m.Topic, m.Seq, m.Owner, p, err)
	}
	if r, err := h.Publish(h.t.Context(), m); err != nil || !r.Duplicate || r.Seq != m.Seq {
		h.t.Errorf("%+v: the key of message %d of %q is forgotten: %+v, %v", m.Topic, m.Seq, m.Owner, r, err)
	}
}

// TestMemoryBrokerApplication: the application counts as 64 users. It pays for
// a flood of its own, and not for the flood of a user.
func TestMemoryBrokerApplication(t *testing.T) {
	const size, total = 1000, 1_000_000
	fill := func(owners ...string) *memoryHub {
		h := attachMemory(t, &MemoryBroker{MaxTotalBytes: total, MaxMessages: -1, MaxBytes: -1})
		for i, owner := range owners {
			for n := range 2 * total / size {
				h.put(Topic{Room: fmt.Sprint(owner, n%10)}, owner, i, size)
			}
		}
		checkMemory(t, h.broker)
		return h
	}
	held := func(h *memoryHub, owner string) int64 {
		a := h.broker.ledger.accounts[owner]
		if a == nil {
			return 0
		}
		return a.held.Load()
	}

	h := fill("", "mallory")
	if app, user := held(h, ""), held(h, "mallory"); app < total*9/10 || user < total/100 || user > total/20 {
		t.Errorf("after a user's flood, the application has %d and the user %d bytes", app, user)
	}
	h = fill("mallory", "")
	if app, user := held(h, ""), held(h, "mallory"); app < total*9/10 || user < total/100 || user > total/20 {
		t.Errorf("after the application's flood, it has %d and a user who had flooded %d bytes", app, user)
	}

	// Users who have little do not pay for the application.
	h = fill()
	for i := range 100 {
		h.put(Topic{User: "ana"}, fmt.Sprint("user ", i), 0, size)
	}
	for n := range 2 * total / size {
		h.put(Topic{Room: fmt.Sprint(n % 10)}, "", n, size)
	}
	for i := range 100 {
		if held(h, fmt.Sprint("user ", i)) == 0 {
			t.Errorf("user %d has paid for the application", i)
		}
	}
	checkMemory(t, h.broker)
}

// Logs without messages and keys go before all messages.
func TestMemoryBrokerMaxTotalBytesVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{MaxTotalBytes: 5000, MaxAge: time.Hour}
		h := attachMemory(t, b)
		h.publish("void", "", "")
		time.Sleep(30 * time.Minute)
		h.put(Topic{Room: "r"}, "x", 0, 2000)
		time.Sleep(31 * time.Minute)
		h.read("void")
		if b.idle.void.n != 1 {
			t.Errorf("%d logs are void", b.idle.void.n)
		}
		h.put(Topic{Room: "r"}, "x", 1, 1600)
		h.wantKept(Topic{Room: "r"}, "x0 x1")
		if b.idle.void.n != 0 {
			t.Errorf("%d logs are void in a full store", b.idle.void.n)
		}
		checkMemory(t, b)
	})
}

// The payers that were found pay for a while, but not when others have come to
// hold more in the meantime.
func TestMemoryBrokerPayersAge(t *testing.T) {
	for range 10 { // the payers have no order
		synctest.Test(t, func(t *testing.T) {
			const total, size = 1_000_000, 1000
			b := &MemoryBroker{MaxTotalBytes: total, MaxMessages: -1, MaxBytes: -1, MaxAge: time.Hour}
			h := attachMemory(t, b)
			fill := func(owner string, part int) {
				for n := range total / part / (size + messageCost) {
					h.put(Topic{Room: owner}, owner, n, size)
				}
			}
			fill("early", 3)
			fill("early too", 3)
			time.Sleep(30 * time.Minute)
			fill("late", 3)
			for n := 0; len(b.collector.payers) == 0; n++ {
				h.put(Topic{Room: "late"}, "late", n, size)
			}
			time.Sleep(31 * time.Minute)
			h.read("early")
			h.read("early too")
			held := b.ledger.accounts["late"].held.Load()
			fill("loud", 1)
			if now := b.ledger.accounts["late"].held.Load(); now != held {
				t.Errorf("an owner has paid %d bytes for one who has more", held-now)
			}
			checkMemory(t, b)
		})
	}
}

// TestMemoryBrokerFair has random owners publish to random topics under random
// bounds, while time passes. The owners who keep to a small part of each bound
// lose nothing, whatever the others do.
func TestMemoryBrokerFair(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { memoryFairness(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

// fairness is a broker with loud owners, and with quiet ones who keep to their
// part of each bound.
type fairness struct {
	*memoryHub
	random *rand.Rand
	stored []storedMessage // of quiet owners
	said   map[string]int  // of a quiet owner in a log, in the last hour
	since  time.Time
	step   int
}

type storedMessage struct {
	Message
	at time.Time
}

const (
	quietOwners, loudOwners = 4, 3
	fairTopics              = 6   // rooms, and as many users
	quietMessages           = 10  // of one quiet owner in one log
	quietBytes              = 300 // of one message
	fairAge                 = time.Hour
)

func memoryFairness(t *testing.T, random *rand.Rand) {
	pick := func(values ...int) int { return values[random.IntN(len(values))] }
	const (
		each   = quietBytes + messageCost + 20
		owners = quietOwners + loudOwners
		held   = 2 * fairTopics * (quietMessages*(each+keyCost+20) + shareCost + logCost)
	)
	// Messages have three quarters of an inbox.
	const part = owners*4/3 + 1
	b := &MemoryBroker{
		MaxMessages:     pick(part*quietMessages, 2*part*quietMessages, -1),
		MaxBytes:        pick(part*quietMessages*each, -1),
		MaxTotalBytes:   pick(1, 1, 5) * (owners + 1) * held,
		MaxIdleTopics:   pick(1, 3) * (owners + 1) * 2 * fairTopics,
		MaxAge:          fairAge,
		DuplicateWindow: time.Duration(pick(1, 30, 120)) * time.Minute,
	}
	f := &fairness{memoryHub: attachMemory(t, b), random: random, said: make(map[string]int), since: time.Now()}
	for ; f.step < 4000; f.step++ {
		m := f.loud()
		if random.IntN(8) == 0 {
			m = f.quiet()
		}
		switch random.IntN(20) {
		case 0:
			if _, err := f.Subscribe(t.Context(), m.Topic); err != nil {
				t.Fatal(err)
			}
		case 1, 2:
			if err := f.Unsubscribe(t.Context(), m.Topic); err != nil {
				t.Fatal(err)
			}
		}
		r, err := f.Publish(t.Context(), m)
		if err != nil || r.Duplicate {
			t.Fatalf("%+v, %v", r, err)
		}
		if strings.HasPrefix(m.Owner, "quiet") {
			m.Seq = r.Seq
			f.stored = append(f.stored, storedMessage{m, time.Now()})
		}
		if random.IntN(10) == 0 {
			time.Sleep(time.Duration(random.IntN(60)) * time.Second)
		}
		if f.step%200 == 199 {
			checkMemory(t, b)
			f.check()
		}
	}
	for i := range loudOwners {
		if a := b.ledger.accounts[fmt.Sprint("loud ", i)]; a == nil || a.held.Load() < held/4 {
			t.Errorf("loud %d has hardly anything", i)
		}
	}
}

func (f *fairness) message() Message {
	topic := Topic{User: fmt.Sprint(f.random.IntN(fairTopics))}
	if f.random.IntN(2) == 0 {
		topic = Topic{Room: topic.User}
	}
	return Message{Topic: topic, Key: fmt.Sprint("key ", f.step), Body: make([]byte, f.random.IntN(quietBytes))}
}

// quiet returns a message of a quiet owner who may still say something.
func (f *fairness) quiet() Message {
	if time.Since(f.since) > fairAge {
		clear(f.said)
		f.since = time.Now()
	}
	for {
		m := f.message()
		m.Owner = fmt.Sprint("quiet ", f.random.IntN(quietOwners))
		at := fmt.Sprint(m.Owner, m.Topic)
		// What was said in the hour before may still be kept.
		if f.said[at]++; f.said[at] <= quietMessages/2 {
			return m
		} else if f.random.IntN(100) == 0 {
			return f.loud()
		}
	}
}

func (f *fairness) loud() Message {
	m := f.message()
	m.Owner = fmt.Sprint("loud ", f.random.IntN(loudOwners))
	m.Body = make([]byte, f.random.IntN([]int{1, quietBytes, 20 * quietBytes}[f.random.IntN(3)]))
	switch f.random.IntN(4) {
	case 0:
		m.Topic = Topic{User: fmt.Sprint("nobody ", f.step)}
	case 1:
		m.Topic = Topic{Room: fmt.Sprint("own ", f.random.IntN(1000))}
	case 2:
		m.Topic, m.Notice = Topic{User: m.Topic.User + m.Topic.Room}, true
	}
	if m.Topic.Room != "" {
		m.Owner = "loud 0" // two of them could have the whole room
	}
	return m
}

// check checks what the quiet owners have stored, as long as it must last.
func (f *fairness) check() {
	f.t.Helper()
	window := f.broker.DuplicateWindow
	var left []storedMessage
	for _, m := range f.stored {
		age := time.Since(m.at)
		if age <= fairAge {
			p, err := f.Read(f.t.Context(), m.Topic, Range{After: m.Seq - 1, Before: m.Seq + 1, Limit: 1})
			if err != nil || len(p.Messages) != 1 || p.Messages[0].Key != m.Key {
				f.t.Errorf("step %d, %+v: message %d of %q is lost after %v: %+v, %v", f.step, m.Topic, m.Seq, m.Owner, age, p, err)
			}
		}
		if age <= window {
			if r, err := f.Publish(f.t.Context(), m.Message); err != nil || !r.Duplicate || r.Seq != m.Seq {
				f.t.Errorf("step %d, %+v: the key of message %d of %q is lost after %v: %+v, %v", f.step, m.Topic, m.Seq, m.Owner, age, r, err)
			}
		}
		if age <= max(fairAge, window) {
			left = append(left, m)
		}
	}
	f.stored = left
}
