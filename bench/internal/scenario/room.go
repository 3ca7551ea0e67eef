//go:build linux

package scenario

import (
	"context"
	"fmt"

	"github.com/chathub-go/chathub/bench/internal/load"
	"github.com/chathub-go/chathub/bench/internal/report"
	"github.com/chathub-go/chathub/bench/internal/servers"
)

func trafficMetrics() []report.Metric {
	metrics := []report.Metric{
		{Name: "saturated", Title: "saturated: server CPU", Unit: "µs/delivery"},
		{Name: "saturated rate", Title: "deliveries", Unit: "1,000/s"},
		{Name: "saturated generator", Title: "generator CPU", Unit: "µs/delivery"},
		{Name: "paced", Title: "paced: server CPU", Unit: "µs/delivery"},
	}
	metrics = append(metrics, latencyMetrics("paced ", "latency")...)
	return append(metrics,
		report.Metric{Name: "paced generator", Title: "generator CPU", Unit: "µs/delivery"},
		report.Metric{Name: "bytes", Title: "on the wire", Unit: "bytes/delivery"})
}

func room() Scenario {
	return Scenario{
		Name:  "room",
		Title: "One room",
		About: func(s Scale) string {
			return fmt.Sprintf("One room of %d clients, messages of %d bytes: saturated (%d under way), and paced at %d a second.",
				s.Room, s.Payload, roomWindow, s.Rate)
		},
		Metrics: trafficMetrics(),
		Quick:   true,
		Run: func(ctx context.Context, r *Run) error {
			lobby := load.NewRoom("lobby", r.Scale.Room)
			return r.traffic(ctx, traffic{
				rooms: []*load.Room{lobby}, clients: r.Scale.Room,
				room: func(int) *load.Room { return lobby },
				rate: float64(r.Scale.Rate), window: roomWindow, publishers: 4, sample: 20,
			})
		},
	}
}

func rooms() Scenario {
	return Scenario{
		Name:  "rooms",
		Title: "Many rooms",
		About: func(s Scale) string {
			return fmt.Sprintf("%d rooms of %d clients, messages of %d bytes: saturated (%d under way in each room), and paced at %d a second over all of them.",
				s.Rooms, s.InRoom, s.Payload, roomsWindow, roomsRate)
		},
		Metrics: trafficMetrics(),
		Quick:   true,
		Run: func(ctx context.Context, r *Run) error {
			all := make([]*load.Room, r.Scale.Rooms)
			for i := range all {
				all[i] = load.NewRoom(fmt.Sprintf("room-%d", i), r.Scale.InRoom)
			}
			return r.traffic(ctx, traffic{
				rooms: all, clients: r.Scale.Rooms * r.Scale.InRoom,
				room: func(id int) *load.Room { return all[id%len(all)] },
				rate: roomsRate, window: roomsWindow, publishers: 1, sample: 7,
			})
		},
	}
}

func overTLS() Scenario {
	return Scenario{
		Name:  "tls",
		Title: "TLS",
		About: func(s Scale) string {
			return fmt.Sprintf("One room of %d clients over TLS 1.3, otherwise like the one room above. The clients decrypt, which costs the generator more.", s.TLS)
		},
		Metrics: trafficMetrics(),
		TLS:     true,
		Applies: func(p servers.Server) string {
			if !p.TLS {
				return "not over TLS here"
			}
			return ""
		},
		Run: func(ctx context.Context, r *Run) error {
			lobby := load.NewRoom("lobby", r.Scale.TLS)
			return r.traffic(ctx, traffic{
				rooms: []*load.Room{lobby}, clients: r.Scale.TLS,
				room: func(int) *load.Room { return lobby },
				rate: float64(r.Scale.Rate), window: roomWindow, publishers: 4, sample: 5, tls: true,
			})
		},
	}
}

// traffic is messages in rooms.
type traffic struct {
	rooms      []*load.Room
	clients    int
	room       func(id int) *load.Room
	rate       float64
	window     int
	publishers int
	sample     int
	tls        bool
}

// traffic measures messages paced and then saturated.
func (r *Run) traffic(ctx context.Context, t traffic) error {
	f, err := r.fleet(load.Config{Capacity: t.clients, Sample: oneIn(t.sample), TLS: t.tls})
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Dial(ctx, t.clients, t.room, r.Enter); err != nil {
		return err
	}
	if err := f.Greet(ctx, t.rooms); err != nil {
		return err
	}
	if err := f.Pace(ctx, t.rooms, t.rate, r.Scale.Warm); err != nil {
		return err
	}
	if err := f.Drain(ctx, t.rooms); err != nil {
		return err
	}
	if err := r.paced(ctx, f, t); err != nil {
		return err
	}
	return r.saturated(ctx, f, t)
}

func (r *Run) paced(ctx context.Context, f *load.Fleet, t traffic) error {
	f.Measure(true)
	u, err := r.measure(f, func() error {
		return r.profiled("paced", func() error {
			if err := f.Pace(ctx, t.rooms, t.rate, r.Scale.Measure); err != nil {
				return err
			}
			return f.Drain(ctx, t.rooms)
		})
	})
	f.Measure(false)
	if err != nil {
		return err
	}
	r.set("paced", u.perDelivery(u.cpu))
	r.set("paced generator", u.perDelivery(u.generator))
	r.set("bytes", float64(u.bytes)/float64(max(u.delivered, 1)))
	r.latencies("paced ", f)
	return nil
}

func (r *Run) saturated(ctx context.Context, f *load.Fleet, t traffic) error {
	f.Saturate(t.rooms, t.window, t.publishers)
	if err := pause(ctx, r.Scale.Warm); err != nil {
		return err
	}
	u, err := r.measure(f, func() error {
		return r.profiled("saturated", func() error { return pause(ctx, r.Scale.Measure) })
	})
	if err != nil {
		return err
	}
	r.set("saturated", u.perDelivery(u.cpu))
	r.set("saturated generator", u.perDelivery(u.generator))
	r.set("saturated rate", float64(u.delivered)/u.wall.Seconds()/1000)
	return f.Drain(ctx, t.rooms)
}
