package hubtest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/chathub-go/chathub"
)

// named returns a message with a name.
func named(topic chathub.Topic, name, body string) chathub.Message {
	return chathub.Message{Topic: topic, Name: name, Body: []byte(body)}
}

// store publishes a new message of any kind, under a new key if it has none.
func (h *brokerHub) store(m chathub.Message) chathub.Message {
	h.t.Helper()
	if m.Key == "" {
		m.Key = rand.Text()
	}
	r, err := h.Publish(h.ctx, m)
	if err != nil || r.Duplicate || r.Seq == 0 || r.Seq >= 1<<53 || r.Time <= 0 {
		h.t.Fatalf("Publish(%s): %+v, %v", brokerMessage(m), r, err)
	}
	h.t.sameEpoch(m.Topic, r.Epoch)
	m.Seq, m.Time = r.Seq, r.Time
	return m
}

func (h *brokerHub) readNamed(q chathub.NameQuery) []chathub.Message {
	h.t.Helper()
	found, err := h.ReadNamed(h.ctx, []chathub.NameQuery{q})
	if err != nil || len(found) != 1 {
		h.t.Fatalf("ReadNamed(%+v): %d results, %v", q, len(found), err)
	}
	return found[0]
}

// brokerLog is what a log must have.
type brokerLog []chathub.Message

// add appends messages, which take the place of those of the same name.
func (l *brokerLog) add(messages ...chathub.Message) {
	for _, m := range messages {
		*l = slices.DeleteFunc(*l, func(old chathub.Message) bool { return m.Name != "" && old.Name == m.Name })
		*l = append(*l, m)
	}
}

// checkPage checks a page of a log.
func (b *brokerTest) checkPage(page chathub.Page, log brokerLog, r chathub.Range) {
	b.Helper()
	var match []chathub.Message
	for _, m := range log {
		if m.Seq > r.After && (r.Before == 0 || m.Seq < r.Before) && !(r.Ordinary && m.Name != "") {
			match = append(match, m)
		}
	}
	part := func(n int) []chathub.Message {
		if r.Oldest {
			return match[:n]
		}
		return match[len(match)-n:]
	}
	most, bytes := 0, 0
	for most < min(len(match), r.Limit) {
		m := part(most + 1)[0]
		if r.Oldest {
			m = match[most]
		}
		if bytes += len(m.Body); r.MaxBytes > 0 && bytes > r.MaxBytes {
			break
		}
		most++
	}
	got := len(page.Messages)
	if got > most || got < most && r.MaxBytes == 0 {
		b.Errorf("%+v: %d messages, want %d", r, got, most)
	}
	b.equal(fmt.Sprintf("%+v", r), page.Messages, part(min(got, most)))
	if page.More != (got < len(match)) {
		b.Errorf("%+v: More is %t, with %d of %d messages", r, page.More, got, len(match))
	}
	// A position before the log, or the one that the page begins after, says
	// that nothing after it was dropped.
	if head := log[len(log)-1].Seq; page.Head.Seq != head || page.Trimmed >= max(r.After+1, log[0].Seq) {
		b.Errorf("%+v: head %d, want %d; trimmed to %d", r, page.Head.Seq, head, page.Trimmed)
	}
}

