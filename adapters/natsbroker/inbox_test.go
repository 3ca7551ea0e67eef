package natsbroker_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/nats.go/jetstream"
)

// inboxModes are the two ways in which a session knows whether it has all
// messages of an inbox.
var inboxModes = []struct {
	name    string
	options []natsbroker.Option
}{
	{"direct", nil},
	{"indirect", []natsbroker.Option{natsbroker.Indirect()}},
}

// TestInboxShares checks that a private message is still there after one
// sender, or the application, has sent more than an inbox holds.
func TestInboxShares(t *testing.T) {
	const most = 100
	for _, mode := range inboxModes {
		t.Run(mode.name, func(t *testing.T) {
			n := attach(t, openEmbedded(t, t.TempDir(), append(mode.options, natsbroker.MemoryStorage(), natsbroker.MaxMessages(most))...))
			topic := inbox("ana")
			waiting := n.sayAs("ben", topic, "waiting")
			for _, flood := range []struct {
				owner  string
				notice bool
			}{{"mallory", true}, {"mallory", false}, {"", true}, {"ana", false}, {"ben", true}} {
				var last chathub.Receipt
				for i := range most + most/5 {
					last = n.publish(chathub.Message{Topic: topic, Owner: flood.owner, Notice: flood.notice, Body: []byte(numbered(i))})
				}
				p := n.read(topic, chathub.Range{After: waiting.Seq - 1, Limit: 2000})
				if len(p.Messages) < most || string(p.Messages[0].Body) != "waiting" || p.Head.Seq != last.Seq {
					t.Fatalf("after the flood of %+v: %d messages, beginning with %.20q", flood, len(p.Messages), p.Messages[0].Body)
				}
				if p.Trimmed <= waiting.Seq || p.Trimmed >= last.Seq {
					t.Errorf("after the flood of %+v: trimmed %d, positions are %d to %d", flood, p.Trimmed, waiting.Seq, last.Seq)
				}
				if p := n.read(topic, chathub.Range{After: last.Seq - most/2, Limit: 2000}); p.Trimmed > last.Seq-most/2 {
					t.Errorf("after the flood of %+v: trimmed %d, but nothing after %d", flood, p.Trimmed, last.Seq-most/2)
				}
			}
			for range most {
				n.sayAs("ben", topic, "more")
			}
			if p := n.read(topic, chathub.Range{Limit: 2000}); string(p.Messages[0].Body) == "waiting" {
				t.Error("a share of an inbox has no bound")
			}
		})
	}
}

// TestInboxOrder checks that messages of many senders on many nodes are
// delivered in the order of the log, and that none fails.
func TestInboxOrder(t *testing.T) {
	for _, mode := range inboxModes {
		t.Run(mode.name, func(t *testing.T) {
			s := serve(t)
			topic := inbox("ana")
			var nodes []*node
			for range 3 {
				nodes = append(nodes, attach(t, connect(t, s.ClientURL(), mode.options...)))
			}
			nodes[0].subscribe(topic)
			var wg sync.WaitGroup
			for i := range 12 {
				wg.Go(func() {
					for k := range 20 {
						m := chathub.Message{Topic: topic, Owner: numbered(i % 5), Notice: i%2 == 0, Body: []byte(numbered(k))}
						if _, err := nodes[i%3].Publish(t.Context(), m); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			last := nodes[1].sayAs("last", topic, "last")
			log := nodes[2].read(topic, chathub.Range{Limit: 500}).Messages
			got := nodes[0].until(topic, last.Seq)
			if len(got) != 241 || !slices.EqualFunc(got, log, func(a, b chathub.Message) bool { return a.Seq == b.Seq }) {
				t.Errorf("%d messages were delivered, the log has %d", len(got), len(log))
			}
		})
	}
}

// TestInboxBusy checks that a node far away can send to an inbox to which a
// node near the stream sends all the time.
func TestInboxBusy(t *testing.T) {
	s := serve(t)
	link := newLink(t, s.Addr().String())
	far := attach(t, connect(t, link.url(), natsbroker.Indirect()))
	near := attach(t, connect(t, s.ClientURL(), natsbroker.Indirect(), natsbroker.MaxMessages(-1)))
	topic := inbox("ana")
	near.subscribe(topic)
	link.slow(20 * time.Millisecond)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				near.sayAs("mallory", topic, "")
			}
		}
	})
	var last chathub.Receipt
	for i := range 5 {
		last = far.sayAs("ben", topic, numbered(i))
	}
	close(done)
	wg.Wait()
	var got []string
	for _, m := range near.until(topic, last.Seq) {
		if len(m.Body) > 0 {
			got = append(got, string(m.Body))
		}
	}
	if !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
		t.Errorf("delivered %v", got)
	}
}

