package chathub_test

import (
	"context"
	"sync"

	"github.com/chathub-go/chathub"
)

// gatedBroker is a Broker whose calls can be made to wait or fail.
type gatedBroker struct {
	chathub.Broker

	mu          sync.Mutex
	subscribe   map[chathub.Topic]chan struct{}
	unsubscribe map[chathub.Topic]chan struct{}
	publish     map[chathub.Topic]error
	read        map[chathub.Topic]error
	publishing  map[chathub.Topic]chan struct{}
	reading     map[chathub.Topic]chan struct{}
	stays       map[chathub.Topic]error // errors of Unsubscribe
	topics      map[chathub.Topic]bool  // those subscribed
	subscribes  int                     // number of calls
}

type gatedSession struct {
	chathub.BrokerSession
	b *gatedBroker
}

func newGatedBroker() *gatedBroker {
	return &gatedBroker{
		Broker:      &chathub.MemoryBroker{},
		subscribe:   map[chathub.Topic]chan struct{}{},
		unsubscribe: map[chathub.Topic]chan struct{}{},
		publish:     map[chathub.Topic]error{},
		read:        map[chathub.Topic]error{},
		publishing:  map[chathub.Topic]chan struct{}{},
		reading:     map[chathub.Topic]chan struct{}{},
		stays:       map[chathub.Topic]error{},
		topics:      map[chathub.Topic]bool{},
	}
}

func (b *gatedBroker) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	s, err := b.Broker.Attach(ctx, deliver)
	return &gatedSession{s, b}, err
}

// gate returns the entry of m for t.
func gate[V any](b *gatedBroker, m map[chathub.Topic]V, t chathub.Topic) V {
	b.mu.Lock()
	defer b.mu.Unlock()
	return m[t]
}

// set sets the entry of m for t.
func set[V any](b *gatedBroker, m map[chathub.Topic]V, t chathub.Topic, v V) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m[t] = v
}

func (s *gatedSession) Subscribe(ctx context.Context, t chathub.Topic) (chathub.Position, error) {
	if ch := gate(s.b, s.b.subscribe, t); ch != nil {
		<-ch
	}
	s.b.mu.Lock()
	s.b.subscribes++
	s.b.mu.Unlock()
	pos, err := s.BrokerSession.Subscribe(ctx, t)
	if err == nil {
		set(s.b, s.b.topics, t, true)
	}
	return pos, err
}

func (s *gatedSession) Unsubscribe(ctx context.Context, t chathub.Topic) error {
	if ch := gate(s.b, s.b.unsubscribe, t); ch != nil {
		<-ch
	}
	if err := gate(s.b, s.b.stays, t); err != nil {
		return err
	}
	s.b.mu.Lock()
	delete(s.b.topics, t)
	s.b.mu.Unlock()
	return s.BrokerSession.Unsubscribe(ctx, t)
}

func (s *gatedSession) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	if err := gate(s.b, s.b.publish, m.Topic); err != nil {
		return chathub.Receipt{}, err
	}
	if ch := gate(s.b, s.b.publishing, m.Topic); ch != nil {
		<-ch
	}
	return s.BrokerSession.Publish(ctx, m)
}

func (s *gatedSession) Read(ctx context.Context, t chathub.Topic, r chathub.Range) (chathub.Page, error) {
	if err := gate(s.b, s.b.read, t); err != nil {
		return chathub.Page{}, err
	}
	page, err := s.BrokerSession.Read(ctx, t, r)
	if ch := gate(s.b, s.b.reading, t); ch != nil {
		<-ch
	}
	return page, err
}
