package hubtest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"

	"github.com/chathub-go/chathub"
)

func (h *brokerHub) survey(queries ...chathub.SurveyQuery) []chathub.Standing {
	h.t.Helper()
	standings, err := h.Survey(h.ctx, queries)
	if err != nil || len(standings) != len(queries) {
		h.t.Fatalf("Survey of %d topics: %d results, %v", len(queries), len(standings), err)
	}
	return standings
}

// erasure returns a message that erases another one.
func erasure(of chathub.Message) chathub.Message {
	m := named(of.Topic, fmt.Sprint("m/", of.Seq), "erased")
	m.Tied, m.Erase = of.Seq, true
	return m
}

func testBrokerErase(b *brokerTest) {
	for _, topic := range []chathub.Topic{b.room("erase"), {User: "erase-" + b.run}} {
		here, there, away := b.attach(), b.attach(), b.attach()
		here.subscribe(topic)
		there.subscribe(topic)
		var messages []chathub.Message
		for i := range 6 {
			m := chathub.Message{Topic: topic, Owner: "ana", Body: []byte(fmt.Sprint("secret ", i))}
			messages = append(messages, here.store(m))
		}
		live := slices.Clone(messages)
		there.await(topic, messages[5].Key)
		all := chathub.Range{Limit: brokerAll}
		before := away.read(topic, all)
		check := func(log brokerLog, unread int, last chathub.Message) {
			b.Helper()
			for _, h := range []*brokerHub{here, there, away} {
				for _, r := range []chathub.Range{
					all,
					{After: messages[1].Seq, Limit: brokerAll}, // before the erased ones
					{After: messages[2].Seq, Limit: brokerAll},
					{Limit: 2, Oldest: true},
					{Before: messages[4].Seq, Limit: 2},
					{Limit: 2, Ordinary: true},
				} {
					b.checkPage(h.read(topic, r), log, r)
				}
				s := h.survey(chathub.SurveyQuery{Topic: topic, Reader: "bob", Most: 100, Last: true})[0]
				if s.Unread != unread || s.Head.Seq != log[len(log)-1].Seq {
					b.Errorf("%+v: %d unread at %d, want %d", topic, s.Unread, s.Head.Seq, unread)
				}
				b.equal("last", []chathub.Message{s.Last}, []chathub.Message{last})
			}
		}
		check(messages, 6, messages[5])

		// A change keeps the message, and an erasure that fails erases nothing.
		change := named(topic, fmt.Sprint("m/", messages[2].Seq), "changed")
		change.Tied = messages[2].Seq
		changed := there.store(change)
		failing := erasure(messages[2])
		failing.Expect = new(uint64)
		r, err := there.Publish(there.ctx, failing)
		b.conflict("an erasure of what has changed", r, err)
		live = append(live, changed)
		check(live, 6, messages[5])

		expected := erasure(messages[2])
		expected.Expect = &changed.Seq
		erased := []chathub.Message{there.store(expected), here.store(erasure(messages[5]))}
		live = append(live, erased...)
		check(brokerLog{messages[0], messages[1], messages[3], messages[4], erased[0], erased[1]}, 4, messages[4])

		again := here.store(erasure(messages[5]))
		last := there.say(topic, "last")
		live = append(live, again, last)
		check(brokerLog{messages[0], messages[1], messages[3], messages[4], erased[0], again, last}, 5, last)
		b.equal("names", away.readNamed(chathub.NameQuery{Topic: topic, Kind: "m", From: messages[2].Seq, To: messages[5].Seq}),
			[]chathub.Message{erased[0], again})
		if r, err := away.Publish(away.ctx, messages[5]); err != nil || !r.Duplicate || r.Seq != messages[5].Seq {
			b.Errorf("repetition of an erased message: %+v, %v", r, err)
		}
		for i, h := range []*brokerHub{here, there} {
			b.equal(fmt.Sprint("delivered to hub ", i), h.await(topic, last.Key), live)
		}
		b.equal("a page from before", before.Messages, messages) // a body must not change
	}
}

