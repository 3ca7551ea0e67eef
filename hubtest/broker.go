package hubtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
)

// TestBroker checks that a broker meets the contract of [chathub.Broker]. Call
// it from a test of the broker:
//
//	func TestConformance(t *testing.T) {
//		open := func(t *testing.T) chathub.Broker { return mybroker.New(t) }
//		hubtest.TestBroker(t, open)
//	}
//
// Each subtest calls newBroker once. It may always return the same Broker, or
// brokers on the same server, because no name or key is used twice. It should
// use t.Cleanup to close what it has opened. The Broker must keep at least 500
// messages and 10,000 names of a topic, and remember all keys, until the test
// ends.
func TestBroker(t *testing.T, newBroker func(t *testing.T) chathub.Broker) {
	for _, c := range []struct {
		name string
		test func(*brokerTest)
	}{
		{"order and exactly once", testBrokerOrder},
		{"a repeated key is stored once", testBrokerDuplicates},
		{"a key repeated at once is stored once", testBrokerDuplicatesAtOnce},
		{"a repeated key with another sum is refused", testBrokerConflicts},
		{"a key used at once with several sums is stored once", testBrokerConflictsAtOnce},
		{"send", testBrokerSend},
		{"send to everyone", testBrokerSendEveryone},
		{"send to a node", testBrokerSendNode},
		{"position and page meet", testBrokerStitch},
		{"subscribe twice", testBrokerSubscribeTwice},
		{"an empty log goes on", testBrokerEmptyLog},
		{"owners and notices", testBrokerOwners},
		{"unsubscribe", testBrokerUnsubscribe},
		{"unsubscribe under load", testBrokerUnsubscribeLoad},
		{"read", testBrokerRead},
		{"read within bytes", testBrokerReadBytes},
		{"read what is not there", testBrokerReadNothing},
		{"topics are told apart", testBrokerTopics},
		{"bodies are kept as they are", testBrokerBodies},
		{"named messages", testBrokerNames},
		{"names are removed", testBrokerNamesRemove},
		{"names change as expected", testBrokerNamesExpect},
		{"a repeated key of a named message", testBrokerNamesKeys},
		{"many names", testBrokerNamesMany},
		{"names of any characters", testBrokerNamesAny},
		{"names are tied to messages", testBrokerNamesTied},
		{"names stay", testBrokerNamesStay},
		{"erase", testBrokerErase},
		{"survey", testBrokerSurvey},
		{"survey many topics", testBrokerSurveyMany},
		{"leave during a delivery", testBrokerLeave},
		{"ended context", testBrokerContext},
		{"close", testBrokerClose},
		{"close under load", testBrokerCloseLoad},
		{"close waits for deliver", testBrokerCloseWaits},
		{"a blocked topic holds up no other", testBrokerBlocked},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(&brokerTest{T: t, broker: newBroker(t), run: rand.Text()})
		})
	}
}

// brokerWait bounds every wait for something that must happen.
const brokerWait = 30 * time.Second

type brokerTest struct {
	*testing.T
	broker chathub.Broker
	run    string
	epochs sync.Map // the first epoch seen of each chathub.Topic
}

// sameEpoch checks that all receipts and positions of a topic have one epoch.
func (b *brokerTest) sameEpoch(topic chathub.Topic, epoch string) {
	b.Helper()
	if first, _ := b.epochs.LoadOrStore(topic, epoch); epoch == "" || epoch != first {
		b.Errorf("%+q: epoch %q, after %q", topic, epoch, first)
	}
}

// room returns a topic that no other test uses.
func (b *brokerTest) room(name string) chathub.Topic {
	return chathub.Topic{Room: name + "-" + b.run}
}

// brokerHub takes the place of a hub. It records the messages that it receives.
type brokerHub struct {
	chathub.BrokerSession
	t       *brokerTest
	ctx     context.Context // for all calls
	deliver func(chathub.Message)

	mu      sync.Mutex
	got     map[chathub.Topic][]chathub.Message
	running map[chathub.Topic]bool
	closed  bool
	changed chan struct{} // closed and replaced whenever got changes
}

