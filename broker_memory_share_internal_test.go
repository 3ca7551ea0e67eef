package chathub

import (
	"fmt"
	"strings"
	"testing"
)

// TestMemoryBrokerFullLog: which messages leave a full log. Each word is the
// owner of a message, in capitals if it is a notice, and how often it comes.
func TestMemoryBrokerFullLog(t *testing.T) {
	for _, tc := range []struct {
		name        string
		messages    int // bound
		inbox       string
		room        string
		says        string
		size, bytes int // of a message, and the bound in messages of that size
	}{
		{
			name: "one owner", messages: 4, says: "a:6",
			inbox: "a2 a3 a4 a5",
			room:  "a2 a3 a4 a5",
		},
		{
			name: "a flood after a message", messages: 4, says: "v:1 x:9",
			inbox: "v0 x6 x7 x8",
			room:  "v0 x6 x7 x8",
		},
		{
			name: "a message after a flood", messages: 4, says: "x:9 v:1 x:9",
			inbox: "v0 x15 x16 x17",
			room:  "v0 x15 x16 x17",
		},
		{
			name: "two floods", messages: 6, says: "v:1 x:9 y:9 x:9 y:9",
			inbox: "v0 x16 x17 y15 y16 y17",
			room:  "x15 x16 x17 y15 y16 y17",
		},
		{
			name: "everyone the same", messages: 4, says: "a:1 b:1 c:1 d:1 e:1 f:1",
			inbox: "c0 d0 e0 f0",
			room:  "c0 d0 e0 f0",
		},
		{
			name: "more than the others, less than half", messages: 8, says: "a:2 b:1 c:3 d:2 e:2",
			inbox: "a1 b0 c1 c2 d0 d1 e0 e1", // c had the most, then a did, by its age
			room:  "b0 c0 c1 c2 d0 d1 e0 e1",
		},
		{
			name: "notices do not displace messages", messages: 8, says: "v:7 X:20",
			inbox: "v1 v2 v3 v4 v5 v6 X18 X19",
			room:  "v3 v4 v5 v6 X16 X17 X18 X19",
		},
		{
			name: "messages displace notices", messages: 8, says: "X:8 v:7",
			inbox: "X6 X7 v1 v2 v3 v4 v5 v6",
			room:  "X4 X5 X6 X7 v3 v4 v5 v6",
		},
		{
			name: "a flood of notices does not displace others", messages: 8, says: "V:1 X:20",
			inbox: "V0 X13 X14 X15 X16 X17 X18 X19",
			room:  "V0 X13 X14 X15 X16 X17 X18 X19",
		},
		{
			name: "notices and messages of one owner", messages: 4, says: "a:4 A:2 a:1",
			inbox: "a2 a3 A1 a4",
			room:  "a3 A0 A1 a4",
		},
		{
			name: "one place", messages: 1, says: "a:1 b:1 A:1",
			inbox: "b0",
			room:  "A0",
		},
	} {
		for _, bound := range []string{"messages", "bytes"} {
			for topic, want := range map[Topic]string{{User: "u"}: tc.inbox, {Room: "r"}: tc.room} {
				t.Run(fmt.Sprintf("%s/%s/%+v", tc.name, bound, topic), func(t *testing.T) {
					const size = 100
					b := &MemoryBroker{MaxMessages: tc.messages, MaxBytes: -1}
					if bound == "bytes" {
						b = &MemoryBroker{MaxMessages: -1, MaxBytes: tc.messages * (size + messageCost)}
					}
					h := attachMemory(t, b)
					said := make(map[string]int)
					for word := range strings.FieldsSeq(tc.says) {
						var owner string
						var n int
						if _, err := fmt.Sscanf(strings.Replace(word, ":", " ", 1), "%s %d", &owner, &n); err != nil {
							t.Fatal(err)
						}
						for range n {
							h.put(topic, owner, said[owner], size)
							said[owner]++
						}
					}
					h.wantKept(topic, want)
					checkMemory(t, b)
				})
			}
		}
	}
}

// Of a log that is full by number, the owner of the most messages pays, not one
// with few large ones.
func TestMemoryBrokerFullByNumber(t *testing.T) {
	user := Topic{User: "u"}
	b := &MemoryBroker{MaxMessages: 10}
	h := attachMemory(t, b)
	for i := range 4 {
		h.put(user, "v", i, 60_000)
	}
	for i := range 20 {
		h.put(user, "x", i, 1)
	}
	h.wantKept(user, "v0 v1 v2 v3 x14 x15 x16 x17 x18 x19")
	checkMemory(t, b)
}

// A message that is larger than all others together is stored.
func TestMemoryBrokerLargeMessage(t *testing.T) {
	for topic, want := range map[Topic]string{{User: "u"}: "x1", {Room: "r"}: "x1"} {
		b := &MemoryBroker{MaxBytes: 10_000}
		h := attachMemory(t, b)
		for i := range 10 {
			h.put(topic, fmt.Sprint("owner", i, "-"), 0, 500)
			h.put(topic, fmt.Sprint("NOTICE", i, "-"), 0, 100)
		}
		h.put(topic, "x", 1, 9800)
		h.wantKept(topic, want)
		checkMemory(t, b)
	}
}

// A share pays with what is oldest, messages or keys.
func TestMemoryBrokerCut(t *testing.T) {
	b := &MemoryBroker{MaxMessages: 2}
	h := attachMemory(t, b)
	for i := range 5 {
		h.publish("r", fmt.Sprint("key ", i), fmt.Sprint(i))
	}
	l := b.topics[Topic{Room: "r"}]
	s := l.shares.list[0]
	for i, want := range []struct {
		messages string
		keys     int
	}{{"3 4", 4}, {"3 4", 3}, {"3 4", 2}, {"4", 2}, {"4", 1}, {"", 1}, {"", 0}} {
		if free := l.cut(s, 1); free < messageCost {
			t.Errorf("step %d frees %d bytes", i, free)
		}
		if l.keys.size() != want.keys {
			t.Errorf("step %d: %d keys, want %d", i, l.keys.size(), want.keys)
		}
		h.wantKept(Topic{Room: "r"}, want.messages)
	}
	if free := l.cut(s, 1); free != 0 || s.at >= 0 {
		t.Errorf("an empty share frees %d bytes, and is at %d", free, s.at)
	}
}

// TestMemoryBrokerManyOwners: shares are found, and need no memory when they
// are closed.
func TestMemoryBrokerManyOwners(t *testing.T) {
	for _, topic := range []Topic{{User: "u"}, {Room: "r"}} {
		b := &MemoryBroker{MaxMessages: 500}
		h := attachMemory(t, b)
		for i := range 1000 {
			h.put(topic, fmt.Sprint("owner", i, "-"), 0, 10)
			h.put(topic, fmt.Sprint("NOTICE", i, "-"), 0, 10)
		}
		checkMemory(t, b)
		if n := len(b.topics[topic].shares.list); n != 500 {
			t.Errorf("%+v: %d shares of 500 messages", topic, n)
		}
		for i := range 500 {
			h.put(topic, "x", i, 10)
		}
		if topic.Room != "" {
			for i := range 500 {
				h.put(topic, "y", i, 10)
			}
		}
		checkMemory(t, b)
		l := b.topics[topic]
		if n := len(l.shares.list); topic.Room != "" && (n != 2 || l.shares.byOwner.peak > 8 || cap(l.shares.list) > 8) {
			t.Errorf("%+v: %d shares are left, with room for %d and %d", topic, n, l.shares.byOwner.peak, cap(l.shares.list))
		}
	}
}
