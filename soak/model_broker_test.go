package main

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/chathub-go/chathub"
)

// shared is the Broker of all hubs and tenants. It notes in the truth of each
// tenant what the broker below it accepted.
type shared struct {
	chathub.Broker
	truths []*truth
	lie    *lie // that hubs are told; nil: none
	hubs   int  // how many were lied to
}

func newShared(set setting) (*shared, error) {
	reader, err := set.broker.Attach(context.Background(), func(chathub.Message) {})
	if err != nil {
		return nil, err
	}
	sh := &shared{Broker: set.broker, lie: set.lie}
	for i, tenant := range set.tenants {
		sh.truths = append(sh.truths, &truth{
			tenant:   tenant,
			reader:   reader,
			keys:     set.keys,
			lag:      set.lag,
			rand:     rand.New(rand.NewPCG(set.seed, uint64(i))),
			fail:     make(map[fault]int),
			topics:   make(map[chathub.Topic]*topicLog),
			accepted: make(map[string]bool),
			markers:  make(map[markerOf][]marker),
		})
	}
	return sh, nil
}

// Attach implements [chathub.Broker].
func (sh *shared) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	if sh.lie == nil {
		s, err := sh.Broker.Attach(ctx, deliver)
		return &watched{s, sh}, err
	}
	sh.hubs++
	l := &liar{lie: sh.lie, hub: sh.hubs, also: deliver}
	s, err := sh.Broker.Attach(ctx, func(m chathub.Message) {
		if sh.lie.deliver == nil || sh.lie.deliver(l, &m) {
			deliver(m)
		}
	})
	l.BrokerSession = &watched{s, sh}
	return l, err
}

// of returns the truth of a topic. The first one has what concerns no tenant:
// nodes, and everyone on the hub.
func (sh *shared) of(topic chathub.Topic) *truth {
	for _, t := range sh.truths {
		if t.tenant == topic.Tenant() {
			return t
		}
	}
	t := sh.truths[0]
	if topic.Room+topic.User != "" {
		t.complain("%q is a topic of no tenant", topic)
	}
	return t
}

// hurry ends all delays, and returns the lag before.
func (sh *shared) hurry() (lag time.Duration) {
	for _, t := range sh.truths {
		lag = t.lag
	}
	sh.slow(0)
	return lag
}

// slow sets the lag again.
func (sh *shared) slow(lag time.Duration) {
	for _, t := range sh.truths {
		t.mu.Lock()
		t.lag = lag
		t.mu.Unlock()
	}
}

// tenantEnd ends the tenant in the names of topics.
const tenantEnd = "\x00"

// plain returns a topic as its tenant knows it.
func plain(topic chathub.Topic) chathub.Topic {
	if tenant := topic.Tenant(); tenant != "" {
		topic.Room = strings.TrimPrefix(topic.Room, tenant+tenantEnd)
		topic.User = strings.TrimPrefix(topic.User, tenant+tenantEnd)
	}
	return topic
}

// read reads a log of the tenant.
func (t *truth) read(topic chathub.Topic, r chathub.Range) (chathub.Page, error) {
	switch {
	case t.tenant == "":
	case topic.Room != "":
		topic.Room = t.tenant + tenantEnd + topic.Room
	case topic.User != "":
		topic.User = t.tenant + tenantEnd + topic.User
	}
	return t.reader.Read(context.Background(), topic, r)
}

// watched is a hub's session with the shared broker.
type watched struct {
	chathub.BrokerSession
	shared *shared
}

func unavailable(f fault) error {
	return &chathub.Error{Code: chathub.CodeUnavailable, Message: "made to fail: " + string(f)}
}

func (s *watched) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	t := s.shared.of(m.Topic)
	defer t.call()()
	t.pause()
	if t.fails(failPublish) {
		return chathub.Receipt{}, unavailable(failPublish)
	}
	turn := t.topic(plain(m.Topic)).turn
	turn <- struct{}{}
	r, err := s.BrokerSession.Publish(ctx, m)
	if err == nil && !r.Duplicate {
		var page chathub.Page
		page, err = t.reader.Read(context.WithoutCancel(ctx), m.Topic, chathub.Range{})
		t.record(ctx, m, r, page.Head)
	}
	<-turn
	if err == nil && t.fails(failReceipt) {
		err = unavailable(failReceipt)
	}
	t.pause()
	return r, err
}

func (s *watched) Send(ctx context.Context, m chathub.Message) error {
	t := s.shared.of(m.Topic)
	t.pause()
	if t.fails(slowSend) {
		time.Sleep(2 * time.Second)
	}
	return s.BrokerSession.Send(ctx, m)
}

func (s *watched) Subscribe(ctx context.Context, topic chathub.Topic) (chathub.Position, error) {
	if topic.Node != "" { // for a hub that starts
		return s.BrokerSession.Subscribe(ctx, topic)
	}
	t := s.shared.of(topic)
	t.yield()
	if t.fails(failSubscribe) {
		return chathub.Position{}, unavailable(failSubscribe)
	}
	p, err := s.BrokerSession.Subscribe(ctx, topic)
	// Everyone in a tenant is a topic without a log.
	if topic = plain(topic); err == nil && topic != (chathub.Topic{}) {
		t.life(topic, p.Epoch)
	}
	t.yield()
	return p, err
}

func (s *watched) Unsubscribe(ctx context.Context, topic chathub.Topic) error {
	s.shared.of(topic).yield()
	return s.BrokerSession.Unsubscribe(ctx, topic)
}

// slowly lets a call that reads be slow, or fail.
func slowly[T any](t *truth, call func() (T, error)) (T, error) {
	defer t.call()()
	t.pause()
	if t.fails(failRead) {
		var none T
		return none, unavailable(failRead)
	}
	result, err := call()
	t.pause()
	return result, err
}

func (s *watched) Read(ctx context.Context, topic chathub.Topic, r chathub.Range) (chathub.Page, error) {
	return slowly(s.shared.of(topic), func() (chathub.Page, error) { return s.BrokerSession.Read(ctx, topic, r) })
}

func (s *watched) ReadNamed(ctx context.Context, queries []chathub.NameQuery) ([][]chathub.Message, error) {
	t := s.shared.truths[0]
	for i := range queries {
		t = s.shared.of(queries[i].Topic)
	}
	return slowly(t, func() ([][]chathub.Message, error) { return s.BrokerSession.ReadNamed(ctx, queries) })
}

func (s *watched) Survey(ctx context.Context, queries []chathub.SurveyQuery) ([]chathub.Standing, error) {
	t := s.shared.truths[0]
	for i := range queries {
		t = s.shared.of(queries[i].Topic)
	}
	return slowly(t, func() ([]chathub.Standing, error) { return s.BrokerSession.Survey(ctx, queries) })
}
