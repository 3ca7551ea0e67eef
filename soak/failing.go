package main

import (
	"context"
	"sync/atomic"

	"github.com/chathub-go/chathub"
)

// failing is a Broker of which some calls that read fail, as they do on one
// that is overloaded.
type failing struct {
	chathub.Broker
	every int64 // of so many calls, one fails
	calls atomic.Int64
}

// Attach implements [chathub.Broker].
func (f *failing) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	s, err := f.Broker.Attach(ctx, deliver)
	return &failingSession{s, f}, err
}

func (f *failing) fail() error {
	if f.calls.Add(1)%f.every == 0 {
		return chathub.Unavailable(nil)
	}
	return nil
}

type failingSession struct {
	chathub.BrokerSession
	broker *failing
}

func (s *failingSession) Read(ctx context.Context, t chathub.Topic, r chathub.Range) (chathub.Page, error) {
	if err := s.broker.fail(); err != nil {
		return chathub.Page{}, err
	}
	return s.BrokerSession.Read(ctx, t, r)
}

func (s *failingSession) ReadNamed(ctx context.Context, queries []chathub.NameQuery) ([][]chathub.Message, error) {
	if err := s.broker.fail(); err != nil {
		return nil, err
	}
	return s.BrokerSession.ReadNamed(ctx, queries)
}

func (s *failingSession) Survey(ctx context.Context, queries []chathub.SurveyQuery) ([]chathub.Standing, error) {
	if err := s.broker.fail(); err != nil {
		return nil, err
	}
	return s.BrokerSession.Survey(ctx, queries)
}
