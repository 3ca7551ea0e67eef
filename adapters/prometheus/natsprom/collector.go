// Package natsprom exports the figures of a [natsbroker.Broker] as metrics of
// Prometheus:
//
//	registry.MustRegister(natsprom.NewCollector(broker))
package natsprom

import (
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/prometheus/client_golang/prometheus"
)

var _ prometheus.Collector = (*Collector)(nil)

// Collector is a [prometheus.Collector] for a broker. Its methods may be called
// concurrently.
type Collector struct{ broker *natsbroker.Broker }

// NewCollector returns a Collector for a broker.
func NewCollector(broker *natsbroker.Broker) *Collector { return &Collector{broker: broker} }

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("chathub_nats_"+name, help, nil, nil)
}

var (
	sessions    = describe("sessions", "Hubs that are attached to the broker.")
	connected   = describe("connected_sessions", "Sessions with a connection to a server.")
	answering   = describe("answering_sessions", "Sessions whose stream answered when it was last asked, which is once a second.")
	topics      = describe("topics", "Rooms, users and nodes that are subscribed.")
	cache       = describe("cache_bytes", "Bytes of messages that are kept in memory.")
	disconnects = describe("disconnects_total", "Connections to servers that were lost.")
	reconnects  = describe("reconnects_total", "Connections to servers that were made again.")
	overflows   = describe("overflows_total", "How often messages came faster than they were delivered.")
	catchUps    = describe("catch_ups_total", "How often messages of a topic that were missing had to be fetched.")
	messages    = describe("stream_messages", "Messages in the stream.")
	bytes       = describe("stream_bytes", "Bytes in the stream.")
	maxBytes    = describe("stream_max_bytes", "Bytes from which on the stream drops its oldest messages. Missing without a bound.")
	lastSeq     = describe("stream_last_seq", "Position of the newest message in the stream.")
	firstSeq    = describe("stream_first_seq", "Position of the oldest message in the stream.")
	oldest      = describe("stream_oldest_timestamp_seconds", "When the oldest message in the stream was stored. Missing if there is none.")
	free        = describe("disk_free_bytes", "What the disk of the embedded server has left. Missing if there is none.")
)

// Describe implements [prometheus.Collector].
func (*Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		sessions, connected, answering, topics, cache, disconnects, reconnects, overflows, catchUps,
		messages, bytes, maxBytes, lastSeq, firstSeq, oldest, free,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector]. It waits for no server.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.broker.Stats()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	count := func(d *prometheus.Desc, n uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	gauge(sessions, float64(s.Sessions))
	gauge(connected, float64(s.Connected))
	gauge(answering, float64(s.Answering))
	gauge(topics, float64(s.Topics))
	gauge(cache, float64(s.CacheBytes))
	count(disconnects, s.Disconnects)
	count(reconnects, s.Reconnects)
	count(overflows, s.Overflows)
	count(catchUps, s.CatchUps)
	gauge(messages, float64(s.Stream.Messages))
	gauge(bytes, float64(s.Stream.Bytes))
	if s.Stream.MaxBytes > 0 {
		gauge(maxBytes, float64(s.Stream.MaxBytes))
	}
	gauge(lastSeq, float64(s.Stream.LastSeq))
	gauge(firstSeq, float64(s.Stream.FirstSeq))
	if !s.Stream.Oldest.IsZero() {
		gauge(oldest, float64(s.Stream.Oldest.UnixMilli())/1000)
	}
	if s.Stream.FreeBytes >= 0 {
		gauge(free, float64(s.Stream.FreeBytes))
	}
}
