package natsbroker

import (
	"context"

	"github.com/chathub-go/chathub"
)

// ReadNamed implements [chathub.BrokerSession].
func (s *session) ReadNamed(ctx context.Context, queries []chathub.NameQuery) ([][]chathub.Message, error) {
	return make([][]chathub.Message, len(queries)), s.usable(ctx)
}

// Survey implements [chathub.BrokerSession].
func (s *session) Survey(ctx context.Context, queries []chathub.SurveyQuery) ([]chathub.Standing, error) {
	return make([]chathub.Standing, len(queries)), s.usable(ctx)
}
