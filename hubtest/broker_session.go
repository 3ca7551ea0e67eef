package hubtest

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
)

func testBrokerSend(b *brokerTest) {
	topic := b.room("send")
	sender, member, outsider := b.attach(), b.attach(), b.attach()
	sender.send(topic, "nobody is there")
	if p := sender.read(topic, chathub.Range{Limit: brokerAll}); p.Head.Epoch != "" {
		b.Errorf("Send made a log: head %+v", p.Head)
	}
	member.subscribe(topic)
	var sent []chathub.Message
	for i := range 50 {
		sent = append(sent, sender.send(topic, fmt.Sprint(i)))
	}
	b.equal("member", member.await(topic, sent[len(sent)-1].Key), sent)

	outsider.subscribe(topic)
	kept := sender.say(topic, "kept")
	b.equal("outsider", outsider.await(topic, kept.Key), []chathub.Message{kept})
	b.equal("page", sender.read(topic, chathub.Range{Limit: brokerAll}).Messages, []chathub.Message{kept})
	if _, duplicate := sender.publish(topic, sent[0].Key, nil); duplicate {
		b.Error("the key of a message that was only sent makes a duplicate")
	}
}

func testBrokerSendEveryone(b *brokerTest) {
	var everyone chathub.Topic
	hubs := []*brokerHub{b.attach(), b.attach(), b.attach()}
	hubs[0].subscribe(b.room("one"))
	var sent []chathub.Message
	for i := range 50 {
		sent = append(sent, hubs[0].send(everyone, fmt.Sprint(i)))
	}
	for i, h := range hubs {
		b.equal(fmt.Sprintf("hub %d", i), h.await(everyone, sent[len(sent)-1].Key), sent)
	}
	if _, err := hubs[0].Publish(hubs[0].ctx, chathub.Message{Key: rand.Text(), Body: []byte("kept?")}); err == nil {
		b.Error("Publish to Topic{} is not refused")
	}
	if _, err := hubs[0].Subscribe(hubs[0].ctx, everyone); err == nil {
		b.Error("Subscribe of Topic{} is not refused")
	}
}

// testBrokerSendNode sends messages between hubs, by the topics of their nodes,
// which have no log.
func testBrokerSendNode(b *brokerTest) {
	one, two := b.attach(), b.attach()
	to := func(name string) chathub.Topic { return chathub.Topic{Node: name + "-" + b.run} }
	first, second, other := to("one"), to("two"), to("nobody")
	one.send(first, "nobody is there")
	for h, topic := range map[*brokerHub]chathub.Topic{one: first, two: second} {
		for range 2 {
			if p, err := h.Subscribe(h.ctx, topic); err != nil || p != (chathub.Position{}) {
				b.Fatalf("Subscribe(%v): %+v, %v, want no position", topic, p, err)
			}
		}
	}
	room := chathub.Topic{Room: second.Node} // with the same name
	two.subscribe(room)
	var sent []chathub.Message
	for i := range 50 {
		sent = append(sent, one.send(second, fmt.Sprint(i)))
		one.send(other, fmt.Sprint(i))
	}
	b.equal("node", two.await(second, sent[len(sent)-1].Key), sent)
	answer := two.send(first, "answer")
	b.equal("asker", one.await(first, answer.Key), []chathub.Message{answer})
	b.equal("room of the same name", two.received(room), nil)

	if _, err := one.Publish(one.ctx, chathub.Message{Topic: second, Key: rand.Text(), Body: []byte("kept?")}); err == nil {
		b.Error("Publish to a node is not refused")
	}
	if p, err := one.Read(one.ctx, second, chathub.Range{Limit: brokerAll}); err != nil || len(p.Messages) > 0 || p.Head.Epoch != "" {
		b.Errorf("Read of a node: %+v, %v", p, err)
	}
	two.unsubscribe(second)
	one.send(second, "left")
	one.say(b.room("after"), "once this is kept, that was sent")
	if _, err := two.Subscribe(two.ctx, second); err != nil {
		b.Fatalf("Subscribe(%v): %v", second, err)
	}
	back := one.send(second, "back")
	b.equal("node that came back", two.await(second, back.Key), append(sent, back))
}

