package chathub_test

import (
	"context"
	"sync"

	"github.com/chathub-go/chathub"
)

// hooked is a broker in memory whose calls are counted, and can be preceded by
// something. Methods are known by their names.
type hooked struct {
	chathub.MemoryBroker

	mu    sync.Mutex
	calls map[string]int
	hooks map[string]func() error
}

func (b *hooked) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	s, err := b.MemoryBroker.Attach(ctx, deliver)
	return &hookedSession{s, b}, err
}

// before has f run before each call of a method. If it returns an error, that
// is the result of the call. Nil: nothing precedes the calls.
func (b *hooked) before(method string, f func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hooks == nil {
		b.hooks = make(map[string]func() error)
	}
	b.hooks[method] = f
}

// take returns how often each method was called since the last take.
func (b *hooked) take() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

func (b *hooked) call(method string) error {
	b.mu.Lock()
	if b.calls == nil {
		b.calls = make(map[string]int)
	}
	b.calls[method]++
	f := b.hooks[method]
	b.mu.Unlock()
	if f == nil {
		return nil
	}
	return f()
}

type hookedSession struct {
	chathub.BrokerSession
	b *hooked
}

func (s *hookedSession) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	if err := s.b.call("Publish"); err != nil {
		return chathub.Receipt{}, err
	}
	return s.BrokerSession.Publish(ctx, m)
}

func (s *hookedSession) Read(ctx context.Context, t chathub.Topic, r chathub.Range) (chathub.Page, error) {
	if err := s.b.call("Read"); err != nil {
		return chathub.Page{}, err
	}
	return s.BrokerSession.Read(ctx, t, r)
}

func (s *hookedSession) ReadNamed(ctx context.Context, q []chathub.NameQuery) ([][]chathub.Message, error) {
	if err := s.b.call("ReadNamed"); err != nil {
		return nil, err
	}
	return s.BrokerSession.ReadNamed(ctx, q)
}

func (s *hookedSession) Survey(ctx context.Context, q []chathub.SurveyQuery) ([]chathub.Standing, error) {
	if err := s.b.call("Survey"); err != nil {
		return nil, err
	}
	return s.BrokerSession.Survey(ctx, q)
}

func (s *hookedSession) Subscribe(ctx context.Context, t chathub.Topic) (chathub.Position, error) {
	if err := s.b.call("Subscribe"); err != nil {
		return chathub.Position{}, err
	}
	return s.BrokerSession.Subscribe(ctx, t)
}
