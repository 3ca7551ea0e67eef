package natsbroker_test

import (
	"slices"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats.go/jetstream"
)

// TestGap checks that messages that were not republished are delivered before
// the next one that is.
func TestGap(t *testing.T) {
	s := serve(t)
	n := attach(t, connect(t, s.ClientURL()))
	topic := room("lobby")
	n.subscribe(topic)
	n.say(topic, "1")
	js := jetStream(t, s.ClientURL())
	stream, err := js.Stream(t.Context(), "chathub")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	republish := cfg.RePublish
	for _, c := range []struct {
		republish *jetstream.RePublish
		say       []string
	}{{nil, []string{"2", "3"}}, {republish, []string{"4"}}} {
		cfg.RePublish = c.republish
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		for _, text := range c.say {
			n.say(topic, text)
		}
	}
	got := n.await(topic, func(got []chathub.Message) bool { return slices.Contains(bodies(got), "4") })
	if want := []string{"1", "2", "3", "4"}; !slices.Equal(bodies(got), want) {
		t.Errorf("delivered %v, want %v", bodies(got), want)
	}
}
