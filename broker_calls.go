package chathub

import (
	"context"
	"sync/atomic"
	"time"
)

// brokerMethod is a method of a BrokerSession.
type brokerMethod int

const (
	callPublish brokerMethod = iota
	callSend
	callSubscribe
	callUnsubscribe
	callRead
	callReadNamed
	callSurvey
	brokerMethods // their number
)

func (m brokerMethod) String() string {
	return [...]string{"publish", "send", "subscribe", "unsubscribe", "read", "read_named", "survey"}[m]
}

// countedSession counts the calls of a session, and notes what they say about
// the broker.
type countedSession struct {
	BrokerSession
	calls *[brokerMethods]calls
	// storedAt is when the broker last stored a message, in Unix nanoseconds.
	// It is 0 if it has refused one since, or could not send one.
	storedAt atomic.Int64
}

// count counts a call that began at a certain time.
func (s *countedSession) count(method brokerMethod, began time.Time, err error) {
	now := time.Now()
	var public *Error
	if err != nil {
		public, _ = publicError(err)
	}
	s.calls[method].add(public, now.Sub(began))
	if method != callPublish && method != callSend {
		return
	}
	switch code := codeOf(public); {
	case code == CodeUnavailable || code == CodeInternal:
		s.storedAt.Store(0)
	case method == callPublish && code == "":
		s.storedAt.Store(now.UnixNano())
	}
}

func (s *countedSession) Publish(ctx context.Context, m Message) (Receipt, error) {
	began := time.Now()
	r, err := s.BrokerSession.Publish(ctx, m)
	s.count(callPublish, began, err)
	return r, err
}

func (s *countedSession) Send(ctx context.Context, m Message) error {
	began := time.Now()
	err := s.BrokerSession.Send(ctx, m)
	s.count(callSend, began, err)
	return err
}

func (s *countedSession) Subscribe(ctx context.Context, t Topic) (Position, error) {
	began := time.Now()
	pos, err := s.BrokerSession.Subscribe(ctx, t)
	s.count(callSubscribe, began, err)
	return pos, err
}

func (s *countedSession) Unsubscribe(ctx context.Context, t Topic) error {
	began := time.Now()
	err := s.BrokerSession.Unsubscribe(ctx, t)
	s.count(callUnsubscribe, began, err)
	return err
}

func (s *countedSession) Read(ctx context.Context, t Topic, r Range) (Page, error) {
	began := time.Now()
	page, err := s.BrokerSession.Read(ctx, t, r)
	s.count(callRead, began, err)
	return page, err
}

func (s *countedSession) ReadNamed(ctx context.Context, queries []NameQuery) ([][]Message, error) {
	began := time.Now()
	named, err := s.BrokerSession.ReadNamed(ctx, queries)
	s.count(callReadNamed, began, err)
	return named, err
}

func (s *countedSession) Survey(ctx context.Context, queries []SurveyQuery) ([]Standing, error) {
	began := time.Now()
	standings, err := s.BrokerSession.Survey(ctx, queries)
	s.count(callSurvey, began, err)
	return standings, err
}
