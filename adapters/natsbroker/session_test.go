package natsbroker_test

import (
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestPublishRepeatsDroppedMessage: a key is remembered for DuplicateWindow even
// if the log has dropped its message, but then nothing is left to compare with.
func TestPublishRepeatsDroppedMessage(t *testing.T) {
	n := attach(t, embedded(t, t.TempDir(), natsbroker.MaxMessages(1)))
	topic := room("lobby")
	m := chathub.Message{Topic: topic, Key: "k", Sum: 1, Body: []byte("one")}
	first, err := n.Publish(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	n.say(topic, "two")
	for _, m.Sum = range []uint64{1, 2} {
		again, err := n.Publish(t.Context(), m)
		if err != nil || !again.Duplicate || again.Seq != first.Seq || again.Epoch != first.Epoch {
			t.Errorf("repeated with sum %d: %+v, %v; the first has %+v", m.Sum, again, err, first)
		}
	}
}