func (b *brokerTest) attach() *brokerHub { return b.attachWith(nil) }

// attachWith attaches a hub that calls deliver, unless it is nil, before it
// records a message.
func (b *brokerTest) attachWith(deliver func(chathub.Message)) *brokerHub {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), brokerWait)
	h := &brokerHub{
		t:       b,
		ctx:     ctx,
		deliver: deliver,
		got:     make(map[chathub.Topic][]chathub.Message),
		running: make(map[chathub.Topic]bool),
		changed: make(chan struct{}),
	}
	var err error
	if h.BrokerSession, err = b.broker.Attach(ctx, h.receive); err != nil {
		b.Fatalf("Attach: %v", err)
	}
	b.Cleanup(func() {
		cancel()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.Context()), brokerWait)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			b.Errorf("Close: %v", err)
		}
	})
	return h
}

// attachBlocking attaches a hub that closes entered at its first message, and
// blocks all deliveries until release is called.
func (b *brokerTest) attachBlocking() (h *brokerHub, entered <-chan struct{}, release func()) {
	b.Helper()
	in, out := make(chan struct{}), make(chan struct{})
	enter := sync.OnceFunc(func() { close(in) })
	h = b.attachWith(func(chathub.Message) {
		enter()
		<-out
	})
	return h, in, sync.OnceFunc(func() { close(out) })
}

func (b *brokerTest) wait(entered <-chan struct{}) {
	b.Helper()
	timeout := time.NewTimer(brokerWait)
	defer timeout.Stop()
	select {
	case <-entered:
	case <-timeout.C:
		b.Fatalf("nothing was delivered in %v", brokerWait)
	}
}

func (h *brokerHub) receive(m chathub.Message) {
	h.mu.Lock()
	if h.closed {
		h.t.Errorf("deliver(%v) after Close", m.Topic)
	}
	if h.running[m.Topic] {
		h.t.Errorf("two calls of deliver at once for %v", m.Topic)
	}
	h.running[m.Topic] = true
	h.mu.Unlock()
	if h.deliver != nil {
		h.deliver(m)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running[m.Topic] = false
	h.got[m.Topic] = append(h.got[m.Topic], m)
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *brokerHub) received(topic chathub.Topic) []chathub.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got[topic])
}

// await returns the messages that were delivered of a topic, once one of them
// has the key.
func (h *brokerHub) await(topic chathub.Topic, key string) []chathub.Message {
	h.t.Helper()
	return h.awaitThat(topic, func(got []chathub.Message) bool {
		return slices.ContainsFunc(got, func(m chathub.Message) bool { return m.Key == key })
	})
}

func (h *brokerHub) awaitThat(topic chathub.Topic, enough func([]chathub.Message) bool) []chathub.Message {
	h.t.Helper()
	timeout := time.NewTimer(brokerWait)
	defer timeout.Stop()
	for {
		h.mu.Lock()
		got, changed := slices.Clone(h.got[topic]), h.changed
		h.mu.Unlock()
		if enough(got) {
			return got
		}
		select {
		case <-changed:
		case <-timeout.C:
			h.t.Fatalf("%+q: the expected messages were not delivered within %v, only %d others", topic, brokerWait, len(got))
		}
	}
}

