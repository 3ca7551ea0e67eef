package hubtest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"

	"github.com/chathub-go/chathub"
)

func testBrokerDuplicates(b *brokerTest) {
	topic, other := b.room("duplicates"), b.room("others")
	here, there := b.attach(), b.attach()
	here.subscribe(topic)
	there.subscribe(topic)
	first := here.say(topic, "first")
	second := here.say(topic, "second")
	for _, h := range []*brokerHub{here, there} {
		again, duplicate := h.publish(topic, first.Key, []byte("again"))
		if !duplicate || again.Seq != first.Seq || again.Time != first.Time {
			b.Errorf("receipt of a repetition: seq %d, time %d, duplicate %v; the first has %d, %d",
				again.Seq, again.Time, duplicate, first.Seq, first.Time)
		}
	}

	elsewhere, duplicate := here.publish(other, first.Key, first.Body)
	if duplicate {
		b.Error("the key of another topic makes a duplicate")
	}
	b.equal("other topic", here.read(other, chathub.Range{Limit: brokerAll}).Messages, []chathub.Message{elsewhere})

	log := []chathub.Message{first, second}
	for range 2 {
		m, duplicate := there.publish(topic, "", []byte("no key"))
		if duplicate {
			b.Error("no key makes a duplicate")
		}
		log = append(log, m)
	}
	last := there.say(topic, "last")
	log = append(log, last)
	b.equal("publisher", here.await(topic, last.Key), log)
	b.equal("other hub", there.await(topic, last.Key), log)
	b.equal("page", there.read(topic, chathub.Range{Limit: brokerAll}).Messages, log)
}

func testBrokerDuplicatesAtOnce(b *brokerTest) {
	topic := b.room("at-once")
	hubs := []*brokerHub{b.attach(), b.attach()}
	hubs[0].subscribe(topic)
	var log []chathub.Message
	for range 20 {
		key := rand.Text()
		results := make([]chathub.Message, 6)
		duplicates := make([]bool, len(results))
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() { results[i], duplicates[i] = hubs[i%len(hubs)].publish(topic, key, []byte(key)) })
		}
		wg.Wait()
		stored := 0
		for i, m := range results {
			if !duplicates[i] {
				stored++
				log = append(log, m)
			}
			if m.Seq != results[0].Seq || m.Time != results[0].Time {
				b.Errorf("one key has seq %d, time %d and seq %d, time %d", m.Seq, m.Time, results[0].Seq, results[0].Time)
			}
		}
		if stored != 1 {
			b.Fatalf("%d of %d receipts of one key are not duplicates", stored, len(results))
		}
	}
	log = append(log, hubs[1].say(topic, "last"))
	b.equal("delivered", hubs[0].await(topic, log[len(log)-1].Key), log)
}

func testBrokerConflicts(b *brokerTest) {
	topic, other := b.room("conflicts"), b.room("other-conflicts")
	here, there := b.attach(), b.attach()
	here.subscribe(topic)
	there.subscribe(topic)
	message := func(topic chathub.Topic, key string, sum uint64, body string) chathub.Message {
		return chathub.Message{Topic: topic, Key: key, Sum: sum, Body: []byte(body)}
	}
	store := func(m chathub.Message) chathub.Message {
		b.Helper()
		r, err := here.Publish(here.ctx, m)
		if err != nil || r.Duplicate {
			b.Fatalf("Publish(key %q, sum %d): %+v, %v", m.Key, m.Sum, r, err)
		}
		m.Seq, m.Time = r.Seq, r.Time
		return m
	}
	const sum = 1<<63 + 1
	known, unknown := store(message(topic, "known", sum, "known")), store(message(topic, "unknown", 0, "unknown"))
	for _, h := range []*brokerHub{here, there} {
		for _, c := range []struct {
			first chathub.Message
			sum   uint64
			body  string
			same  bool
		}{
			{known, sum, "known", true},
			{known, 1, "known", false},
			{known, sum - 1, "something else", false},
			{known, 0, "something else", true},
			{known, sum, "the sum decides, not the body", true},
			{unknown, 0, "unknown", true},
			{unknown, 1, "something else", true},
			{unknown, 2, "something else", true},
		} {
			r, err := h.Publish(h.ctx, message(topic, c.first.Key, c.sum, c.body))
			if !c.same {
				b.conflict(fmt.Sprintf("Publish(key %q, sum %d)", c.first.Key, c.sum), r, err)
			} else if err != nil || !r.Duplicate || r.Seq != c.first.Seq || r.Time != c.first.Time {
				b.Errorf("Publish(key %q, sum %d): %+v, %v; the first has %d, %d", c.first.Key, c.sum, r, err, c.first.Seq, c.first.Time)
			}
		}
	}
	elsewhere := store(message(other, "known", 1, "elsewhere"))
	b.equal("other topic", here.read(other, chathub.Range{Limit: brokerAll}).Messages, []chathub.Message{elsewhere})
	last := there.say(topic, "last")
	log := []chathub.Message{known, unknown, last}
	b.equal("publisher", here.await(topic, last.Key), log)
	b.equal("other hub", there.await(topic, last.Key), log)
	b.equal("page", there.read(topic, chathub.Range{Limit: brokerAll}).Messages, log)
}

func testBrokerConflictsAtOnce(b *brokerTest) {
	topic := b.room("conflicts-at-once")
	hubs := []*brokerHub{b.attach(), b.attach()}
	hubs[0].subscribe(topic)
	var log []chathub.Message
	for range 20 {
		key := rand.Text()
		receipts := make([]chathub.Receipt, 6)
		errs := make([]error, len(receipts))
		sum := func(i int) uint64 { return uint64(i%3 + 1) }
		var wg sync.WaitGroup
		for i := range receipts {
			wg.Go(func() {
				h := hubs[i%len(hubs)]
				receipts[i], errs[i] = h.Publish(h.ctx, chathub.Message{Topic: topic, Key: key, Sum: sum(i), Body: []byte{byte(i)}})
			})
		}
		wg.Wait()
		first := slices.IndexFunc(receipts, func(r chathub.Receipt) bool { return r.Seq > 0 && !r.Duplicate })
		if first < 0 {
			b.Fatalf("nothing was stored under a key: %+v, %v", receipts, errs)
		}
		log = append(log, chathub.Message{Topic: topic, Key: key, Body: []byte{byte(first)}, Seq: receipts[first].Seq, Time: receipts[first].Time})
		for i, r := range receipts {
			switch {
			case i == first:
			case sum(i) != sum(first):
				b.conflict("another message at once", r, errs[i])
			case errs[i] != nil || !r.Duplicate || r.Seq != receipts[first].Seq || r.Time != receipts[first].Time:
				b.Errorf("the same message at once: %+v, %v; the first has %+v", r, errs[i], receipts[first])
			}
		}
	}
	log = append(log, hubs[1].say(topic, "last"))
	b.equal("delivered", hubs[0].await(topic, log[len(log)-1].Key), log)
}
