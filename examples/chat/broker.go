package main

import (
	"log/slog"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// openBroker returns what the flags ask for, and how to close it once the hub has
// ended. In memory it is the hub's own, nil.
func openBroker(cfg *config, log *slog.Logger) (chathub.Broker, func() error, error) {
	var broker *natsbroker.Broker
	var err error
	switch {
	case cfg.dataDir != "":
		broker, err = natsbroker.Embedded(cfg.dataDir, natsbroker.Logger(log))
	case cfg.natsURL != "":
		broker, err = natsbroker.Connect(cfg.natsURL, natsbroker.Logger(log))
	default:
		return nil, func() error { return nil }, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return broker, broker.Close, nil
}
