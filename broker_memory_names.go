package chathub

import "context"

// ReadNamed implements [BrokerSession].
func (ms *memorySession) ReadNamed(ctx context.Context, queries []NameQuery) ([][]Message, error) {
	return make([][]Message, len(queries)), ms.usable(ctx)
}

// Survey implements [BrokerSession].
func (ms *memorySession) Survey(ctx context.Context, queries []SurveyQuery) ([]Standing, error) {
	return make([]Standing, len(queries)), ms.usable(ctx)
}
