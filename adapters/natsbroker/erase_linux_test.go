package natsbroker_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/nats.go"
)

// streamFilesWith returns the files of a server that contain a text. It leaves
// out the log of what the servers have agreed on, which each of them shortens
// every few minutes.
func streamFilesWith(t *testing.T, p *process, text string) []string {
	t.Helper()
	return slices.DeleteFunc(filesWith(t, p.Dir, text), func(file string) bool { return strings.Contains(file, "/_js_/") })
}

// TestClusterErase checks that an erased text and an edited one are in no file
// of the stream, on any of three servers.
func TestClusterErase(t *testing.T) {
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
	texts := []string{"the-first-secret", "the-edited-secret"}
	said := n.sayAs("ben", topic, texts[0])
	m := chathub.Message{Topic: topic, Name: "m/1", Tied: said.Seq, EraseReplaced: true, Owner: "ben", Body: []byte(texts[1])}
	n.publish(m)
	for _, p := range servers {
		for _, text := range texts {
			eventually(t, "every server has the text", func() bool { return len(streamFilesWith(t, p, text)) > 0 })
		}
	}
	m.Erase, m.Body = true, nil
	n.publish(m)
	for _, p := range servers {
		for _, text := range texts {
			eventually(t, "the text is erased", func() bool { return len(streamFilesWith(t, p, text)) == 0 })
		}
	}
}