// testBrokerStitch subscribes hubs while messages are published. For each hub,
// the page up to its position and the delivered messages are the whole log.
func testBrokerStitch(b *brokerTest) {
	const messages, every = 300, 20
	topic := b.room("stitch")
	publisher := b.attach()
	hubs := make([]*brokerHub, messages/every)
	positions := make([]chathub.Position, len(hubs))
	for i := range hubs {
		hubs[i] = b.attach()
	}
	var log []chathub.Message
	var wg sync.WaitGroup
	for i := range messages {
		if at := i / every; i%every == 0 {
			wg.Go(func() {
				p, err := hubs[at].Subscribe(hubs[at].ctx, topic)
				if err != nil {
					b.Errorf("Subscribe: %v", err)
				}
				positions[at] = p
			})
		}
		log = append(log, publisher.say(topic, fmt.Sprint(i)))
	}
	wg.Wait()
	log = b.inOrder(append(log, publisher.say(topic, "last")))
	epoch := publisher.read(topic, chathub.Range{}).Head.Epoch
	for i, h := range hubs {
		live := h.await(topic, log[messages].Key)
		p := positions[i]
		if p.Epoch == "" || p.Epoch != epoch {
			b.Errorf("hub %d: epoch %q, and %q in a page", i, p.Epoch, epoch)
		}
		for _, m := range live {
			if m.Seq <= p.Seq {
				b.Fatalf("hub %d: delivered seq %d, not after the position %d", i, m.Seq, p.Seq)
			}
		}
		page := h.read(topic, chathub.Range{Before: p.Seq + 1, Limit: brokerAll})
		b.equal(fmt.Sprintf("hub %d: page up to %d and %d delivered", i, p.Seq, len(live)), append(page.Messages, live...), log)
	}
}

func testBrokerSubscribeTwice(b *brokerTest) {
	topic := b.room("twice")
	h := b.attach()
	first := h.subscribe(topic)
	one := h.say(topic, "one")
	if first.Seq >= one.Seq {
		b.Errorf("position %d before the first message, which has seq %d", first.Seq, one.Seq)
	}
	if p := h.subscribe(topic); p.Seq != one.Seq || p.Epoch != first.Epoch {
		b.Errorf("second Subscribe: %+v, want seq %d in epoch %s", p, one.Seq, first.Epoch)
	}
	two := h.say(topic, "two")
	last := h.say(topic, "last")
	b.equal("delivered", h.await(topic, last.Key), []chathub.Message{one, two, last})

	// One Unsubscribe undoes both calls.
	h.unsubscribe(topic)
	h.say(topic, "missed")
	h.subscribe(topic)
	after := h.say(topic, "after")
	b.equal("delivered", h.await(topic, after.Key), []chathub.Message{one, two, last, after})
}

// testBrokerEmptyLog has a hub leave a log without a message and come back: the
// position that it had is still good.
func testBrokerEmptyLog(b *brokerTest) {
	topic := b.room("empty")
	h, other := b.attach(), b.attach()
	first := h.subscribe(topic)
	h.unsubscribe(topic)
	again := h.subscribe(topic) // which checks the epoch
	if again.Seq < first.Seq {
		b.Errorf("position %d on return, and it was %d", again.Seq, first.Seq)
	}
	h.unsubscribe(topic)
	missed := other.say(topic, "missed")
	page := h.read(topic, chathub.Range{After: first.Seq, Limit: brokerAll})
	b.equal("missed", page.Messages, []chathub.Message{missed})
	if page.Trimmed > first.Seq {
		b.Errorf("trimmed to %d, though nothing after %d was dropped", page.Trimmed, first.Seq)
	}
	if p := h.subscribe(topic); p.Seq != missed.Seq {
		b.Errorf("position %d after a message, want %d", p.Seq, missed.Seq)
	}
	last := other.say(topic, "last")
	b.equal("delivered", h.await(topic, last.Key), []chathub.Message{last})
}

func testBrokerUnsubscribe(b *brokerTest) {
	topic, never := b.room("unsubscribe"), b.room("never")
	h, other := b.attach(), b.attach()
	h.unsubscribe(never)
	h.subscribe(topic)
	other.subscribe(topic)
	one := other.say(topic, "one")
	h.await(topic, one.Key)
	h.unsubscribe(topic)
	h.unsubscribe(topic)
	two := h.say(topic, "two") // a hub need not subscribe to publish
	other.send(topic, "sent")
	three := other.say(topic, "three")
	other.await(topic, three.Key)
	if p := h.subscribe(topic); p.Seq != three.Seq {
		b.Errorf("position %d on return, want %d", p.Seq, three.Seq)
	}
	four := other.say(topic, "four")
	b.equal("delivered", h.await(topic, four.Key), []chathub.Message{one, four})
	page := h.read(topic, chathub.Range{After: one.Seq, Before: four.Seq, Limit: brokerAll})
	b.equal("missed", page.Messages, []chathub.Message{two, three})
}