// testBrokerNames reads a log with named and ordinary messages, in all ways.
func testBrokerNames(b *brokerTest) {
	topic := b.room("names")
	here, there := b.attach(), b.attach()
	here.subscribe(topic)
	there.subscribe(topic)
	var log brokerLog
	var live []chathub.Message
	put := func(m chathub.Message) {
		m = []*brokerHub{here, there}[len(live)%2].store(m)
		live = append(live, m)
		log.add(m)
	}
	for i := range 5 {
		size := strings.Repeat("x", 10*i)
		put(chathub.Message{Topic: topic, Body: []byte("ordinary" + size)})
		put(named(topic, "state/often", fmt.Sprint(i, size)))
		put(named(topic, fmt.Sprint("state/once-", i), fmt.Sprint(i)))
		put(named(topic, fmt.Sprint("state/twice-", i/2), fmt.Sprint(i)))
	}
	put(named(topic, "state/gone", "soon removed"))
	gone := named(topic, "state/gone", "removed")
	gone.Remove = true
	put(gone)
	put(named(topic, "state/empty", ""))
	put(chathub.Message{Topic: topic, Body: []byte("last")})
	for i, h := range []*brokerHub{here, there} {
		b.equal(fmt.Sprint("delivered to hub ", i), h.await(topic, live[len(live)-1].Key), live)
	}

	check := func(r chathub.Range) {
		b.Helper()
		b.checkPage(there.read(topic, r), log, r)
	}
	for _, oldest := range []bool{false, true} {
		for _, ordinary := range []bool{false, true} {
			// After each position, also those of messages that were replaced.
			check(chathub.Range{Limit: brokerAll, Oldest: oldest, Ordinary: ordinary})
			for _, m := range live {
				check(chathub.Range{After: m.Seq, Limit: brokerAll, Oldest: oldest, Ordinary: ordinary})
				check(chathub.Range{Before: m.Seq, Limit: 3, Oldest: oldest, Ordinary: ordinary})
				check(chathub.Range{After: m.Seq, Before: live[15].Seq, Limit: 2, Oldest: oldest, Ordinary: ordinary})
			}
			for _, bytes := range []int{1, 7, 20, 50, 100, 1000} {
				check(chathub.Range{Limit: brokerAll, MaxBytes: bytes, Oldest: oldest, Ordinary: ordinary})
				check(chathub.Range{After: live[5].Seq, Before: live[12].Seq, Limit: 4, MaxBytes: bytes, Oldest: oldest, Ordinary: ordinary})
			}
		}
	}

	// Reading page by page returns everything once, in both directions.
	var forward, backward []chathub.Message
	for r := (chathub.Range{Limit: 3, Oldest: true}); ; r.After = forward[len(forward)-1].Seq {
		page := here.read(topic, r)
		if forward = append(forward, page.Messages...); !page.More || len(page.Messages) == 0 {
			break
		}
	}
	b.equal("page by page, forward", forward, log)
	for r := (chathub.Range{Limit: 3}); ; r.Before = backward[0].Seq {
		page := here.read(topic, r)
		if backward = append(slices.Clone(page.Messages), backward...); !page.More || len(page.Messages) == 0 {
			break
		}
	}
	b.equal("page by page, backward", backward, log)
}

func testBrokerNamesRemove(b *brokerTest) {
	topic := b.room("remove")
	here, there := b.attach(), b.attach()
	there.subscribe(topic)
	both := chathub.NameQuery{Topic: topic, Names: []string{"state/a", "state/b"}}
	first := here.store(named(topic, "state/a", "first"))
	other := here.store(named(topic, "state/b", "other"))
	b.equal("names", there.readNamed(both), []chathub.Message{first, other})
	m := named(topic, "state/a", "removed")
	m.Remove = true
	removed := there.store(m)
	b.equal("names without the removed one", here.readNamed(both), []chathub.Message{other})
	b.equal("names of the kind", here.readNamed(chathub.NameQuery{Topic: topic, Kind: "state"}), []chathub.Message{other})
	all := chathub.Range{Limit: brokerAll}
	b.equal("page", there.read(topic, all).Messages, []chathub.Message{other, removed})
	b.equal("page after the name", there.read(topic, chathub.Range{After: other.Seq, Limit: 1}).Messages, []chathub.Message{removed})

	m = named(topic, "state/a", "again")
	m.Expect = &first.Seq
	r, err := here.Publish(here.ctx, m)
	b.conflict("a name that was removed", r, err)
	m.Expect = &removed.Seq
	r, err = here.Publish(here.ctx, m)
	b.conflict("the removal of a name", r, err)
	m.Expect = new(uint64)
	again := here.store(m)
	b.equal("names", there.readNamed(both), []chathub.Message{other, again})
	page := there.read(topic, all).Messages
	isRemoval := func(m chathub.Message) bool { return m.Remove } // which may be there or not
	b.equal("page", slices.DeleteFunc(page, isRemoval), []chathub.Message{other, again})
	never := named(topic, "state/never", "")
	never.Remove = true
	removedNever := here.store(never)
	b.equal("delivered", there.await(topic, removedNever.Key), []chathub.Message{first, other, removed, again, removedNever})
}

