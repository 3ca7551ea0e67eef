package natsbroker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/nats.go/jetstream"
)

// logs collects what is logged.
type logs struct {
	mu   sync.Mutex
	text []byte
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	return len(b), nil
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// TestAway: without a server nothing is acked, every call says unavailable within its
// time, and when the server is back everything goes on.
func TestAway(t *testing.T) {
	s := serve(t)
	topic := room("lobby")
	here, there := attach(t, connect(t, s.ClientURL())), attach(t, connect(t, s.ClientURL()))
	start := here.subscribe(topic)
	there.subscribe(topic)
	one := here.say(topic, "one")
	there.until(topic, one.Seq)
	s.stop()

	m := chathub.Message{Topic: topic, Key: "k", Body: []byte("two")}
	for name, call := range map[string]func(ctx context.Context) error{
		"Publish":   func(ctx context.Context) error { _, err := here.Publish(ctx, m); return err },
		"Subscribe": func(ctx context.Context) error { _, err := here.Subscribe(ctx, room("other")); return err },
		"Read":      func(ctx context.Context) error { _, err := here.Read(ctx, topic, chathub.Range{Limit: 1}); return err },
		"Send":      func(ctx context.Context) error { return awaitDown(here, topic) },
		"Attach": func(ctx context.Context) error {
			_, err := connect(t, s.ClientURL()).Attach(ctx, here.receive)
			return err
		},
		"a new topic": func(ctx context.Context) error { _, err := here.Subscribe(ctx, room("other")); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		wantUnavailable(t, name, call(ctx))
		cancel()
	}
	// Leaving needs no server.
	if err := here.Unsubscribe(t.Context(), room("other")); err != nil {
		t.Errorf("Unsubscribe: %v", err)
	}

	// One call waits for the server to come back.
	var wg sync.WaitGroup
	var two chathub.Receipt
	wg.Go(func() {
		for {
			var err error
			if two, err = here.Publish(t.Context(), m); err == nil || t.Context().Err() != nil {
				return
			}
		}
	})
	s.start()
	wg.Wait()
	if two.Duplicate || two.Seq <= one.Seq {
		t.Errorf("receipt %+v after seq %d", two, one.Seq)
	}
	for _, n := range []*node{here, there} {
		if got := bodies(n.until(topic, two.Seq)); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("delivered %v", got)
		}
	}
	if p := here.subscribe(topic); p.Epoch != start.Epoch || p.Seq != two.Seq {
		t.Errorf("position %+v, want seq %d in epoch %s", p, two.Seq, start.Epoch)
	}
}

// awaitDown sends until the node knows that its connection is gone.
func awaitDown(n *node, topic chathub.Topic) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err := n.Send(n.ctx, chathub.Message{Topic: topic}); err != nil {
			return err
		}
	}
	return errors.New("the connection is never gone")
}

// TestMissed: what is published while a node's connection is down reaches it afterwards,
// though no message comes after it.
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

// TestSilence: a network that swallows everything is noticed, and what was missed
// comes when it works again.
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
	// The uncertain one is there once, wherever it came in.
	without := slices.DeleteFunc(bodies(log), func(s string) bool { return s == "uncertain" })
	if len(log) != len(want)+2 || !slices.Equal(without, append(want, "last")) {
		t.Errorf("log %v", bodies(log))
	}
}

// TestGap: messages that were never republished show by the next one that is, and come
// before it.
func TestGap(t *testing.T) {
	s := serve(t)
	n := attach(t, connect(t, s.ClientURL()))
	topic := room("lobby")
	n.subscribe(topic)
	n.say(topic, "1")
	js := jetStream(t, s.ClientURL())
	stream, err := js.Stream(t.Context(), "chathub")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	republish := cfg.RePublish
	for _, c := range []struct {
		republish *jetstream.RePublish
		say       []string
	}{{nil, []string{"2", "3"}}, {republish, []string{"4"}}} {
		cfg.RePublish = c.republish
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		for _, text := range c.say {
			n.say(topic, text)
		}
	}
	got := n.await(topic, func(got []chathub.Message) bool { return slices.Contains(bodies(got), "4") })
	if want := []string{"1", "2", "3", "4"}; !slices.Equal(bodies(got), want) {
		t.Errorf("delivered %v, want %v", bodies(got), want)
	}
}

// TestAckLost: a publish whose ack is lost tries again, and is not told that it
// repeats itself; who does repeat it, is.
func TestAckLost(t *testing.T) {
	s := serve(t)
	link := newLink(t, s.Addr().String())
	away, here := attach(t, connect(t, link.url(), natsbroker.Timeout(patience))), attach(t, connect(t, s.ClientURL()))
	topic := room("lobby")
	here.subscribe(topic)
	link.freezeBack()
	m := chathub.Message{Topic: topic, Key: "k", Body: []byte("one")}
	var receipt chathub.Receipt
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { receipt, err = away.Publish(t.Context(), m) })
	stored := here.until(topic, 1)[0]
	link.cut()
	link.heal()
	wg.Wait()
	if err != nil || receipt.Duplicate || receipt.Seq != stored.Seq || receipt.Time != stored.Time {
		t.Errorf("receipt %+v, %v; stored with seq %d, time %d", receipt, err, stored.Seq, stored.Time)
	}
	if again, err := away.Publish(t.Context(), m); err != nil || !again.Duplicate || again.Seq != stored.Seq {
		t.Errorf("repeated: %+v, %v", again, err)
	}
}

// TestSlow: over a slow link everything works, in order, if later.
func TestSlow(t *testing.T) {
	s := serve(t)
	link := newLink(t, s.Addr().String())
	far, here := attach(t, connect(t, link.url())), attach(t, connect(t, s.ClientURL()))
	topic := room("lobby")
	link.slow(50 * time.Millisecond)
	far.subscribe(topic)
	var wg sync.WaitGroup
	for _, n := range []*node{far, here} {
		wg.Go(func() {
			for i := range 10 {
				n.say(topic, numbered(i))
			}
		})
	}
	wg.Wait()
	last := here.say(topic, "last").Seq
	log := here.read(topic, chathub.Range{Limit: 100}).Messages
	if got := bodies(far.until(topic, last)); !slices.Equal(got, bodies(log)) || len(got) != 21 {
		t.Errorf("delivered %v, and the log is %v", got, bodies(log))
	}
}

// TestClocks: nodes whose clocks are hours apart give messages times that fit their
// order, and keys their window.
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
			// The estimate is as good as a round trip is short.
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

// TestOverflow: a hub that takes nothing for so long that messages are dropped on their
// way gets the stored ones all the same, in order.
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

// TestRecreated: a stream that is deleted and made again has nothing to do with the
// positions of those who used it.
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