// testBrokerUnsubscribeLoad subscribes and unsubscribes again and again while
// messages are published. In each stay, the hub receives the messages after its
// position without a gap, and no others.
func testBrokerUnsubscribeLoad(b *brokerTest) {
	const messages, stays = 300, 30
	topic := b.room("coming-and-going")
	h, publisher := b.attach(), b.attach()
	var log []chathub.Message
	var wg sync.WaitGroup
	arrived := make(chan struct{}, stays) // never blocks
	wg.Go(func() {
		for i := range messages {
			if i%(messages/stays) == 0 {
				<-arrived
			}
			log = append(log, publisher.say(topic, fmt.Sprint(i)))
		}
	})
	defer wg.Wait()
	defer close(arrived)

	type stay struct {
		position chathub.Position
		from, to int // the range in the delivered messages
	}
	var all []stay
	for i := range stays {
		s := stay{from: len(h.received(topic))}
		s.position = h.subscribe(topic)
		arrived <- struct{}{}
		if i%2 == 0 { // otherwise, leave while messages arrive
			h.awaitThat(topic, func(got []chathub.Message) bool { return len(got) > s.from })
		}
		h.unsubscribe(topic)
		s.to = len(h.received(topic))
		all = append(all, s)
	}
	wg.Wait()
	h.subscribe(topic)
	after := publisher.say(topic, "after")
	got := h.await(topic, after.Key)
	b.equal("after the last stay", got[all[stays-1].to:], []chathub.Message{after})
	for i, s := range all {
		if i > 0 && s.from != all[i-1].to {
			b.Fatalf("%d messages were delivered between stays %d and %d", s.from-all[i-1].to, i-1, i)
		}
		begin, _ := slices.BinarySearchFunc(log, s.position.Seq+1, func(m chathub.Message, seq uint64) int {
			return cmp.Compare(m.Seq, seq)
		})
		live := got[s.from:s.to]
		b.equal(fmt.Sprintf("stay %d, from %d", i, s.position.Seq), live, log[begin:min(begin+len(live), len(log))])
	}
}

// testBrokerLeave unsubscribes and closes hubs while a message of their topic
// is being delivered to another hub.
func testBrokerLeave(b *brokerTest) {
	topic := b.room("leave")
	slow, entered, release := b.attachBlocking()
	leaver, closer, publisher := b.attach(), b.attach(), b.attach()
	for _, h := range []*brokerHub{slow, leaver, closer} {
		h.subscribe(topic)
	}
	var log []chathub.Message
	var wg sync.WaitGroup
	defer wg.Wait()
	defer release()
	wg.Go(func() { log = append(log, publisher.say(topic, "first")) })
	b.wait(entered)
	closer.end()

	// Unsubscribe may wait for that delivery, or give up when ctx ends.
	ctx, cancel := context.WithTimeout(leaver.ctx, 20*time.Millisecond)
	defer cancel()
	before := 0
	var position chathub.Position // the zero value: still subscribed
	if err := leaver.Unsubscribe(ctx, topic); err != nil {
		b.unavailable("Unsubscribe", err)
	} else {
		before = len(leaver.received(topic))
		position = leaver.subscribe(topic)
	}
	release()
	wg.Wait()
	log = append(log, publisher.say(topic, "last"))
	got := leaver.await(topic, log[1].Key)
	want := slices.DeleteFunc(log, func(m chathub.Message) bool { return m.Seq <= position.Seq })
	b.equal("after Unsubscribe", got[before:], want)
}

func testBrokerContext(b *brokerTest) {
	topic, other := b.room("context"), b.room("other")
	h := b.attach()
	h.subscribe(topic)
	ended, cancel := context.WithCancel(b.Context())
	cancel()
	m := chathub.Message{Topic: topic, Key: rand.Text(), Body: []byte("too late")}
	_, err := h.Publish(ended, m)
	b.unavailable("Publish", err)
	b.unavailable("Send", h.Send(ended, m))
	b.unavailable("Send to everyone", h.Send(ended, chathub.Message{Key: m.Key}))
	_, err = h.Subscribe(ended, other)
	b.unavailable("Subscribe", err)
	_, err = h.Read(ended, topic, chathub.Range{Limit: 1})
	b.unavailable("Read", err)
	_, err = h.ReadNamed(ended, []chathub.NameQuery{{Topic: topic, Kind: "state"}})
	b.unavailable("ReadNamed", err)
	_, err = h.Survey(ended, []chathub.SurveyQuery{{Topic: topic}})
	b.unavailable("Survey", err)
	b.unavailable("Unsubscribe", h.Unsubscribe(ended, topic))
	_, err = b.broker.Attach(ended, func(chathub.Message) { b.Error("deliver without a session") })
	b.unavailable("Attach", err)

	// None of these calls had an effect.
	again, duplicate := h.publish(topic, m.Key, []byte("in time"))
	if duplicate {
		b.Error("the key of a message that was refused is remembered")
	}
	b.equal("still subscribed", h.await(topic, again.Key), []chathub.Message{again})
	b.equal("page", h.read(topic, chathub.Range{Limit: brokerAll}).Messages, []chathub.Message{again})
	h.say(other, "not subscribed")
	h.subscribe(other)
	last := h.say(other, "subscribed")
	b.equal("other topic", h.await(other, last.Key), []chathub.Message{last})
	everyone := h.send(chathub.Topic{}, "everyone")
	b.equal("everyone", h.await(chathub.Topic{}, everyone.Key), []chathub.Message{everyone})
}