// TestInboxKeys checks that a key belongs to the whole inbox, whatever the
// share of its message.
func TestInboxKeys(t *testing.T) {
	for _, mode := range inboxModes {
		t.Run(mode.name, func(t *testing.T) {
			n := attach(t, openEmbedded(t, t.TempDir(), mode.options...))
			m := chathub.Message{Topic: inbox("ana"), Owner: "ben", Key: "k", Sum: 1}
			first := n.publish(m)
			n.sayAs("carol", m.Topic, "in between")
			m.Notice = true
			if again := n.publish(m); !again.Duplicate || again.Seq != first.Seq {
				t.Errorf("repeated as a notice: %+v, the first has %+v", again, first)
			}
			m.Sum = 2
			if _, err := n.Publish(t.Context(), m); err == nil || !strings.Contains(err.Error(), string(chathub.CodeConflict)) {
				t.Errorf("another message with the key: %v", err)
			}
		})
	}
}

// TestInboxGap checks that messages of an inbox that were not republished are
// delivered before the next one that is, even if that one is of another sender.
func TestInboxGap(t *testing.T) {
	s := serve(t)
	n := attach(t, connect(t, s.ClientURL(), natsbroker.Indirect()))
	topic := inbox("ana")
	n.subscribe(topic)
	js := jetStream(t, s.ClientURL())
	stream, err := js.Stream(t.Context(), "chathub")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	republish := cfg.RePublish
	var want []string
	for _, c := range []struct {
		republish *jetstream.RePublish
		owners    string
	}{
		{republish, "ab"}, {nil, "a"}, {republish, "b"}, {nil, "ccc"}, {republish, "a"}, {nil, "bacd"}, {republish, "bacd"}, {nil, "e"}, {republish, "f"},
	} {
		cfg.RePublish = c.republish
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		for _, owner := range c.owners {
			body := numbered(len(want)) + " " + string(owner)
			n.sayAs(string(owner), topic, body)
			want = append(want, body)
		}
		if c.republish == nil {
			continue
		}
		got := n.await(topic, func(got []chathub.Message) bool { return slices.Contains(bodies(got), want[len(want)-1]) })
		if !slices.Equal(bodies(got), want) {
			t.Errorf("delivered %q, want %q", bodies(got), want)
		}
	}
}

// TestInboxMissed checks that a message that arrives right after a reconnect is
// not delivered before those that the node has missed, of other senders.
func TestInboxMissed(t *testing.T) {
	s := serve(t)
	link := newLink(t, s.Addr().String())
	away, here := attach(t, connect(t, link.url())), attach(t, connect(t, s.ClientURL()))
	topic := inbox("ana")
	away.subscribe(topic)
	// All are compared with the stream after a reconnect.
	parallel(2000, func(i int) { away.subscribe(room(numbered(i))) })
	var want []string
	say := func() chathub.Receipt { // everyone sends one message
		body := numbered(len(want))
		want = append(want, body)
		return here.sayAs(body, topic, body)
	}
	for round := range 5 {
		say()
		link.cut()
		if err := awaitDown(away, topic); err == nil {
			t.Fatal("the connection is not gone")
		}
		say()
		link.heal()
		var last chathub.Receipt
		eventually(t, "the node connects again", func() bool {
			last = say()
			return away.Send(t.Context(), chathub.Message{Topic: room("elsewhere")}) == nil
		})
		for range 100 {
			last = say()
		}
		if got := bodies(away.until(topic, last.Seq)); !slices.Equal(got, want) {
			t.Fatalf("round %d: %d messages were delivered, of %d", round, len(got), len(want))
		}
	}
}

// TestInboxOverflow is TestOverflow with an inbox of many senders, whose
// messages are dropped while others arrive.
func TestInboxOverflow(t *testing.T) {
	s := serve(t)
	here := attach(t, connect(t, s.ClientURL()))
	topic := inbox("ana")
	slow := &node{t: t, ctx: t.Context(), got: make(map[chathub.Topic][]chathub.Message), changed: make(chan struct{})}
	session, err := connect(t, s.ClientURL()).Attach(t.Context(), func(m chathub.Message) {
		if m.Seq > 0 {
			slow.receive(m)
			return
		}
		// Longer than to send one.
		for began := time.Now(); time.Since(began) < 20*time.Microsecond; {
		}
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
	slow.subscribe(topic)
	var want []string
	var last chathub.Receipt
	for i := range 500 {
		last = here.sayAs(numbered(i%97), topic, numbered(i))
		want = append(want, numbered(i))
		for range 200 {
			if err := here.Send(t.Context(), chathub.Message{Topic: topic}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := bodies(slow.until(topic, last.Seq)); !slices.Equal(got, want) {
		t.Errorf("%d messages were delivered, want %d", len(got), len(want))
	}
}