func testBrokerSurvey(b *brokerTest) {
	for _, topic := range []chathub.Topic{b.room("survey"), {User: "survey-" + b.run}} {
		here, there := b.attach(), b.attach()
		none := here.survey(chathub.SurveyQuery{Topic: topic, Most: 1, Last: true})[0]
		if none.Head.Seq != 0 || none.Unread != 0 || none.Last.Seq != 0 {
			b.Errorf("%+v: %+v, before there is a log", topic, none)
		}
		if p := here.read(topic, chathub.Range{Limit: 1}); p.Head.Epoch != "" {
			b.Errorf("Survey made a log: %+v", p.Head)
		}
		var log []chathub.Message // those that count
		var all []chathub.Message
		put := func(m chathub.Message, counts bool) {
			m.Topic = topic
			m = here.store(m)
			all = append(all, m)
			if counts {
				log = append(log, m)
			}
		}
		for i, owner := range []string{"ana", "bob", "", "cid", "ana", "ana", "", "bob", "cid", "ana"} {
			put(chathub.Message{Owner: owner, Body: []byte(fmt.Sprint(i))}, true)
			put(chathub.Message{Owner: owner, Body: []byte("notice"), Notice: true}, false)
			put(chathub.Message{Owner: owner, Body: []byte("named"), Name: "state/a"}, false)
			put(chathub.Message{Owner: owner, Body: []byte("removed"), Name: "state/b", Remove: true}, false)
		}
		for _, i := range []int{3, 7, 9} {
			all = append(all, here.store(erasure(log[i])))
			log[i].Seq = 0
		}
		log = slices.DeleteFunc(log, func(m chathub.Message) bool { return m.Seq == 0 })
		head := there.read(topic, chathub.Range{}).Head
		if head.Seq != all[len(all)-1].Seq {
			b.Errorf("head %d, want %d", head.Seq, all[len(all)-1].Seq)
		}
		var queries []chathub.SurveyQuery
		for i, m := range all {
			before := uint64(0)
			if i%3 > 0 {
				before = all[min(len(all)-1, i+2*i%7)].Seq + uint64(i%2)
			}
			for _, reader := range []string{"ana", "bob", "nobody"} {
				for _, from := range []string{"", "ana", "cid"} {
					queries = append(queries, chathub.SurveyQuery{Topic: topic, After: m.Seq, Before: before, Reader: reader, From: from, Most: 1 + i%4*50, Last: i%2 == 0})
				}
			}
		}
		queries = append(queries,
			chathub.SurveyQuery{Topic: topic},
			chathub.SurveyQuery{Topic: topic, Reader: "ana", Most: 100},
			chathub.SurveyQuery{Topic: topic, Reader: "ana", Most: 2},
			chathub.SurveyQuery{Topic: topic, After: head.Seq + 1000, Reader: "ana", Most: 100, Last: true},
		)
		for i, s := range there.survey(queries...) {
			q := queries[i]
			unread := 0
			for _, m := range log {
				if m.Seq > q.After && (q.Before == 0 || m.Seq < q.Before) && m.Owner != q.Reader && (q.From == "" || m.Owner == q.From) && unread < q.Most {
					unread++
				}
			}
			if s.Unread != unread || s.Head != head {
				b.Fatalf("Survey(%+v): %d unread at %+v, want %d at %+v", q, s.Unread, s.Head, unread, head)
			}
			var last []chathub.Message
			if s.Last.Seq != 0 {
				last = append(last, s.Last)
			}
			var want []chathub.Message
			if q.Last {
				want = log[len(log)-1:]
			}
			b.equal(fmt.Sprintf("last of %+v", q), last, want)
		}
	}
}

// testBrokerSurveyMany asks about many topics at once.
func testBrokerSurveyMany(b *brokerTest) {
	const topics = 300
	here, there := b.attach(), b.attach()
	logs := make([][]chathub.Message, topics)
	queries := make([]chathub.SurveyQuery, topics)
	var wg sync.WaitGroup
	for i := range topics {
		topic := chathub.Topic{User: fmt.Sprint("many-", i, "-", b.run)}
		if i%2 == 0 {
			topic = b.room(fmt.Sprint("many-", i))
		}
		queries[i] = chathub.SurveyQuery{Topic: topic, Reader: "bob", Most: 3, Last: true}
		wg.Go(func() {
			for n := range i % 5 {
				m := chathub.Message{Topic: topic, Key: rand.Text(), Owner: "ana", Body: []byte(fmt.Sprint(i, n))}
				r, err := here.Publish(here.ctx, m)
				if err != nil {
					b.Errorf("Publish: %v", err)
					return
				}
				b.sameEpoch(topic, r.Epoch)
				m.Seq, m.Time = r.Seq, r.Time
				logs[i] = append(logs[i], m)
			}
		})
	}
	wg.Wait()
	queries = append(queries, chathub.SurveyQuery{Most: 1, Last: true},
		chathub.SurveyQuery{Topic: chathub.Topic{Node: "node"}, Most: 1, Last: true})
	for i, s := range there.survey(queries...) {
		if i >= topics || len(logs[i]) == 0 {
			if s.Head.Seq != 0 || s.Unread != 0 || s.Last.Seq != 0 {
				b.Errorf("%+v without messages: %+v", queries[i].Topic, s)
			}
			continue
		}
		last := logs[i][len(logs[i])-1]
		b.sameEpoch(last.Topic, s.Head.Epoch)
		if s.Head.Seq != last.Seq || s.Unread != min(3, len(logs[i])) {
			b.Errorf("%+v: %d unread at %d, want %d at %d", last.Topic, s.Unread, s.Head.Seq, min(3, len(logs[i])), last.Seq)
		}
		b.equal("last", []chathub.Message{s.Last}, []chathub.Message{last})
	}
	there.survey() // nothing
}
