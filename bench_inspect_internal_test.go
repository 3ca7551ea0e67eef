package chathub

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// BenchmarkConnections measures a page of connections, and how long the loop is
// held up by it at most.
func BenchmarkConnections(b *testing.B) {
	for _, clients := range []int{1_000, 20_000} {
		hub, err := New(Config{Auth: Anonymous{}, KeepConnectionInfo: true, PresenceInterval: -1})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = hub.Close() })
		for i := range clients {
			id := Identity{User: User{ID: fmt.Sprint("u", i), Name: "Ana"}}
			place, refused := hub.admission.enter(netip.Addr{})
			if refused == nil {
				refused = place.admit("", id.User.ID)
			}
			if refused != nil {
				b.Fatal(refused)
			}
			c := newClient(hub, id, place, nil, wire.New(discard{}, nil, wire.Limits{Outbox: 1 << 20}))
			head, err := hub.subs.acquire(b.Context(), c.inbox())
			if err == nil {
				err = c.register(b.Context(), head, nil)
			}
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(c.place.release)
		}
		for name, q := range map[string]InspectQuery{"first page": {}, "one user": {User: "u77"}, "search": {Search: "u99"}} {
			b.Run(fmt.Sprintf("clients=%d/%s", clients, name), func(b *testing.B) {
				var held time.Duration
				stop, stopped := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(stopped)
					for {
						select {
						case <-stop:
							return
						default:
						}
						begin := time.Now()
						_ = hub.onLoop(func(*loop) {})
						held = max(held, time.Since(begin))
						time.Sleep(time.Millisecond)
					}
				}()
				for b.Loop() {
					if _, _, err := hub.Connections(b.Context(), q); err != nil {
						b.Fatal(err)
					}
				}
				close(stop)
				<-stopped
				b.ReportMetric(float64(held.Microseconds()), "µs-held-most")
			})
		}
	}
}
