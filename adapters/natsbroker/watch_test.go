package natsbroker_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestMissed checks that a node whose connection was lost receives the messages
// that it has missed, even if no other message follows.
func TestMissed(t *testing.T) {
	s := serve(t)
	link := newLink(t, s.Addr().String())
	away, here := attach(t, connect(t, link.url())), attach(t, connect(t, s.ClientURL()))
	topics := make([]chathub.Topic, 50)
	for i := range topics {
		topics[i] = room(fmt.Sprintf("room %d", i))
		away.subscribe(topics[i])
	}
	link.cut()
	if err := awaitDown(away, topics[0]); err == nil {
		t.Error("the connection is not gone")
	}
	want := make(map[chathub.Topic][]string)
	last := make(map[chathub.Topic]uint64)
	for i := range 1000 {
		topic := topics[i*i%len(topics)]
		last[topic] = here.say(topic, numbered(i)).Seq
		want[topic] = append(want[topic], numbered(i))
	}
	link.heal()
	for topic, seq := range last {
		if got := bodies(away.until(topic, seq)); !slices.Equal(got, want[topic]) {
			t.Errorf("%v: %v, want %v", topic, got, want[topic])
		}
	}
}

// TestSilence checks that a node notices a network that drops everything, and
// receives the messages that it has missed when the network works again.
func TestSilence(t *testing.T) {
	s := serve(t)
	link := newLink(t, s.Addr().String())
	away, here := attach(t, connect(t, link.url())), attach(t, connect(t, s.ClientURL()))
	topic := room("lobby")
	away.subscribe(topic)
	want := []string{"before"}
	here.say(topic, "before")
	link.freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	m := chathub.Message{Topic: topic, Key: "k", Body: []byte("uncertain")}
	_, err := away.Publish(ctx, m)
	wantUnavailable(t, "Publish", err)
	if err := awaitDown(away, topic); err != nil {
		wantUnavailable(t, "Send", err)
	}
	for i := range 20 {
		here.say(topic, numbered(i))
		want = append(want, numbered(i))
	}
	link.heal()
	var r chathub.Receipt
	for r.Seq == 0 {
		if r, err = away.Publish(t.Context(), m); err != nil {
			wantUnavailable(t, "Publish", err)
		}
	}
	last := here.say(topic, "last").Seq
	log := here.read(topic, chathub.Range{Limit: 100}).Messages
	got := away.until(topic, last)
	if !slices.Equal(bodies(got), bodies(log)) {
		t.Errorf("delivered %v, and the log is %v", bodies(got), bodies(log))
	}
	// The message without an ack is in the log once, at any position.
	without := slices.DeleteFunc(bodies(log), func(s string) bool { return s == "uncertain" })
	if len(log) != len(want)+2 || !slices.Equal(without, append(want, "last")) {
		t.Errorf("log %v", bodies(log))
	}
}

// TestClocks checks that the times of messages are in order, and keys are
// remembered, even if the clocks of the nodes differ by hours.
func TestClocks(t *testing.T) {
	s := serve(t)
	topic := room("lobby")
	var nodes []*node
	for _, off := range []time.Duration{0, time.Hour, -25 * time.Hour} {
		n := attach(t, connect(t, s.ClientURL(), natsbroker.Clock(func() time.Time { return time.Now().Add(off) })))
		n.subscribe(topic)
		nodes = append(nodes, n)
	}
	began := time.Now()
	var last chathub.Receipt
	for i := range 30 {
		last = nodes[i%3].say(topic, numbered(i))
	}
	took := time.Since(began)
	for _, n := range nodes {
		for i, m := range n.until(topic, last.Seq) {
			at := time.UnixMilli(m.Time).Sub(began)
			// The error of the estimate is at most a round trip.
			if at < -time.Second || at > took+time.Second {
				t.Errorf("message %d has a time %v after the first, of %v", i, at, took)
			}
		}
	}
	m := chathub.Message{Topic: topic, Key: "k"}
	first, err := nodes[1].Publish(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	again, err := nodes[2].Publish(t.Context(), m)
	if err != nil || !again.Duplicate || again.Time != first.Time {
		t.Errorf("repeated on another node: %+v, %v; the first has %+v", again, err, first)
	}
}

// TestOverflow checks that a hub that blocks for so long that messages are
// dropped still receives the durable ones, in order.
func TestOverflow(t *testing.T) {
	s := serve(t)
	here := attach(t, connect(t, s.ClientURL()))
	topic, flood := room("lobby"), room("flood")
	gate := make(chan struct{})
	slow := &node{t: t, ctx: t.Context(), got: make(map[chathub.Topic][]chathub.Message), changed: make(chan struct{})}
	session, err := connect(t, s.ClientURL()).Attach(t.Context(), func(m chathub.Message) {
		<-gate
		slow.receive(m)
	})
	if err != nil {
		t.Fatal(err)
	}
	slow.BrokerSession = session
	defer func() {
		if err := session.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	slow.subscribe(topic)
	slow.subscribe(flood)
	var want []string
	for i := range 20 {
		here.say(topic, numbered(i))
		want = append(want, numbered(i))
		for range 600 {
			if err := here.Send(t.Context(), chathub.Message{Topic: flood}); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := here.say(topic, "last")
	open()
	if got := bodies(slow.until(topic, last.Seq)); !slices.Equal(got, append(want, "last")) {
		t.Errorf("delivered %v", got)
	}
}

// TestRecreated checks that a session refuses to work with a stream that has
// been deleted and created again, because its positions belong to the old one.
func TestRecreated(t *testing.T) {
	s := serve(t)
	topic := room("lobby")
	n := attach(t, connect(t, s.ClientURL()))
	before := n.subscribe(topic)
	n.say(topic, "one")
	if err := jetStream(t, s.ClientURL()).DeleteStream(t.Context(), "chathub"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := n.Publish(ctx, chathub.Message{Topic: topic})
	wantUnavailable(t, "without a stream", err)
	other := attach(t, connect(t, s.ClientURL(), natsbroker.MaxMessages(5)))
	if after := other.subscribe(topic); after.Epoch == before.Epoch {
		t.Errorf("the epoch is %s still", after.Epoch)
	}
	timeout := time.After(patience)
	for {
		_, err := n.Read(t.Context(), topic, chathub.Range{Limit: 1})
		if err != nil {
			wantUnavailable(t, "with another stream", err)
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-timeout:
			t.Fatal("a node goes on with another stream's positions")
		}
	}
}
