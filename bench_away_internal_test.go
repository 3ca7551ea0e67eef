package chathub

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"testing"
	"time"
)

// BenchmarkOnAway measures what OnAway costs on the path of a room-message,
// which is posted to a room that nobody on this hub is in: what else there is
// to do is as little as it can be. The two hubs take turns, and their medians
// are compared. In one run, messages come due and the room has no members. In
// the other, the queue is full.
func BenchmarkOnAway(b *testing.B) {
	for name, delay := range map[string]time.Duration{"waiting": time.Second, "full": time.Hour} {
		b.Run(name, func(b *testing.B) {
			cfg := Config{Auth: Anonymous{}, AwayDelay: delay, Logger: slog.New(slog.DiscardHandler)}
			off := benchPoster(b, cfg)
			cfg.OnAway = func(context.Context, Away) error { return nil }
			cfg.Members = func(context.Context, string, string) iter.Seq2[string, error] {
				return func(func(string, error) bool) {}
			}
			on := benchPoster(b, cfg)
			if delay == time.Hour {
				for range maxAway {
					on()
				}
			}
			var offTimes, onTimes []time.Duration
			for b.Loop() {
				began := time.Now()
				off()
				between := time.Now()
				on()
				offTimes, onTimes = append(offTimes, between.Sub(began)), append(onTimes, time.Since(between))
			}
			median := func(d []time.Duration) float64 { return float64(slices.Sorted(slices.Values(d))[len(d)/2]) }
			b.ReportMetric(median(offTimes), "ns-off/op")
			b.ReportMetric(median(onTimes), "ns-on/op")
			b.ReportMetric(median(onTimes)/median(offTimes), "ratio")
		})
	}
}

// benchPoster returns a function that posts a message.
func benchPoster(b *testing.B, cfg Config) func() {
	hub, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = hub.Close() })
	to, post := hub.To("lobby"), Post{From: User{ID: "ana", Name: "Ana"}, Data: chatMessage}
	return func() {
		if _, err := to.Post(b.Context(), post); err != nil {
			b.Fatal(err)
		}
	}
}
