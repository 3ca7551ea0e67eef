// Package prometheus exports the figures of a [chathub.Hub] as metrics of
// Prometheus. Use it beside the official client:
//
//	registry := prometheus.NewRegistry()
//	registry.MustRegister(chatprom.NewCollector(hub))
//	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, opts))
//
// with this package imported as chatprom. The package natsprom does the same
// for natsbroker. The README lists the metrics, and what they cost.
package prometheus

import (
	"strconv"

	"github.com/chathub-go/chathub"
	"github.com/prometheus/client_golang/prometheus"
)

var _ prometheus.Collector = (*Collector)(nil)

// Collector is a [prometheus.Collector] for a hub. Its methods may be called
// concurrently. A program with several hubs registers each with a label of its
// own; see [prometheus.WrapRegistererWith].
//
// No label has a value that clients choose, so they cannot make new series.
type Collector struct{ hub *chathub.Hub }

// NewCollector returns a Collector for a hub. A hub that has ended keeps its
// last figures.
func NewCollector(hub *chathub.Hub) *Collector { return &Collector{hub: hub} }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("chathub_"+name, help, labels, nil)
}

// Gauges.
var (
	connections = describe("connections", "Connections to this node.")
	users       = describe("users", "Users with a connection to this node.")
	rooms       = describe("rooms", "Rooms with a member on this node.")
	tenants     = describe("tenants", "Tenants with a connection to this node, besides the empty one.")
	online      = describe("online_users", "Users online on any node, as this node knows it.")
	presence    = describe("presence_calls_waiting", "Calls of OnPresence that are due, or are to be repeated.")
	nodes       = describe("other_nodes", "Other nodes that this node takes to be alive.")
	queueLength = describe("loop_queue_length", "Commands that wait for the loop.")
	queueAge    = describe("loop_queue_age_seconds", "How long commands have been waiting for the loop without a break.")
	outbox      = describe("outbox_bytes", "Bytes that waited in the outboxes of all connections, as of the last second.")
)

// Counters and histograms.
var (
	handshakes    = describe("handshakes_total", "Handshakes by result: accepted, or the code of the error.", "result")
	disconnects   = describe("disconnects_total", "Ended connections by close code, and by who ended them: hub or client.", "code", "by")
	received      = describe("messages_received_total", "Messages from clients, with pings and rejected ones.")
	rejected      = describe("messages_rejected_total", "Messages from clients that were refused before they were handled, by reason.", "reason")
	events        = describe("events_total", "Events of clients that were handled, by type and result: ok, or the code of the error.", "type", "result")
	eventDuration = describe("event_duration_seconds", "Time from the arrival of an event to its answer.", "type")
	delivered     = describe("frames_delivered_total", "Frames that were handed to the outboxes of clients.")
	dropped       = describe("frames_dropped_total", "Volatile frames that found their outbox half full.")
	slow          = describe("slow_consumers_total", "Clients that were closed because they did not keep up.")
	recoveries    = describe("recoveries_total", "Logs that clients continued from a position, by kind of topic, result, and reason if it is incomplete.", "topic", "result", "reason")
	calls         = describe("broker_calls_total", "Calls of the broker by method and result: ok, or the code of the error.", "method", "result")
	callDuration  = describe("broker_call_duration_seconds", "Time that calls of the broker took.", "method")
	awayCalls     = describe("away_calls_total", "Calls of OnAway by result: ok, failed after all attempts, or dropped because too many waited.", "result")
	panics        = describe("panics_total", "Panics of handlers, middleware and callbacks.")
)

// Describe implements [prometheus.Collector].
func (*Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		connections, users, rooms, tenants, online, presence, nodes, queueLength, queueAge, outbox,
		handshakes, disconnects, received, rejected, events, eventDuration, delivered, dropped, slow,
		recoveries, calls, callDuration, awayCalls, panics,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector]. It waits for nothing.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	m := c.hub.Metrics()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge(connections, float64(m.Connections))
	gauge(users, float64(m.Users))
	gauge(rooms, float64(m.Rooms))
	gauge(tenants, float64(m.Tenants))
	gauge(online, float64(m.Online))
	gauge(presence, float64(m.PresenceWaiting))
	gauge(nodes, float64(m.Nodes))
	gauge(queueLength, float64(m.QueueLength))
	gauge(queueAge, m.QueueAge.Seconds())
	gauge(outbox, float64(m.OutboxBytes))

	count(handshakes, m.Accepted, "accepted")
	for code, n := range m.RefusedBy {
		count(handshakes, n, string(code))
	}
	for end, n := range m.Disconnects {
		count(disconnects, n, closeCode(end.Code), endedBy(end))
	}
	count(received, m.Received)
	count(rejected, m.Malformed, "malformed")
	count(rejected, m.RateLimited, "rate_limited")
	collectCalls(ch, events, eventDuration, m.Events)
	count(delivered, m.Delivered)
	count(dropped, m.Dropped)
	count(slow, m.SlowConsumers)
	for r, n := range m.Recoveries {
		result, reason := "complete", ""
		if r.Result != chathub.RecoveryComplete {
			result, reason = "incomplete", string(r.Result)
		}
		count(recoveries, n, topic(r), result, reason)
	}
	collectCalls(ch, calls, callDuration, m.Broker)
	count(awayCalls, m.Away, "ok")
	count(awayCalls, m.AwayFailed, "failed")
	count(awayCalls, m.AwayDropped, "dropped")
	count(panics, m.Panics)
}

// collectCalls collects the results and durations of calls by name.
func collectCalls(ch chan<- prometheus.Metric, results, durations *prometheus.Desc, byName map[string]chathub.Calls) {
	for name, c := range byName {
		for code, n := range c.Results {
			result := string(code)
			if result == "" {
				result = "ok"
			}
			ch <- prometheus.MustNewConstMetric(results, prometheus.CounterValue, float64(n), name, result)
		}
		buckets, n := cumulative(&c.Duration)
		ch <- prometheus.MustNewConstHistogram(durations, n, c.Duration.Sum.Seconds(), buckets, name)
	}
}

// cumulative returns the buckets of a histogram as Prometheus wants them, each
// of which includes those before it, and the number of durations.
func cumulative(d *chathub.Histogram) (buckets map[float64]uint64, n uint64) {
	buckets = make(map[float64]uint64, len(d.Bounds))
	for i, bound := range d.Bounds {
		n += d.Counts[i]
		buckets[bound.Seconds()] = n
	}
	return buckets, n + d.Counts[len(d.Bounds)]
}

func topic(r chathub.Recovery) string {
	if r.Inbox {
		return "inbox"
	}
	return "room"
}

// closeCode returns a close code as a label. 0 stands for those that a client
// has made up.
func closeCode(code int) string {
	if code == 0 {
		return "other"
	}
	return strconv.Itoa(code)
}

func endedBy(e chathub.End) string {
	if e.Remote {
		return "client"
	}
	return "hub"
}