// testBrokerNamesExpect checks compare and set, by one and by two at once.
func testBrokerNamesExpect(b *brokerTest) {
	topic := b.room("expect")
	hubs := []*brokerHub{b.attach(), b.attach()}
	hubs[0].subscribe(topic)
	const name = "state/a"
	expect := func(seq uint64) chathub.Message {
		m := named(topic, name, fmt.Sprint("after ", seq))
		m.Expect = &seq
		return m
	}
	var live []chathub.Message
	wrong := func(seq uint64) {
		b.Helper()
		m := expect(seq)
		m.Key = rand.Text()
		r, err := hubs[0].Publish(hubs[0].ctx, m)
		b.conflict(fmt.Sprintf("Publish with Expect %d", seq), r, err)
		// Nothing of it is remembered.
		live = append(live, hubs[1].store(chathub.Message{Topic: topic, Key: m.Key}))
	}
	wrong(1)
	live = append(live, hubs[0].store(expect(0)))
	first := live[len(live)-1]
	wrong(0)
	wrong(first.Seq + 1)
	live = append(live, hubs[1].store(expect(first.Seq)))
	wrong(first.Seq)
	live = append(live, hubs[0].store(named(topic, name, "any")))
	live = append(live, hubs[0].store(named(topic, "state/b", "another name")))

	newest := live[len(live)-2]
	for round := range 20 {
		receipts, errs := make([]chathub.Receipt, 4), make([]error, 4)
		messages := make([]chathub.Message, len(receipts))
		var wg sync.WaitGroup
		for i := range messages {
			messages[i] = expect(newest.Seq)
			messages[i].Key = rand.Text()
			wg.Go(func() { receipts[i], errs[i] = hubs[i%2].Publish(hubs[i%2].ctx, messages[i]) })
		}
		wg.Wait()
		won := slices.IndexFunc(errs, func(err error) bool { return err == nil })
		if won < 0 {
			b.Fatalf("round %d: nobody won: %v", round, errs)
		}
		for i := range messages {
			if i != won {
				b.conflict(fmt.Sprintf("round %d, which another has won", round), receipts[i], errs[i])
			}
		}
		newest = messages[won]
		newest.Seq, newest.Time = receipts[won].Seq, receipts[won].Time
		live = append(live, newest)
		b.equal("newest", hubs[round%2].readNamed(chathub.NameQuery{Topic: topic, Names: []string{name}}), []chathub.Message{newest})
	}
	live = append(live, hubs[1].say(topic, "last"))
	b.equal("delivered", hubs[0].await(topic, live[len(live)-1].Key), live)
	var log brokerLog
	log.add(live...)
	b.equal("page", hubs[1].read(topic, chathub.Range{Limit: brokerAll}).Messages, log)
}

// testBrokerNamesKeys repeats named messages. The key comes before Expect.
func testBrokerNamesKeys(b *brokerTest) {
	topic := b.room("keys")
	here, there := b.attach(), b.attach()
	here.subscribe(topic)
	m := named(topic, "state/a", "first")
	m.Sum, m.Expect = 1, new(uint64)
	first := here.store(m)
	second := here.store(named(topic, "state/a", "second"))
	m.Key = first.Key
	for _, h := range []*brokerHub{here, there} {
		if r, err := h.Publish(h.ctx, m); err != nil || !r.Duplicate || r.Seq != first.Seq || r.Time != first.Time {
			b.Errorf("repetition of a named message: %+v, %v; the first has %d, %d", r, err, first.Seq, first.Time)
		}
		other := m
		other.Sum = 2
		r, err := h.Publish(h.ctx, other)
		b.conflict("another message under the key", r, err)
		ordinary := chathub.Message{Topic: topic, Key: second.Key}
		if r, err := h.Publish(h.ctx, ordinary); err != nil || !r.Duplicate || r.Seq != second.Seq {
			b.Errorf("an ordinary message with the key of a named one: %+v, %v", r, err)
		}
	}
	last := there.say(topic, "last")
	b.equal("delivered", here.await(topic, last.Key), []chathub.Message{first, second, last})
	b.equal("page", there.read(topic, chathub.Range{Limit: brokerAll}).Messages, []chathub.Message{second, last})
}

