package natsbroker_test

import (
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/chathub-go/chathub/hubtest"
)

func TestEmbedded(t *testing.T) {
	hubtest.TestBroker(t, func(t *testing.T) chathub.Broker { return openEmbedded(t, t.TempDir()) })
}

// TestEmbeddedShared uses one broker for all subtests.
func TestEmbeddedShared(t *testing.T) {
	broker := openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage())
	hubtest.TestBroker(t, func(*testing.T) chathub.Broker { return broker })
}

// TestConnect uses one server, and a new broker for each subtest.
func TestConnect(t *testing.T) {
	s := serve(t)
	hubtest.TestBroker(t, func(t *testing.T) chathub.Broker { return connect(t, s.ClientURL()) })
}
