package hubtest

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chathub-go/chathub"
)

func testBrokerOrder(b *brokerTest) {
	const publishers, each = 8, 50
	topics := []chathub.Topic{b.room("order"), {User: "order-" + b.run}}
	hubs := []*brokerHub{b.attach(), b.attach(), b.attach()}
	for _, h := range hubs {
		for _, topic := range topics {
			h.subscribe(topic)
		}
	}
	logs := make([][]chathub.Message, len(topics))
	var wg sync.WaitGroup
	var mu sync.Mutex
	for p := range publishers {
		wg.Go(func() {
			last := make([]uint64, len(topics))
			for i := range each {
				for at, topic := range topics {
					m := hubs[p%len(hubs)].say(topic, fmt.Sprintf("%d of publisher %d", i, p))
					if m.Seq <= last[at] {
						b.Errorf("a publisher got seq %d after %d", m.Seq, last[at])
					}
					last[at] = m.Seq
					mu.Lock()
					logs[at] = append(logs[at], m)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for at, topic := range topics {
		log := b.inOrder(append(logs[at], hubs[0].say(topic, "last")))
		for i, h := range hubs {
			b.equal(fmt.Sprintf("hub %d, %+v", i, topic), h.await(topic, log[len(log)-1].Key), log)
			b.equal(fmt.Sprintf("hub %d, page of %+v", i, topic), h.read(topic, chathub.Range{Limit: brokerAll}).Messages, log)
		}
	}
}

// inOrder sorts messages by Seq, and checks that each Seq occurs once.
func (b *brokerTest) inOrder(messages []chathub.Message) []chathub.Message {
	b.Helper()
	slices.SortFunc(messages, func(m, n chathub.Message) int { return cmp.Compare(m.Seq, n.Seq) })
	for i := 1; i < len(messages); i++ {
		if messages[i].Seq == messages[i-1].Seq {
			b.Fatalf("two receipts with seq %d", messages[i].Seq)
		}
	}
	return messages
}

func testBrokerRead(b *brokerTest) {
	const n = 10
	topic := b.room("read")
	h := b.attach()
	var log []chathub.Message
	for i := range n {
		log = append(log, h.say(topic, fmt.Sprint(i)))
	}
	seq := func(i int) uint64 { return log[i].Seq }
	for _, c := range []struct {
		name     string
		r        chathub.Range
		from, to int // the range in log
		more     bool
	}{
		{"everything", chathub.Range{Limit: brokerAll}, 0, n, false},
		{"exactly as many", chathub.Range{Limit: n}, 0, n, false},
		{"the largest limit", chathub.Range{Limit: math.MaxInt}, 0, n, false},
		{"the newest", chathub.Range{Limit: 3}, 7, n, true},
		{"after", chathub.Range{After: seq(3), Limit: brokerAll}, 4, n, false},
		{"the newest after", chathub.Range{After: seq(3), Limit: 2}, 8, n, true},
		{"after the newest", chathub.Range{After: seq(n - 1), Limit: 5}, n, n, false},
		{"after what is not there yet", chathub.Range{After: seq(n-1) + 1000, Limit: 5}, n, n, false},
		{"after the largest number", chathub.Range{After: math.MaxUint64, Limit: 5}, n, n, false},
		{"before", chathub.Range{Before: seq(6), Limit: brokerAll}, 0, 6, false},
		{"the newest before", chathub.Range{Before: seq(6), Limit: 2}, 4, 6, true},
		{"before the oldest", chathub.Range{Before: seq(0), Limit: 5}, 0, 0, false},
		{"before 1", chathub.Range{Before: 1, Limit: 5}, 0, 0, false},
		{"before what is not there yet", chathub.Range{Before: seq(n-1) + 1000, Limit: 1}, 9, n, true},
		{"before the largest number", chathub.Range{Before: math.MaxUint64, Limit: brokerAll}, 0, n, false},
		{"between", chathub.Range{After: seq(2), Before: seq(7), Limit: brokerAll}, 3, 7, false},
		{"exactly as many between", chathub.Range{After: seq(2), Before: seq(7), Limit: 4}, 3, 7, false},
		{"the newest between", chathub.Range{After: seq(2), Before: seq(7), Limit: 3}, 4, 7, true},
		{"between neighbours", chathub.Range{After: seq(2), Before: seq(3), Limit: 5}, 3, 3, false},
		{"between one and itself", chathub.Range{After: seq(2), Before: seq(2), Limit: 5}, 3, 3, false},
		{"the wrong way round", chathub.Range{After: seq(7), Before: seq(2), Limit: 5}, 3, 3, false},
		{"no messages", chathub.Range{}, 0, 0, false},
		{"a negative limit", chathub.Range{After: seq(2), Limit: -1}, 0, 0, false},
	} {
		b.Run(c.name, func(t *testing.T) {
			b := &brokerTest{T: t, broker: b.broker, run: b.run}
			page := h.read(topic, c.r)
			b.equal("page", page.Messages, log[c.from:c.to])
			if page.More != c.more {
				b.Errorf("More is %v", page.More)
			}
			if page.Head.Seq != seq(n-1) || page.Head.Epoch == "" {
				b.Errorf("Head is %+v, want seq %d", page.Head, seq(n-1))
			}
			if page.Trimmed >= seq(0) && page.Trimmed > c.r.After && !page.More {
				b.Errorf("Trimmed is %d, but seq %d is there", page.Trimmed, seq(0))
			}
		})
	}

	// Reading backwards, page by page, returns the whole log.
	var pages []chathub.Message
	for r := (chathub.Range{Limit: 4}); ; r.Before = pages[0].Seq {
		page := h.read(topic, r)
		pages = append(slices.Clone(page.Messages), pages...)
		if !page.More || len(page.Messages) == 0 || len(pages) > n {
			break
		}
	}
	b.equal("page by page", pages, log)
}

func testBrokerReadBytes(b *brokerTest) {
	const n = 10
	topic := b.room("bytes")
	h := b.attach()
	var log []chathub.Message
	for i := range n {
		log = append(log, h.say(topic, strings.Repeat("x", 10*(i+1)))) // 10 to 100 bytes
	}
	for _, c := range []struct {
		name string
		r    chathub.Range
		all  int // how many messages match
		most int // how many of them fit
	}{
		{"no bound", chathub.Range{Limit: brokerAll}, n, n},
		{"far more than there is", chathub.Range{Limit: brokerAll, MaxBytes: 8 << 20}, n, n},
		{"the largest number", chathub.Range{Limit: brokerAll, MaxBytes: math.MaxInt}, n, n},
		{"one byte", chathub.Range{Limit: brokerAll, MaxBytes: 1}, n, 0},
		{"less than the newest", chathub.Range{Limit: brokerAll, MaxBytes: 99}, n, 0},
		{"exactly the newest", chathub.Range{Limit: brokerAll, MaxBytes: 100}, n, 1},
		{"not quite the second", chathub.Range{Limit: brokerAll, MaxBytes: 189}, n, 1},
		{"exactly two", chathub.Range{Limit: brokerAll, MaxBytes: 190}, n, 2},
		{"all but the oldest", chathub.Range{Limit: brokerAll, MaxBytes: 549}, n, n - 1},
		{"exactly all", chathub.Range{Limit: brokerAll, MaxBytes: 550}, n, n},
		{"a limit that is smaller", chathub.Range{Limit: 2, MaxBytes: 500}, n, 2},
		{"a limit that is larger", chathub.Range{Limit: 3, MaxBytes: 100}, n, 1},
		{"before", chathub.Range{Before: log[5].Seq, Limit: brokerAll, MaxBytes: 90}, 5, 2},
		{"before, and less than that", chathub.Range{Before: log[5].Seq, Limit: brokerAll, MaxBytes: 1}, 5, 0},
		{"after", chathub.Range{After: log[7].Seq, Limit: brokerAll, MaxBytes: 100}, 2, 1},
		{"after, and less than that", chathub.Range{After: log[8].Seq, Limit: 1, MaxBytes: 1}, 1, 0},
		{"after the newest", chathub.Range{After: log[n-1].Seq, Limit: 1, MaxBytes: 1}, 0, 0},
		{"between neighbours", chathub.Range{After: log[2].Seq, Before: log[3].Seq, Limit: 1, MaxBytes: 1}, 0, 0},
	} {
		b.Run(c.name, func(t *testing.T) {
			b := &brokerTest{T: t, broker: b.broker, run: b.run}
			page := h.read(topic, c.r)
			got := len(page.Messages)
			end := len(log)
			for end > 0 && c.r.Before > 0 && log[end-1].Seq >= c.r.Before {
				end--
			}
			if got > c.most || c.most == n && got < n {
				b.Errorf("%d messages, want %d", got, c.most)
			}
			b.equal("page", page.Messages, log[end-min(got, end):end])
			if page.More != (got < c.all) {
				b.Errorf("More is %v, with %d of %d messages", page.More, got, c.all)
			}
			if page.Head.Seq != log[n-1].Seq || page.Head.Epoch == "" {
				b.Errorf("Head is %+v, want seq %d", page.Head, log[n-1].Seq)
			}
		})
	}
}

// testBrokerOwners has messages of several owners, which make no difference
// while there is room.
func testBrokerOwners(b *brokerTest) {
	for _, topic := range []chathub.Topic{b.room("owners"), {User: "owners-" + b.run}} {
		here, there := b.attach(), b.attach()
		there.subscribe(topic)
		var log []chathub.Message
		for i, owner := range []string{"", "a", "b", "a.b *>", "\u65e5\u672c", "a"} {
			m := chathub.Message{Topic: topic, Key: rand.Text(), Owner: owner, Notice: i%2 == 1, Body: []byte(owner)}
			r, err := here.Publish(here.ctx, m)
			if err != nil || r.Duplicate {
				b.Fatalf("Publish of %q: %+v, %v", owner, r, err)
			}
			m.Seq, m.Time = r.Seq, r.Time
			log = append(log, m)

			m.Owner, m.Notice = "another", !m.Notice
			if r, err := there.Publish(there.ctx, m); err != nil || !r.Duplicate || r.Seq != m.Seq {
				b.Errorf("Publish of %q by another owner: %+v, %v", owner, r, err)
			}
		}
		b.equal("delivered", there.await(topic, log[len(log)-1].Key), log)
		page := here.read(topic, chathub.Range{Limit: brokerAll}).Messages
		b.equal("page", page, log)
		for i, m := range page {
			if m.Owner != "" && m.Owner != log[i].Owner || m.Notice && !log[i].Notice {
				b.Errorf("message %d is read with owner %q, notice %t, and has %q, %t", i, m.Owner, m.Notice, log[i].Owner, log[i].Notice)
			}
		}
	}
}

func testBrokerReadNothing(b *brokerTest) {
	topic := b.room("nothing")
	h := b.attach()
	check := func(after string) {
		b.Helper()
		p := h.read(topic, chathub.Range{Limit: brokerAll})
		if len(p.Messages) != 0 || p.Head != (chathub.Position{}) || p.Trimmed != 0 || p.More {
			b.Errorf("page of a topic without a log, after %s: %+v", after, p)
		}
	}
	check("nothing")
	check("Read")
	h.unsubscribe(topic)
	check("Unsubscribe")
	m := h.say(topic, "something")
	b.equal("page", h.read(topic, chathub.Range{Limit: brokerAll}).Messages, []chathub.Message{m})
}

func testBrokerTopics(b *brokerTest) {
	names := []string{
		"a", "A", "a b", " a", "a ", "a.b", "a.", ".a", ".", "..", "*", "a.*", ">", "a.>", "$SYS", "_", "-", "/", "a/b", `\`, `"`, "'",
		"%2A", "=2A", "a\u00a0b", "\u00e9", "e\u0301", "💬", "👩\u200d👩\u200d👧", "日本", "\u202ea", "\ufeff",
		// Of tenants: the second is everyone of acme.
		"acme\x00a", "acme\x00", "acme\x00a b", "acm\x00ea", "💬\x00a", "acme=a", "acme=~",
		strings.Repeat("t", 64) + "\x00" + strings.Repeat("x", 128), strings.Repeat("💬", 16) + "\x00" + strings.Repeat("💬", 32),
		strings.Repeat("x", 128), strings.Repeat("x", 127), strings.Repeat(".", 128), strings.Repeat("💬", 32),
	}
	var topics []chathub.Topic
	for _, name := range names {
		topics = append(topics, chathub.Topic{Room: name}, chathub.Topic{User: name})
	}
	every, second := b.attach(), b.attach()
	for i, topic := range topics {
		every.subscribe(topic)
		if i%2 == 1 {
			second.subscribe(topic)
		}
	}
	for _, topic := range topics {
		every.send(topic, "sent")
		every.say(topic, "kept")
	}
	for i, topic := range topics {
		last := second.say(topic, "last")
		every.await(topic, last.Key)
		if i%2 == 1 {
			second.await(topic, last.Key)
		}
		page := every.read(topic, chathub.Range{Limit: 2}).Messages
		if len(page) != 2 || string(page[0].Body) != "kept" || page[1].Key != last.Key || page[1].Topic != topic {
			b.Errorf("%+q: page is %v", topic, page)
		}
	}
	// By now, a message with a wrong topic would have been delivered.
	for i, topic := range topics {
		if got := every.received(topic); len(got) != 3 {
			b.Errorf("%+q: %d messages, want 3", topic, len(got))
		}
		want := 0
		if i%2 == 1 {
			want = 3
		}
		if got := second.received(topic); len(got) != want {
			b.Errorf("%+q: %d messages for the hub of every second topic, want %d", topic, len(got), want)
		}
	}
}

func testBrokerBodies(b *brokerTest) {
	topic := b.room("bodies")
	here, there := b.attach(), b.attach()
	there.subscribe(topic)
	large := make([]byte, 64<<10)
	_, _ = rand.Read(large) // never returns an error
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	var kept, sent []chathub.Message
	for _, body := range [][]byte{nil, {}, {0}, binary, []byte("\r\n"), []byte("MSG a 1 2\r\n\xff\xfe"), []byte(`{"a":" <>&"}`), large} {
		given := slices.Clone(body)
		m, _ := here.publish(topic, rand.Text(), body)
		if !slices.Equal(given, body) {
			b.Fatalf("a body of %d bytes was changed", len(body))
		}
		kept = append(kept, m)
		sent = append(sent, here.send(topic, string(body)))
	}
	there.await(topic, kept[len(kept)-1].Key)
	got := there.await(topic, sent[len(sent)-1].Key)
	// Volatile and durable messages have no common order.
	isKept := func(m chathub.Message) bool { return m.Seq != 0 }
	b.equal("sent", slices.DeleteFunc(slices.Clone(got), isKept), sent)
	b.equal("kept", slices.DeleteFunc(got, func(m chathub.Message) bool { return !isKept(m) }), kept)
	b.equal("page", there.read(topic, chathub.Range{Limit: brokerAll}).Messages, kept)
}
