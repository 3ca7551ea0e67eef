package natsbroker_test

import (
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/chathub-go/chathub/hubtest"
)

func TestEmbedded(t *testing.T) {
	hubtest.TestBroker(t, func(t *testing.T) chathub.Broker { return embedded(t, t.TempDir()) })
}

// One broker for all subtests.
func TestEmbeddedShared(t *testing.T) {
	broker := embedded(t, t.TempDir(), natsbroker.MemoryStorage())
	hubtest.TestBroker(t, func(*testing.T) chathub.Broker { return broker })
}

// Every session of a broker of its own, as nodes have them.
func TestConnect(t *testing.T) {
	s := serve(t)
	hubtest.TestBroker(t, func(t *testing.T) chathub.Broker { return connect(t, s.ClientURL()) })
}
