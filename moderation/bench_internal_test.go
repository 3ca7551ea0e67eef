package moderation

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// BenchmarkCheck measures what moderation adds to each message: without any
// decisions, beside those about others, and in a room in slow mode.
func BenchmarkCheck(b *testing.B) {
	clients := make(chan *chathub.Client, 1)
	m := started(b, chathub.Config{MaxOutboxBytes: 4 << 20, Broker: &chathub.MemoryBroker{MaxTotalBytes: 1 << 30}})
	chathub.On(m.hub, "me", func(_ context.Context, c *chathub.Client, _ struct{}) error { clients <- c; return nil })
	hubtest.Dial(b, m.hub, "ana").Must(hubtest.Frame{Type: "me"})
	c := <-clients
	stored := func(context.Context, *chathub.Client, *chathub.Event) (any, error) { return nil, nil }
	check := m.middleware(stored)
	for _, decisions := range []int{0, 10_000} {
		for i := range decisions {
			d := Decision{Kind: Mute, Room: fmt.Sprint("room", i%100), User: fmt.Sprint("user", i), At: time.Now()}
			m.book.replace(slot{byte(i), byte(i >> 8 % keys)}, page{seq: uint64(i + 1), decisions: append(m.book.at(slot{byte(i), byte(i >> 8 % keys)}), &d)})
		}
		b.Run(fmt.Sprintf("decisions=%d", decisions), func(b *testing.B) {
			b.ReportAllocs()
			e := &chathub.Event{Type: "room-message", Room: "lobby"}
			for b.Loop() {
				if _, err := check(c.Context(), c, e); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("decisions=%d/parallel", decisions), func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				e := &chathub.Event{Type: "room-message", Room: "lobby"}
				for pb.Next() {
					if _, err := check(c.Context(), c, e); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
	if _, err := m.Decide(b.Context(), Decision{Kind: Slow, Room: "slow", Every: time.Second}); err != nil {
		b.Fatal(err)
	}
	b.Run("slow", func(b *testing.B) {
		b.ReportAllocs()
		e := &chathub.Event{Type: "room-message", Room: "slow"}
		for b.Loop() {
			_, _ = check(c.Context(), c, e) // all but the first are refused
		}
	})
	b.Run("outside", func(b *testing.B) {
		e := &chathub.Event{Type: "mark-read", Room: "lobby"}
		for b.Loop() {
			_, _ = check(c.Context(), c, e)
		}
	})
}
