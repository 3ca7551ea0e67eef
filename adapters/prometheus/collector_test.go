package prometheus_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	chatprom "github.com/chathub-go/chathub/adapters/prometheus"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// busyHub returns a hub on which everything has happened that is counted.
func busyHub(t *testing.T) *chathub.Hub {
	t.Helper()
	hub := hubtest.New(t, chathub.Config{Rate: 50, Burst: 60})
	chathub.On(hub, "vote", func(context.Context, *chathub.Client, struct{}) error {
		time.Sleep(30 * time.Millisecond)
		return nil
	})
	if c, err := hubtest.DialHeader(t, hub, http.Header{}); err == nil { // without a token
		c.Closed()
	}
	ana, ben := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "ben")
	for _, c := range []*hubtest.Client{ana, ben} {
		c.Must(hubtest.Frame{Type: "join-room", Room: "lobby"})
	}
	ana.Must(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("hello")})
	ana.Must(hubtest.Frame{Type: "vote"})
	ana.Request(hubtest.Frame{Type: "room-message", Room: "elsewhere"})
	for i := range 20 {
		ana.Request(hubtest.Frame{Type: fmt.Sprintf("made-up-%d", i)})
	}
	ana.Must(hubtest.Frame{Type: "join-room", Room: "lobby", Data: hubtest.Data(map[string]any{"since": chathub.Position{Epoch: "old", Seq: 7}})})
	ben.SendText("no JSON")
	for range 100 {
		ben.Send(hubtest.Frame{Type: "typing", Room: "lobby"})
	}
	ben.Close()
	time.Sleep(10 * time.Second) // until the grace of ben is over
	return hub
}

// TestCollector compares all metrics with testdata/metrics.txt.
func TestCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(chatprom.NewCollector(busyHub(t)))
		want, err := os.ReadFile("testdata/metrics.txt")
		if err != nil {
			t.Fatal(err)
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(string(want))); err != nil {
			t.Error(err)
		}
		problems, err := testutil.GatherAndLint(registry)
		if err != nil {
			t.Error(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	})
}

// TestCollectorTwoHubs checks that two hubs in one registry are told apart by a
// label.
func TestCollectorTwoHubs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		for i, name := range []string{"chat", "admin"} {
			hub := hubtest.New(t, chathub.Config{})
			for j := range i + 1 {
				hubtest.Dial(t, hub, fmt.Sprint("user", j))
			}
			prometheus.WrapRegistererWith(prometheus.Labels{"hub": name}, registry).MustRegister(chatprom.NewCollector(hub))
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP chathub_connections Connections to this node.
# TYPE chathub_connections gauge
chathub_connections{hub="admin"} 2
chathub_connections{hub="chat"} 1
`), "chathub_connections"); err != nil {
			t.Error(err)
		}
	})
}

// TestCollectorLabels checks that clients cannot make series by the types of
// their events.
func TestCollectorLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Rate: -1})
		collector := chatprom.NewCollector(hub)
		c := hubtest.Dial(t, hub, "ana")
		c.Request(hubtest.Frame{Type: "made-up"})
		before := testutil.CollectAndCount(collector, "chathub_events_total", "chathub_event_duration_seconds")
		for i := range 1000 {
			c.Request(hubtest.Frame{Type: fmt.Sprintf("made-up-%d", i)})
		}
		if n := testutil.CollectAndCount(collector, "chathub_events_total", "chathub_event_duration_seconds"); n != before {
			t.Errorf("%d series, %d before", n, before)
		}
	})
}

// BenchmarkCollect measures a scrape of a hub that has counted everything.
func BenchmarkCollect(b *testing.B) {
	hub, err := chathub.New(chathub.Config{Auth: hubtest.Auth{}})
	if err != nil {
		b.Fatal(err)
	}
	defer hub.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(chatprom.NewCollector(hub))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
