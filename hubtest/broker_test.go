package hubtest_test

import (
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

func TestMemoryBroker(t *testing.T) {
	hubtest.TestBroker(t, func(*testing.T) chathub.Broker { return &chathub.MemoryBroker{} })
}

// TestMemoryBrokerShared uses one Broker for all subtests, which must not
// affect each other.
func TestMemoryBrokerShared(t *testing.T) {
	broker := &chathub.MemoryBroker{}
	hubtest.TestBroker(t, func(*testing.T) chathub.Broker { return broker })
}
