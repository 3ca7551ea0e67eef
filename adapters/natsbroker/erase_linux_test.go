package natsbroker_test

import (
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/nats.go"
)

func TestClusterEraseX(t *testing.T) {
	servers := startCluster(t, 0)
	b := connect(t, "nats://"+servers[0].addr(), natsbroker.Replicas(3), natsbroker.NATS(nats.IgnoreDiscoveredServers()))
	eventually(t, "the cluster has the stream", func() bool {
		s, err := b.Attach(t.Context(), func(chathub.Message) {})
		if err == nil {
			_ = s.Close(t.Context())
		}
		return err == nil
	})
	n := attach(t, b)
	topic := room("lobby")
	said := n.sayAs("ben", topic, "the-secret-text")
	for range 20 {
		n.sayAs("ben", topic, "other")
	}
	n.publish(chathub.Message{Topic: topic, Name: "m/1", Tied: said.Seq, Erase: true, Owner: "ben"})
	began := time.Now()
	for time.Since(began) < 200*time.Second {
		left := 0
		for _, s := range servers {
			f := filesWith(t, s.Dir, "the-secret-text")
			left += len(f)
			t.Log(time.Since(began), f)
		}
		if left == 0 {
			break
		}
		n.sayAs("ben", topic, "other")
		time.Sleep(10 * time.Second)
	}
}