// testBrokerNamesMany has as many names in a topic as a Broker must keep.
func testBrokerNamesMany(b *brokerTest) {
	const names, others, publishers = 10_000, 1000, 64
	topic := b.room("many")
	here, there := b.attach(), b.attach()
	log := make([]chathub.Message, names)
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := p; i < names; i += publishers {
				kind := "many"
				if i < others {
					kind = "manyothers"
				}
				m := named(topic, fmt.Sprint(kind, "/", i), fmt.Sprint(i))
				r, err := here.Publish(here.ctx, m)
				if err != nil {
					b.Errorf("Publish of name %d: %v", i, err)
					return
				}
				m.Seq, m.Time = r.Seq, r.Time
				log[i] = m
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		return
	}
	ordinary := here.say(topic, "ordinary")
	all := make([]string, 0, len(log))
	for _, m := range log {
		all = append(all, m.Name)
	}
	byKind := b.inOrder(slices.Clone(log[others:]))
	b.equal("names of a kind", there.readNamed(chathub.NameQuery{Topic: topic, Kind: "many"}), byKind)
	log = b.inOrder(log)
	var found []chathub.Message
	for some := range slices.Chunk(append(all, "many/unknown", "many/"), 2000) {
		found = append(found, there.readNamed(chathub.NameQuery{Topic: topic, Names: some})...)
	}
	b.equal("all names", b.inOrder(found), log)
	b.equal("page", there.read(topic, chathub.Range{Limit: brokerAll}).Messages, append(log[names-brokerAll+1:], ordinary))
	b.equal("page of ordinary ones", there.read(topic, chathub.Range{Limit: brokerAll, Ordinary: true}).Messages,
		[]chathub.Message{ordinary})
	b.equal("page of the oldest", there.read(topic, chathub.Range{Limit: brokerAll, Oldest: true}).Messages, log[:brokerAll])
}

// testBrokerNamesAny has names of any characters, and some that are none.
func testBrokerNamesAny(b *brokerTest) {
	topic, other := b.room("any"), chathub.Topic{User: "any-" + b.run}
	here, there := b.attach(), b.attach()
	var names []string
	for _, kind := range []string{"a", "ab", "abcdefghijklmnop"} {
		for _, rest := range []string{
			"a", "A", "a b", " a", "a ", "a.b", "a.", ".a", ".", "..", "*", "a.*", ">", "a.>", "$SYS", "_", "-", "/", "a/b", "a/",
			`\`, `"`, "'", "%2A", "=2A", "a\u00a0b", "\u00e9", "e\u0301", "💬", "👩\u200d👩\u200d👧", "日本", "\u202ea", "\ufeff", "\r\n", "\x00",
			strings.Repeat("x", 256), strings.Repeat("x", 255), strings.Repeat(".", 256), strings.Repeat("💬", 64),
		} {
			names = append(names, kind+"/"+rest)
		}
	}
	log := make([]chathub.Message, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			m := named(topic, name, name)
			r, err := here.Publish(here.ctx, m)
			if err != nil {
				b.Errorf("Publish of %+q: %v", name, err)
			}
			m.Seq, m.Time = r.Seq, r.Time
			log[i] = m
		})
	}
	wg.Wait()
	elsewhere := here.store(named(other, "a/a", "elsewhere"))
	for i, name := range names {
		b.equal(fmt.Sprintf("%+q", name), there.readNamed(chathub.NameQuery{Topic: topic, Names: []string{name}}), log[i:i+1])
	}
	found, err := there.ReadNamed(there.ctx, []chathub.NameQuery{
		{Topic: topic, Kind: "a"},
		{Topic: other, Kind: "a"},
		{Topic: topic, Kind: "abc"},
		{Topic: topic, Names: []string{"abc/a", "a/a"}},
		{Topic: b.room("unknown"), Kind: "a"},
		{Topic: chathub.Topic{Node: "node"}, Kind: "a"},
		{Kind: "a"},
		{Topic: topic, Names: names},
	})
	if err != nil || len(found) != 8 {
		b.Fatalf("ReadNamed: %d results, %v", len(found), err)
	}
	b.equal("kind a", found[0], b.inOrder(slices.Clone(log[:len(log)/3])))
	b.equal("another topic", found[1], []chathub.Message{elsewhere})
	b.equal("one of two names", found[3], log[:1])
	for _, i := range []int{2, 4, 5, 6} {
		b.equal(fmt.Sprint("nothing for query ", i), found[i], nil)
	}
	b.equal("all", found[7], b.inOrder(log))
	if p := there.read(b.room("unknown"), chathub.Range{Limit: 1}); p.Head.Epoch != "" {
		b.Errorf("ReadNamed made a log: %+v", p.Head)
	}

	head := there.read(topic, chathub.Range{}).Head
	for _, name := range []string{"a", "/a", "A/a", "a1/a", "a b/a", "é/a", "abcdefghijklmnopq/a", "a/" + strings.Repeat("x", 257), "a/\xff"} {
		if r, err := here.Publish(here.ctx, named(topic, name, "not a name")); err == nil {
			b.Errorf("Publish of the name %+q is not refused: %+v", name, r)
		}
	}
	if p := there.read(topic, chathub.Range{}).Head; p != head {
		b.Errorf("the head is %+v after names that are none, and was %+v", p, head)
	}
}

