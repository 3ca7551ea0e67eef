package natsbroker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// patience bounds every wait. It is only reached if a test fails.
const patience = 60 * time.Second

var quiet = natsbroker.Logger(slog.New(slog.NewTextHandler(io.Discard, nil)))

// openEmbedded returns a broker on dir, which is closed at the end of the test.
func openEmbedded(t testing.TB, dir string, options ...natsbroker.Option) *natsbroker.Broker {
	t.Helper()
	b, err := natsbroker.Embedded(dir, append([]natsbroker.Option{quiet}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBroker(t, b) })
	return b
}

func closeBroker(t testing.TB, b *natsbroker.Broker) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func connect(t testing.TB, url string, options ...natsbroker.Option) *natsbroker.Broker {
	t.Helper()
	b, err := natsbroker.Connect(url, append([]natsbroker.Option{quiet}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// natsServer is a NATS server in this process that can be stopped and started
// again.
type natsServer struct {
	t    testing.TB
	opts server.Options
	*server.Server
}

// serve runs a server on a free port.
func serve(t testing.TB) *natsServer {
	t.Helper()
	s := &natsServer{t: t, opts: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	}}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *natsServer) start() {
	s.t.Helper()
	opts := s.opts
	var err error
	if s.Server, err = server.NewServer(&opts); err != nil {
		s.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		s.t.Fatal("the server does not start")
	}
	s.opts.Port = opts.Port
}

func (s *natsServer) stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

// node is a session that records the messages that it receives.
type node struct {
	chathub.BrokerSession
	t   testing.TB
	ctx context.Context

	mu      sync.Mutex
	got     map[chathub.Topic][]chathub.Message
	changed chan struct{}
}

func attach(t testing.TB, b chathub.Broker) *node {
	t.Helper()
	n := &node{t: t, ctx: t.Context(), got: make(map[chathub.Topic][]chathub.Message), changed: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := b.Attach(ctx, n.receive)
	if err != nil {
		t.Fatal(err)
	}
	n.BrokerSession = s
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *node) receive(m chathub.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got[m.Topic] = append(n.got[m.Topic], m)
	close(n.changed)
	n.changed = make(chan struct{})
}

// await returns the messages that were delivered of a topic, as soon as enough
// returns true for them.
func (n *node) await(topic chathub.Topic, enough func([]chathub.Message) bool) []chathub.Message {
	n.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		n.mu.Lock()
		got, changed := n.got[topic], n.changed
		n.mu.Unlock()
		if enough(got) {
			return got
		}
		select {
		case <-changed:
		case <-timeout.C:
			n.t.Fatalf("%+v: %d messages were delivered, and no more", topic, len(got))
		}
	}
}

// until returns the messages of a topic once they have been delivered up to a
// position.
func (n *node) until(topic chathub.Topic, seq uint64) []chathub.Message {
	n.t.Helper()
	return n.await(topic, func(got []chathub.Message) bool { return len(got) > 0 && got[len(got)-1].Seq >= seq })
}

func (n *node) say(topic chathub.Topic, body string) chathub.Receipt {
	n.t.Helper()
	return n.sayAs("", topic, body)
}

// sayAs is say for an owner.
func (n *node) sayAs(owner string, topic chathub.Topic, body string) chathub.Receipt {
	n.t.Helper()
	return n.publish(chathub.Message{Topic: topic, Key: rand.Text(), Owner: owner, Body: []byte(body)})
}

func (n *node) publish(m chathub.Message) chathub.Receipt {
	n.t.Helper()
	r, err := n.Publish(n.ctx, m)
	if err != nil {
		n.t.Fatalf("Publish(%v): %v", m.Topic, err)
	}
	return r
}

func (n *node) subscribe(topic chathub.Topic) chathub.Position {
	n.t.Helper()
	p, err := n.Subscribe(n.ctx, topic)
	if err != nil {
		n.t.Fatalf("Subscribe(%v): %v", topic, err)
	}
	return p
}

func (n *node) read(topic chathub.Topic, r chathub.Range) chathub.Page {
	n.t.Helper()
	p, err := n.Read(n.ctx, topic, r)
	if err != nil {
		n.t.Fatalf("Read(%v, %+v): %v", topic, r, err)
	}
	return p
}

func wantUnavailable(t testing.TB, what string, err error) {
	t.Helper()
	var e *chathub.Error
	if !errors.As(err, &e) || e.Code != chathub.CodeUnavailable {
		t.Errorf("%s: error %v, want code %s", what, err, chathub.CodeUnavailable)
	}
}

func bodies(messages []chathub.Message) (all []string) {
	for _, m := range messages {
		all = append(all, string(m.Body))
	}
	return all
}

func room(name string) chathub.Topic { return chathub.Topic{Room: name} }

func inbox(user string) chathub.Topic { return chathub.Topic{User: user} }

func numbered(n int) string { return fmt.Sprint(n) }

// logs is the output of a logger. Its methods may be called concurrently.
type logs struct {
	mu   sync.Mutex
	text []byte
}

func (lg *logs) Write(b []byte) (int, error) {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	lg.text = append(lg.text, b...)
	return len(b), nil
}

func (lg *logs) String() string {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	return string(lg.text)
}

func jetStream(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