// end closes the hub. Any delivery after that is an error.
func (h *brokerHub) end() {
	h.t.Helper()
	if err := h.Close(h.ctx); err != nil {
		h.t.Errorf("Close: %v", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

func (h *brokerHub) subscribe(topic chathub.Topic) chathub.Position {
	h.t.Helper()
	p, err := h.Subscribe(h.ctx, topic)
	if err != nil {
		h.t.Fatalf("Subscribe(%v): %v", topic, err)
	}
	h.t.sameEpoch(topic, p.Epoch)
	return p
}

func (h *brokerHub) unsubscribe(topic chathub.Topic) {
	h.t.Helper()
	if err := h.Unsubscribe(h.ctx, topic); err != nil {
		h.t.Fatalf("Unsubscribe(%v): %v", topic, err)
	}
}

// publish publishes a message. It returns the message as it must be in the log,
// and whether it is a duplicate. It may be called from any goroutine.
func (h *brokerHub) publish(topic chathub.Topic, key string, body []byte) (chathub.Message, bool) {
	h.t.Helper()
	m := chathub.Message{Topic: topic, Key: key, Body: body, Seq: 1 << 60, Time: 1}
	r, err := h.Publish(h.ctx, m)
	if err != nil {
		h.t.Errorf("Publish(%v, %q): %v", topic, key, err)
	} else if r.Seq == 0 || r.Seq >= 1<<53 || r.Time <= 0 {
		h.t.Errorf("Publish(%v, %q): receipt %+v", topic, key, r)
	} else {
		h.t.sameEpoch(topic, r.Epoch)
	}
	m.Seq, m.Time = r.Seq, r.Time
	return m, r.Duplicate
}

// say publishes a new message.
func (h *brokerHub) say(topic chathub.Topic, body string) chathub.Message {
	h.t.Helper()
	m, duplicate := h.publish(topic, rand.Text(), []byte(body))
	if duplicate {
		h.t.Errorf("Publish(%v): a new key is a duplicate", topic)
	}
	return m
}

// send sends a message. It returns the message as it must arrive, except for
// its Time.
func (h *brokerHub) send(topic chathub.Topic, body string) chathub.Message {
	h.t.Helper()
	m := chathub.Message{Topic: topic, Key: rand.Text(), Body: []byte(body), Seq: 7}
	if err := h.Send(h.ctx, m); err != nil {
		h.t.Errorf("Send(%v): %v", topic, err)
	}
	m.Seq = 0
	return m
}

func (h *brokerHub) read(topic chathub.Topic, r chathub.Range) chathub.Page {
	h.t.Helper()
	p, err := h.Read(h.ctx, topic, r)
	if err != nil {
		h.t.Fatalf("Read(%v, %+v): %v", topic, r, err)
	}
	return p
}

// brokerAll is more than the number of messages in any log of these tests.
const brokerAll = 500

// equal compares messages. Those that were sent, not published, may have any
// Time.
func (b *brokerTest) equal(what string, got, want []chathub.Message) {
	b.Helper()
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if w.Seq == 0 {
			w.Time = g.Time
		}
		if g.Topic != w.Topic || g.Key != w.Key || g.Seq != w.Seq || g.Time != w.Time || !bytes.Equal(g.Body, w.Body) ||
			g.Name != w.Name || g.Remove != w.Remove || g.Tied != w.Tied && !w.Remove {
			b.Fatalf("%s: message %d is %s, want %s", what, i, brokerMessage(g), brokerMessage(w))
		}
	}
	if len(got) != len(want) {
		b.Fatalf("%s: %d messages, want %d", what, len(got), len(want))
	}
}

func brokerMessage(m chathub.Message) string {
	s := fmt.Sprintf("{%+q key %q body %.40q (%d bytes) seq %d time %d", m.Topic, m.Key, m.Body, len(m.Body), m.Seq, m.Time)
	if m.Name != "" {
		s += fmt.Sprintf(" name %+q tied %d remove %t", m.Name, m.Tied, m.Remove)
	}
	return s + "}"
}

// conflict checks that a call of Publish has failed with a conflict.
func (b *brokerTest) conflict(what string, r chathub.Receipt, err error) {
	b.Helper()
	var e *chathub.Error
	if !errors.As(err, &e) || e.Code != chathub.CodeConflict {
		b.Errorf("%s: receipt %+v, error %v, want code %s", what, r, err, chathub.CodeConflict)
	}
}

// unavailable checks that a call has failed because it could not do its work.
func (b *brokerTest) unavailable(what string, err error) {
	b.Helper()
	var e *chathub.Error
	if !errors.Is(err, chathub.ErrClosed) && (!errors.As(err, &e) || e.Code != chathub.CodeUnavailable) {
		b.Errorf("%s: error %v, want code %s", what, err, chathub.CodeUnavailable)
	}
}
