package natsbroker

import (
	"context"
	"time"

	"github.com/chathub-go/chathub"
)

// Clock replaces the clock of a node.
func Clock(now func() time.Time) Option {
	return func(c *config) { c.clock = now }
}

// StreamMaxBytes returns the bound of a session's stream.
func StreamMaxBytes(ctx context.Context, s chathub.BrokerSession) (int64, error) {
	info, err := s.(*session).info(ctx)
	if err != nil {
		return 0, err
	}
	return info.Config.MaxBytes, nil
}
