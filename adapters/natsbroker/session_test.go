package natsbroker_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestAway checks that without a server, nothing is acked and every call
// returns unavailable in time. When the server is back, everything works again.
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
	// Unsubscribe needs no server.
	if err := here.Unsubscribe(t.Context(), room("other")); err != nil {
		t.Errorf("Unsubscribe: %v", err)
	}

	// Publish waits for the server to come back.
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

// awaitDown sends messages until one fails, because the node has noticed that
// its connection is lost. It returns that error.
func awaitDown(n *node, topic chathub.Topic) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err := n.Send(n.ctx, chathub.Message{Topic: topic}); err != nil {
			return err
		}
	}
	return errors.New("the connection is never gone")
}

// TestAckLost checks that Publish tries again if its ack is lost. Its own
// repetition is not reported as a duplicate, but that of another call is.
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

// TestSlow checks that everything works over a slow link, and stays in order.
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