func testBrokerClose(b *brokerTest) {
	topic := b.room("close")
	h, other := b.attach(), b.attach()
	h.subscribe(topic)
	other.subscribe(topic)
	before := h.say(topic, "before")
	h.await(topic, before.Key)
	h.end()
	h.end()

	_, err := h.Publish(h.ctx, chathub.Message{Topic: topic, Key: rand.Text(), Body: []byte("closed")})
	b.unavailable("Publish", err)
	b.unavailable("Send", h.Send(h.ctx, chathub.Message{Topic: topic}))
	_, err = h.Subscribe(h.ctx, topic)
	b.unavailable("Subscribe", err)
	b.unavailable("Unsubscribe", h.Unsubscribe(h.ctx, topic))
	_, err = h.Read(h.ctx, topic, chathub.Range{Limit: 1})
	b.unavailable("Read", err)
	_, err = h.ReadNamed(h.ctx, []chathub.NameQuery{{Topic: topic, Kind: "state"}})
	b.unavailable("ReadNamed", err)
	_, err = h.Survey(h.ctx, []chathub.SurveyQuery{{Topic: topic}})
	b.unavailable("Survey", err)

	everyone := other.send(chathub.Topic{}, "everyone")
	other.await(chathub.Topic{}, everyone.Key)
	after := other.say(topic, "after")
	b.equal("other hub", other.await(topic, after.Key), []chathub.Message{before, after})
	next := b.attach()
	next.subscribe(topic)
	last := next.say(topic, "last")
	b.equal("next hub", next.await(topic, last.Key), []chathub.Message{last})
	b.equal("closed hub", h.received(topic), []chathub.Message{before})
}

// testBrokerCloseLoad closes all hubs but one while messages are published.
func testBrokerCloseLoad(b *brokerTest) {
	const messages = 200
	topic := b.room("closing")
	stays := b.attach()
	stays.subscribe(topic)
	hubs := make([]*brokerHub, 10)
	for i := range hubs {
		hubs[i] = b.attach()
		hubs[i].subscribe(topic)
	}
	var log []chathub.Message
	var wg sync.WaitGroup
	for i := range messages {
		if at := i / (messages / len(hubs)); i%(messages/len(hubs)) == 0 {
			wg.Go(hubs[at].end)
		}
		stays.send(chathub.Topic{}, fmt.Sprint(i))
		log = append(log, stays.say(topic, fmt.Sprint(i)))
	}
	wg.Wait()
	log = append(log, stays.say(topic, "last"))
	b.equal("hub that stays", stays.await(topic, log[messages].Key), log)
	for i, h := range hubs {
		got := h.received(topic)
		b.equal(fmt.Sprintf("closed hub %d", i), got, log[:min(len(got), len(log))])
	}
}

func testBrokerCloseWaits(b *brokerTest) {
	topic := b.room("close-waits")
	h, entered, release := b.attachBlocking()
	h.subscribe(topic)
	other := b.attach()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer release()
	wg.Go(func() { other.say(topic, "blocked") })
	b.wait(entered)

	// Close must not return nil while deliver is running.
	ctx, cancel := context.WithTimeout(h.ctx, 20*time.Millisecond)
	defer cancel()
	b.unavailable("Close while deliver runs", h.Close(ctx))
	release()
	h.end()
	if len(h.received(topic)) != 1 {
		b.Error("Close returned while deliver was running")
	}
}

func testBrokerBlocked(b *brokerTest) {
	blocked, free := b.room("blocked"), b.room("free")
	slow, entered, release := b.attachBlocking()
	other := b.attach()
	slow.subscribe(blocked)
	other.subscribe(free)
	var log []chathub.Message
	var wg sync.WaitGroup
	defer wg.Wait()
	defer release()
	wg.Go(func() {
		for i := range 5 {
			log = append(log, other.say(blocked, fmt.Sprint(i)))
		}
	})
	b.wait(entered)
	var passed []chathub.Message
	for i := range 20 {
		passed = append(passed, other.say(free, fmt.Sprint(i)))
	}
	b.equal("free topic", other.await(free, passed[len(passed)-1].Key), passed)
	b.equal("page of the free topic", slow.read(free, chathub.Range{Limit: brokerAll}).Messages, passed)
	release()
	wg.Wait()
	b.equal("blocked topic", slow.await(blocked, log[len(log)-1].Key), log)
}
