package main

import (
	"log/slog"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/chathub-go/chathub/adapters/prometheus/natsprom"
	"github.com/prometheus/client_golang/prometheus"
)

// maxMessages is how many messages of a room are kept on disk.
const maxMessages = 10_000

// openBroker returns the broker that the flags ask for, and a function that
// closes it after the hub. It registers the broker's metrics. Without such a
// flag the broker is nil, and the hub makes one in memory.
func openBroker(cfg *config, registry *prometheus.Registry, log *slog.Logger) (chathub.Broker, func() error, error) {
	var broker *natsbroker.Broker
	var err error
	switch {
	case cfg.dataDir != "":
		options := []natsbroker.Option{natsbroker.Logger(log), natsbroker.MaxMessages(maxMessages)}
		if cfg.restored != "" {
			options = append(options, natsbroker.Restored(cfg.restored))
		}
		broker, err = natsbroker.Embedded(cfg.dataDir, options...)
	case cfg.natsURL != "":
		broker, err = natsbroker.Connect(cfg.natsURL, natsbroker.Logger(log), natsbroker.MaxMessages(maxMessages))
	default:
		return nil, func() error { return nil }, nil
	}
	if err != nil {
		return nil, nil, err
	}
	registry.MustRegister(natsprom.NewCollector(broker))
	return broker, broker.Close, nil
}