// testBrokerNamesTied reads names by the messages that they are tied to.
func testBrokerNamesTied(b *brokerTest) {
	const n = 20
	topic := b.room("tied")
	here, there := b.attach(), b.attach()
	var messages []chathub.Message
	var names brokerLog
	tie := func(kind string, to chathub.Message, body string) {
		m := named(topic, fmt.Sprint(kind, "/", to.Seq), body)
		m.Tied = to.Seq
		names.add(here.store(m))
	}
	for i := range n {
		messages = append(messages, here.say(topic, fmt.Sprint(i)))
	}
	for _, i := range []int{3, 9, 4, 5, n - 1, 0} {
		tie("m", messages[i], "first")
		tie("other", messages[i], "other")
	}
	tie("m", messages[9], "second")
	names.add(here.store(named(topic, "m/untied", "")))
	second := named(topic, "m/second", "also tied")
	second.Tied = messages[4].Seq
	names.add(here.store(second))
	seq := func(i int) uint64 { return messages[i].Seq }
	for _, q := range []chathub.NameQuery{
		{Kind: "m"},
		{Kind: "m", From: seq(4)}, // From alone says nothing
		{Kind: "m", To: seq(4)},
		{Kind: "m", From: seq(4), To: seq(9)},
		{Kind: "m", From: seq(4) + 1, To: seq(9) - 1},
		{Kind: "m", From: seq(9), To: seq(9)},
		{Kind: "m", From: seq(10), To: seq(12)},
		{Kind: "m", From: seq(9), To: seq(4)},
		{Kind: "m", From: seq(0), To: seq(n - 1)},
		{Kind: "m", From: 1, To: 1<<53 - 1},
		{Kind: "m", From: seq(n-1) + 1, To: 1<<53 - 1},
		{Kind: "other", From: seq(4), To: seq(9)},
		{Kind: "unknown", From: seq(4), To: seq(9)},
	} {
		q.Topic = topic
		var want []chathub.Message
		for _, m := range names {
			if strings.HasPrefix(m.Name, q.Kind+"/") && (q.To == 0 || m.Tied > 0 && q.From <= m.Tied && m.Tied <= q.To) {
				want = append(want, m)
			}
		}
		b.equal(fmt.Sprintf("%+v", q), there.readNamed(q), want)
	}
}

// testBrokerNamesStay has names that were published before more messages than a
// Broker must keep.
func testBrokerNamesStay(b *brokerTest) {
	const messages = 600
	topic := b.room("stay")
	here, there := b.attach(), b.attach()
	var names brokerLog
	for i := range 10 {
		names.add(here.store(named(topic, fmt.Sprint("state/", i%7), fmt.Sprint(i))))
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range messages / 10 {
				here.say(topic, "ordinary")
			}
		})
	}
	wg.Wait()
	b.equal("names", there.readNamed(chathub.NameQuery{Topic: topic, Kind: "state"}), names)
	page := there.read(topic, chathub.Range{Limit: 2 * messages, Oldest: true})
	b.equal("page", slices.DeleteFunc(page.Messages, func(m chathub.Message) bool { return m.Name == "" }), names)
	if n := len(page.Messages) - len(names); n > messages {
		b.Errorf("%d ordinary messages are read, want %d at most", n, messages)
	}
	m := named(topic, "state/3", "with the expected one")
	m.Expect = &names[slices.IndexFunc(names, func(m chathub.Message) bool { return m.Name == "state/3" })].Seq
	names.add(here.store(m))
	b.equal("names", there.readNamed(chathub.NameQuery{Topic: topic, Kind: "state"}), names)
}
