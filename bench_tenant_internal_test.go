package chathub

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// discard is a peer that takes everything.
type discard struct{ net.Conn }

func (discard) Write(b []byte) (int, error)      { return len(b), nil }
func (discard) SetReadDeadline(time.Time) error  { return nil }
func (discard) SetWriteDeadline(time.Time) error { return nil }
func (discard) Close() error                     { return nil }

// BenchmarkTenants measures what 100,000 clients cost that connect to a hub, if
// they are in one world, and if each ten of them are a tenant.
func BenchmarkTenants(b *testing.B) {
	const clients = 100_000
	for _, tenants := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			for b.Loop() {
				hub, err := New(Config{Auth: Anonymous{}})
				if err != nil {
					b.Fatal(err)
				}
				before := liveHeap()
				all := make([]*Client, clients)
				for i := range all {
					id := Identity{User: User{ID: fmt.Sprint("u", i), Name: "Ana"}}
					if tenants > 0 {
						id.Tenant = fmt.Sprint("tenant", i%tenants)
					}
					place, refused := hub.admission.enter(netip.Addr{})
					if refused == nil {
						refused = place.admit(world(id.Tenant), id.User.ID)
					}
					if refused != nil {
						b.Fatal(refused)
					}
					c := newClient(hub, id, place, nil, wire.New(discard{}, nil, wire.Limits{Outbox: 1 << 20}))
					head, err := hub.subs.acquire(b.Context(), c.inbox())
					if err == nil {
						err = c.enterWorld(b.Context())
					}
					if err == nil {
						err = c.register(b.Context(), head, nil)
					}
					if err != nil {
						b.Fatal(err)
					}
					all[i] = c
				}
				b.ReportMetric(float64(liveHeap()-before)/clients, "bytes/client")
				runtime.KeepAlive(all)
				_ = hub.onLoop(func(l *loop) {
					for _, c := range all {
						l.unregister(c)
					}
				})
				for _, c := range all {
					c.place.release()
				}
				_ = hub.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*clients), "ns/client")
		})
	}
}
