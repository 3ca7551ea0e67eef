package natsbroker_test

import (
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/nats-io/nats.go"
)

// TestCluster runs the suite on three servers that each store the stream, and
// whose copies may lag behind. All sessions are on one server, because a
// volatile message may not reach a session that has just subscribed on another
// server.
func TestCluster(t *testing.T) {
	servers := startCluster(t, 0)
	b := connect(t, "nats://"+servers[0].addr(), natsbroker.Replicas(3), natsbroker.NATS(nats.IgnoreDiscoveredServers()))
	eventually(t, "the cluster has the stream", func() bool {
		s, err := b.Attach(t.Context(), func(chathub.Message) {})
		if err == nil {
			_ = s.Close(t.Context())
		}
		return err == nil
	})
	hubtest.TestBroker(t, func(*testing.T) chathub.Broker { return b })
}
