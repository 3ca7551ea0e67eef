package natsprom_test

import (
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/chathub-go/chathub/adapters/prometheus/natsprom"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestCollector checks the metrics of a broker in the process.
func TestCollector(t *testing.T) {
	broker, err := natsbroker.Embedded(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	}()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(natsprom.NewCollector(broker))
	session, err := broker.Attach(t.Context(), func(chathub.Message) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := session.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := session.Subscribe(t.Context(), chathub.Topic{Room: "lobby"}); err != nil {
		t.Fatal(err)
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP chathub_nats_answering_sessions Sessions whose stream answered when it was last asked, which is once a second.
# TYPE chathub_nats_answering_sessions gauge
chathub_nats_answering_sessions 1
# HELP chathub_nats_connected_sessions Sessions with a connection to a server.
# TYPE chathub_nats_connected_sessions gauge
chathub_nats_connected_sessions 1
# HELP chathub_nats_disconnects_total Connections to servers that were lost.
# TYPE chathub_nats_disconnects_total counter
chathub_nats_disconnects_total 0
# HELP chathub_nats_sessions Hubs that are attached to the broker.
# TYPE chathub_nats_sessions gauge
chathub_nats_sessions 1
# HELP chathub_nats_stream_messages Messages in the stream.
# TYPE chathub_nats_stream_messages gauge
chathub_nats_stream_messages 1
# HELP chathub_nats_topics Rooms, users and nodes that are subscribed.
# TYPE chathub_nats_topics gauge
chathub_nats_topics 1
`), "chathub_nats_answering_sessions", "chathub_nats_connected_sessions", "chathub_nats_disconnects_total",
		"chathub_nats_sessions", "chathub_nats_stream_messages", "chathub_nats_topics"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if n, err := testutil.GatherAndCount(registry); err != nil || n != 16 {
		t.Errorf("%d metrics, %v", n, err)
	}
}
