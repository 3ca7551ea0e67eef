package natsbroker_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestReopened checks that messages, their epoch and their keys survive a
// restart of the embedded server.
func TestReopened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	topic := room("lobby")
	first := openEmbedded(t, dir)
	n := attach(t, first)
	before := n.subscribe(topic)
	m := chathub.Message{Topic: topic, Key: "k", Body: []byte("one")}
	one, err := n.Publish(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := natsbroker.Embedded(dir, quiet); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second broker on the directory: %v", err)
	}
	_ = n.Close(t.Context())
	closeBroker(t, first)
	if _, err := first.Attach(t.Context(), func(chathub.Message) {}); !errors.Is(err, chathub.ErrClosed) {
		t.Errorf("Attach to a closed broker: %v", err)
	}

	n = attach(t, openEmbedded(t, dir))
	after := n.subscribe(topic)
	if after.Epoch != before.Epoch || after.Seq != one.Seq {
		t.Errorf("position %+v, want seq %d in epoch %s", after, one.Seq, before.Epoch)
	}
	again, err := n.Publish(t.Context(), m)
	if err != nil || !again.Duplicate || again.Seq != one.Seq || again.Time != one.Time {
		t.Errorf("repeated: %+v, %v; the first has %+v", again, err, one)
	}
	n.say(topic, "two")
	if got := bodies(n.read(topic, chathub.Range{Limit: 10}).Messages); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("log %v", got)
	}
	if other := attach(t, openEmbedded(t, t.TempDir())).subscribe(topic); other.Epoch == before.Epoch {
		t.Error("another stream has the same epoch")
	}
}
